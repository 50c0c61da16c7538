"""Files of any kind: the one error for bad input, and writing so that a file is either whole or absent.

Standard library only: scripts answer mistakes with it before anything slow is imported.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ELSEWHERE = "make room, or choose another place"
EXPOSURE_FILE = "exposure.txt"  # beside the frames of a bracket: exponents to base 2, one per frame


class InputError(Exception):
    """Something the user handed over cannot be used. The message is one line; scripts print it and exit with 2."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``: flushed and renamed to it when the block succeeds, removed when it fails.

    The temporary name keeps the suffix, because writers choose the format by it. Raises InputError where the disk does
    not take the file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); {ELSEWHERE}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def writable_folder(path: Path, option: str) -> Path:
    """The folder, made where it is missing. Raises InputError, naming the option, where it cannot be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"{option} {path}: cannot be written to ({error.strerror}); choose another folder") from None
    return path


def read_exposures(path: Path) -> list[float]:
    """The numbers of an exposure file: exponents to base 2, parted by white space or commas. Raises InputError."""
    try:
        return [float(word) for word in path.read_text(encoding="utf-8-sig").replace(",", " ").split()]
    except (OSError, ValueError):
        raise InputError(f"{path}: not a text file of numbers; write one number per line") from None

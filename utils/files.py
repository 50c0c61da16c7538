"""Files of any kind: the one error for bad input, and writing so that a file is either whole or absent.

Standard library only: scripts answer mistakes with it before anything slow is imported.
"""

from __future__ import annotations

import errno
import glob
import itertools
import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ELSEWHERE = "make room, or choose another place"
EXPOSURE_FILE = "exposure.txt"  # beside the frames of a bracket: exponents to base 2, one per frame
LARGEST_TEXT = 64 * 2**20  # bytes of a text file; the log of a long training has a tenth of it
LARGEST_FACTS = 2**20  # bytes of a JSON file beside a result or a scene; they have some thousands
LARGEST_EXPOSURES = 100_000  # bytes of an exposure file
HELD_BACK = 64 * 1024  # bytes that a library may not have written yet when it closes a file
FULL_DISK = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)  # how the system says that there is no room
LONGEST_NAME = 255  # bytes of a file's name, on the usual disks
LONGEST_STEM = 200  # bytes of what a result is called, before the endings of its files
TEMPORARY_STEM = 20  # characters of a file's name that its temporary name shows
KINDS = {  # what may lie where a file is meant
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}

_numbers = itertools.count()


class InputError(Exception):
    """Something the user handed over cannot be used. The message is one line; scripts print it and exit with 2."""

    def __str__(self) -> str:
        """The message; what a file's name may hold beside text is shown as its code."""
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in super().__str__())


def regular_file(path: str | Path, advice: str = "give a file") -> Path:
    """The path of a file that is there and has an end. Every reader asks this first.

    Pipes and devices are refused: reading them may never end, or fill the memory. Raises InputError with ``advice``.
    """
    path = Path(path)
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError) as error:  # ValueError: no path at all, as with a zero byte in it
        raise InputError(f"{path}: cannot be read ({reason(error)}); {advice}") from None
    if kind != stat.S_IFREG:
        raise InputError(f"{path}: cannot be read (it is {KINDS.get(kind, 'no file')}); {advice}")
    return path


def reason(error: BaseException) -> str:
    """Why something failed, in a few words on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.strip().splitlines()[0]


def read_text(path: str | Path, advice: str, what: str = "a text file", largest: int = LARGEST_TEXT) -> str:
    """A text file in UTF-8, with or without its mark. Raises InputError with ``advice``, for one too large as well."""
    path = regular_file(path, advice)
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}); {advice}") from None
    try:
        if len(data) <= largest:
            return data.decode("utf-8-sig")
    except ValueError:
        pass
    raise InputError(f"{path}: not {what}; {advice}")


def read_facts(path: str | Path, advice: str, what: str) -> dict[str, Any]:
    """The one object that a JSON file holds, such as the facts beside a result. Raises InputError with ``advice``."""
    try:
        facts = json.loads(read_text(path, advice, what, LARGEST_FACTS))
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise InputError(f"{path}: not {what}; {advice}")
    return facts


def entries(folder: str | Path) -> list[Path]:
    """What lies in a folder, in name order. Raises InputError where it cannot be looked into."""
    try:
        return sorted(Path(folder).iterdir())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: cannot be looked into ({reason(error)}); change its rights, or move it") from None


def is_folder(path: Path) -> bool:
    """Whether a path is a folder, also where one may not look: ``Path.is_dir`` raises there."""
    return os.path.isdir(path)  # noqa: PTH112


def is_there(path: Path) -> bool:
    """Whether a path is anything, likewise: ``Path.exists`` raises where the name is too long for a file."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: Path) -> bool:
    """Whether a path is a file, likewise."""
    return os.path.isfile(path)  # noqa: PTH113


def natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """A key to sort files by name as people count: 9 before 10."""
    words = re.split(r"([0-9]+)", path.name.lower())
    return [(0, int(word), "") if word.isdecimal() else (1, 0, word) for word in words], str(path)


def user_path(text: str) -> Path:
    """A path as people write it: ``~`` is their home. A shell leaves it in ``--option=~/folder``.

    A name that only begins so, such as ``~copy.jpg``, stays as it is.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:  # nobody's home
        return Path(text)


def existing_paths(words: Sequence[str | Path]) -> list[Path]:
    """Files and folders as they are given on a command line: ``~`` is the home, and ``*``, ``?`` and ``[...]`` are
    patterns where no file has that name (Windows' shell hands them over as they are, and so does a quoted word).

    Raises InputError for what is not there.
    """
    paths, missing = [], []
    for word in words:
        path = user_path(str(word))
        found = [] if is_there(path) else glob.glob(str(path))  # noqa: PTH207 (the folder may be a pattern too)
        matches = [path] if is_there(path) else sorted(map(Path, found), key=natural)
        paths += matches
        missing += [] if matches else [str(word)]
    if missing:
        raise InputError(f"{', '.join(missing)}: no such file or folder")
    return paths


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``: flushed and renamed to it when the block succeeds, removed when it fails.

    The temporary name keeps the suffix, because writers choose the format by it. Raises InputError where the disk does
    not take the file, or something other than a file is there.
    """
    path = writable_target(path)
    temporary = path.with_name(f".{path.stem[:TEMPORARY_STEM]}.{os.getpid()}-{next(_numbers)}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({reason(error)}); {ELSEWHERE}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Bring a file to the disk. Raises OSError where there was no room for all of it.

    Libraries in C keep the last kilobytes of a file back and lose them without a word when they close it onto a full
    disk: the room that they would have taken is asked for once more.
    """
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.write(bytes(HELD_BACK))
        file.flush()
        file.truncate(size)
        os.fsync(file.fileno())


def remove_leftovers(folder: Path, suffix: str, age: float = 0.0) -> None:
    """Remove what processes left that were killed within :func:`atomic_path`, where ``age`` seconds have passed."""
    for path in folder.glob(f".*.tmp{suffix}"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime >= age:
                path.unlink()


def writable_target(path: str | Path, option: str = "") -> Path:
    """The path of a file that may be written, as far as its name and what is there tell. Raises InputError."""
    path, said = Path(path), f"{option} {path}".strip()
    if not path.name:
        raise InputError(f"{said}: no name of a file; give one")
    if (length := len(os.fsencode(path.name))) > LONGEST_NAME:
        raise InputError(
            f"{option} {path.name[:40]}...: a name of {length} bytes, {LONGEST_NAME} is the most; shorten it"
        )
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError):
        return path  # not there; the rest the disk will say
    if kind != stat.S_IFREG:
        raise InputError(f"{said}: cannot be written (it is {KINDS.get(kind, 'no file')}); {ELSEWHERE}")
    return path


def write_text(path: str | Path, text: str) -> None:
    """Write a text whole or not at all, in UTF-8; bytes of file names that are no text appear as ``\\udc..``."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def shortened_stem(name: str) -> str:
    """A name that leaves room for the endings of several files: its first ``LONGEST_STEM`` bytes."""
    data = os.fsencode(name)
    return name if len(data) <= LONGEST_STEM else data[:LONGEST_STEM].decode("utf-8", errors="ignore")


def writable_file(path: Path, option: str) -> Path:
    """The path of a file that can be written, as an option names it; ask before the work that it is to hold.

    Raises InputError.
    """
    path = writable_target(path, option)
    writable_folder(path.parent, option)
    return path


def writable_folder(path: Path, option: str) -> Path:
    """The folder, made where it is missing. Raises InputError, naming the option, where it cannot be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"{option} {path}: cannot be written to ({reason(error)}); choose another folder") from None
    return path


def read_exposures(path: Path) -> list[float]:
    """The numbers of an exposure file: exponents to base 2, parted by white space or commas. Raises InputError."""
    what, advice = "a text file of numbers", "write one number per line"
    text = read_text(path, advice, what, LARGEST_EXPOSURES)
    try:
        return [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise InputError(f"{path}: not {what}; {advice}") from None

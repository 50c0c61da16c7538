"""One run, one folder: a lock that lasts as long as the run, and the name of who holds it."""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from utils.files import InputError, is_there, writable_folder

LOCK, HOLDER = ".lock", ".holder"  # in the run's folder; the holder's name lies apart, for locking empties some locks


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """The block has the folder, made where it is missing, to itself.

    The system lets the lock go with the process, however that ends. On a network disk it holds between machines where
    the disk's own locks do. A folder that the block leaves empty is gone after it.

    Raises:
        InputError: another process has the folder, and which; or it cannot be written to.
    """
    new = not is_there(folder)
    writable_folder(folder, "--logdir")
    lock = _acquired(folder)
    try:
        with suppress(OSError):
            (folder / HOLDER).write_text(_myself(), encoding="utf-8")
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        if new and [path.name for path in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()
        lock.release()


def _acquired(folder: Path) -> FileLock:
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        with warnings.catch_warnings(
            action="ignore"
        ):  # of a disk without locks: it then locks by the file's being there
            lock.acquire()
    except Timeout:
        raise InputError(
            f"--logdir {folder}: another run is writing there ({_holder(folder)}); "
            "stop it, wait for its end, or choose another --logdir"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise InputError(f"--logdir {folder}: cannot be locked ({error}); choose a folder on another disk") from None
    return lock


def _myself() -> str:
    return f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"


def _holder(folder: Path) -> str:
    try:
        return (folder / HOLDER).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return "it has not said its name yet"

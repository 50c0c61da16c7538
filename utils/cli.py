"""What the scripts share: one line and exit code 2 for bad input, numbers within limits, and the choice of a device."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from utils.files import FULL_DISK, InputError, reason, regular_file

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

INTERRUPTED, UNREAD = 130, 141  # 128 and the number of the signal, as shells have it: SIGINT, SIGPIPE


def run(main: Callable[[], int | None]) -> None:
    """Run a script's ``main`` and exit with what it returns.

    2 with one line for bad input, too little memory, or a full disk under the output; 130 after Ctrl-C, 141 where
    nobody reads the output on.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    try:
        code = main()
        sys.stdout.flush()
    except InputError as error:
        code = _end(f"error: {error}", 2)
    except MemoryError:
        code = _end("error: out of memory; take smaller images, or fewer at once", 2)
    except KeyboardInterrupt:
        code = _end("interrupted", INTERRUPTED)
    except BrokenPipeError:
        leave_stdout()
        code = UNREAD
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        leave_stdout()  # what it still holds would fail once more at the exit
        code = _end(f"error: what is printed cannot be written ({reason(error)}); make room", 2)
    sys.exit(code)


def _end(line: str, code: int) -> int:
    with suppress(OSError):
        print(line, file=sys.stderr)
    return code


def leave_stdout() -> None:
    """What is written from here on vanishes: the terminal is closed, or the pipe."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def pick_device(name: str) -> torch.device:
    """``auto`` (CUDA where there is one), ``cpu`` or ``cuda``. Raises InputError for CUDA on a machine without it.

    Float32 convolutions on it are float32 from here on: cuDNN's TF32, torch's default, would move the figures.
    """
    import torch  # here, so that a script's mistakes and its --help are answered without it

    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("--device cuda: this torch finds no CUDA GPU; use --device cpu or auto")
    try:
        return torch.device(name)
    except RuntimeError:
        raise InputError(f"--device {name}: no device; give auto, cpu or cuda") from None


def existing_file(path: Path, option: str, advice: str) -> Path:
    """The path of a file that is there; raises InputError with ``option`` and ``advice`` where it is not."""
    try:
        return regular_file(path, advice)
    except InputError as error:
        raise InputError(f"{option} {error}") from None


def checked(convert: Callable[[str], T], fits: Callable[[T], bool], meaning: str) -> Callable[[str], T]:
    """A ``type`` for argparse: what ``convert`` makes of the text, where that ``fits``; else "... is not {meaning}"."""

    def parse(text: str) -> T:
        try:
            value = convert(text)
            if fits(value):
                return value
        except (ValueError, ArithmeticError):
            pass
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not {meaning}")

    return parse


def whole(first: int, last: int) -> Callable[[str], int]:
    """A ``type`` for argparse: a whole number within limits, both included."""
    return checked(int, lambda value: first <= value <= last, f"a whole number from {first} to {last}")


def within(lowest: float, highest: float) -> Callable[[str], float]:
    """A ``type`` for argparse: a number within limits, both included."""
    return checked(float, lambda value: lowest <= value <= highest, f"a number from {lowest:g} to {highest:g}")


def number_up_to(largest: float) -> Callable[[str], float]:
    """A ``type`` for argparse: a number above 0, at most ``largest``."""
    return checked(float, lambda value: 0 < value <= largest, f"a number above 0, at most {largest:g}")


positive = whole(1, 10**9)
threads = whole(1, 1024)
seed = checked(int, lambda value: 0 <= value < 2**63, "a whole number from 0 to below 2^63")
positive_number = number_up_to(1e12)
fraction = checked(float, lambda value: 0 <= value < 1, "a number from 0 to below 1")

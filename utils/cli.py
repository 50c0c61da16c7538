"""What the scripts share: one line and exit code 2 for bad input, and the choice of a device."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

from utils.io import InputError


def run(main: Callable[[], int | None]) -> None:
    """Run a script's ``main`` and exit with what it returns; 2 with one line for bad input, 130 after Ctrl-C."""
    try:
        code = main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


def pick_device(name: str) -> torch.device:
    """``auto`` (CUDA where there is one), ``cpu`` or ``cuda``. Raises InputError for CUDA on a machine without it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("--device cuda: this torch finds no CUDA GPU; use --device cpu or auto")
    return torch.device(name)

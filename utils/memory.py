"""How much memory there is, how the maps of a large image are kept in it, and what becomes of it when it is freed."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import torch

from models.streaming import free_gpu_bytes
from utils.files import InputError

MAPS = 144  # numbers per pixel that stay in memory in strips (models.streaming)
BESIDES = 40  # bytes per pixel of the result and of what is passed around
RESERVE = 500_000_000  # bytes for everything that doesn't grow with the image
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # options of mallopt(3)


def choose_storage(device: torch.device, pixels: int) -> torch.dtype:
    """The dtype of the kept maps: float32, or float16 where that doesn't fit.

    Raises:
        InputError: neither fits.
    """
    available = available_bytes(device)
    if available is None or bytes_needed(pixels, torch.float32) <= available:
        return torch.float32
    needed = bytes_needed(pixels, torch.float16)
    if needed <= available:
        return torch.float16
    advice = "pass --device cpu, or export them smaller" if device.type == "cuda" else "export them smaller"
    want = f"{pixels / 1e6:.0f} megapixels need {needed / 1e9:.1f} GB of memory"
    raise InputError(f"{want}, {available / 1e9:.1f} GB are free; {advice}")


def bytes_needed(pixels: int, dtype: torch.dtype) -> int:
    """What a reconstruction in strips takes."""
    return pixels * (MAPS * dtype.itemsize + BESIDES) + RESERVE


def available_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU, or of the machine without swapping; None where the system doesn't tell."""
    if device.type == "cuda":
        return free_gpu_bytes(device)
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:  # macOS tells only what is built in
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def keep_freed_memory() -> None:
    """Keep what is freed for what is asked for next; without glibc nothing changes.

    A training step on the CPU asks for gigabytes in large pieces and frees them all. glibc gives such pieces back to
    the system, which clears every page anew for the next step: a tenth of the step's time on two Zen 5 cores.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def give_back_freed_memory() -> None:
    """Give the system what is free between pieces that are not; without glibc nothing changes.

    Brackets of changing pieces leave glibc's heap full of holes, so that a process grows over hundreds of them.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)

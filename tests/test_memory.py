"""Freed memory is used again without the system's help."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from utils.memory import give_back_freed_memory

ROUNDS = """
import resource, torch
from utils.memory import keep_freed_memory
{first}
def work():
    for _ in range(8):
        torch.ones(16, 2**20)  # 64 MiB
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(first: str) -> int:
    program = [sys.executable, "-c", ROUNDS.format(first=first)]
    return int(subprocess.run(program, check=True, capture_output=True, cwd=Path(__file__).parents[1]).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
@pytest.mark.slow
def test_freed_memory_is_kept() -> None:
    assert page_faults("keep_freed_memory()") < page_faults("") / 20


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_what_is_free_between_pieces_that_are_not_is_given_back() -> None:
    pieces = [np.ones(10_000) for _ in range(2500)]  # 200 MB, in pieces that come from the heap
    kept = pieces[::50]
    del pieces
    before = resident()
    give_back_freed_memory()
    assert before - resident() > 100e6 and all(piece.all() for piece in kept)

"""Freed memory is used again without the system's help."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

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

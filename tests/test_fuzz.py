"""Every reader against damaged files, for twenty seconds. Longer: python -m tests.fuzz --minutes 10."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from tests.fuzz import fuzz, until

MINUTES = 1 / 3


def run(seed: int, folder: Path, answer: multiprocessing.SimpleQueue) -> None:
    answer.put(fuzz(seed, until(MINUTES, 0), folder))


@pytest.mark.slow
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")  # shown when the test fails
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    process = context.Process(target=run, args=(seed, tmp_path, answer))  # apart: a decoder may take it down
    process.start()
    process.join(60)
    assert process.exitcode == 0
    became, failures = answer.get()
    assert not failures, "\n".join(failures)
    assert became.total() > 100

"""How many threads are taken: what the container gives, and fewer where more lose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from utils import threads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("120000 100000", 1), ("50000 100000", 1), ("390000 100000", 3), ("", 8)]
)
def test_a_quota_is_rounded_down_to_whole_cores(quota: str, cores: int, eight_cores: None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert threads.usable_cores(tmp_path, tmp_path / "none") == cores


def test_the_least_of_nested_groups_counts(eight_cores: None, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/a/b\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "cpu.max").write_text("200000 100000")
    (tmp_path / "a" / "b" / "cpu.max").write_text("600000 100000")
    assert threads.usable_cores(tmp_path, tmp_path / "own") == 2


def test_the_older_version_of_control_groups(eight_cores: None, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("400000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert threads.usable_cores(tmp_path, tmp_path / "none") == 4
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert threads.usable_cores(tmp_path, tmp_path / "none") == 8


@pytest.mark.parametrize(
    ("rates", "best"),
    [({4: 4.0, 2: 2.0, 1: 1.0}, 4), ({4: 1.0, 2: 1.1, 1: 0.9}, 4), ({4: 1.0, 2: 3.0, 1: 2.0}, 2), ({1: 1.0}, 1)],
)
def test_fewer_threads_are_taken_where_they_clearly_win(rates: dict[int, float], best: int) -> None:
    assert threads.fastest(max(rates), rates.__getitem__) == best


def test_what_was_asked_for_is_taken_without_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "rate", lambda threads: pytest.fail("tried"))
    threads.set_threads(3, CPU)
    assert torch.get_num_threads() == 3


def test_a_line_says_that_fewer_are_taken(
    eight_cores: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(2)
    monkeypatch.setattr(threads, "quotas", lambda cgroups, own: [])
    monkeypatch.setattr(threads, "rate", lambda threads: 1 / threads)
    threads.set_threads(None, CPU)
    assert torch.get_num_threads() == 1
    assert capsys.readouterr().out == "note: 1 of 2 threads, which was faster in a trial; --threads 2 takes all\n"


def test_a_rate_is_measured() -> None:
    assert threads.rate(1) > 0

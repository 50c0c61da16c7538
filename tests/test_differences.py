"""Differences between methods: means, intervals and what is said where there are none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from utils.evaluation.differences import difference, differences, interval
from utils.evaluation.tables import DECIMALS


def figures(*values: float) -> list[dict[str, float]]:
    return [{"PSNR-mu": value} for value in values]


def test_every_method_is_compared_with_every_earlier_one() -> None:
    found = differences({"A": figures(1, 2), "B": figures(2, 4), "C": figures(0, 0)})
    assert [one.title for one in found] == ["B - A", "C - A", "C - B"]
    assert [one.means["PSNR-mu"] for one in found] == [1.5, -1.5, -3.0]


def test_scenes_are_paired() -> None:
    """Methods that differ by the same on scenes that differ a lot: no doubt is left."""
    rng = np.random.default_rng(0)
    scenes = rng.normal(40, 5, 15)
    found = difference("B - A", figures(*scenes + 0.2 + rng.normal(0, 0.01, 15)), figures(*scenes))
    low, high = found.intervals["PSNR-mu"]
    assert 0.19 < low < found.means["PSNR-mu"] < high < 0.21


def test_a_difference_that_scenes_do_not_tell() -> None:
    values = np.random.default_rng(0).normal(0, 0.3, 15)
    found = difference("B - A", figures(*values - values.mean() + 0.02), figures(*np.zeros(15)))
    low, high = found.intervals["PSNR-mu"]
    assert low < 0 < high and found.means["PSNR-mu"] == pytest.approx(0.02)
    assert found.cells(["PSNR-mu"], DECIMALS) == [f"+0.02 [{low:+.2f}, {high:+.2f}]"]
    assert "Where it holds 0, these scenes do not tell the two apart" in found.note


def test_the_interval_is_near_the_textbooks_and_always_the_same() -> None:
    values = np.random.default_rng(1).normal(1.0, 2.0, 400)
    low, high = interval(values) or (math.nan, math.nan)
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert interval(values) == (low, high)


@pytest.mark.slow
@pytest.mark.parametrize(("scenes", "held"), [(5, 0.85), (15, 0.93)])
def test_how_often_an_interval_holds_the_truth(scenes: int, held: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of docs/compare.md."""
    monkeypatch.setattr("utils.evaluation.differences.RESAMPLES", 2000)
    rng = np.random.default_rng(1)
    found = [interval(rng.normal(size=scenes)) or (math.nan, math.nan) for _ in range(600)]
    assert sum(low <= 0 <= high for low, high in found) / len(found) == pytest.approx(held, abs=0.02)


def test_few_scenes_have_no_interval_and_it_is_said_why() -> None:
    found = difference("B - A", figures(1, 2), figures(0, 0))
    assert found.intervals == {} and found.means["PSNR-mu"] == 1.5
    assert found.note == "No intervals: 2 scene(s) say nothing of others; 3 at least."
    assert found.cells(["PSNR-mu", "HDR-VDP-2"], DECIMALS) == ["+1.50", "-"]


def test_figures_that_are_no_numbers() -> None:
    found = difference("B - A", figures(math.inf, 1, 2), figures(1, 1, 1))
    assert found.cells(["PSNR-mu"], DECIMALS) == ["-"]
    assert found.to_json()["metrics"] == {"PSNR-mu": {"mean": None, "interval": None}}
    assert interval(np.full(5, 0.25)) == (0.25, 0.25)
    assert interval(np.full(5, math.nan)) is None
    assert differences({"A": [], "B": []})[0].means == {}

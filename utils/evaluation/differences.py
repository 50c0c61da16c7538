"""Which differences between methods mean something: the mean over scenes with a paired bootstrap interval.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 14: BCa intervals, here of the mean of the
differences scene by scene. Scenes are drawn anew, so the interval tells what other scenes of the kind would give.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95
RESAMPLES = 10_000
SEED = 0
METHOD = f"paired BCa bootstrap, {RESAMPLES} resamples, seed {SEED}"
FEWEST = 3  # scenes

Scenes = Sequence[Mapping[str, float]]  # metrics of one method, one entry per scene


@dataclass(frozen=True)
class Difference:
    """One method minus another.

    Attributes:
        title: "A - B".
        means: of the difference over scenes, by metric; NaN where a scene has no finite figure.
        intervals: the ends by metric, for the metrics that have one.
        scenes: how many.
    """

    title: str
    means: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    scenes: int

    @property
    def note(self) -> str:
        """How to read the cells."""
        if self.scenes < FEWEST:
            return f"No intervals: {self.scenes} scene(s) say nothing of others; {FEWEST} at least."
        return (
            f"In brackets: {LEVEL:.0%} interval of the mean difference over {self.scenes} scenes ({METHOD}). "
            "Where it holds 0, these scenes do not tell the two apart. Of few scenes it is rather too narrow."
        )

    def cells(self, columns: Sequence[str], decimals: Mapping[str, int]) -> list[str]:
        """Mean and interval as text, a dash where there is no figure."""
        return [self._cell(column, decimals[column]) for column in columns]

    def to_json(self) -> dict[str, Any]:
        """Unrounded; null for what has no figure or no interval."""
        metrics = {
            key: {"mean": mean if math.isfinite(mean) else None, "interval": self.intervals.get(key)}
            for key, mean in self.means.items()
        }
        return {"of": self.title, "scenes": self.scenes, "level": LEVEL, "method": METHOD, "metrics": metrics}

    def _cell(self, key: str, digits: int) -> str:
        mean = self.means.get(key, math.nan)
        if not math.isfinite(mean):
            return "-"
        ends = self.intervals.get(key)
        return f"{mean:+.{digits}f}" + (f" [{ends[0]:+.{digits}f}, {ends[1]:+.{digits}f}]" if ends else "")


def differences(methods: Mapping[str, Scenes]) -> list[Difference]:
    """Every method minus every earlier one. The figures of all are of the same scenes, in the same order."""
    pairs = itertools.combinations(methods, 2)
    return [difference(f"{second} - {first}", methods[second], methods[first]) for first, second in pairs]


def difference(title: str, figures: Scenes, others: Scenes) -> Difference:
    """``figures`` minus ``others``, scene by scene."""
    keys = list(figures[0]) if figures else []
    values = {key: np.array([a[key] - b[key] for a, b in zip(figures, others, strict=True)]) for key in keys}
    found = {key: interval(one) for key, one in values.items()}
    means = {key: float(one.mean()) for key, one in values.items()}
    return Difference(title, means, {key: ends for key, ends in found.items() if ends}, len(figures))


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """The interval of the mean of (N,) values; None for fewer than ``FEWEST``, or where one is not finite."""
    if len(values) < FEWEST or not np.isfinite(values).all():
        return None
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    from scipy.stats import bootstrap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns where it then gives NaN
        found = bootstrap(
            (values,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            method="BCa",
            rng=np.random.default_rng(SEED),
        ).confidence_interval
    ends = float(found.low), float(found.high)
    return ends if all(map(math.isfinite, ends)) else None

"""All figures of one pair of images, each metric under its named protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from utils.evaluation.metrics import METRICS
from utils.evaluation.pu21 import PU21
from utils.evaluation.tables import VDP
from utils.files import InputError
from utils.hdrvdp2 import Protocol


@dataclass(frozen=True)
class Figures:
    """What the metrics say of one pair.

    Attributes:
        metrics: by name; NaN where HDR-VDP-2 was left out because the image is too small for it.
        seen: (H, W) probability that a viewer sees the difference, where it was asked for.
    """

    metrics: dict[str, float]
    seen: Tensor | None = None


@dataclass(frozen=True)
class Scoring:
    """Which metrics are computed, and how.

    Attributes:
        paper: the four figures of the paper's table.
        vdp: how HDR-VDP-2 is called; None leaves it out.
        pu: how PU21 is called; None leaves it out.
        maps: also keep where HDR-VDP-2 sees a difference, which takes about twice the time.
    """

    paper: bool = True
    vdp: Protocol | None = None
    pu: PU21 | None = None
    maps: bool = False

    def score(self, prediction: Tensor, label: Tensor) -> Figures:
        """The figures of linear (3, H, W) images. Raises InputError for NaN, infinity, or too few pixels."""
        for name, image in (("prediction", prediction), ("label", label)):
            if not image.isfinite().all():
                raise InputError(f"the {name} holds NaN or infinite values; repair it first")
        figures = Figures({name: metric(prediction, label) for name, metric in METRICS.items()} if self.paper else {})
        if self.vdp is not None:
            figures = self._with_vdp(self.vdp, figures, prediction, label)
        return replace(figures, metrics=figures.metrics | (self.pu.score(prediction, label) if self.pu else {}))

    def ppd(self, width: int, height: int) -> float | None:
        """Pixels per degree of HDR-VDP-2 for an image of that size; None without the metric."""
        return self.vdp.pixels_per_degree(width, height) if self.vdp else None

    def describe(self) -> dict[str, Any]:
        """The protocols, for metrics.json."""
        return {
            "hdr_vdp_2": self.vdp.describe() if self.vdp else None,
            **({"pu21": self.pu.describe()} if self.pu else {}),
        }

    def _with_vdp(self, vdp: Protocol, figures: Figures, prediction: Tensor, label: Tensor) -> Figures:
        if vdp.says_nothing(width=label.shape[-1], height=label.shape[-2]):
            return replace(figures, metrics={**figures.metrics, VDP: math.nan})
        result = vdp.compare(prediction, label, maps=self.maps)
        return Figures({**figures.metrics, VDP: result.Q}, result.P_map)

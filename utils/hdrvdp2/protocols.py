"""How published work called the metric: encoding, scale, pixels per degree, order. Q means nothing without these."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from utils.hdrvdp2.display import pixels_per_degree
from utils.hdrvdp2.metric import VERSION, Result, hdrvdp2
from utils.io import InputError, rgbe_round


@dataclass(frozen=True)
class Display:
    """A viewing situation that pixels per degree follow from.

    Attributes:
        inches: diagonal of the display.
        metres: viewing distance.
        resolution: (width, height) in pixels that fill the diagonal; None: the size of each image.
    """

    inches: float
    metres: float
    resolution: tuple[int, int] | None = None

    def pixels_per_degree(self, width: int, height: int) -> float:
        """For an image of ``width`` x ``height`` pixels."""
        return pixels_per_degree(self.inches, self.resolution or (width, height), self.metres)

    def __str__(self) -> str:
        size = "image size" if self.resolution is None else "{} x {} pixels".format(*self.resolution)
        return f"{self.inches:g} inch, {size}, seen from {self.metres:g} m"


@dataclass(frozen=True)
class Protocol:
    """One way to call the metric, applied to whole images.

    Attributes:
        name: as the user says it.
        color_encoding: see :data:`utils.hdrvdp2.display.ENCODINGS`.
        viewing: a display, or the pixels per degree themselves.
        peak: both images are multiplied by it first (cd/m2 of the value 1 for the encodings in absolute units).
        swapped: the label is handed over as the test image and the prediction as the reference.
        rgbe: both images are rounded as a Radiance file rounds them, as where a script compares two .hdr files.
        source: whose setting this is.
    """

    name: str
    color_encoding: str = "sRGB-display"
    viewing: Display | float = Display(28, 0.55)
    peak: float = 1.0
    swapped: bool = False
    rgbe: bool = False
    source: str = "custom"

    def __post_init__(self) -> None:
        if not 0.0 < self.peak < math.inf:
            raise InputError(f"peak {self.peak:g}: both images are multiplied by it; give a number above 0")

    def pixels_per_degree(self, width: int, height: int) -> float:
        """For an image of ``width`` x ``height`` pixels."""
        return self.viewing.pixels_per_degree(width, height) if isinstance(self.viewing, Display) else self.viewing

    def score(self, prediction: Tensor, label: Tensor) -> float:
        """Q of linear (3, H, W) RGB images in file units, usually [0, 1]; 100 where nothing differs, often 40..80.

        Raises:
            InputError: the images cannot be compared (see :func:`utils.hdrvdp2.hdrvdp2`).
        """
        return self.compare(prediction, label).Q

    def compare(self, prediction: Tensor, label: Tensor, *, maps: bool = False) -> Result:
        """As :meth:`score`, with all the metric gives; ``maps`` as in :func:`utils.hdrvdp2.hdrvdp2`."""
        ppd = self.pixels_per_degree(width=label.shape[-1], height=label.shape[-2])
        test, reference = (label, prediction) if self.swapped else (prediction, label)
        return hdrvdp2(self._prepare(test), self._prepare(reference), self.color_encoding, ppd, maps=maps)

    def describe(self) -> dict[str, str | float | bool]:
        """What a report prints beside Q, ready for JSON."""
        return {
            "protocol": self.name,
            "version": VERSION,
            "color_encoding": self.color_encoding,
            "pixels_per_degree": self.viewing if isinstance(self.viewing, float | int) else str(self.viewing),
            "peak": self.peak,
            "order": "label, prediction" if self.swapped else "prediction, label",
            "rgbe": self.rgbe,
            "source": self.source,
        }

    def __str__(self) -> str:
        facts = self.describe()
        rounding = ", rounded to RGBE" if self.rgbe else ""
        return (
            f"HDR-VDP-{VERSION} ({self.name}): {self.color_encoding}, values x {self.peak:g}{rounding}, "
            f"pixels per degree: {facts['pixels_per_degree']}, order: {facts['order']}"
        )

    def _prepare(self, image: Tensor) -> Tensor:
        image = image.detach()
        if self.rgbe:
            rounded = rgbe_round(image.permute(1, 2, 0).cpu().float().numpy())
            image = torch.from_numpy(rounded).permute(2, 0, 1).to(image.device)
        return image if self.peak == 1.0 else image.double() * self.peak


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "safnet",
            viewing=Display(28, 0.55),
            source="SAFNet (ECCV 2024), matlab_evaluation/eval_siggraph17.m and eval_challenge123.m",
        ),
        Protocol(
            "sctnet",
            viewing=Display(30, 0.55, resolution=(1500, 1000)),
            source="SCTNet (ICCV 2023), utils/hdrvdp2_pu21/run/test.m (there with version 2.2.1: same numbers)",
        ),
        Protocol(
            "selfhdr",
            viewing=Display(24, 0.5),
            swapped=True,
            source="SelfHDR (ICLR 2024), README section 3.3",
        ),
        Protocol(
            "deephdrvideo",
            viewing=Display(24, 0.5),
            source="DeepHDRVideo (ICCV 2021), matlab/paral_eval_HDRs.m (there with version 2.2.1: same numbers)",
        ),
    )
}

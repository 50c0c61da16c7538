"""How published work called the metric: encoding, scale, pixels per degree, order. Q means nothing without these."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from utils.files import InputError
from utils.hdrvdp2.settings import LOWEST_PPD, VERSION, Display
from utils.images import rgbe_round

if TYPE_CHECKING:
    from torch import Tensor

    from utils.hdrvdp2.metric import Result


DEFAULT_DISPLAY = Display(28, 0.55)


@dataclass(frozen=True)
class Protocol:
    """One way to call the metric, applied to whole images.

    Attributes:
        name: as the user says it.
        color_encoding: see :data:`utils.hdrvdp2.settings.ENCODINGS`.
        viewing: a display, or the pixels per degree themselves.
        peak: both images are multiplied by it first (cd/m2 of the value 1 for the encodings in absolute units).
        swapped: the label is handed over as the test image and the prediction as the reference.
        rgbe: both images are rounded as a Radiance file rounds them, as where a script compares two .hdr files.
        source: whose setting this is.
    """

    name: str
    color_encoding: str = "sRGB-display"
    viewing: Display | float = DEFAULT_DISPLAY
    peak: float = 1.0
    swapped: bool = False
    rgbe: bool = False
    source: str = "custom"

    def __post_init__(self) -> None:
        if not 0.0 < self.peak < math.inf:
            raise InputError(f"peak {self.peak:g}: both images are multiplied by it; give a number above 0")
        if not isinstance(self.viewing, Display) and not 0.0 < self.viewing < math.inf:
            raise InputError(f"{self.viewing} pixels per degree: must be above 0")

    def pixels_per_degree(self, width: int, height: int) -> float:
        """For an image of ``width`` x ``height`` pixels."""
        return self.viewing.pixels_per_degree(width, height) if isinstance(self.viewing, Display) else self.viewing

    def says_nothing(self, width: int, height: int) -> bool:
        """Whether an image of that size is too small for Q to tell anything: pixels per degree that follow from the
        size fall below ``LOWEST_PPD``. Pixels per degree that somebody chose are taken as they are."""
        return isinstance(self.viewing, Display) and self.pixels_per_degree(width, height) < LOWEST_PPD

    def score(self, prediction: Tensor, label: Tensor) -> float:
        """Q of linear (3, H, W) RGB images in file units, usually [0, 1]; 100 where nothing differs, often 40..80.

        Raises:
            InputError: the images cannot be compared (see :func:`utils.hdrvdp2.hdrvdp2`), or hold NaN or infinity. The
                metric itself takes a NaN for no difference, so that an image full of them would score 100.
        """
        return self.compare(prediction, label).Q

    def compare(self, prediction: Tensor, label: Tensor, *, maps: bool = False) -> Result:
        """As :meth:`score`, with all the metric gives; ``maps`` as in :func:`utils.hdrvdp2.hdrvdp2`."""
        from utils.hdrvdp2.metric import hdrvdp2  # torch comes in with the first comparison

        for name, image in (("prediction", prediction), ("label", label)):
            if not image.isfinite().all():
                raise InputError(f"the {name} holds NaN or infinite values; repair it first")
        ppd = self.pixels_per_degree(width=label.shape[-1], height=label.shape[-2])
        test, reference = (label, prediction) if self.swapped else (prediction, label)
        return hdrvdp2(self._prepare(test), self._prepare(reference), self.color_encoding, ppd, maps=maps)

    def changed(
        self,
        *,
        encoding: str | None = None,
        ppd: float | None = None,
        peak: float | None = None,
        rgbe: bool = False,
    ) -> Protocol:
        """This protocol with single settings changed; named and sourced so that nobody takes it for the published one.

        Without a change it is the protocol itself. Raises InputError for a peak or pixels per degree not above 0.
        """
        asked = {"color_encoding": encoding, "viewing": ppd, "peak": peak, "rgbe": rgbe or None}
        changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        if all(getattr(self, name) == value for name, value in changes.items()):
            return self
        return replace(self, name=f"{self.name}, changed", source=f"custom, after {self.name}", **changes)

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
        import torch

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
            viewing=DEFAULT_DISPLAY,
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

"""PU21: PSNR and SSIM of perceptually uniform values.

Mantiuk and Azimi, "PU21: A novel perceptually uniform encoding for adapting existing quality metrics for HDR", Picture
Coding Symposium 2021, and the constants of the released code (gfxdisp/pu21, BSD 3-clause): the variant banding_glare,
its default. SSIM as MATLAB's ``ssim`` computes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PARAMETERS = (0.353487901, 0.3734658629, 8.277049286e-05, 0.9062562627, 0.09150303166, 0.9099517204, 596.3148142)
DARKEST, BRIGHTEST = 0.005, 10000.0  # cd/m2
PEAK = 256.0  # of the encoded values, close to that of 100 cd/m2
LUMINANCE = (0.212656, 0.715158, 0.072186)  # of linear R, G, B
DEFAULT_PEAK = 1000.0  # cd/m2


@dataclass(frozen=True)
class PU21:
    """The protocol of the three figures: what luminance the value 1 stands for.

    Attributes:
        peak: cd/m2 of the value 1; both images are multiplied by it first.
    """

    peak: float = DEFAULT_PEAK

    def score(self, prediction: Tensor, label: Tensor) -> dict[str, float]:
        """PU-PSNR and PU-PSNRY in dB, PU-SSIM up to 1, of linear (3, H, W) RGB images in file units."""
        colours = [image.double() * self.peak for image in (prediction, label)]
        grey = [encode(luminance(image)) for image in colours]
        return {
            "PU-PSNR": pu_psnr(*map(encode, colours)),
            "PU-PSNRY": pu_psnr(*grey),
            "PU-SSIM": pu_ssim(*grey),
        }

    def describe(self) -> dict[str, str | float]:
        """What a report prints beside the figures, ready for JSON."""
        return {"encoding": "banding_glare", "peak": self.peak, "clamped_to": f"{DARKEST:g}..{BRIGHTEST:g} cd/m2"}

    def __str__(self) -> str:
        return (
            f"PU21 (banding_glare): values x {self.peak:g} cd/m2, clamped to {DARKEST:g}..{BRIGHTEST:g} cd/m2; "
            f"peak of PU-PSNR and PU-SSIM {PEAK:g}"
        )


def encode(light: Tensor) -> Tensor:
    """Perceptually uniform values of light in cd/m2, any shape, as float64.

    V = max(p7 (((p1 + p2 Y^p4) / (1 + p3 Y^p4))^p5 - p6), 0)
    """
    p1, p2, p3, p4, p5, p6, p7 = PARAMETERS
    power = light.double().clamp(DARKEST, BRIGHTEST) ** p4
    return (p7 * (((p1 + p2 * power) / (1.0 + p3 * power)) ** p5 - p6)).clamp(min=0.0)


def luminance(image: Tensor) -> Tensor:
    """(3, H, W) linear RGB -> (H, W)."""
    red, green, blue = (weight * channel for weight, channel in zip(LUMINANCE, image, strict=True))
    return red + green + blue


def pu_psnr(prediction: Tensor, label: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of encoded values of one shape; two equal images give infinity."""
    mse = (prediction - label).square().mean().item()
    return math.inf if mse == 0 else 10.0 * math.log10(PEAK**2 / mse)


def pu_ssim(prediction: Tensor, label: Tensor) -> float:
    """Structural similarity of (H, W) encoded luminance as MATLAB's ``ssim``: the mean over all pixels.

    Gaussian window 11x11, sigma 1.5, K = (0.01, 0.03), dynamic range 256, borders replicated.
    """
    c1, c2 = ((k * PEAK) ** 2 for k in (0.01, 0.03))
    x, y = prediction, label
    mean_x, mean_y = _smooth(x), _smooth(y)
    variances = _smooth(x * x) - mean_x**2 + _smooth(y * y) - mean_y**2
    covariance = _smooth(x * y) - mean_x * mean_y
    similarity = (2.0 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (similarity * (2.0 * covariance + c2) / (variances + c2)).mean().item()


def _smooth(image: Tensor) -> Tensor:
    """(H, W) float64 -> the same, under the window; one axis at a time."""
    from torch.nn import functional

    from utils.evaluation.metrics import WINDOW, gaussian_window

    window = gaussian_window().to(image)
    padded = functional.pad(image[None, None], [WINDOW // 2] * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, window), window.mT)[0, 0]

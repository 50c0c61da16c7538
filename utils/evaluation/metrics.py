"""The four figures of every table in this field: PSNR and SSIM, on linear values (l) and on the mu-law curve (mu).

Pure functions of two (3, H, W) tensors, the linear prediction and the linear label, both meant for [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pytorch_msssim import ssim as gaussian_ssim
from torch import Tensor

from utils.exposure import tonemap
from utils.files import InputError

WINDOW = 11  # pixels
SIGMA = 1.5  # pixels

Metric = Callable[[Tensor, Tensor], float]


def psnr(prediction: Tensor, label: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, peak 1: the squared error is averaged over all pixels and channels.

    Values are used as they are, not clipped. Two equal images give infinity.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and label {tuple(label.shape)} differ in shape")
    mse = (prediction.double() - label.double()).square().mean().item()
    return math.inf if mse == 0 else -10.0 * math.log10(mse)


def ssim(prediction: Tensor, label: Tensor) -> float:
    """Structural similarity (Wang et al., 2004) of (3, H, W) images clipped to [0, 1], averaged over the channels.

    Gaussian window 11x11, sigma 1.5, valid region only, K = (0.01, 0.03). Computed in float64, window included:
    a float32 window sums to 1 - 3e-8, which lifts the figure of smooth bright images by up to 1.4e-5.

    Raises:
        InputError: the image is smaller than the window.
    """
    if min(label.shape[-2:]) < WINDOW:
        h, w = label.shape[-2:]
        raise InputError(f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels, these are {w}x{h}")
    x, y = (image.double().clamp(0.0, 1.0)[None] for image in (prediction, label))
    window = gaussian_window().to(x.device).repeat(x.shape[1], 1, 1, 1)
    return gaussian_ssim(x, y, data_range=1.0, win=window, K=(0.01, 0.03)).item()


def on_mu(metric: Metric) -> Metric:
    """The metric of the tone-mapped images T(prediction), T(label)."""

    def tone_mapped_metric(prediction: Tensor, label: Tensor) -> float:
        return metric(tonemap(prediction.double()), tonemap(label.double()))

    return tone_mapped_metric


METRICS: dict[str, Metric] = {
    "PSNR-mu": on_mu(psnr),
    "PSNR-l": psnr,
    "SSIM-mu": on_mu(ssim),
    "SSIM-l": ssim,
}


def gaussian_window() -> Tensor:
    """(1, 1, 1, 11) float64, sum 1: one axis of the separable window."""
    x = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(x**2) / (2 * SIGMA**2))
    return (weights / weights.sum()).reshape(1, 1, 1, WINDOW)

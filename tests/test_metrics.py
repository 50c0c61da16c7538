"""Metrics against the figures of the official scripts, and against definitions written out here."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from tests import golden_figures
from utils.evaluation.metrics import METRICS, psnr, ssim
from utils.exposure import tonemap
from utils.files import InputError

GOLDEN = golden_figures.GOLDEN / "metrics"
FIGURES: dict[str, dict[str, float]] = json.loads((GOLDEN / "figures.json").read_text())


def pair(name: str) -> tuple[Tensor, Tensor]:
    arrays = np.load(GOLDEN / "pairs.npz")
    prediction, label = (torch.from_numpy(arrays[f"{name}_{kind}"]).permute(2, 0, 1) for kind in ("pred", "label"))
    return prediction, label


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("metric", METRICS)
def test_official_figures(name: str, metric: str) -> None:
    wanted = FIGURES[name][metric.lower().replace("-", "_")]
    tolerance = 1e-4 if metric.startswith("PSNR") else 1e-6
    assert METRICS[metric](*pair(name)) == pytest.approx(wanted, abs=tolerance)


def test_the_table_has_the_order_of_the_paper() -> None:
    assert list(METRICS) == ["PSNR-mu", "PSNR-l", "SSIM-mu", "SSIM-l"]


def test_psnr_of_a_constant_error() -> None:
    label = torch.rand(3, 12, 15)
    assert psnr(label + 0.01, label) == pytest.approx(40.0, abs=1e-4)


def test_psnr_does_not_clip() -> None:
    label = torch.ones(3, 11, 11)
    assert psnr(label * 1.1, label) == pytest.approx(20.0, abs=1e-4)


def test_psnr_of_equal_images_is_infinite_and_of_nan_is_nan() -> None:
    label = torch.rand(3, 11, 11)
    assert psnr(label, label) == math.inf
    assert math.isnan(psnr(label * math.nan, label))


def test_psnr_refuses_to_broadcast() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        psnr(torch.rand(3, 12, 12), torch.rand(1, 12, 12))


def test_ssim_agrees_with_scikit_image() -> None:
    prediction, label = pair("1_blur")
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    _, maps = structural_similarity(
        *(image.double().numpy() for image in (prediction, label)), channel_axis=0, full=True, truncate=3.4, **options
    )
    assert ssim(prediction, label) == pytest.approx(maps[:, 5:-5, 5:-5].mean(), abs=1e-9)


def test_ssim_of_a_smooth_bright_image_is_exact() -> None:
    """Here the float32 window of pytorch-msssim is wrong by about 1e-5: luminance is all that differs."""
    label = torch.full((3, 32, 32), 0.95)
    prediction = label - 0.001
    x, y = (value.double()[0, 0, 0].item() for value in (prediction, label))
    wanted = (2 * x * y + 1e-4) / (x * x + y * y + 1e-4)
    assert ssim(prediction, label) == pytest.approx(wanted, abs=1e-9)


def test_ssim_clips_to_the_unit_interval() -> None:
    prediction, label = pair("0_noise")
    prediction = prediction * 1.5 - 0.2
    assert (prediction.max() > 1) and (prediction.min() < 0)
    assert ssim(prediction, label) == pytest.approx(ssim(prediction.clamp(0, 1), label), abs=1e-12)


def test_mu_metrics_are_the_metrics_of_the_tone_mapped_images() -> None:
    prediction, label = (image.double() for image in pair("2_ghost"))
    assert METRICS["PSNR-mu"](prediction, label) == pytest.approx(psnr(tonemap(prediction), tonemap(label)), abs=1e-9)
    assert METRICS["SSIM-mu"](prediction, label) == pytest.approx(ssim(tonemap(prediction), tonemap(label)), abs=1e-9)


def test_ssim_of_an_image_smaller_than_its_window_is_an_error() -> None:
    with pytest.raises(InputError, match="at least 11x11 pixels, these are 10x40"):
        ssim(torch.rand(3, 40, 10), torch.rand(3, 40, 10))

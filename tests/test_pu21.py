"""PU21 against figures computed from the published formula."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden_figures import GOLDEN
from utils.evaluation.pu21 import PU21, encode, pu_ssim

FIGURES = json.loads((GOLDEN / "pu21.json").read_text())


def pair(name: str) -> list[Tensor]:
    arrays = np.load(GOLDEN / "metrics" / "pairs.npz")
    return [torch.from_numpy(arrays[f"{name}_{kind}"]).permute(2, 0, 1) for kind in ("pred", "label")]


@pytest.mark.parametrize("light", FIGURES["encode"])
def test_encoding(light: str) -> None:
    found = encode(torch.tensor(float(light), dtype=torch.float64)).item()
    assert found == pytest.approx(FIGURES["encode"][light], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", FIGURES["pairs"])
@pytest.mark.parametrize("peak", [100, 1000, 4000])
def test_golden_figures(name: str, peak: int) -> None:
    found = PU21(peak).score(*pair(name))
    assert found == pytest.approx(FIGURES["pairs"][name][str(peak)], abs=1e-8)


def test_equal_images() -> None:
    _, label = pair("0_noise")
    assert PU21().score(label, label) == {"PU-PSNR": math.inf, "PU-PSNRY": math.inf, "PU-SSIM": 1.0}


def test_values_outside_the_range_are_clamped() -> None:
    label = torch.full((3, 12, 12), 2.0)
    assert PU21(10000).score(label * 3, label)["PU-PSNR"] == math.inf
    assert PU21(1).score(label * 0 - 1, label * 0)["PU-PSNR"] == math.inf


def test_borders_are_replicated() -> None:
    """A constant difference is the same to every pixel, those of the border too."""
    label = torch.full((12, 15), 100.0, dtype=torch.float64)
    wanted = (2 * 100 * 110 + 2.56**2) / (100**2 + 110**2 + 2.56**2)
    assert pu_ssim(label + 10, label) == pytest.approx(wanted, abs=1e-12)


def test_the_protocol_is_named() -> None:
    assert str(PU21(4000)).startswith("PU21 (banding_glare): values x 4000 cd/m2")
    assert PU21().describe()["peak"] == 1000

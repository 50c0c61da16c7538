"""Inference on a CPU in bands of rows gives what the whole map gives, and says so to no box."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models import AFUNetConfig, bands
from tests.test_afunet import VARIANTS, variant_model


def random_input(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("config", [AFUNetConfig(stages=2), *VARIANTS], ids=str)
def test_bands_agree_with_the_whole_image(config: AFUNetConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    model = variant_model(config).double()
    x = random_input(2, 18, 37, 44)
    with torch.inference_mode():
        whole = model(x)
        for pixels in (48 * 8, 48 * 16, 48 * 24):  # bands of one, two and three windows
            monkeypatch.setattr(bands, "PIXELS", pixels)
            assert (model(x) - whole).abs().max() < 1e-12


def test_they_serve_large_maps_of_inference_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = torch.empty(1, 8, bands.PIXELS // 4, 1), torch.empty(1, 8, bands.PIXELS // 8, 1)
    assert not bands.pay(large)  # gradients are asked for
    with torch.no_grad():
        assert bands.pay(large) and not bands.pay(small)
        assert not bands.pay(large.to("meta"))


def test_training_makes_no_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "PIXELS", 64)
    monkeypatch.setattr(bands, "gather", lambda *args: pytest.fail("cut into bands"))
    variant_model(AFUNetConfig(stages=1)).train()(torch.rand(1, 18, 16, 16)).sum().backward()


@pytest.mark.parametrize(("H", "rows", "shifted"), [(8, 8, False), (40, 16, False), (8, 8, True), (40, 16, True)])
def test_bands_are_whole_windows_and_cover_every_row_once(H: int, rows: int, shifted: bool) -> None:
    cut = list(bands.cut(H, rows, shifted))
    assert [row for band in cut for row in range(H)[band]] == list(range(H))
    heights = [band.stop - band.start for band in cut]
    if shifted:
        assert heights[0] == heights[-1] == 4
        heights = heights[1:-1]
    assert all(height % 8 == 0 and height <= rows for height in heights)

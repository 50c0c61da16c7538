"""The faster ways of a layer on a CPU are the layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models import cpu
from models.cpu import Linear, onednn_serves
from models.layers import Conv3x3, depthwise


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ways that layers have gone since."""
    gone: list[str] = []
    convolve, product = torch.nn.functional.conv2d, nn.Linear.forward
    monkeypatch.setattr(cpu.F, "conv2d", lambda *args: gone.append("convolution") or convolve(*args))
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: gone.append("product") or product(self, x))
    return gone


def outcome(layer: nn.Linear, x: torch.Tensor) -> list[torch.Tensor]:
    """The result and the gradients of input and parameters."""
    x = x.clone().requires_grad_()
    out = layer(x)
    weights = torch.linspace(0, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out, *torch.autograd.grad((out * weights).mean(), [x, *layer.parameters()])]


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 24, 32, 72), (1027, 72)])
def test_for_inference_it_gives_the_same_figures(ways: list[str], shape: tuple[int, ...], bias: bool) -> None:
    layer = Linear(72, 48, bias=bias)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = [layer(x), layer(x.transpose(0, -2)).transpose(0, -2)]
    if cpu.HAS_PRODUCT and onednn_serves(x):
        assert not ways
    exact = layer.double()(x.double())
    for ours in found:
        assert ours.shape == exact.shape
        assert (ours - exact).abs().max() < 2e-6 * exact.abs().max()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 24, 32, 72), (1024, 72)])
def test_as_a_convolution_it_gives_the_same_figures(
    ways: list[str], shape: tuple[int, ...], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "has_avx512", lambda: True)
    layer = Linear(72, 48, bias=bias)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = outcome(layer, x)
    if onednn_serves(x):
        assert ways == ["convolution"]
    for ours, exact in zip(found, outcome(layer.double(), x.double()), strict=True):
        assert ours.shape == exact.shape
        assert (ours - exact).abs().max() < 2e-6 * exact.abs().max()


@pytest.mark.parametrize(
    "x", [torch.ones(1023, 8), torch.ones(1040, 8).double(), torch.ones(64, 8)], ids=["rows", "float64", "small"]
)
def test_what_a_convolution_does_not_serve_stays_a_product(ways: list[str], x: torch.Tensor) -> None:
    assert Linear(8, 4).to(x.dtype)(x).shape == (len(x), 4)
    assert ways == ["product"]


@pytest.mark.parametrize("bias", [True, False])
def test_with_avx2_alone_layers_give_the_same_figures(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "has_avx512", lambda: False)
    x = torch.randn(2, 24, 32, 8, generator=torch.Generator().manual_seed(1))
    for layer in (Linear(8, 12, bias=bias), Conv3x3(8, 12), depthwise(8)):
        found = outcome(layer, x)
        for ours, exact in zip(found, outcome(layer.double(), x.double()), strict=True):
            assert ours.shape == exact.shape
            assert (ours - exact).abs().max() < 5e-6 * exact.abs().max()


def test_without_the_private_product_torch_does_the_work(ways: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "HAS_PRODUCT", False)
    monkeypatch.setattr(cpu, "has_avx512", lambda: False)
    Linear(8, 4)(torch.ones(1024, 8))
    assert ways == ["product"]


def test_autocast_keeps_the_product_in_half_precision(ways: list[str]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert Linear(8, 4)(torch.ones(1024, 8)).dtype == torch.bfloat16
    assert ways == ["product"]

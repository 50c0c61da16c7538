"""Linear layers and convolutions on a CPU, in float32, by the ways of oneDNN that are fast on x86 processors.

The sums are the same. Measured on AMD processors: with AVX-512 (Zen 5) a linear layer as a 1x1 convolution takes half
the time of torch's own way by MKL, backward pass included. With AVX2 alone (Zen 3) the gradient of a convolution's
weight takes six times as long for channels-last maps as for planes, so there linear layers are products, and
convolutions turn their maps for that gradient. oneDNN's product has a private name in torch (its compiler calls it).
Nothing depends on any of this: elsewhere plain torch does the work.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input, conv2d_weight

BATCH = 16  # torch hands a 1x1 convolution to oneDNN for certain from this batch size on
WORTHWHILE = 1024  # rows from which oneDNN's own overhead is paid back
HAS_PRODUCT = hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """A linear layer on the last axis, by the fastest way that the processor has."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // x.shape[-1]
        if rows < WORTHWHILE or not onednn_serves(x):
            return super().forward(x)
        if torch.is_grad_enabled() and has_avx512():
            return self.as_convolution(x) if rows % BATCH == 0 else super().forward(x)
        return Product.apply(x, self.weight, self.bias) if HAS_PRODUCT else super().forward(x)

    def as_convolution(self, x: Tensor) -> Tensor:
        """The layer as a 1x1 convolution of a batch of 16 narrow images."""
        pixels = x.reshape(BATCH, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # channels-last, no copy
        out = F.conv2d(pixels, self.weight[:, :, None, None], self.bias)
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class Product(torch.autograd.Function):
    """A linear layer as oneDNN's product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        g = gradients[0]
        rows = g.flatten(0, -2)
        for_x = product(g, weight.t().contiguous(), None) if ctx.needs_input_grad[0] else None
        for_weight = rows.t() @ x.flatten(0, -2) if ctx.needs_input_grad[1] else None
        return for_x, for_weight, rows.sum(0) if ctx.needs_input_grad[2] else None


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """``torch.nn.functional.conv2d`` of a channels-last map (B, C, H, W)."""
    if torch.is_grad_enabled() and onednn_serves(x) and not has_avx512():
        return Convolution.apply(x, weight, bias, groups)
    return F.conv2d(x, weight, bias, groups=groups)


class Convolution(torch.autograd.Function):
    """A convolution of a channels-last map that turns it into planes for the gradient of the weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.groups = groups
        return F.conv2d(x, weight, bias, groups=groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        g, groups = gradients[0], ctx.groups
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        for_x = conv2d_input(x.shape, weight, g, groups=groups) if needs_x else None
        planes = (x.contiguous(), weight.shape, g.contiguous())
        for_weight = conv2d_weight(*planes, groups=groups) if needs_weight else None
        return for_x, for_weight, g.sum((0, 2, 3)) if needs_bias else None, None


def onednn_serves(x: Tensor) -> bool:
    """Whether oneDNN is here and the faster choice for ``x``: in float32, on an x86 CPU."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not (torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
    )


def has_avx512() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512"

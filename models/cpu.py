"""Linear layers on a CPU, in float32, by oneDNN instead of MKL: about twice as fast on recent AMD processors.

The sums are the same. Torch takes oneDNN for convolutions by itself, with gradients; for products it has it under a
private name (its compiler calls it), with a GELU or a residual in the same pass, for inference. Nothing depends on
either: where ``takes_onednn`` says no, plain torch does the work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 16  # torch hands a 1x1 convolution to oneDNN for certain from this batch size on
WORTHWHILE = 1024  # rows from which a convolution's own overhead is paid back


def takes_onednn(x: Tensor) -> bool:
    """Whether oneDNN is here and the faster choice for ``x``: in float32, on an x86 CPU."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not (torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
    )


class Linear(nn.Linear):
    """A linear layer on the last axis; by oneDNN it is computed as a 1x1 convolution."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // x.shape[-1]
        if rows % BATCH or rows < WORTHWHILE or not takes_onednn(x):
            return super().forward(x)
        pixels = x.reshape(BATCH, rows // BATCH, 1, x.shape[-1]).permute(0, 3, 1, 2)  # channels-last, no copy
        out = F.conv2d(pixels, self.weight[:, :, None, None], self.bias)
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class FastLinear:
    """A linear layer for inference, with the GELU or the residual that follows it; no gradients."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias
        self.may_fuse = hasattr(torch.ops.mkldnn, "_linear_pointwise")

    def __call__(self, x: Tensor) -> Tensor:
        if self.may_fuse and takes_onednn(x):
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return F.linear(x, self.weight, self.bias)

    def gelu(self, x: Tensor) -> Tensor:
        if self.may_fuse and takes_onednn(x):
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "gelu", [], "none")
        return F.gelu(self(x))

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        if self.may_fuse and takes_onednn(x):
            return torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
        return self(x).add_(residual)

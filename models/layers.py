"""The layers AFUNet is made of. Feature maps are channels-last throughout: (B, H, W, C)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.cpu import Linear, convolve
from models.windows import WINDOW, Group, Layout, relative_position

MOST_WINDOWS = 65_535  # CUDA's limit for the second and third dimension of a grid


class MLP(nn.Module):
    """Linear, GELU, Linear on the last axis: the learned degradations, their inverse, and the MLP of a Swin block."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Conv3x3(nn.Conv2d):
    """3x3 convolution of a channels-last map, padded by reflection."""

    def __init__(self, dim: int, out: int, groups: int = 1) -> None:
        super().__init__(dim, out, 3, groups=groups)

    def forward(self, x: Tensor, halo: bool = False) -> Tensor:
        """(B, H, W, C) -> (B, H, W, out). With ``halo`` x brings the rows above and below along: (B, H+2, W, C)."""
        x = F.pad(x.permute(0, 3, 1, 2), (1, 1, 0, 0) if halo else (1, 1, 1, 1), mode="reflect")
        return convolve(x, self.weight, self.bias, self.groups).permute(0, 2, 3, 1)


def without_halo(x: Tensor, halo: bool) -> Tensor:
    """The rows of (B, H+2, W, C) that a convolution with ``halo`` gives: (B, H, W, C)."""
    return x[:, 1:-1] if halo else x


def depthwise(dim: int) -> Conv3x3:
    """One 3x3 filter per channel."""
    return Conv3x3(dim, dim, groups=dim)


def recomputable(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """In training, keep only a block's inputs for the backward pass where its ``recompute`` says so."""

    @wraps(forward)
    def call(block: Any, *maps: Tensor) -> Tensor:
        if block.recompute and block.training:
            return checkpoint(forward, block, *maps, use_reentrant=False)
        return forward(block, *maps)

    return call


class DropPath(nn.Module):
    """Stochastic depth: drops a branch for a whole sample, and scales the kept ones by 1 / (1 - rate)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return branch
        keep = 1.0 - self.rate
        drawn = branch.new_empty(branch.shape[0], *[1] * (branch.ndim - 1)).bernoulli_(keep)
        return branch * (drawn / keep)

    def extra_repr(self) -> str:
        return f"{self.rate:.4f}"


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with a learned bias per relative position and head (Swin, equation 4).

    Works on tokens (tokens, C) in the order of ``models.windows.layout``; head h owns the h-th run of channels.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.proj = Linear(dim, dim)

    def bias(self, height: int, width: int) -> Tensor:
        """(1, heads, N, N) for windows of N = height * width tokens."""
        index = relative_position(height, width, self.bias_table.device)
        return self.bias_table.t().index_select(1, index).view(1, self.heads, height * width, height * width)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, windows: Layout) -> Tensor:
        """softmax(q k^T / sqrt(d) + bias) v inside every window, then the output projection: (tokens, C)."""
        groups = windows.groups
        parts = zip(*(split(t, groups) for t in (q, k, v)), groups, strict=True)
        out = [self._attend_group(q, k, v, height, width) for q, k, v, (_, height, width) in parts]
        return self.proj(out[0] if len(out) == 1 else torch.cat(out))

    def _attend_group(self, q: Tensor, k: Tensor, v: Tensor, height: int, width: int) -> Tensor:
        q, k, v = (rearrange(t, "(n N) (h d) -> n h N d", N=height * width, h=self.heads) for t in (q, k, v))
        out = biased_attention(q, k, v, self.bias(height, width).to(q.dtype))
        return rearrange(out, "n h N d -> (n N) (h d)")


def split(tokens: Tensor, groups: tuple[Group, ...]) -> tuple[Tensor, ...]:
    """The tokens of each group of windows."""
    return (tokens,) if len(groups) == 1 else tokens.split([group.tokens for group in groups])


def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v for (n, heads, N, d), by torch's fused kernels where they serve.

    On a CPU they have no gradient for the bias, and what torch falls back to is slower than writing it out. On a GPU
    they want d to be a multiple of 8.
    """
    if q.device.type != "cpu":
        return padded_attention(q, k, v, bias)
    if not bias.requires_grad:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return torch.softmax(logits.add_(bias), dim=-1) @ v


def padded_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention with zeros added to the channels of a head up to a multiple of 8; they add nothing to any sum.

    At most ``MOST_WINDOWS`` at a time: torch's kernels count them in the third dimension of CUDA's grid.
    """
    channels, scale = q.shape[-1], q.shape[-1] ** -0.5
    parts = zip(*(F.pad(t, (0, -channels % 8)).split(MOST_WINDOWS) for t in (q, k, v)), strict=True)
    out = [F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale) for q, k, v in parts]
    return (out[0] if len(out) == 1 else torch.cat(out))[..., :channels]


class WindowSelfAttention(WindowAttention):
    """Queries, keys and values from the same tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        self.qkv = Linear(dim, 3 * dim)

    def forward(self, x: Tensor, windows: Layout) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.attend(q, k, v, windows)


class WindowCrossAttention(WindowAttention):
    """Queries from one map's tokens, keys and values from another's."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        self.q = Linear(dim, dim)
        self.kv = Linear(dim, 2 * dim)

    def forward(self, x: Tensor, context: Tensor, windows: Layout) -> Tensor:
        k, v = self.kv(context).chunk(2, dim=-1)
        return self.attend(self.q(x), k, v, windows)

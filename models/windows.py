"""Windows as index arithmetic: which pixel of a map stands where when the map is cut into windows.

A map (B, H, W, C) becomes a matrix of tokens (B*H*W, C) in which every window's pixels follow each other, and windows
of one shape form a group. Windows shifted by half a window are cut by the image's edge into smaller ones: half windows
along the sides and quarter windows in the corners. The usual form of this (Swin Transformer, section 3.2) rolls the
map instead, so that the cut pieces share a window, and keeps them apart by adding -100 to their logits; smaller
windows give the same figures (the sums differ by e^-100) with no roll, no mask and less work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, NamedTuple, TypeVar, cast

import torch
from einops import rearrange
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])

WINDOW = 8
SHIFT = WINDOW // 2
LARGEST_GROUP = 65_535  # windows that the GPU kernels of fused attention take in one call


def kept(build: F) -> F:
    """Keep what ``build`` made for the last 16 sets of arguments; a compiled graph builds its own constants."""
    made = lru_cache(maxsize=16)(torch.inference_mode(False)(build))  # usable in training, whoever asked first

    @wraps(build)
    def call(*args: Any) -> Any:
        return build(*args) if torch.compiler.is_compiling() else made(*args)

    return cast(F, call)


class Group(NamedTuple):
    """Windows of one shape that follow each other in the token order."""

    number: int
    height: int
    width: int

    @property
    def tokens(self) -> int:
        return self.number * self.height * self.width


class Layout(NamedTuple):
    """Where each token of the windows comes from, and where each pixel of the map went."""

    order: Tensor  # (B*H*W,) tokens = pixels[order]
    inverse: Tensor  # (B*H*W,) pixels = tokens[inverse]
    groups: tuple[Group, ...]


@kept
def layout(
    B: int, H: int, W: int, device: torch.device, shift_rows: bool = False, shift_columns: bool = False
) -> Layout:
    """The window layout of a batch of maps. H and W are multiples of 8; H may be 4, for one row of half windows."""
    pixels = torch.arange(B * H * W, device=device).view(B, H, W)
    orders, groups = [], []
    for rows, h in _bands(pixels, 1, shift_rows):
        for piece, w in _bands(rows, 2, shift_columns):
            orders.append(rearrange(piece, "B (n h) (m w) -> (B n m h w)", h=h, w=w))
            number = piece.numel() // (h * w)
            groups += [Group(min(LARGEST_GROUP, number - i), h, w) for i in range(0, number, LARGEST_GROUP)]
    order = torch.cat(orders)
    inverse = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=device))
    return Layout(order, inverse, tuple(groups))


def _bands(pixels: Tensor, dim: int, shift: bool) -> list[tuple[Tensor, int]]:
    """The lines of whole windows along ``dim``, and with a shift the two half windows at the ends, with their size."""
    size = pixels.shape[dim]
    if not shift:
        return [(pixels, min(size, WINDOW))]
    ends = [pixels.narrow(dim, 0, SHIFT), pixels.narrow(dim, size - SHIFT, SHIFT)]
    whole = [(pixels.narrow(dim, SHIFT, size - WINDOW), WINDOW)] if size > WINDOW else []
    return [*whole, (torch.cat(ends, dim), SHIFT)]


class Reorder(torch.autograd.Function):
    """Rows of a matrix in another order. The gradient is put back by the inverse order, with no sum to scatter."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return gradients[0].index_select(0, inverse), None, None


def to_tokens(x: Tensor, windows: Layout) -> Tensor:
    """(B, H, W, C) -> (B*H*W, C), window after window."""
    return Reorder.apply(x.flatten(0, 2), windows.order, windows.inverse)


def to_map(tokens: Tensor, windows: Layout, shape: torch.Size) -> Tensor:
    """Inverse of :func:`to_tokens`: (B*H*W, C) -> (B, H, W, C)."""
    return Reorder.apply(tokens, windows.inverse, windows.order).view(*shape[:-1], tokens.shape[-1])


@kept
def relative_position(height: int, width: int, device: torch.device) -> Tensor:
    """Row of the bias table for each pair of tokens of a window of at most 8x8, flattened: (height*width)^2 entries.

    The table has 15 x 15 rows, one per offset (dy, dx) in [-7, 7]^2, dy the slower (Swin Transformer, equation 4).
    """
    y = torch.arange(height, device=device)
    x = torch.arange(width, device=device)
    reach = WINDOW - 1
    dy = y[:, None, None, None] - y[None, None, :, None] + reach
    dx = x[None, :, None, None] - x[None, None, None, :] + reach
    return (dy * (2 * WINDOW - 1) + dx).flatten()

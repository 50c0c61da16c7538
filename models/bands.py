"""Bands of rows: inference on a CPU computes a map piece by piece, and no box of the network need know.

What a box computes on the way is many times its map. In bands it stays in the processor's cache, and the memory that
one band has freed serves the next; of a whole image each of these maps comes new from the system, page by page, which
took a quarter of the time. ``pay`` is the one place that decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from models.windows import SHIFT, WINDOW

PIXELS = 1 << 14  # of a band


def pay(x: Tensor) -> bool:
    """Whether a box should take a map (B, H, W, C) in bands."""
    return (
        x.device.type == "cpu"
        and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
        and x.shape[:-1].numel() >= 2 * PIXELS
    )


def cut(H: int, rows: int, shifted: bool = False) -> Iterator[slice]:
    """Bands of ``rows`` rows, a multiple of 8; shifted, the first and the last band are half windows."""
    shift = SHIFT if shifted else 0
    edges = [*range(shift, H - shift, rows), H - shift]
    edges = [0, *edges, H] if shift else edges
    return (slice(a, b) for a, b in pairwise(edges) if a < b)


def in_bands(compute: Callable[..., Any]) -> Callable[..., Any]:
    """For a method whose pixels need no others than those of their window: maps (B, H, W, C) -> one or more maps."""

    @wraps(compute)
    def call(box: Any, *maps: Tensor) -> Any:
        if not pay(maps[0]):
            return compute(box, *maps)
        return gather(maps[0], lambda b, rows: compute(box, *(x[b : b + 1, rows] for x in maps)))

    return call


def in_bands_with_halo(compute: Callable[..., Any]) -> Callable[..., Any]:
    """For a method that convolves its first map, and takes that with a row more on each side where ``halo`` is set."""

    @wraps(compute)
    def call(box: Any, x: Tensor, *maps: Tensor, halo: bool = False) -> Any:
        if halo or not pay(x):
            return compute(box, x, *maps, halo=halo)
        return gather(
            x,
            lambda b, rows: compute(
                box, rows_with_halo(x[b : b + 1], rows), *(m[b : b + 1, rows] for m in maps), halo=True
            ),
        )

    return call


def rows_with_halo(x: Tensor, rows: slice) -> Tensor:
    """Some rows of (1, H, W, C) and the ones above and below them, reflected at the edges of the map."""
    H = x.shape[1]
    parts = [x[:, max(rows.start - 1, 0) : rows.stop + 1]]
    if rows.start == 0:
        parts.insert(0, x[:, 1:2])
    if rows.stop == H:
        parts.append(x[:, H - 2 : H - 1])
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def gather(like: Tensor, compute: Callable[[int, slice], Any], shifted: bool = False) -> Any:
    """The maps, of a batch and size like another's, of which ``compute`` gives an image's rows."""
    B, H, W, _ = like.shape
    rows = max(WINDOW, PIXELS // W // WINDOW * WINDOW)
    whole: list[Tensor] = []
    several = False
    for b in range(B):
        for where in cut(H, rows, shifted):
            found = compute(b, where)
            several = not isinstance(found, Tensor)
            parts = found if several else (found,)
            whole = whole or [part.new_empty(B, H, W, part.shape[-1]) for part in parts]
            for target, part in zip(whole, parts, strict=True):
                target[b : b + 1, where] = part
    return tuple(whole) if several else whole[0]

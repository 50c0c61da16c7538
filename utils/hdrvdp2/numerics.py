"""Numerical helpers of the metric: powers, uniform tables, filtering with padding, resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

COLUMNS = 64  # of a spectrum at a time: keeps the temporaries in the cache


def power(x: Tensor, exponent: float) -> Tensor:
    """x^exponent for x >= 0 (NaN below 0), exponent > 0 or x > 0. Three times faster than torch.pow in float64."""
    return x.log().mul_(exponent).exp_()


def power_(x: Tensor, exponent: float) -> Tensor:
    """:func:`power` in place."""
    return x.log_().mul_(exponent).exp_()


def lookup(table: Tensor, start: float, stop: float, x: Tensor) -> Tensor:
    """Linear interpolation of ``table``, sampled uniformly over [start, stop], at ``x``, clamped to that range."""
    last = table.numel() - 1
    position = (x.double() - start).mul_(last / (stop - start)).clamp_(0, last)
    index = position.int().reshape(-1)
    step = F.pad(table.diff(), (0, 1))  # none beyond the last entry
    low = table.index_select(0, index).view_as(x)
    return low.addcmul_(step.index_select(0, index).view_as(x), position.frac_())


def frequency_grid(size: tuple[int, int], ppd: float) -> Tensor:
    """Cycles per degree of an FFT of ``size``, from 0 to Nyquist along both axes: (size[0]//2 + 1, size[1]//2 + 1)."""
    fy, fx = (torch.fft.rfftfreq(n, dtype=torch.float64) * ppd for n in size)
    return torch.hypot(fy[:, None], fx)


def filter_padded(x: Tensor, transfer: Tensor, pad: Tensor | float) -> Tensor:
    """Circular convolution of (H, W) on a 2H x 2W grid whose right and lower rest holds ``pad``.

    Args:
        transfer: (H + 1, W + 1) real, on the grid's frequencies from 0 to Nyquist, the same at negative ones.

    Returns:
        (H, W). Filters ``x - pad``, which is zero in the rest, and adds the padding's own response.
    """
    height, width = x.shape
    rows = torch.fft.rfft(x - pad, n=2 * width)
    for start in range(0, width + 1, COLUMNS):
        part = slice(start, start + COLUMNS)
        columns = torch.fft.fft(rows[:, part].t(), n=2 * height)
        columns[:, : height + 1] *= transfer[:, part].t()
        columns[:, height + 1 :] *= transfer[1:-1, part].flip(0).t()
        rows[:, part] = torch.fft.ifft(columns)[:, :height].t()
    return torch.fft.irfft(rows, n=2 * width)[:, :width] + pad * transfer[0, 0]


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bicubic resampling of (H, W) to ``size`` as MATLAB's imresize does it, antialiased where it shrinks."""
    if x.shape == tuple(size):
        return x
    rows = torch.sparse.mm(_resize_matrix(x.shape[0], size[0]).to(x), x)
    return torch.sparse.mm(_resize_matrix(x.shape[1], size[1]).to(x), rows.t().contiguous()).t().contiguous()


@lru_cache(maxsize=64)
def _resize_matrix(n: int, m: int) -> Tensor:
    """The (m, n) sparse matrix of one axis."""
    scale = m / n
    stretch = min(scale, 1.0)
    width = 4.0 / stretch
    centre = (np.arange(m) + 1) / scale + 0.5 * (1.0 - 1.0 / scale)  # counted from 1
    taps = np.floor(centre - width / 2)[:, None] + np.arange(math.ceil(width) + 2)
    weights = _cubic(stretch * (centre[:, None] - taps))
    weights /= weights.sum(axis=1, keepdims=True)
    source = (taps.astype(np.int64) - 1) % (2 * n)
    source = np.minimum(source, 2 * n - 1 - source)  # ... 2 1 | 1 2 3 ... n | n n-1 ...
    used = weights != 0
    index = torch.from_numpy(np.stack([np.nonzero(used)[0], source[used]]))
    values = torch.from_numpy(weights[used])
    return torch.sparse_coo_tensor(index, values, (m, n), check_invariants=True).coalesce()


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x**2 + 1.0
    outer = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1.0, inner, np.where(x <= 2.0, outer, 0.0))

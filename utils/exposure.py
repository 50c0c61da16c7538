"""Exposure arithmetic: LDR values, linear radiance and the mu-law, for numpy arrays and torch tensors alike.

Kalantari and Ramamoorthi, "Deep High Dynamic Range Imaging of Dynamic Scenes", SIGGRAPH 2017, equations 4 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from utils.images import LDR_SCALE

GAMMA = 2.2  # the camera curve the data sets are encoded with
MU = 5000.0  # compression of the mu-law tone curve
MU_LAW = f"T(h) = log(1 + {MU:g} h) / log {1 + MU:g}"  # as pictures and pages print it
CLIPPED = 0.99  # LDR value from which a pixel's largest channel counts as clipped

Array = TypeVar("Array", np.ndarray, Tensor)


def to_linear(ldr: Array, ev: float | Array) -> Array:
    """Linear radiance of an LDR frame in [0, 1], any shape: ldr^2.2 / 2^ev. ev: a number, or broadcasts against ldr."""
    return ldr**GAMMA / 2.0**ev


def to_ldr(linear: Array, ev: float | Array) -> Array:
    """Inverse of :func:`to_linear`, clipped to [0, 1] as a sensor clips: min(linear * 2^ev, 1)^(1/2.2)."""
    return (linear * 2.0**ev).clip(0.0, 1.0) ** (1.0 / GAMMA)


def tonemap(hdr: Array) -> Array:
    """The mu-law T(h) = log(1 + 5000 h) / log(5001). Any shape; meant for [0, 1]; negative values are cut to 0.

    Values above 1 follow the same curve. The cut keeps the logarithm defined for outputs that are not a network's
    sigmoid, such as a baseline's.
    """
    log1p = torch.log1p if isinstance(hdr, Tensor) else np.log1p
    return log1p(MU * hdr.clip(min=0.0)) / math.log(1.0 + MU)


def network_input(frames: np.ndarray | Tensor, ev: Sequence[float] | np.ndarray | Tensor) -> Tensor:
    """The network's 18-channel input: per frame three channels of linear radiance, then three of LDR, frames in order.

    Args:
        frames: (..., 3, H, W, 3) frames of rising exposure on the 2.2 curve, uint16 (value / 2^16) or float in [0, 1].
        ev: (..., 3) exponents to base 2, one per frame.

    Returns:
        (..., 18, H, W) float32, float64 for float64 frames, on the device of ``frames``.
    """
    frames = torch.as_tensor(frames)
    ldr = (frames if frames.is_floating_point() else frames.to(torch.float32) / LDR_SCALE).movedim(-1, -3)
    exponents = torch.as_tensor(ev).to(ldr)[..., None, None, None]
    return torch.cat([to_linear(ldr, exponents), ldr], dim=-3).flatten(-4, -3)

"""The paper's "Visibility metric" and "Quality": one map, one probability, one number."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

# Importance of a band's visible error for quality by the band's frequency, cycles per degree
QUALITY_FREQUENCY = (0.1172, 0.2344, 0.4688, 0.9375, 1.875, 3.75, 7.5, 15.0, 30.0, 60.0)
QUALITY_WEIGHT = (0.0, 0.0, 0.0003, 0.0003, 0.0398, 0.269, 0.2142, 0.2832, 0.2832, 0.0)

EPSILON = 1e-12


def quality_weight(frequency: float) -> float:
    """w of a band, linear in its frequency."""
    return float(np.interp(frequency, QUALITY_FREQUENCY, QUALITY_WEIGHT))


def pooled_error(d0: Tensor, mask: Tensor) -> Tensor:
    """e of a band: root of the sum (not of the mean) of squares, over the number of pixels, as released."""
    return (d0 * mask).square_().sum().sqrt() / d0.numel()


def quality_loss(error: Tensor, frequency: float) -> Tensor:
    """What one band and orientation takes from 100."""
    return quality_weight(frequency) * (torch.log(error + EPSILON) - math.log(EPSILON))


def spatial_pooling(visible: Tensor) -> Tensor:
    """C_map (H, W) from the reconstructed difference: more of it anywhere makes the strongest more visible."""
    return visible * visible.sum() / (visible.max() + EPSILON)


def detection_probability(contrast: Tensor) -> Tensor:
    """P_map in [0, 1]: 0.5 where the contrast is 1 threshold."""
    return -torch.expm1(math.log(0.5) * contrast)

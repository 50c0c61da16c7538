"""What lossy files blur at the rim of clipped areas, undone for the reference before the network sees it.

JPEG spreads a clipped area over its blocks of 8 pixels: values beside it come out a little below full, and the network
takes them for what the camera saw. Weights that have seen no JPEG, the authors' too, need them filled up: on four made
scenes of quality 92, the first ones that were shipped had 33.82 dB PSNR-mu and 25.06 dB PSNR-l without and 37.04 and
28.08 with it. The shipped weights of today know JPEG: on twelve such scenes they have 40.67 and 35.80 without, 40.24
and 35.24 with it (``python -m benchmarks.choices scenes/val scenes/val_jpeg92``). On 16-bit frames it costs all of
them, so it is for lossy references alone.
"""

from __future__ import annotations

import cv2
import numpy as np

from utils.exposure import CLIPPED
from utils.images import LDR_SCALE

NEARLY = 0.90  # LDR value from which one beside a clipped one is taken for clipped
REACH = 2  # pixels


def fill_nearly_clipped(frame: np.ndarray) -> np.ndarray:
    """An (H, W, 3) uint16 frame with its nearly clipped values beside clipped ones at full, channel by channel."""
    clipped = (frame >= CLIPPED * LDR_SCALE).astype(np.uint8)
    near = cv2.dilate(clipped, np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)) > 0
    return np.where(near & (frame >= NEARLY * LDR_SCALE), np.uint16(LDR_SCALE - 1), frame)

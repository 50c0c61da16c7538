"""What one gets without a network: the reference frame alone, and the two merges OpenCV has.

Each function takes ``frames`` (3, H, W, 3) uint16 and ``ev`` (3,), exponents to base 2, and returns (H, W, 3) float32
linear RGB in the label's scale, at least 0. None of them looks at a label: the exposures give the scale.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from utils.alignment import align
from utils.exposure import to_linear
from utils.images import ldr_to_float, to_8_bit

REFERENCE = 1  # the middle frame, with which labels are aligned
LEVELS = 256  # of the 8-bit pictures OpenCV merges

Baseline = Callable[[np.ndarray, np.ndarray], np.ndarray]


def reference_only(frames: np.ndarray, ev: np.ndarray) -> np.ndarray:
    """The middle frame's linear radiance: no ghosts, but its noise, and clipped from 1 / 2^ev on."""
    return to_linear(ldr_to_float(frames[REFERENCE]), float(ev[REFERENCE]))


def merge_debevec(frames: np.ndarray, ev: np.ndarray) -> np.ndarray:
    """Debevec and Malik 1997 ("Recovering High Dynamic Range Radiance Maps from Photographs") as OpenCV does it.

    The camera curve is known, so it is given rather than estimated: level l of 255 is the exposure (l / 255)^2.2. With
    exposure times 2^ev the radiance comes out in the label's scale. Cut to [0, 1], where labels end.
    """
    merge = cv2.createMergeDebevec()
    times = np.exp2(ev).astype(np.float32)
    radiance = merge.process(list(_eight_bit(frames)), times, _response())
    return np.nan_to_num(radiance, nan=0.0, posinf=1.0).clip(0.0, 1.0)


def merge_mertens(frames: np.ndarray, ev: np.ndarray) -> np.ndarray:
    """Exposure fusion, Mertens et al. 2007, as OpenCV does it, brought back to radiance.

    Fusion gives a picture for the eye, not a radiance. It is taken for an LDR frame of unknown exposure: undone by the
    2.2 curve and scaled by the median ratio to the reference frame where that is neither black nor clipped.
    """
    fused = cv2.createMergeMertens().process(list(_eight_bit(frames)))
    linear = to_linear(fused.clip(0.0, 1.0).astype(np.float32), 0.0)
    reference = ldr_to_float(frames[REFERENCE])
    well_exposed = (reference > 0.1) & (reference < 0.9) & (linear > 0)
    if not well_exposed.any():
        return linear
    return linear * np.median(reference_only(frames, ev)[well_exposed] / linear[well_exposed])


def registered(baseline: Baseline) -> Baseline:
    """The baseline after the camera's motion is undone (``utils.alignment``); objects still move."""

    def after_registration(frames: np.ndarray, ev: np.ndarray) -> np.ndarray:
        moved = frames.copy()
        align(moved, ev, "auto", REFERENCE)
        return baseline(moved, ev)

    return after_registration


BASELINES: dict[str, Baseline] = {
    "reference frame alone": reference_only,
    "MergeDebevec": merge_debevec,
    "MergeDebevec, registered": registered(merge_debevec),
    "MergeMertens": merge_mertens,
    "MergeMertens, registered": registered(merge_mertens),
}


def _eight_bit(frames: np.ndarray) -> np.ndarray:
    return to_8_bit(ldr_to_float(frames))


def _response() -> np.ndarray:
    """(256, 1, 3) exposure of each level. OpenCV takes its logarithm: level 0 counts as half a level."""
    level = np.maximum(np.arange(LEVELS, dtype=np.float32), 0.5) / (LEVELS - 1)
    return np.repeat(to_linear(level, 0.0)[:, None, None], 3, axis=2)

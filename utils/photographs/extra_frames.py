"""What a bracket's further frames add to the network's result: range above its darkest frame, and quieter shadows.

The network takes three frames. Where its darkest one clips, darker frames take over, the least dark first; where a
brighter or further one shows the same, the mean with the result, weighted by the error of both, is nearer to the truth
than either. A frame counts only where it agrees: with the reference, or where that is clipped with the result; and one
that adds range with the frame that it goes on from, so that nothing that moved comes in.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from utils.alignment import warp
from utils.exposure import CLIPPED, to_linear
from utils.images import ldr_to_float
from utils.photographs.bracket import Extra

TAKES_OVER = (0.75, 0.95)  # of the level where the result clips: from the first on a darker frame blends in
FULL_APART = (0.10, 0.20)  # of that level: up to the first two frames agree, from the second on they don't
AT_LEAST = (0.35, 0.50)  # of that level: what the result must reach itself; the network dims what it cannot see
APART = (0.6, 1.2)  # of the difference that noise and TOLERANCE explain: likewise
TOLERANCE = 0.08  # of a value: what curves and calibration of two frames may differ by
CLEAR = 0.92  # LDR value up to which a frame is surely not clipped
ELECTRONS, READ_NOISE = 10_000.0, 5.0  # of a common sensor's pixel at saturation, and its noise in the dark
NEAR = 1.5  # pixels; over such a distance differences are averaged before they are judged
REACH = 5  # pixels; so far around what moved a frame stays out,
RIM = 2  # and so far around what it clips itself


def add_frames(
    hdr: np.ndarray, frames: np.ndarray, ev: np.ndarray, extra: Sequence[Extra]
) -> tuple[np.ndarray, float, float]:
    """The result of three frames, bettered by others of the bracket.

    Args:
        hdr: (H, W, 3) linear, of :func:`utils.inference.reconstruct`; 1 is where the first frame clips.
        frames: (3, H, W, 3) uint16, the frames it was made of.
        ev: their exponents to base 2.
        extra: further frames, registered to the same reference.

    Returns:
        (H, W, 3) float32 in the same scale, above 1 where darker frames show more; the shares of values that range was
        added to, and whose noise was lowered.
    """
    result, level, before = hdr.astype(np.float32), 1.0, light(frames[0], ev[0])
    extended = quieter = 0.0
    for one in sorted((one for one in extra if one.ev < 0), key=lambda one: -one.ev):
        darker = light(one.frame, one.ev)
        weight = extension_weight(result, before, darker, level) * covered(one)
        result += weight * (darker - result)
        extended = max(extended, float((weight > 0.5).mean()))
        level, before = 2.0**-one.ev, darker
    noise = result_variance(result, frames, ev)
    for one in (one for one in extra if one.ev > 0):
        weight = mean_weight(result, one, noise, frames[1], ev[1]) * covered(one)
        result += weight * (light(one.frame, one.ev) - result)
        noise = noise * (1.0 - weight)
        quieter = max(quieter, float((weight > 0.2).mean()))
    return result, extended, quieter


def light(frame: np.ndarray, ev: float) -> np.ndarray:
    """(H, W, 3) linear float32, in the scale of the result."""
    return to_linear(ldr_to_float(frame), float(ev))


def covered(one: Extra) -> np.ndarray:
    """(H, W, 1) float32: where a registered frame shows its own pixels."""
    height, width = one.frame.shape[:2]
    if one.motion.method == "none":
        return np.ones((height, width, 1), np.float32)
    inside = warp(np.ones((height, width), np.uint8), one.motion.matrix)[1]
    return _shrunk(inside.astype(np.float32))[..., None]


def extension_weight(result: np.ndarray, before: np.ndarray, darker: np.ndarray, level: float) -> np.ndarray:
    """How far a darker frame takes over, (H, W, 3) in [0, 1].

    Where it shows the level at which the result clips, or more; the frame that it goes on from is at that level too;
    and the result is not far below it.
    """
    seen, shown = (before / level).clip(max=1.0), darker / level
    apart = np.abs(_blurred(shown.clip(max=1.0) - seen)).max(axis=2)
    bright = _smooth_step(_blurred(result / level).max(axis=2), *AT_LEAST)
    agrees = _shrunk(1.0 - _smooth_step(apart, *FULL_APART)) * bright
    return _smooth_step(shown, *TAKES_OVER) * agrees[..., None]


def mean_weight(
    result: np.ndarray, one: Extra, noise: np.ndarray, reference: np.ndarray, reference_ev: float
) -> np.ndarray:
    """The weight of a further frame in the mean with the result, (H, W, 3): by the errors of both, where it agrees.

    The result's error is its noise, or more where it is farther from a frame that agrees than both noises explain.
    Where the frame clips it says nothing, neither for nor against what is beside it.
    """
    other = light(one.frame, one.ev)
    own = variance(result, one.ev)
    clear = (ldr_to_float(one.frame).max(axis=2, keepdims=True) <= CLEAR).astype(np.float32)
    steady = ldr_to_float(reference).max(axis=2, keepdims=True) < CLEAR
    against = np.where(steady, light(reference, reference_ev), result)
    theirs = np.where(steady, variance(result, reference_ev), noise)
    explained = np.sqrt(_mean_near(own + theirs, clear) / 4.0) + TOLERANCE * _mean_near(result, clear)
    apart = (np.abs(_mean_near(other - against, clear)) / explained.clip(min=1e-9)).max(axis=2)
    agrees = _shrunk(1.0 - _smooth_step(apart, *APART)) * _shrunk(clear[..., 0], RIM)
    error = np.maximum(noise, _mean_near((other - result) ** 2, clear) - own)
    return error / (error + own) * agrees[..., None] * clear


def variance(light: np.ndarray, ev: float) -> np.ndarray:
    """The noise variance of light that a sensor saw at an exposure: photons, and reading."""
    return (light.clip(min=0.0) * 2.0**ev / ELECTRONS + (READ_NOISE / ELECTRONS) ** 2) / 4.0**ev


def result_variance(result: np.ndarray, frames: np.ndarray, ev: np.ndarray) -> np.ndarray:
    """That of the result, taken for the noise of the brightest of its frames that is not clipped."""
    noise = variance(result, float(ev[0]))
    for frame, exponent in zip(frames[1:], ev[1:], strict=True):
        clear = ldr_to_float(frame).max(axis=2, keepdims=True) < CLIPPED
        noise = np.where(clear, variance(result, float(exponent)), noise)
    return noise.astype(np.float32)


def _blurred(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), NEAR)


def _mean_near(image: np.ndarray, where: np.ndarray) -> np.ndarray:
    """:func:`_blurred` of the pixels that ``where`` (H, W, 1) names; 0 where none of them is near."""
    return _blurred(image * where) / np.maximum(_blurred(where)[..., None], 1e-3)


def _shrunk(weight: np.ndarray, reach: int = REACH) -> np.ndarray:
    """(H, W) with its zeros grown by ``reach`` pixels, and a soft rim."""
    return cv2.GaussianBlur(cv2.erode(weight, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)), (0, 0), reach / 3)


def _smooth_step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = ((x - low) / (high - low)).clip(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)

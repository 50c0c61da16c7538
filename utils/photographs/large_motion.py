"""What moved far in a large photograph, taken out of the side frames before the network sees them.

The network looks for what moved within a few windows of 8 pixels; in a photograph of 24 megapixels people move by
hundreds, and leave pale ghosts where the reference is clipped. What a side frame may show follows from the reference:
its own light at the side frame's exposure, or, where it is clipped, that much or more. Side frame and reference are
compared at a reduced size, where noise and a pixel of camera motion average out. Where they disagree, the side frame
gets the reference's light, with all its detail, and where that is clipped what the surroundings in the dark frame have.
All else stays as it is, to the bit.
"""

from __future__ import annotations

import cv2
import numpy as np

from utils.exposure import to_ldr, to_linear
from utils.files import InputError
from utils.images import LDR_SCALE, float_to_ldr, ldr_to_float

LONGEST = 1536  # pixels of the longer side that "auto" reduces to at most, and up to which it leaves all to the network
SMALLEST = 32  # pixels of the shorter side that must be left
CLEAR = 0.92  # LDR value up to which a frame is surely not clipped
BRIGHT = 0.7  # of the light at which the reference clips; what is as bright may be like what is clipped beside it
FILLED = (0.88, 0.97)  # LDR values of the reference between which its surroundings take over from its own light
DIFFERS, PERHAPS = 0.08, 0.04  # LDR values; from the first on it is motion, and so is what is connected with it
SOFT = 1.0  # pixels of the reduced size over which light is averaged before it is compared
FEATHER = 0.7  # the same, of the rim of what is replaced
SQUARE = np.ones((3, 3), np.uint8)
MOST = 0.5  # of a frame: where more disagrees, it is no motion
USUAL = 0.02  # LDR values; differences beyond it count little for the curve of a frame
STEEPEST = 0.5  # the largest coefficient of that curve; an S-curve as steep as cameras have takes 0.4
ROUNDS = 20  # of reweighting
SAMPLES = 20_000  # values that the curve is fitted to
EVERY_VALUE = ldr_to_float(np.arange(LDR_SCALE, dtype=np.uint16))  # tables of functions of a frame's values begin here


def chosen_scale(scale: int | None, height: int, width: int) -> int:
    """How many times smaller the pictures are in which motion is looked for; 1: it is left to the network.

    Args:
        scale: as the user has it; None for what the size asks for.
        height, width: pixels of the photograph.

    Raises:
        InputError: so little would be left that nothing can be seen.
    """
    if scale is None:
        return -(-max(height, width) // LONGEST)
    if scale > 1 and min(height, width) // scale < SMALLEST:
        most = max(1, min(height, width) // SMALLEST)
        raise InputError(f"--scale {scale}: too small for photographs of {width}x{height}; give at most {most}")
    return scale


def without_large_motion(frames: np.ndarray, ev: np.ndarray, scale: int) -> tuple[np.ndarray, tuple[float, float]]:
    """The frames, with what the reference has in place of what moved.

    Args:
        frames: (3, H, W, 3) uint16 on the 2.2 curve, registered; the second is the reference.
        ev: three exponents to base 2.
        scale: how many times smaller the compared pictures are; 1 returns the frames themselves.

    Returns:
        (3, H, W, 3) uint16, and the share of the dark and of the bright frame in which something moved. A frame of
        which more than MOST disagrees is left as it is.
    """
    if scale == 1:
        return frames, (0.0, 0.0)
    height, width = frames.shape[1:3]
    size = width // scale, height // scale
    result, shares = frames.copy(), []
    for i in (0, 2):
        step = float(ev[i] - ev[1])
        moved = moved_places(frames[1], frames[i], step, size)
        shares.append(float(moved.mean()))
        if 0.0 < shares[-1] <= MOST:
            filling = surroundings(frames[1], frames[i], step, moved) if step < 0 else None
            replace_moved(result[i], frames[1], step, moved, filling)
    return result, (shares[0], shares[1])


def describe(scale: int, shares: tuple[float, float]) -> str:
    """What was done, for the user."""
    told = []
    for name, share in zip(("dark", "bright"), shares, strict=True):
        left = ", more than motion explains: left as it is; are exposures and curves right? (--scale 1 is without)"
        told.append(f"{share:.1%} of the {name} frame" + (left if share > MOST else ""))
    return f"scale {scale}: what moved far is replaced from the reference in {' and '.join(told)}"


def moved_places(reference: np.ndarray, frame: np.ndarray, step: float, size: tuple[int, int]) -> np.ndarray:
    """Where a frame shows what it cannot show if nothing moved, (h, w) bool of the reduced size.

    Single pixels are edges, and don't count.

    Args:
        reference, frame: (H, W, 3) uint16.
        step: EV from the reference to the frame.
        size: (w, h) of the reduced pictures.
    """
    least, most = at_exposure(step), np.where(EVERY_VALUE < CLEAR, at_exposure(step), np.float32(1.0))
    low, high, seen = (
        to_ldr(cv2.GaussianBlur(reduced(table[image], size), (0, 0), SOFT), 0.0)
        for table, image in ((least, reference), (most, reference), (at_exposure(0.0), frame))
    )
    first, second = curve_between(low, high, seen)
    low, high = (value + value * (1.0 - value) * (first + second * value) for value in (low, high))
    differs = np.maximum(low - seen, seen - high).max(axis=2)
    surely = cv2.morphologyEx((differs > DIFFERS).astype(np.uint8), cv2.MORPH_OPEN, SQUARE[:2, :2])
    _, parts = cv2.connectedComponents((differs > PERHAPS).astype(np.uint8))  # all of what differs surely somewhere
    whole = np.isin(parts, np.unique(parts[(surely > 0) & (parts > 0)])).astype(np.uint8)
    return cv2.dilate(whole, SQUARE) > 0


def curve_between(low: np.ndarray, high: np.ndarray, seen: np.ndarray) -> tuple[float, float]:
    """How the camera's curve makes a frame differ from what is expected: a and b of value (1 - value) (a + b value).

    Cameras add contrast before they write a file; the same light then has other ratios in frames of other exposure.
    The fit is robust (reweighted by Cauchy's function), so that what moved counts little. All are LDR values.
    """
    clear = (high == low) & (low > 1.0 - CLEAR) & (low < CLEAR)
    every = max(1, int(clear.sum()) // SAMPLES)
    x, difference = low[clear][::every].astype(np.float64), (seen - low)[clear][::every].astype(np.float64)
    terms = np.stack([x * (1.0 - x), x * x * (1.0 - x)], axis=1)
    found = np.zeros(2)
    for _ in range(ROUNDS):
        weight = 1.0 / (1.0 + ((difference - terms @ found) / USUAL) ** 2)
        weighted = terms * weight[:, None]
        found = np.linalg.solve(terms.T @ weighted + 1e-3 * np.eye(2), weighted.T @ difference)
    first, second = found.clip(-STEEPEST, STEEPEST).tolist()
    return first, second


def surroundings(reference: np.ndarray, frame: np.ndarray, step: float, moved: np.ndarray) -> np.ndarray:
    """The light of bright things around what moved, drawn over it: (h, w, 3) linear at the dark frame's exposure.

    From where the reference is bright, too: there the dark frame tells, and where that moved, what of the reference is
    not clipped. Never below what the reference shows.
    """
    size = moved.shape[::-1]
    own, seen = reduced(at_exposure(step)[reference], size), reduced(at_exposure(0.0)[frame], size)
    clipped = reduced((reference.max(axis=2) >= CLEAR * LDR_SCALE).astype(np.float32), size) > 0.0
    bright = own.max(axis=2) > BRIGHT * 2.0**step
    around = spread(np.where(moved[..., None], own, seen), bright & ~(moved & clipped))
    return np.maximum(around, own)


def spread(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 values with the unknown ones drawn from the known (H, W) nearby; 0 where none is known.

    Half the size is filled first, and gives what this size lacks (Gortler et al., "The Lumigraph", 1996, section 3.4).
    """
    height, width = known.shape
    if known.all() or max(height, width) == 1:
        return np.where(known[..., None], values, np.float32(0.0))
    half = -(-width // 2), -(-height // 2)
    share = reduced(known.astype(np.float32), half)[..., None]
    mean = reduced(np.where(known[..., None], values, np.float32(0.0)), half) / share.clip(min=1e-6)
    coarse = spread(mean, share[..., 0] > 0.0)
    return np.where(known[..., None], values, cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))


def replace_moved(
    frame: np.ndarray, reference: np.ndarray, step: float, moved: np.ndarray, filling: np.ndarray | None
) -> None:
    """Put the reference at the frame's exposure over what moved, in place, with a soft rim; elsewhere nothing changes.

    Args:
        frame, reference: (H, W, 3) uint16.
        step: EV from the reference to the frame.
        moved: (h, w) bool of the reduced size.
        filling: (h, w, 3) linear at the frame's exposure, for where the reference is clipped; None for a frame that is
            clipped there, too.
    """
    height, width = frame.shape[:2]
    soft = cv2.GaussianBlur(moved.astype(np.float32), (0, 0), FEATHER)
    weight = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    at = weight > 1e-3
    shown = to_ldr(at_exposure(step), 0.0)[reference[at]]
    if filling is not None:
        light = to_ldr(cv2.resize(filling, (width, height), interpolation=cv2.INTER_LINEAR)[at], 0.0)
        clipped = ((ldr_to_float(reference[at]) - FILLED[0]) / (FILLED[1] - FILLED[0])).clip(0.0, 1.0)
        light *= no_brighter(light, shown, clipped)
        shown += (light - shown).clip(min=0.0) * clipped
    frame[at] = float_to_ldr(ldr_to_float(frame[at]) + (shown - ldr_to_float(frame[at])) * weight[at][:, None])


def no_brighter(light: np.ndarray, shown: np.ndarray, clipped: np.ndarray) -> np.ndarray:
    """What a filling is multiplied by, (N, 1): it is no brighter than what is known of a pixel's other channels.

    All (N, 3) are LDR values, and ``clipped`` is 1 where the reference tells nothing. Without it a grey pixel of which
    red alone is clipped would become orange.
    """
    ratio = shown / light.clip(min=1e-4)
    return (ratio + (1.0 - ratio) * clipped).min(axis=1, keepdims=True).clip(max=1.0)


def at_exposure(step: float) -> np.ndarray:
    """For every uint16 value its light at an exposure ``step`` EV above its own, (65536,) float32, cut at 1."""
    return to_linear(EVERY_VALUE, -step).clip(max=1.0)


def reduced(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (H, W, ...) at a smaller size (w, h): means over areas."""
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], *image.shape[2:])

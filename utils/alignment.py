"""Global registration of a hand-held bracket: what the camera moved between its frames, undone before the network.

The network aligns moving objects by attention in windows of 8 pixels. A shift of the whole picture by d pixels leaves
about d/8 of all pixels without their counterpart in the window, so larger motions are undone first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from utils.choices import Mode
from utils.exposure import to_ldr, to_linear
from utils.images import LDR_SCALE, float_to_ldr, ldr_to_float, to_8_bit

TOLERATED = 1.5  # pixels of shift that ``auto`` leaves to the network
ESTIMATE_SIDE = 1600  # the longer side of the pictures on which motion is estimated
ECC_LEVELS = (4, 2, 1)  # coarse to fine
ECC_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
EVEN = 15.0  # pixels; how local "local contrast" is
NOISE = 0.02  # contrast below which there is nothing but noise to even out
HELPS = 0.97  # a motion must leave less than this of the difference that no motion leaves
BETTER = 0.98  # a homography must leave less than this of what rotation and shift leave
ECC_BLUR = 5  # pixels; keeps noise of the dark frame out of the estimate
LARGEST = 0.15  # of the diagonal: a motion beyond it is taken for a failed estimate


@dataclass(frozen=True)
class Motion:
    """What was found between the reference and one other frame, and what was done.

    Attributes:
        matrix: (3, 3) homography from pixel (x, y, 1) of the reference to the frame's.
        method: "none" (left as it is), "mtb" (shifted) or "ecc" (warped).
        shift: the farthest that a corner moves, in pixels.
        note: why the method is not the one asked for; empty when it is.
    """

    matrix: np.ndarray
    method: str
    shift: float
    note: str = ""


def align(
    frames: np.ndarray, ev: Sequence[float] | np.ndarray, mode: Mode = "auto", reference: int = 1
) -> list[Motion]:
    """Register the frames to the reference, in place; what lies outside a moved frame is filled from the reference.

    Args:
        frames: (N, H, W, 3) uint16 LDR frames, changed where motion is undone.
        ev: N exponents to base 2.
        mode: "none"; "mtb": shifts by median threshold bitmaps (Ward, "Fast, Robust Image Registration for
            Compositing High Dynamic Range Photographs", 2003); "ecc": homographies of the largest correlation
            (Evangelidis and Psarakis, PAMI 2008); "auto": ecc where the motion exceeds TOLERATED pixels.
        reference: the frame that stays.

    Returns:
        One motion per frame, the reference's being none.
    """
    motions = []
    for i, frame in enumerate(frames):
        motion = Motion(np.eye(3), "none", 0.0)
        if i != reference and mode != "none":
            motion = estimate(frames[reference], frame, ev[reference], ev[i], mode)
        if motion.method != "none":
            frame[:], inside = warp(frame, motion.matrix)
            frame[~inside] = reexpose(frames[reference][~inside], ev[reference], ev[i])
        motions.append(motion)
    return motions


def estimate(reference: np.ndarray, frame: np.ndarray, ev_reference: float, ev: float, mode: Mode) -> Motion:
    """The motion of an (H, W, 3) uint16 frame against the reference.

    An estimate that doesn't bring the two closer counts for nothing: ecc falls back to mtb, and mtb to no motion, with
    a note.
    """
    small = comparable(reference, frame, ev_reference, ev)
    size = frame.shape[:2]
    shifted = estimate_mtb(*small)
    candidates: list[tuple[str, np.ndarray | None]] = [("mtb", shifted)]
    if mode in ("auto", "ecc"):
        start = shifted if disagreement(*small, shifted) < 1.0 else np.eye(3)
        candidates.insert(0, ("ecc", estimate_ecc(*small, start)))
    for method, matrix in candidates:
        if matrix is None or disagreement(*small, matrix) > HELPS:
            continue
        full = rescaled(matrix, small[0].shape, size)
        shift = displacement(full, size)
        note = "" if method == candidates[0][0] else "ecc found no common picture, so mtb was taken"
        least = TOLERATED if mode == "auto" else 0.0
        return Motion(full, method if shift > least else "none", shift, note)
    return Motion(np.eye(3), "none", 0.0, "no camera motion found")


def comparable(
    reference: np.ndarray, frame: np.ndarray, ev_reference: float, ev: float
) -> tuple[np.ndarray, np.ndarray]:
    """Reference and frame as small grey float32 pictures in [0, 1], both at the higher of the two exposures, so that
    they agree in everything but motion and noise."""
    highest = max(ev_reference, ev)
    return _small_grey(reference, ev_reference, highest), _small_grey(frame, ev, highest)


def estimate_mtb(reference: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """The shift between two grey pictures as a (3, 3) homography, by median threshold bitmaps."""
    bits = int(np.clip(np.ceil(np.log2(LARGEST * min(frame.shape))), 1, 9))
    x, y = cv2.createAlignMTB(max_bits=bits).calculateShift(to_8_bit(reference), to_8_bit(frame))
    return np.array([[1.0, 0.0, -x], [0.0, 1.0, -y], [0.0, 0.0, 1.0]])


def estimate_ecc(reference: np.ndarray, frame: np.ndarray, start: np.ndarray | None = None) -> np.ndarray | None:
    """The homography of the largest correlation between two grey pictures; None where nothing converges.

    Rotation and shift come first, coarse to fine: few unknowns, found even where little can be seen. Then a homography
    on pictures of even local contrast, where texture counts as much as the rim of a lamp; kept if it agrees better.
    """
    rigid: np.ndarray | None = np.eye(3) if start is None else start
    for level in ECC_LEVELS:
        if rigid is not None:
            rigid = _ecc_at(reference, frame, rigid, level, cv2.MOTION_EUCLIDEAN)
    if rigid is None:
        return None
    even = even_contrast(reference), even_contrast(frame)
    full = _ecc_at(*even, rigid, 1, cv2.MOTION_HOMOGRAPHY)
    if full is None or disagreement(reference, frame, full) > BETTER * disagreement(reference, frame, rigid):
        return rigid
    return full


def disagreement(reference: np.ndarray, frame: np.ndarray, matrix: np.ndarray) -> float:
    """What is left of the mean absolute difference of two grey pictures after undoing a motion: below 1 it has helped.

    Infinite for a motion of unlikely size. A motion that was found by correlation is judged by another measure here.
    """
    if not np.isfinite(matrix).all() or displacement(matrix, frame.shape) > LARGEST * np.hypot(*frame.shape):
        return np.inf
    moved, seen = warp(frame, matrix)
    if not seen.any():
        return np.inf
    before = np.abs(frame - reference)[seen].mean(dtype=np.float64)
    after = np.abs(moved - reference)[seen].mean(dtype=np.float64)
    return float(after / before) if before > 0 else np.inf


def even_contrast(image: np.ndarray) -> np.ndarray:
    """A grey picture with its local mean taken off and divided by its local contrast."""
    flat = image - cv2.GaussianBlur(image, (0, 0), EVEN)
    contrast = np.sqrt(cv2.GaussianBlur(flat * flat, (0, 0), EVEN))
    return flat / (contrast + NOISE)


def displacement(matrix: np.ndarray, size: Sequence[int]) -> float:
    """How far a homography moves the corners of an image of size (H, W), in pixels; the largest of four."""
    corners = _corners(size)
    return float(np.linalg.norm(_transform(matrix, corners) - corners, axis=1).max())


def warp(frame: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The frame seen from the reference: (H, W[, 3]) resampled bicubically, and (H, W) bool: what the frame covers."""
    h, w = frame.shape[:2]
    flags = cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(frame, matrix, (w, h), flags=flags | cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpPerspective(np.ones((h, w), np.uint8), matrix, (w, h), flags=flags | cv2.INTER_NEAREST)
    return moved, inside.astype(bool)


def reexpose(frame: np.ndarray, ev_from: float, ev_to: float) -> np.ndarray:
    """A uint16 frame as another exposure would have shown it, clipped like a sensor; clipped values stay unknown."""
    values = ldr_to_float(np.arange(LDR_SCALE))
    return float_to_ldr(to_ldr(to_linear(values, ev_from), ev_to))[frame]


def common_region(motions: Sequence[Motion], size: Sequence[int]) -> tuple[int, int, int, int]:
    """The rows and columns (top, bottom, left, right; ends excluded) that every frame covers after alignment."""
    h, w = size
    top, bottom, left, right = 0.0, float(h), 0.0, float(w)
    for motion in motions:
        if motion.method != "none":
            (x0, y0), (x1, y1), (x2, y2), (x3, y3) = _transform(np.linalg.inv(motion.matrix), _corners(size))
            top, bottom = max(top, y0, y1), min(bottom, y2 + 1, y3 + 1)  # corners: upper two, lower two
            left, right = max(left, x0, x2), min(right, x1 + 1, x3 + 1)
    return int(np.ceil(top)), int(bottom), int(np.ceil(left)), int(right)


def rescaled(matrix: np.ndarray, before: Sequence[int], after: Sequence[int]) -> np.ndarray:
    """A homography between two pictures of one size (H, W) as one between the same pictures at another size."""
    grow = _scaling(before, after)
    matrix = grow @ matrix @ np.linalg.inv(grow)
    return matrix / matrix[2, 2]


def _ecc_at(reference: np.ndarray, frame: np.ndarray, matrix: np.ndarray, level: int, motion: int) -> np.ndarray | None:
    """One run of ECC on pictures ``level`` times smaller, from a (3, 3) start to a (3, 3) result."""
    size = (max(reference.shape[1] // level, 16), max(reference.shape[0] // level, 16))
    still, moved = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (reference, frame))
    start = rescaled(matrix, reference.shape, size[::-1]).astype(np.float32)
    rows = 3 if motion == cv2.MOTION_HOMOGRAPHY else 2
    everywhere = np.ones_like(still, np.uint8)
    try:
        _, found = cv2.findTransformECC(still, moved, start[:rows], motion, ECC_STOP, everywhere, ECC_BLUR)
    except cv2.error:  # no convergence: too little in common, or nothing to see
        return None
    complete = np.vstack([np.asarray(found, np.float64), [[0.0, 0.0, 1.0]]])[:3]
    return rescaled(complete, size[::-1], reference.shape)


def _small_grey(frame: np.ndarray, ev: float, highest: float) -> np.ndarray:
    h, w = frame.shape[:2]
    scale = min(1.0, ESTIMATE_SIDE / max(h, w))
    size = (max(round(w * scale), 1), max(round(h * scale), 1))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return ldr_to_float(reexpose(small, ev, highest)).mean(axis=2)


def _scaling(before: Sequence[int], after: Sequence[int]) -> np.ndarray:
    """(3, 3) map of pixel coordinates between two sizes (H, W) of one picture; pixels are squares, not points."""
    sy, sx = after[0] / before[0], after[1] / before[1]
    return np.array([[sx, 0.0, (sx - 1.0) / 2.0], [0.0, sy, (sy - 1.0) / 2.0], [0.0, 0.0, 1.0]])


def _corners(size: Sequence[int]) -> np.ndarray:
    h, w = size[:2]
    return np.array([[0.0, 0.0], [w - 1.0, 0.0], [0.0, h - 1.0], [w - 1.0, h - 1.0]])


def _transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return cv2.perspectiveTransform(points[None], matrix.astype(np.float64))[0]

"""Pictures of a reconstructed bracket: one to look at, and one that explains it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from utils.alignment import comparable
from utils.baselines import merge_debevec, merge_mertens
from utils.choices import Operator
from utils.exposure import CLIPPED, GAMMA, MU_LAW, to_linear, tonemap
from utils.images import ldr_to_float, to_8_bit
from utils.photographs.bracket import Bracket
from utils.pictures import panel

ZOOMS = 3
ZOOM_SHARE = 9  # a zoom is this much smaller than the photograph's longer side
COLOURS = ((230, 60, 50), (40, 120, 230), (30, 150, 70))  # of the zooms' frames
CELL = 330  # pixels of width
TALLEST = 3  # a cell is at most so many times as high as it is wide

BLACK, WHITE = 0.5, 99.5  # percentiles of a picture that become black and white,
DEEPEST, DULLEST = 0.08, 0.7  # but no value above the first becomes black, and none below the second white
LIFT, CONTRAST = 0.9, 0.3  # exponent by which midtones are lifted, and share of an S-shaped curve


def drago(hdr: np.ndarray) -> np.ndarray:
    """Drago et al., "Adaptive Logarithmic Mapping", Eurographics 2003, by OpenCV. (H, W, 3) linear to about [0, 1]."""
    return cv2.createTonemapDrago(GAMMA).process(hdr)


def photographic(hdr: np.ndarray) -> np.ndarray:
    """Drago's curve, which keeps colours and highlights, with the black, white and contrast that it lacks.

    Args:
        hdr: (H, W, 3) linear.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    picture = np.nan_to_num(drago(hdr)).clip(0.0, 1.0)
    black = min(float(np.percentile(picture.min(axis=2), BLACK)), DEEPEST)
    white = max(float(np.percentile(picture.max(axis=2), WHITE)), DULLEST)
    picture = ((picture - black) / (white - black)).clip(0.0, 1.0) ** LIFT
    return picture + CONTRAST * (picture * picture * (3.0 - 2.0 * picture) - picture)


CURVES: dict[Operator, Callable[[np.ndarray], np.ndarray]] = {
    "photo": photographic,
    "mu": lambda hdr: tonemap(hdr.clip(0.0, 1.0)),
    "reinhard": lambda hdr: cv2.createTonemapReinhard(GAMMA).process(hdr),
    "drago": drago,
    "mantiuk": lambda hdr: cv2.createTonemapMantiuk(GAMMA).process(hdr),
}


def tone_curve(hdr: np.ndarray, operator: Operator = "photo") -> np.ndarray:
    """Linear HDR (H, W, 3) as a picture to look at, float32 mostly in [0, 1]: ours, mu-law, or OpenCV's operators."""
    return CURVES[operator](hdr) if hdr.max() > 0 else np.zeros_like(hdr)  # OpenCV's refuse what is all black


def tone_mapped(hdr: np.ndarray, operator: Operator = "photo") -> np.ndarray:
    """As :func:`tone_curve`, (H, W, 3) uint8."""
    return to_8_bit(tone_curve(hdr, operator))


def comparison(bracket: Bracket, hdr: np.ndarray, heading: str) -> np.ndarray:
    """The picture that explains a result, (H, W, 3) uint8.

    Above: the frames as the network gets them, OpenCV's MergeDebevec and MergeMertens of the same frames, and ours.
    Below: the places where the frames disagree most, all on one brightness scale, so that clipping, noise and motion
    show.
    """
    frames = [ldr_to_float(frame) for frame in bracket.frames]
    debevec = tone_mapped(merge_debevec(bracket.frames, bracket.ev), "mu")
    mertens = tone_mapped(merge_mertens(bracket.frames, bracket.ev), "mu")
    ours = tone_mapped(hdr, "mu")
    places = disagreeing_places(bracket)
    images = [_marked(image, places) for image in (*frames, debevec, mertens, ours)]
    titles = [_frame_title(bracket, i) for i in range(3)]
    titles += [
        "MergeDebevec (OpenCV)\ntone-mapped like ours",
        "MergeMertens (OpenCV)\nexposure fusion, our scale",
    ]
    titles += [f"AFUNet\ntone-mapped: {MU_LAW}"]
    scaled = [tonemap(to_linear(frame, ev)) for frame, ev in zip(frames, bracket.ev, strict=True)]
    for number, place in enumerate(places, 1):
        images += [_framed(image[place], number) for image in (*scaled, debevec, mertens, ours)]
        titles += [f"{number}: {name}" for name in ("under-exposed, brought to one scale", "reference", "over-exposed")]
        titles += [f"{number}: {name}" for name in ("MergeDebevec", "MergeMertens", "AFUNet")]
    return panel(images, titles, columns=6, cell_width=CELL, heading=heading)


def disagreeing_places(bracket: Bracket) -> list[tuple[slice, slice]]:
    """Rows and columns of the places where the frames, brought to one exposure, differ most from the reference."""
    h, w = bracket.frames.shape[1:3]
    pairs = [comparable(bracket.frames[1], bracket.frames[i], bracket.ev[1], bracket.ev[i]) for i in (0, 2)]
    difference = np.max([np.abs(reference - frame) for reference, frame in pairs], axis=0)
    rows, columns = difference.shape
    side = max(max(rows, columns) // ZOOM_SHARE, 8)
    box_h, box_w = min(side, rows), min(side * 4 // 3, columns)
    places = []
    for _ in range(ZOOMS):
        mean = cv2.boxFilter(difference, -1, (box_w, box_h), anchor=(0, 0))[: rows - box_h + 1, : columns - box_w + 1]
        y, x = (int(i) for i in np.unravel_index(mean.argmax(), mean.shape))
        difference[y : y + box_h, x : x + box_w] = -1.0  # the next place lies elsewhere
        places.append((_stretch(y, box_h, h / rows), _stretch(x, box_w, w / columns)))
    return places


def _stretch(start: int, length: int, scale: float) -> slice:
    return slice(round(start * scale), round((start + length) * scale))


def _marked(image: np.ndarray, places: list[tuple[slice, slice]]) -> np.ndarray:
    """The image in its cell, with a numbered frame around each place."""
    scale = _cell_scale(image)
    small = _in_cell(image)
    for number, ((rows, columns), colour) in enumerate(zip(places, COLOURS, strict=False), 1):
        corner = (round(columns.start * scale), round(rows.start * scale))
        opposite = (round(columns.stop * scale), round(rows.stop * scale))
        cv2.rectangle(small, corner, opposite, colour, 2)
        below = (corner[0] + 4, corner[1] + 14)
        cv2.putText(small, str(number), below, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
    return small


def _framed(image: np.ndarray, number: int) -> np.ndarray:
    """A zoom in its cell, in the colour of its place."""
    zoom = _in_cell(image)
    cv2.rectangle(zoom, (0, 0), (zoom.shape[1] - 1, zoom.shape[0] - 1), COLOURS[number - 1], 3)
    return zoom


def _cell_scale(image: np.ndarray) -> float:
    return min(CELL / image.shape[1], TALLEST * CELL / image.shape[0])


def _in_cell(image: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) as wide as a cell, uint8; one that would be too tall is narrower, with white beside it."""
    scale = _cell_scale(image)
    width, height = (max(round(side * scale), 1) for side in (image.shape[1], image.shape[0]))
    small = cv2.resize(to_8_bit(image), (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return cv2.copyMakeBorder(small, 0, 0, 0, CELL - width, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def _frame_title(bracket: Bracket, i: int) -> str:
    role = ("under-exposed", "reference", "over-exposed")[i]
    clipped = float((ldr_to_float(bracket.frames[i]).max(axis=2) >= CLIPPED).mean())
    motion = bracket.motions[i]
    moved = f", moved by {motion.shift:.1f} px ({motion.method})" if motion.method != "none" else ""
    return f"{role}, EV {bracket.ev[i]:g}: {bracket.shots[i].path.name}\n{clipped:.1%} of the pixels clipped{moved}"

"""Labelled pictures: images and maps side by side, each with a title, as one page of pixels."""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utils.exposure import tonemap
from utils.images import to_8_bit

MARGIN, GAP, LINE = 24, 18, 19  # pixels
BOLD_WIDTH, SMALL_WIDTH = 8, 6  # of a character in a title's first line and in those below, pixels
INK, GREY = "#1b1e23", "#6a7078"
COLOURS = "inferno"  # of maps; even in lightness


def tone_mapped(hdr: np.ndarray) -> np.ndarray:
    """Linear HDR (H, W, 3) in [0, 1] to a picture to look at: the mu-law curve, (H, W, 3) uint8."""
    return to_8_bit(tonemap(hdr.clip(0.0, 1.0)))


def coloured(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """A map (H, W) as (H, W, 3) uint8 in the colours of every picture here; ``low`` and ``high`` are their ends."""
    return _as_picture(values, (low, high))


def map_colours(count: int = 9) -> list[str]:
    """The colours of maps from low to high, as a page writes them: ``#000004`` ..."""
    return [matplotlib.colors.to_hex(colour) for colour in matplotlib.colormaps[COLOURS](np.linspace(0.0, 1.0, count))]


def panel(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    *,
    columns: int = 3,
    cell_width: int = 480,
    heading: str = "",
    map_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Lay labelled images side by side.

    Args:
        images: (H, W, 3) uint8 or float in [0, 1], or (H, W) float: a map, drawn in colours with a colour bar below.
        titles: one per image; a line after ``\\n`` is set small and grey.
        columns: images per row.
        cell_width: pixels; each image is scaled to it, keeping its shape.
        heading: a line above everything.
        map_range: values at the ends of the colour bar, for all maps; by default 0 and a round number that covers
            99.5 % of each map.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    cells = [_Cell.make(image, title, cell_width, map_range) for image, title in zip(images, titles, strict=True)]
    columns = min(columns, len(cells))
    page = _Page(MARGIN * 2 + columns * (cell_width + GAP) - GAP)
    y = MARGIN
    if heading:
        page.write(MARGIN, y, heading, size=15, weight="bold")
        y += 2 * LINE
    for start in range(0, len(cells), columns):
        y = page.row(y, cells[start : start + columns]) + GAP
    picture = page.draw(y - GAP + MARGIN)
    gc.collect()  # matplotlib's figures hold themselves in circles: dozens of pages would wait in memory
    return picture


def _as_picture(image: np.ndarray, limits: tuple[float, float] | None) -> np.ndarray:
    """(H, W, 3) uint8 of an image or, with the values at both ends of the colours, of a map."""
    if limits is not None:
        low, high = limits
        image = matplotlib.colormaps[COLOURS]((image - low) / (high - low))[..., :3]
    return to_8_bit(image)


def _scale_to_width(image: np.ndarray, width: int) -> np.ndarray:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    shrinks = width < image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def common_range(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    """0 and the round number that covers 99.5 % of every map: the ends of one colour bar for all."""
    return 0.0, max(_round_up(float(np.percentile(one, 99.5))) for one in maps)


def _round_up(value: float) -> float:
    """The next of ... 0.01, 0.02, 0.05, 0.1 ...: ends of a colour bar that stay comparable between scenes."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-6)))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power or step == 10)


def shortened(text: str, length: int) -> str:
    """The text, with its middle left out where it is longer than ``length`` characters."""
    return text if len(text) <= length else f"{text[: (length - 1) // 2]}…{text[-(length // 2) :]}"


@dataclass(frozen=True)
class _Cell:
    """One labelled image of a panel; ``limits`` are the ends of a map's colour bar, None for an image."""

    picture: np.ndarray
    title: list[str]
    limits: tuple[float, float] | None

    @classmethod
    def make(cls, image: np.ndarray, title: str, width: int, map_range: tuple[float, float] | None) -> _Cell:
        limits = None
        if image.ndim == 2:
            limits = map_range or common_range([image])
        return cls(_scale_to_width(_as_picture(image, limits), width), title.split("\n"), limits)


class _Page:
    """A white page of given width in pixels: images and text are placed by their top left corner, then drawn."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.images: list[tuple[int, int, np.ndarray]] = []
        self.texts: list[tuple[int, int, str, dict[str, Any]]] = []

    def paste(self, x: int, y: int, image: np.ndarray) -> None:
        self.images.append((x, y, image))

    def write(self, x: int, y: int, text: str, size: int = 12, color: str = INK, **style: Any) -> None:
        self.texts.append((x, y, text, {"fontsize": size * 0.72, "color": color, **style}))  # 72 points to 100 dots

    def row(self, y: int, cells: Sequence[_Cell]) -> int:
        """Place cells side by side from line y on; the line below them."""
        top = y + LINE * max(len(cell.title) for cell in cells) + 6
        x, bottom = MARGIN, top
        for cell in cells:
            height, width = cell.picture.shape[:2]
            self.title(x, y, width, cell.title)
            self.paste(x, top, cell.picture)
            bottom = max(bottom, top + height + self.colour_bar(x, top + height, width, cell.limits))
            x += width + GAP
        return bottom

    def title(self, x: int, y: int, width: int, lines: Sequence[str]) -> None:
        self.write(x, y, shortened(lines[0], width // BOLD_WIDTH), weight="bold")
        for i, line in enumerate(lines[1:], 1):
            self.write(x, y + i * LINE, shortened(line, width // SMALL_WIDTH), size=11, color=GREY)

    def colour_bar(self, x: int, y: int, width: int, limits: tuple[float, float] | None) -> int:
        """Draw the bar of a map below line y; its height, 0 without limits."""
        if limits is None:
            return 0
        low, high = limits
        ramp = np.broadcast_to(np.linspace(0.0, 1.0, width), (10, width))
        self.paste(x, y + 6, _as_picture(ramp, (0.0, 1.0)))
        self.write(x, y + 19, f"{low:.4g}", size=11, color=GREY, ha="left")
        self.write(x + width // 2, y + 19, f"{(low + high) / 2:.4g}", size=11, color=GREY, ha="center")
        self.write(x + width, y + 19, f"≥ {high:.4g}", size=11, color=GREY, ha="right")
        return 2 * LINE

    def draw(self, height: int) -> np.ndarray:
        canvas = np.full((height, self.width, 3), 255, np.uint8)
        for x, y, image in self.images:
            canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
        figure = Figure(figsize=(self.width / 100, height / 100), dpi=100)
        agg = FigureCanvasAgg(figure)
        figure.figimage(canvas)
        for x, y, text, style in self.texts:
            figure.text(x / self.width, 1 - y / height, text, va="top", parse_math=False, **style)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # file names may be in any script
            agg.draw()
        return np.asarray(agg.buffer_rgba())[..., :3].copy()

"""What a run leaves behind: tables of figures (JSON, CSV, Markdown) and labelled pictures."""

from __future__ import annotations

import csv
import io
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utils.exposure import tonemap
from utils.io import atomic_path, ldr_to_float, write_png
from utils.published import PUBLISHED

VDP = "HDR-VDP-2"
DECIMALS = {
    "PSNR-mu": 2,
    "PSNR-l": 2,
    "SSIM-mu": 4,
    "SSIM-l": 4,
    VDP: 2,
}  # the order and rounding of the paper's tables
CLIPPED = 0.99  # LDR value from which a pixel counts as clipped, for the pictures' captions

Metrics = Mapping[str, float]


@dataclass
class Results:
    """The figures of a run.

    Attributes:
        dataset: key of ``LAYOUTS``.
        row: the run's name in the table, e.g. the checkpoint's file name.
        scenes: metrics by scene, in scene order.
        failures: the one-line reason by scene.
        protocol: how the figures were made; anything JSON can hold.
        notes: lines under the table.
    """

    dataset: str
    row: str
    scenes: dict[str, dict[str, float]]
    failures: dict[str, str] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def average(self) -> dict[str, float]:
        """Mean of each metric over the scenes; {} without scenes."""
        columns = next(iter(self.scenes.values()), {})
        return {key: math.fsum(row[key] for row in self.scenes.values()) / len(self.scenes) for key in columns}


# Tables


def write_tables(folder: Path, results: Results) -> None:
    """Write metrics.json, metrics.csv and metrics.md into ``folder``."""
    _write_text(folder / "metrics.json", to_json(results))
    _write_text(folder / "metrics.csv", to_csv(results))
    _write_text(folder / "metrics.md", to_markdown(results))


def to_json(results: Results) -> str:
    """All figures unrounded; an infinite PSNR (two equal images) becomes null, since JSON has no infinity."""
    data = {
        "scenes": {name: _finite(row) for name, row in results.scenes.items()},
        "average": _finite(results.average),
        "failed": results.failures,
        "protocol": results.protocol,
    }
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def to_csv(results: Results) -> str:
    """One line per scene and the average, unrounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scene", *results.average])
    for name, row in {**results.scenes, "average": results.average}.items():
        writer.writerow([name, *row.values()])
    return text.getvalue()


def to_markdown(results: Results) -> str:
    """The run's row under the paper's rows for this data set, then every scene."""
    published = PUBLISHED.get(results.dataset, {})
    rows = {"AFUNet, published" if name == "AFUNet" else name: list(row) for name, row in published.items()}
    rows[f"**AFUNet, {results.row}**"] = [results.average.get(column, math.nan) for column in DECIMALS]
    scenes = {name: [row.get(column, math.nan) for column in DECIMALS] for name, row in results.scenes.items()}
    parts = [
        f"# AFUNet on {results.dataset}: mean over {len(results.scenes)} scene(s)",
        markdown_table("method", rows),
    ]
    parts += results.notes
    if published:
        parts.append("Published rows: Table 1 of the AFUNet paper (ICCV 2025).")
    parts += ["## Scenes", markdown_table("scene", scenes)]
    parts += [f"Failed: {message}" for message in results.failures.values()]
    return "\n\n".join(parts) + "\n"


def summary(results: Results) -> str:
    """What a terminal shows at the end: the average, the paper's row where there is one, notes and failures."""
    failed = [f"{len(results.failures)} scene(s) FAILED and are left out."] if results.failures else []
    rows = {f"AFUNet, {results.row}": [results.average.get(column, math.nan) for column in DECIMALS]}
    if published := PUBLISHED.get(results.dataset):
        rows["AFUNet, published"] = list(published["AFUNet"])
    return "\n".join([markdown_table(f"mean over {len(results.scenes)} scene(s)", rows), *failed, *results.notes])


def format_row(metrics: Metrics) -> str:
    """The metrics in one line, rounded as the paper does: ``PSNR-mu 44.91  PSNR-l 42.59 ...``."""
    return "  ".join(f"{key} {_rounded(key, metrics[key])}" for key in DECIMALS if key in metrics)


def markdown_table(corner: str, rows: Mapping[str, Sequence[float]]) -> str:
    """Rows of figures by name, in the order and rounding of the paper's tables; NaN is shown as a dash."""
    lines = [f"| {corner} | {' | '.join(DECIMALS)} |", "|---" * (len(DECIMALS) + 1) + "|"]
    for name, row in rows.items():
        cells = [_rounded(key, value) for key, value in zip(DECIMALS, row, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rounded(key: str, value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.{DECIMALS[key]}f}"


def _finite(row: Metrics) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in row.items()}


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# Pictures

MARGIN, GAP, LINE = 24, 18, 19  # pixels
BOLD_WIDTH, SMALL_WIDTH = 8, 6  # of a character in a title's first line and in those below, pixels
INK, GREY = "#1b1e23", "#6a7078"
COLOURS = "inferno"  # of maps; even in lightness


def tone_mapped(hdr: np.ndarray) -> np.ndarray:
    """Linear HDR (H, W, 3) in [0, 1] to a picture to look at: the mu-law curve, (H, W, 3) uint8."""
    return np.rint(tonemap(hdr.clip(0.0, 1.0)) * 255.0).astype(np.uint8)


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
    return page.draw(y - GAP + MARGIN)


def scene_picture(
    frames: np.ndarray,
    ev: np.ndarray,
    prediction: np.ndarray,
    label: np.ndarray,
    *,
    heading: str,
    weights: str,
    metrics: Metrics,
) -> np.ndarray:
    """What came in and what came out: three inputs; the reconstruction, the ground truth and where they differ.

    Args:
        frames: (3, H, W, 3) uint16. ev: (3,). prediction, label: (H, W, 3) float, linear.
        heading: above the picture; weights: what the network ran with; metrics: of this scene.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    inputs = [ldr_to_float(frame) for frame in frames]
    error = np.abs(tonemap(prediction) - tonemap(label)).mean(axis=2)
    ours = tone_mapped(prediction)
    titles = [_input_title(i, frame, exponent) for i, (frame, exponent) in enumerate(zip(inputs, ev, strict=True), 1)]
    titles += [
        f"AFUNet, {weights}\n{_caption(metrics)}",
        "Ground truth\ntone-mapped like ours: T(h) = log(1 + 5000 h) / log 5001",
        f"Error |T(ours) - T(truth)|\nmean {error.mean():.4f}, 99th percentile {np.percentile(error, 99):.4f}",
    ]
    return panel([*inputs, ours, tone_mapped(label), error], titles, heading=heading)


def write_scene_picture(path: Path, *args: Any, **kwargs: Any) -> None:
    """Write :func:`scene_picture` of the arguments as a PNG file."""
    write_png(path, scene_picture(*args, **kwargs))


def _input_title(i: int, frame: np.ndarray, ev: float) -> str:
    name = {1: "under-exposed", 2: "reference", 3: "over-exposed"}[i]
    clipped = float((frame.max(axis=2) >= CLIPPED).mean())
    return f"Input {i}, {name}, EV {ev:g}\n{clipped:.1%} of the pixels clipped"


def _caption(metrics: Metrics) -> str:
    shown = [key for key in ("PSNR-mu", "PSNR-l", "SSIM-mu", VDP) if key in metrics]
    return "   ".join(f"{key} {_rounded(key, metrics[key])}" for key in shown)


def _as_picture(image: np.ndarray, limits: tuple[float, float] | None) -> np.ndarray:
    """(H, W, 3) uint8 of an image or, with the values at both ends of the colours, of a map."""
    if limits is not None:
        low, high = limits
        image = matplotlib.colormaps[COLOURS]((image - low) / (high - low))[..., :3]
    if image.dtype != np.uint8:
        image = np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
    return image


def _scale_to_width(image: np.ndarray, width: int) -> np.ndarray:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    shrinks = width < image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


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
            limits = map_range or (0.0, _round_up(float(np.percentile(image, 99.5))))
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

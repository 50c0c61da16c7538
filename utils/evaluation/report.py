"""One page to look at a run's results with: figures that sort, and per scene a line to slide between any two pictures.

``report.html`` holds all it needs, pictures included: it opens without a network, a server or any other file. Only
its links lead to the HDR files beside it.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from utils import ultrahdr
from utils.evaluation.evaluator import Scored
from utils.evaluation.tables import (
    ALL_DECIMALS,
    VDP,
    Metrics,
    Results,
    all_notes,
    format_row,
    method_rows,
    rounded,
    scene_rows,
    table_title,
)
from utils.exposure import MU_LAW, to_ldr, to_linear, tonemap
from utils.files import atomic_path
from utils.images import encode_webp, ldr_to_float, to_8_bit
from utils.pictures import coloured, common_range, map_colours

NAME = "report.html"
ASSETS = Path(__file__).parent / "assets"
MEGABYTES = 24.0  # of a report, unless told otherwise
FIXED = 60_000  # bytes of a page without pictures, and
PER_SCENE = 3_000  # of a scene's words
STOPS = 5  # exposures beside the tone-mapped view
STOP_SHARE = 0.5  # side of a picture at one exposure, as a share of the tone-mapped one: it shows light, not detail
QUALITY = 82  # of WebP
HDR = "HDR"  # the exposure that shows light above white, on a screen that can
HDR_SHARE = 0.7  # side of its pictures, as a share of the tone-mapped ones
HDR_QUALITY, HDR_COARSER = 80, 4  # of the JPEG, and by how much its gain map is smaller
HDR_COST = 2.7  # its bytes per pixel against WebP's
BASE64 = 4 / 3  # characters per byte
ATTEMPTS = 5  # at a size that fits
FULL_ENOUGH = 0.75  # share of the room that need not be used better
SMALLEST = 96  # pixels of a picture's longer side, however little room there is
GUESS = 0.12  # bytes per pixel to begin with

MEANINGS = {
    "PSNR-mu": "Peak signal-to-noise ratio in dB of the tone-mapped images: how near the picture is to the truth as a "
    "viewer sees it, shadows included. 1 dB is a fifth less squared error.",
    "PSNR-l": "The same on linear light: errors in the brightest places count most, those in shadows hardly.",
    "SSIM-mu": "Structural similarity of the tone-mapped images, up to 1: whether edges and textures are kept, "
    "place by place.",
    "SSIM-l": "The same on linear light.",
    VDP: "Quality Q of a model of human vision, up to 100: how far a viewer would notice a difference. Only figures of "
    "one protocol can be compared.",
    "PU-PSNR": "Peak signal-to-noise ratio in dB of values that are even steps to the eye, for a display of stated "
    "brightness.",
    "PU-PSNRY": "The same on luminance alone, without colour.",
    "PU-SSIM": "Structural similarity of luminance in even steps to the eye, up to 1.",
}


@dataclass(frozen=True)
class Shown:
    """One picture of a scene before it is scaled and encoded.

    Attributes:
        name, kind, about: what the page calls it; "input", "result", "truth" or "map"; a line below it.
        detail: (H, W, 3) uint8, tone-mapped or in the colours of a map.
        stops: one per exposure, STOP_SHARE of the size; [] for a map.
        light: linear, 1 where the reference clips, HDR_SHARE of the size; None for a map, and without an encoder.
        ends: what both ends of a map's colours mean; "" for a picture.
    """

    name: str
    kind: str
    about: str
    detail: np.ndarray
    stops: list[np.ndarray] = field(default_factory=list)
    light: np.ndarray | None = None
    ends: str = ""


@dataclass(frozen=True)
class Look:
    """One picture as the page holds it; ``pictures`` are data URIs in the order of the view's exposures."""

    name: str
    kind: str
    about: str
    ends: str
    pictures: list[str]


@dataclass(frozen=True)
class View:
    """One scene of the page.

    Attributes:
        name, width, height: of the scene, in pixels.
        shown: width of the tone-mapped pictures.
        exposures: names of the pictures of each look.
        looks: what the page can show on either side.
        lines: of each method its name and its figures.
        files: name and address of HDR files.
    """

    name: str
    width: int
    height: int
    shown: int
    exposures: list[str]
    looks: list[Look]
    lines: list[tuple[str, list[str]]]
    files: list[tuple[str, str]]


def scene_view(
    name: str,
    frames: np.ndarray,
    ev: np.ndarray,
    label: np.ndarray,
    methods: Mapping[str, np.ndarray],
    *,
    metrics: Mapping[str, Metrics],
    files: Sequence[str] = (),
    seen: Mapping[str, np.ndarray] | None = None,
    room: float = MEGABYTES * 1e6,
    hdr: bool = False,
) -> View:
    """A scene's pictures, scaled so that they take no more than ``room`` bytes of the page.

    Args:
        name: of the scene.
        frames: (3, H, W, 3) uint16. ev: (3,). label: (H, W, 3) linear.
        methods: results by name, each (H, W, 3) linear.
        metrics: figures by the same names.
        files: paths of HDR files, relative to the page.
        seen: by the same names (H, W) in [0, 1], where HDR-VDP-2 says that a difference is seen; may be left out.
        room: bytes.
        hdr: also show light above white, in JPEGs with a gain map; needs their encoder.
    """
    exposures = np.linspace(ev[0], ev[-1], STOPS)
    shown = [*_photographs(frames, ev, label, methods, exposures, hdr), *_maps(label, methods, seen or {})]
    pictures, width = _fitting(shown, room)
    looks = [
        Look(item.name, item.kind, item.about, item.ends, encoded)
        for item, encoded in zip(shown, pictures, strict=True)
    ]
    height, full_width = label.shape[:2]
    lines = [(method, format_row(row).split("  ")) for method, row in metrics.items()]
    steps = ["tone-mapped", *[HDR] * hdr, *(_exposure_name(exposure, ev) for exposure in exposures)]
    links = [(Path(path).name, quote(path)) for path in files]
    return View(name, full_width, height, width, steps, looks, lines, links)


class Views:
    """Makes the view of every scene it is shown; one in each process.

    Args:
        folder: where the page will be.
        room: bytes for each scene.
        kind: of the network's HDR files in it, "hdr", "exr" or "both"; "" for none.
    """

    def __init__(self, folder: Path, room: float, kind: str = "") -> None:
        self.folder, self.room = folder, room
        self.suffixes = [suffix for suffix in ("hdr", "exr") if kind in (suffix, "both")]
        self.made: list[View] = []

    def add(self, scored: Sequence[Scored]) -> None:
        """What an evaluation, which has to read frames, calls with all that was made of a scene."""
        if not scored:
            return
        name, reading = scored[0].made.scene.name, scored[0].made.reading
        assert reading.frames is not None and reading.ev is not None
        view = scene_view(
            name,
            reading.frames,
            reading.ev,
            reading.label,
            {one.method.name: one.made.hdr for one in scored},
            metrics={one.method.name: one.figures.metrics for one in scored},
            files=[file for one in scored for file in self._files(name, one)],
            seen={one.method.name: one.figures.seen.cpu().numpy() for one in scored if one.figures.seen is not None},
            room=self.room,
            hdr=ultrahdr.available(),
        )
        self.made.append(view)

    def _files(self, scene: str, one: Scored) -> list[str]:
        """Where the page finds a method's HDR image: the file it was read from, or those that were written."""
        if "file" in one.made.source:
            return [os.path.relpath(one.made.source["file"], self.folder)]
        return [f"{scene}.{suffix}" for suffix in self.suffixes]


def room_for(megabytes: float, scenes: int) -> float:
    """Bytes that each of ``scenes`` may take in a page of that size."""
    return max(megabytes * 1e6 - FIXED, 0.0) / max(scenes, 1) - PER_SCENE


def write_report(folder: Path, results: Results, views: Sequence[View]) -> Path:
    """Write ``report.html``: the tables of ``results``, and the views in the order of its scenes. Returns its path."""
    order = list(dict.fromkeys(name for row in results.rows for name in row.scenes))
    views = sorted((view for view in views if view.name in order), key=lambda view: order.index(view.name))
    environment = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, trim_blocks=True)
    text = environment.get_template(NAME).render(
        page=page_of(results),
        views=views,
        data=_script_safe({"looks": [asdict(look) for look in view.looks]} for view in views),
        colours=map_colours(),
        mu_law=MU_LAW,
        hdr=HDR,
        css=Markup((ASSETS / "report.css").read_text(encoding="utf-8")),
        slider=Markup((ASSETS / "img-comparison-slider.js").read_text(encoding="utf-8")),
        script=Markup((ASSETS / "report.js").read_text(encoding="utf-8")),
    )
    with atomic_path(folder / NAME) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return folder / NAME


def page_of(results: Results) -> dict[str, Any]:
    """What the page says in words and figures: the tables of metrics.md."""
    ours = set(results.averages)
    return {
        "title": table_title(results),
        "count": len(results.common),
        "columns": results.columns,
        "meanings": MEANINGS,
        "methods": [_row(name, row, results.columns, name in ours) for name, row in method_rows(results).items()],
        "scenes": [_row(name, row, results.columns) for name, row in scene_rows(results).items()],
        "differences": [(one.title, one.cells(results.columns, ALL_DECIMALS)) for one in results.differences],
        "differences_notes": list(dict.fromkeys(one.note for one in results.differences)),
        "notes": all_notes(results),
        "failures": results.failures,
        "protocol": json.dumps(results.protocol, indent=2),
    }


def _row(name: str, values: Sequence[float], columns: Sequence[str], ours: bool = False) -> dict[str, Any]:
    """A row whose cells hold a number to sort by, None for a dash, beside their text."""
    cells = [
        {"text": rounded(column, value), "value": None if math.isnan(value) else str(value).replace("inf", "Infinity")}
        for column, value in zip(columns, values, strict=True)
    ]
    return {"name": name, "cells": cells, "ours": ours}


def _script_safe(scenes: Any) -> Markup:
    """JSON that may stand in a script element: no "<" ends it early."""
    return Markup(json.dumps(list(scenes)).replace("<", "\\u003c"))


def _exposure_name(exposure: float, ev: np.ndarray) -> str:
    """``EV +2 (reference)``: by how much brighter than the darkest frame, and which frame shows it so."""
    names = {float(ev[0]): " (dark)", float(ev[1]): " (reference)", float(ev[2]): " (bright)"}
    return f"EV {exposure:.3g}{names.get(float(exposure), '')}"


# ---- what is shown


def _photographs(
    frames: np.ndarray,
    ev: np.ndarray,
    label: np.ndarray,
    methods: Mapping[str, np.ndarray],
    exposures: np.ndarray,
    hdr: bool,
) -> list[Shown]:
    """Inputs, results and the truth on one scale of light."""
    roles = ("under-exposed", "reference", "over-exposed")
    images = [
        (f"Input {i}", "input", f"{role}, EV {exponent:g}", to_linear(ldr_to_float(frame), exponent))
        for i, (role, frame, exponent) in enumerate(zip(roles, frames, ev, strict=True), 1)
    ]
    images += [(name, "result", "result", image) for name, image in methods.items()]
    images.append(("Ground truth", "truth", "the label of the data set", label))
    white = float(ev[1]) if hdr else None
    return [_photograph(*image, exposures, white) for image in images]


def _photograph(
    name: str, kind: str, about: str, linear: np.ndarray, exposures: np.ndarray, white: float | None
) -> Shown:
    """One picture at all exposures; ``white`` is the one at which its light is kept too."""
    linear = np.nan_to_num(linear.astype(np.float32))
    small = _scaled(linear, STOP_SHARE)
    stops = [to_8_bit(to_ldr(small, float(exposure))) for exposure in exposures]
    light = None if white is None else _scaled(linear, HDR_SHARE) * np.float32(2.0**white)
    return Shown(name, kind, about, to_8_bit(tonemap(linear.clip(0.0, 1.0))), stops, light)


def _maps(label: np.ndarray, methods: Mapping[str, np.ndarray], seen: Mapping[str, np.ndarray]) -> list[Shown]:
    """Where the results differ from the truth, on one scale for all methods, and where a viewer would see it."""
    truth = tonemap(label)
    errors = {name: np.abs(tonemap(image) - truth).mean(axis=2) for name, image in methods.items()}
    ends = common_range(list(errors.values()))
    shown = [
        _map(f"Error of {name}", f"|T(result) − T(truth)|, mean {error.mean():.4f}", error, ends)
        for name, error in errors.items()
    ]
    about = "probability that a viewer sees a difference (HDR-VDP-2)"
    return shown + [_map(f"Visible in {name}", about, values, (0.0, 1.0)) for name, values in seen.items()]


def _map(name: str, about: str, values: np.ndarray, ends: tuple[float, float]) -> Shown:
    low, high = ends
    return Shown(name, "map", about, coloured(values, low, high), ends=f"{low:.4g} to {high:.4g}")


# ---- how many bytes it takes


def _fitting(shown: Sequence[Shown], room: float) -> tuple[list[list[str]], int]:
    """Data URIs of every picture, at the largest scale that fits, and the width in pixels of the tone-mapped ones."""
    height, width = shown[0].detail.shape[:2]
    pixels = height * width * sum(_share(item) for item in shown)
    least = min(SMALLEST / max(height, width), 1.0)
    scale = min(1.0, max(least, math.sqrt(max(room, 0.0) / (GUESS * BASE64 * pixels))))
    best: tuple[float, float, list[list[str]]] | None = None  # bytes, scale, pictures
    for _ in range(ATTEMPTS):
        encoded = [_encoded(item, scale) for item in shown]
        size = sum(len(uri) for uris in encoded for uri in uris)
        if best is None or size <= room or best[0] > room:
            best = size, scale, encoded
        if scale == least or FULL_ENOUGH * room <= size <= room or (size <= room and scale == 1.0):
            break
        scale = min(1.0, max(least, 0.93 * scale * math.sqrt(max(room, 0.0) / size)))
    assert best is not None
    return best[2], max(round(width * best[1]), 1)


def _share(item: Shown) -> float:
    """Pixels of all pictures of an item, as a share of the tone-mapped one's, by what they cost."""
    light = 0.0 if item.light is None else HDR_COST * HDR_SHARE**2
    return 1 + STOP_SHARE**2 * len(item.stops) + light


def _encoded(item: Shown, scale: float) -> list[str]:
    webp = [_data_uri(_scaled(picture, scale)) for picture in (item.detail, *item.stops)]
    return webp if item.light is None else [webp[0], _hdr_uri(item.light, scale), *webp[1:]]


def _scaled(picture: np.ndarray, scale: float, step: int = 1) -> np.ndarray:
    """The picture with its sides scaled by no more than 1, each a multiple of ``step``."""
    height, width = (max(round(side * min(scale, 1.0) / step), 1) * step for side in picture.shape[:2])
    if (height, width) == picture.shape[:2]:
        return picture
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _hdr_uri(light: np.ndarray, scale: float) -> str:
    data = ultrahdr.encode(_scaled(light, scale, step=2), HDR_QUALITY, coarser=HDR_COARSER)
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")


def _data_uri(picture: np.ndarray) -> str:
    return "data:image/webp;base64," + base64.b64encode(encode_webp(picture, QUALITY)).decode("ascii")

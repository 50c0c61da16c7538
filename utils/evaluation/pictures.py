"""The pictures of one scene: what came in, what came out, and where it differs from the ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.evaluation.scoring import Figures
from utils.evaluation.tables import VDP, Metrics, rounded
from utils.exposure import CLIPPED, MU_LAW, tonemap
from utils.images import ldr_to_float, write_png
from utils.pictures import common_range, panel, tone_mapped

CELL = 400  # pixels of one image in the picture of all methods


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
    error = error_map(prediction, label)
    ours = tone_mapped(prediction)
    titles = [_input_title(i, frame, exponent) for i, (frame, exponent) in enumerate(zip(inputs, ev, strict=True), 1)]
    titles += [
        f"AFUNet, {weights}\n{_caption(metrics)}",
        f"Ground truth\ntone-mapped like ours: {MU_LAW}",
        f"Error |T(ours) - T(truth)|\nmean {error.mean():.4f}, 99th percentile {np.percentile(error, 99):.4f}",
    ]
    return panel([*inputs, ours, tone_mapped(label), error], titles, heading=heading)


def write_scene_picture(path: Path, *args: Any, **kwargs: Any) -> None:
    """Write :func:`scene_picture` of the arguments as a PNG file."""
    write_png(path, scene_picture(*args, **kwargs))


@dataclass(frozen=True)
class Shown:
    """One method in the picture of all: its name, its (H, W, 3) linear image and its figures."""

    name: str
    hdr: np.ndarray
    figures: Figures


def methods_picture(scene: str, label: np.ndarray, methods: Sequence[Shown], vdp: str = "") -> np.ndarray:
    """All methods side by side: what they show, where each differs from the ground truth on one scale for all, and
    where HDR-VDP-2 (called as ``vdp``) says that the difference is seen, if its maps were kept.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    errors = [error_map(one.hdr, label) for one in methods]
    empty = np.full_like(label, 255, dtype=np.uint8)
    titles = [
        f"Ground truth\ntone-mapped: {MU_LAW}",
        *(f"{one.name}\n{_short_caption(one.figures.metrics)}" for one in methods),
    ]
    titles += ["Error |T(result) - T(truth)|\none scale for all", *map(_error_title, methods, errors)]
    images = [tone_mapped(label), *(tone_mapped(one.hdr) for one in methods), empty, *errors]
    options: dict[str, Any] = {"columns": len(methods) + 1, "cell_width": CELL}
    page = panel(images, titles, heading=f"Scene {scene}", map_range=common_range(errors), **options)
    maps = [one.figures.seen for one in methods]
    seen = [one.cpu().numpy() for one in maps if one is not None]
    if len(seen) < len(methods):
        return page
    titles = [
        f"Probability of seeing a difference\nHDR-VDP-2 ({vdp})",
        *(f"{one.name}\n{_vdp_caption(one)}" for one in methods),
    ]
    return np.concatenate([page, panel([empty, *seen], titles, map_range=(0.0, 1.0), **options)])


def write_methods_picture(path: Path, *args: Any, **kwargs: Any) -> None:
    """Write :func:`methods_picture` of the arguments as a PNG file."""
    write_png(path, methods_picture(*args, **kwargs))


def error_map(prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(H, W): the difference of the tone-mapped images, averaged over the channels."""
    return np.abs(tonemap(prediction) - tonemap(label)).mean(axis=2)


def _error_title(shown: Shown, error: np.ndarray) -> str:
    return f"{shown.name}\nmean {error.mean():.4f}, 99th percentile {np.percentile(error, 99):.4f}"


def _vdp_caption(shown: Shown) -> str:
    return f"{VDP} {rounded(VDP, shown.figures.metrics[VDP])}"


def _input_title(i: int, frame: np.ndarray, ev: float) -> str:
    name = {1: "under-exposed", 2: "reference", 3: "over-exposed"}[i]
    clipped = float((frame.max(axis=2) >= CLIPPED).mean())
    return f"Input {i}, {name}, EV {ev:g}\n{clipped:.1%} of the pixels clipped"


def _caption(metrics: Metrics) -> str:
    shown = [key for key in ("PSNR-mu", "PSNR-l", "SSIM-mu", VDP) if key in metrics] or list(metrics)
    return "   ".join(f"{key} {rounded(key, metrics[key])}" for key in shown)


def _short_caption(metrics: Metrics) -> str:
    shown = [key for key in ("PSNR-mu", "SSIM-mu", VDP) if key in metrics] or list(metrics)[:2]
    return "   ".join(f"{key} {rounded(key, metrics[key])}" for key in shown)

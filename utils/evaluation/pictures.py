"""The picture of one scene: what came in, what came out, and where it differs from the ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from utils.evaluation.tables import VDP, Metrics, rounded
from utils.exposure import CLIPPED, MU_LAW, tonemap
from utils.images import ldr_to_float, write_png
from utils.pictures import panel, tone_mapped


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
        f"Ground truth\ntone-mapped like ours: {MU_LAW}",
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
    return "   ".join(f"{key} {rounded(key, metrics[key])}" for key in shown)

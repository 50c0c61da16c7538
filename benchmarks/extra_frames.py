"""What frames beside the best three add: made brackets of five and seven frames, with motion and without.

python -m benchmarks.extra_frames

Each bracket shows a sample scene's HDR image, whose highlights the darkest of the three frames clips by two stops, with
a sensor's noise; in the moving ones a disc of the scene itself goes by, another place in every frame. Printed are, for
the network's result of the three, for the same with every frame, and for a plain mean of all frames weighted by noise:
the error where the three clip (stops), the noise of shadows (percent), and PSNR-mu of the whole and of what moves.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.scenes import LAYOUTS, find_scenes
from datasets.synthesis.camera import expose
from models import AFUNet
from utils.alignment import Motion
from utils.checkpoint import load_model
from utils.exposure import to_ldr, to_linear, tonemap
from utils.files import user_path
from utils.images import float_to_ldr, ldr_to_float
from utils.inference import reconstruct
from utils.photographs.bracket import Extra
from utils.photographs.extra_frames import CLEAR, add_frames, variance
from utils.photographs.shots import Shot
from utils.shipped import SHIPPED

BRIGHTEST = 4.0  # light of the brightest pixel, where the darkest of the three frames clips at 1
SETS = {5: (-2.0, 0.0, 2.0, 4.0, 6.0), 7: (-2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0)}  # exposures of the brackets, EV
THREE = (0.0, 2.0, 4.0)
ISO = 400.0
SHADOW = 0.004  # light below which a pixel lies in the shadows
STEP = 14  # pixels that the disc goes from frame to frame
SEED = 443


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained_model", type=user_path, default=SHIPPED)
    parser.add_argument("--scenes", type=int, default=2)
    args = parser.parse_args(argv)
    model = load_model(args.pretrained_model)
    print("| scene | frames | way | clipped by the three (stops) | noise of shadows (%) | PSNR-mu | PSNR-mu, moving |")
    print("|---|---|---|---|---|---|---|")
    for scene in find_scenes(LAYOUTS["samples"], None, "test")[: args.scenes]:
        light = np.asarray(scene.read().label, np.float32)
        light = light / light.max() * BRIGHTEST
        for moving in (False, True):
            for count, evs in SETS.items():
                for way, figures in compared(model, light, evs, moving).items():
                    print(f"| {scene.name}{', moving' * moving} | {count} | {way} | " + " | ".join(figures) + " |")


def compared(model: AFUNet, light: np.ndarray, evs: Sequence[float], moving: bool) -> dict[str, list[str]]:
    """The figures of each way for one bracket."""
    rng = np.random.default_rng(SEED)
    views = [with_disc(light, (ev - THREE[1]) * STEP / 2, moving) for ev in evs]
    seen = [expose(rng, view * 2.0**ev, ISO) for (view, _), ev in zip(views, evs, strict=True)]
    frames = [float_to_ldr(to_ldr(signal, 0.0)) for signal in seen]
    shown = dict(zip(evs, frames, strict=True))
    three, ev = np.stack([shown[ev] for ev in THREE]), np.array(THREE, np.float32)
    alone = reconstruct(model, three, ev)
    still = Motion(np.eye(3), "none", 0.0)
    extra = [Extra(Shot(Path("made"), *light.shape[:2]), shown[ev], ev, still) for ev in evs if ev not in THREE]
    every, *_ = add_frames(alone, three, ev, extra)
    truth = views[evs.index(THREE[1])][0]
    moves = np.any([disc for _, disc in views], axis=0)
    images = {"the three": alone, "every frame": every, "plain mean": plain_mean(frames, evs)}
    return {way: figures_of(image, truth, moves) for way, image in images.items()}


def with_disc(light: np.ndarray, offset: float, moving: bool) -> tuple[np.ndarray, np.ndarray]:
    """The scene with a disc of its own middle, moved sideways, and (H, W) bool: where the disc is."""
    height, width = light.shape[:2]
    disc = np.zeros((height, width), np.uint8)
    if moving:
        cv2.circle(disc, (round(width / 2 + offset), round(height * 0.55)), height // 9, 1, -1)
    patch = np.roll(light[:, ::-1], round(offset), axis=1)
    return np.where(disc[..., None] > 0, patch, light), disc > 0


def plain_mean(frames: Sequence[np.ndarray], evs: Sequence[float]) -> np.ndarray:
    """All frames, weighted by their noise where they are not clipped: the best there is where nothing moves."""
    total, weights = np.zeros(frames[0].shape), np.full(frames[0].shape, 1e-9)
    for frame, ev in zip(frames, evs, strict=True):
        ldr = ldr_to_float(frame)
        light = to_linear(ldr, ev)
        clear = ldr.max(axis=2, keepdims=True) < CLEAR if ev > min(evs) else 1.0
        weight = clear / variance(light, ev)
        total, weights = total + weight * light, weights + weight
    return (total / weights).astype(np.float32)


def figures_of(image: np.ndarray, truth: np.ndarray, moves: np.ndarray) -> list[str]:
    """Range, noise and PSNR-mu, as text."""
    bright = (truth.max(axis=2) > 1.2) & ~moves
    dark = (truth.max(axis=2) < SHADOW) & ~moves
    stops = np.abs(np.log2(image[bright].clip(1e-6) / truth[bright].clip(1e-6)))
    fine = (image - truth) - cv2.GaussianBlur(image - truth, (0, 0), 2.0)
    noise = fine[dark].std() / truth[dark].mean() if dark.any() else np.nan
    error = (tonemap(image / BRIGHTEST) - tonemap(truth / BRIGHTEST)) ** 2
    psnr = [-10.0 * np.log10(error[where].mean()) if where.any() else np.nan for where in (np.ones_like(moves), moves)]
    return [f"{stops.mean():.3f}" if bright.any() else "-", f"{100 * noise:.2f}", *(f"{value:.2f}" for value in psnr)]


if __name__ == "__main__":
    main()

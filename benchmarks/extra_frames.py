"""What frames beside the best three add: made brackets of five and seven frames, with motion and without.

python -m benchmarks.extra_frames --scenes 3
python -m benchmarks.extra_frames --picture docs/extra_frames.jpg

Each bracket shows a sample scene's HDR image, whose highlights the darkest of the three frames clips by two stops, with
a sensor's noise; in the moving ones a disc of the scene itself goes by, another place in every frame. Printed are, for
the network's result of the three, for the same with every frame, and for a plain mean of all frames weighted by noise:
the error where the three clip (stops), the noise of shadows (percent), and PSNR-mu of the whole and of what moves.
With --picture they are shown instead, for a moving bracket of seven frames of one scene.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.scenes import LAYOUTS, find_scenes
from datasets.synthesis.camera import shoot
from models import AFUNet
from utils.alignment import Motion
from utils.checkpoint import load_model
from utils.cli import positive, run
from utils.exposure import to_ldr, to_linear, tonemap
from utils.files import user_path
from utils.images import ldr_to_float, write_png
from utils.inference import reconstruct
from utils.photographs.bracket import Extra
from utils.photographs.extra_frames import CLEAR, add_frames, variance
from utils.photographs.shots import Shot
from utils.pictures import panel, tone_mapped
from utils.shipped import SHIPPED

BRIGHTEST = 4.0  # light of the brightest pixel, where the darkest of the three frames clips at 1
SETS = {5: (-2.0, 0.0, 2.0, 4.0, 6.0), 7: (-2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0)}  # exposures of the brackets, EV
THREE = (0.0, 2.0, 4.0)
ISO = 400.0
SHADOW = 0.004  # light below which a pixel lies in the shadows
STEP = 14  # pixels that the disc goes from frame to frame
SEED = 443
SHOWN = "forest_0016"  # in the picture
CELL, ZOOM = 330, 5  # of it: pixels of an image, and by how much a zoom is narrower than the scene


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained_model", type=user_path, default=SHIPPED)
    parser.add_argument("--scenes", type=positive, default=2)
    parser.add_argument("--picture", type=user_path, help="write a picture there instead (.jpg or .png)")
    args = parser.parse_args(argv)
    model = load_model(args.pretrained_model)
    if args.picture:
        write_png(args.picture, picture_of(model, light_of(SHOWN)))
        return
    print("| scene | frames | way | clipped by the three (stops) | noise of shadows (%) | PSNR-mu | PSNR-mu, moving |")
    print("|---|---|---|---|---|---|---|")
    for name in [scene.name for scene in find_scenes(LAYOUTS["samples"], None, "test")][: args.scenes]:
        light = light_of(name)
        for moving in (False, True):
            for count, evs in SETS.items():
                images, truth, moves = compared(model, light, evs, moving)
                for way, image in images.items():
                    figures = " | ".join(figures_of(image, truth, moves))
                    print(f"| {name}{', moving' * moving} | {count} | {way} | {figures} |")


def light_of(name: str) -> np.ndarray:
    """A sample scene's light, (H, W, 3); its brightest value is BRIGHTEST."""
    scene = next(scene for scene in find_scenes(LAYOUTS["samples"], None, "test") if scene.name == name)
    light = np.asarray(scene.read().label, np.float32)
    return light / light.max() * BRIGHTEST


def compared(
    model: AFUNet, light: np.ndarray, evs: Sequence[float], moving: bool
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """What each way makes of one bracket; what it should be, both (H, W, 3); and (H, W) bool where something moves."""
    rng = np.random.default_rng(SEED)
    views = [with_disc(light, (ev - THREE[1]) * STEP / 2, moving) for ev in evs]
    frames = [shoot(rng, view, ev, ISO) for (view, _), ev in zip(views, evs, strict=True)]
    shown = dict(zip(evs, frames, strict=True))
    three, ev = np.stack([shown[ev] for ev in THREE]), np.array(THREE, np.float32)
    alone = reconstruct(model, three, ev)
    still = Motion(np.eye(3), "none", 0.0)
    extra = [Extra(Shot(Path("made"), *light.shape[:2]), shown[ev], ev, still) for ev in evs if ev not in THREE]
    every, *_ = add_frames(alone, three, ev, extra)
    truth = views[evs.index(THREE[1])][0]
    moves = np.any([disc for _, disc in views], axis=0)
    return {"the three": alone, "every frame": every, "plain mean": plain_mean(frames, evs)}, truth, moves


def picture_of(model: AFUNet, light: np.ndarray) -> np.ndarray:
    """The ways side by side, (H, W, 3) uint8: all of the scene, and zooms of highlights, shadows and what moves."""
    images, truth, moves = compared(model, light, SETS[7], True)
    images["truth"] = truth
    places = [most(truth.max(axis=2) > 1.2), most(truth.max(axis=2) < SHADOW), most(moves)]
    rows: list[tuple[str, tuple[slice, slice], float | None]] = [
        ("all of it", (slice(None), slice(None)), None),
        ("highlights, 2.5 stops darker", places[0], -2.5),
        ("shadows, 5 stops brighter", places[1], 5.0),
        ("what moves", places[2], None),
    ]
    shown, titles = [], []
    for about, place, ev in rows:
        for way, image in images.items():
            shown.append(tone_mapped(image[place] / BRIGHTEST) if ev is None else to_ldr(image[place], ev))
            titles.append(f"{way}\n{about}")
    return panel(shown, titles, columns=len(images), cell_width=CELL)


def most(where: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the place of a zoom's size that holds most of what is true, (H, W) bool."""
    height, width = (side // ZOOM for side in where.shape)
    share = cv2.boxFilter(where.astype(np.float32), -1, (width, height), anchor=(0, 0))
    share = share[: where.shape[0] - height + 1, : where.shape[1] - width + 1]
    y, x = np.unravel_index(share.argmax(), share.shape)
    return slice(int(y), int(y) + height), slice(int(x), int(x) + width)


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
    run(main)

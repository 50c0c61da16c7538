"""Large motion in a large photograph: full size alone, and with what moved taken out of the side frames.

python -m benchmarks.large_motion --hdri HDRI

Each scene is the middle of an HDR picture, enlarged, with fine texture multiplied on; in the moving one four people
made of the picture's own content walk by, 100, 200, 300 and 400 pixels from frame to frame in 3000. The network runs on
windows around them, at their places in the dark frame and in the reference, or on all of the picture (--window 0).
Printed is PSNR-mu where something moves in any frame, and where nothing does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.readme_picture import GAP, INK, LINE, PAPER, paste
from datasets.synthesis.camera import shoot
from datasets.synthesis.development import JPEG, SIXTEEN, File
from models import AFUNet
from utils.checkpoint import load_model
from utils.cli import existing_file, positive, run
from utils.exposure import to_ldr, tonemap
from utils.files import InputError, user_path
from utils.images import ldr_to_float, read_hdr, to_8_bit, write_png
from utils.inference import reconstruct
from utils.photographs.large_motion import (
    chosen_scale,
    moved_places,
    replace_moved,
    without_large_motion,
)
from utils.shipped import SHIPPED

SCENES = ("modern_buildings_2_1k", "chinese_garden_1k", "circus_arena_1k")  # no weights of ours have seen them
EV = np.array([0.0, 2.0, 4.0], np.float32)
ISO = 200.0
CLIP = 0.25  # light at which the reference clips
# x of the middle and y of the feet in the reference, of the size; pixels from frame to frame in a width of 3000; light
PEOPLE = ((0.12, 0.80, 100, 0.02), (0.42, 0.90, 200, 0.06), (0.66, 0.86, -300, 0.025), (0.84, 0.97, -400, 0.12))
WIDTH = 3000
TALL = 0.3  # a person, of the picture's height
MIDDLE = 0.86  # of the picture's sides: what is taken of it
TEXTURE = 0.06  # standard deviation of its logarithm, on each of three scales
SHOWN_EV = 0.5  # exposure in which results are drawn
SHOWN = 448, 384  # pixels of a panel of the picture, width and height
SEED = 443

Window = tuple[slice, slice]
Frames = np.ndarray


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    existing_file(args.pretrained_model, "--pretrained_model", "give a checkpoint, or leave it out")
    model = load_model(args.pretrained_model)
    file = File(JPEG, args.jpeg, True) if args.jpeg else File(SIXTEEN)
    print("| scene | way | PSNR-mu, moving | PSNR-mu, still | replaced | seconds |\n|---|---|---|---|---|---|")
    for name in args.scenes:
        light = scene_light(read_hdr(found(args.hdri, name)), args.width, args.clipped)
        frames, truth, moves = made_bracket(light, True, file)
        if args.picture:
            write_png(args.picture, picture(model, frames, truth, args.scale))
            return
        still = made_bracket(light, False, file)[0]
        same = np.array_equal(taken_out(still, args.scale), still)
        print(f"| {name}, still | scale auto | | {'same frames' if same else 'FRAMES CHANGED'} | | |", flush=True)
        windows = list(windows_of(truth.shape[:2], args.window))
        for way, prepare in ways(model, args.scale, args.reduced).items():
            figures = measured(model, frames, prepare(frames), truth, moves, windows)
            print(f"| {name} | {way} | {' | '.join(figures)} |", flush=True)


def measured(
    model: AFUNet, frames: Frames, shown: Frames, truth: np.ndarray, moves: np.ndarray, windows: Sequence[Window]
) -> list[str]:
    """PSNR-mu where something moves and where not, the share of the side frames that was replaced, and seconds."""
    started = time.perf_counter()
    results = [reconstruct(model, shown[:, *at], EV) for at in windows]
    seconds = time.perf_counter() - started
    truths, moved = [truth[at] for at in windows], [moves[at] for at in windows]
    psnr = psnr_mu(results, truths, moved), psnr_mu(results, truths, [~at for at in moved])
    dark, _, bright = (shown != frames).any(axis=-1).mean(axis=(1, 2))
    return [f"{psnr[0]:.2f}", f"{psnr[1]:.2f}", f"{dark:.1%}, {bright:.1%}", f"{seconds:.0f}"]


def found(folder: Path, name: str) -> Path:
    """The file of a picture. Raises InputError."""
    for path in sorted(folder.glob(f"{name}.*")):
        return path
    raise InputError(f"{folder}: no {name}.hdr or {name}.exr in it; give other names by --scenes")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--hdri", type=user_path, required=True, help="folder of HDR pictures")
    add("--scenes", nargs="+", default=SCENES, help="names of pictures in it, without suffix")
    add("--pretrained_model", type=user_path, default=SHIPPED)
    add("--width", type=positive, default=WIDTH, help="pixels of a scene")
    add("--window", type=int, default=192, help="pixels of a window; 0: all of the picture")
    add("--scale", type=positive, help="as predict.py has it (default: auto)")
    add("--clipped", type=float, default=0.2, help="share of the picture that the reference clips")
    add("--jpeg", type=positive, help="the frames are JPEG files of this quality, not of 16 bits")
    add("--reduced", action="store_true", help="also with the network's result of the reduced frames")
    add("--picture", type=user_path, help="write a picture before and after instead")
    return parser.parse_args(argv)


# ---- the scenes


def scene_light(picture: np.ndarray, width: int, clipped: float) -> np.ndarray:
    """The middle of a picture as a scene, (H, width, 3) float32 in [0, 1], such that the reference clips a share."""
    height, wide = picture.shape[:2]
    rows, columns = round(MIDDLE * min(height, wide / 1.5)), round(MIDDLE * min(wide, height * 1.5))
    top, left = (height - rows) // 2, (wide - columns) // 2
    middle = np.log(picture[top : top + rows, left : left + columns] + 1e-6)
    size = width, round(width * rows / columns)
    light = np.exp(cv2.resize(middle, size, interpolation=cv2.INTER_CUBIC) + texture(size)[..., None])
    brightest = np.quantile(light[::4, ::4].max(axis=2), 1.0 - clipped)
    return (light * np.float32(CLIP / brightest)).clip(1e-5, 1.0)


def texture(size: tuple[int, int]) -> np.ndarray:
    """Noise of one, two and four pixels, (H, W) float32."""
    rng, total = np.random.default_rng(SEED), np.zeros(size[::-1], np.float32)
    for cell in (1, 2, 4):
        coarse = rng.standard_normal((size[1] // cell + 2, size[0] // cell + 2)).astype(np.float32)
        fine = cv2.resize(coarse, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        total += TEXTURE * fine[: size[1], : size[0]]
    return total


def made_bracket(light: np.ndarray, moving: bool, file: File) -> tuple[Frames, np.ndarray, np.ndarray]:
    """Three frames (3, H, W, 3) uint16, the light of the reference, and (H, W) bool: where anyone is in any frame."""
    rng = np.random.default_rng(SEED)
    views = [with_people(light, i - 1, moving) for i in range(3)]
    frames = [shoot(rng, view, float(ev), ISO, file=file) for (view, _), ev in zip(views, EV, strict=True)]
    return np.stack(frames), views[1][0], np.any([people for _, people in views], axis=0)


def with_people(light: np.ndarray, step: int, moving: bool) -> tuple[np.ndarray, np.ndarray]:
    """The scene at one moment, ``step`` frames from the reference's, and (H, W) bool: where someone is."""
    height, width = light.shape[:2]
    view, where = light.copy(), np.zeros((height, width), bool)
    tall = round(TALL * height)
    for i, one in enumerate(PEOPLE if moving else ()):
        x, y = place_of(i, step, (height, width))
        left, top = x - tall // 2, y - tall // 2
        seen = np.s_[max(top, 0) : min(top + tall, height), max(left, 0) : min(left + tall, width)]
        own = np.s_[seen[0].start - top : seen[0].stop - top, seen[1].start - left : seen[1].stop - left]
        someone = person(tall)[own] > 0
        first = np.s_[i * height // 6 : i * height // 6 + tall, i * width // 7 : i * width // 7 + tall]
        clothes = np.sqrt(light[::-1, ::-1][first])
        view[seen][someone] = (clothes / clothes.mean() * one[-1])[own][someone]
        where[seen] |= someone
    return view, where


def place_of(i: int, step: int, size: tuple[int, int]) -> tuple[int, int]:
    """The middle (x, y) of a person in pixels."""
    x, feet, pixels, _ = PEOPLE[i]
    return round((x + step * pixels / WIDTH) * size[1]), round(feet * size[0]) - round(TALL * size[0]) // 2


def person(tall: int) -> np.ndarray:
    """A silhouette, (tall, tall) uint8: head, body, legs and arms."""
    shape, middle = np.zeros((tall, tall), np.uint8), tall // 2

    def at(x: float, y: float) -> tuple[int, int]:
        return middle + round(x * tall), round(y * tall)

    cv2.ellipse(shape, at(0, 0.09), (round(0.06 * tall), round(0.085 * tall)), 0, 0, 360, 1, -1)
    cv2.ellipse(shape, at(0, 0.38), (round(0.13 * tall), round(0.22 * tall)), 0, 0, 360, 1, -1)
    for side in (-1, 1):
        cv2.line(shape, at(side * 0.05, 0.5), at(side * 0.1, 0.97), 1, round(0.075 * tall))
        cv2.line(shape, at(side * 0.1, 0.25), at(side * 0.2, 0.5), 1, round(0.05 * tall))
    return shape


# ---- the ways


def ways(model: AFUNet, scale: int | None, with_reduced: bool) -> dict[str, Callable[[Frames], Frames]]:
    """What each way makes of the frames before the network."""

    def by_result(frames: Frames) -> Frames:
        return with_reduced_result(model, frames, scale or 2 * chosen_scale(None, *frames.shape[1:3]))

    found: dict[str, Callable[[Frames], Frames]] = {
        "scale 1": np.copy,
        "scale auto": lambda frames: taken_out(frames, scale),
    }
    return found | ({"clipped places from the reduced result": by_result} if with_reduced else {})


def taken_out(frames: Frames, scale: int | None) -> Frames:
    """As predict.py does it."""
    return without_large_motion(frames, EV, chosen_scale(scale, *frames.shape[1:3]))[0]


def with_reduced_result(model: AFUNet, frames: Frames, scale: int) -> Frames:
    """As :func:`without_large_motion`, but what is clipped comes from the network's result of the reduced frames."""
    height, width = frames.shape[1:3]
    size, result = (width // scale, height // scale), frames.copy()
    small = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
    filling = reconstruct(model, small, EV)
    for i in (0, 2):
        step = float(EV[i] - EV[1])
        moved = moved_places(frames[1], frames[i], step, size)
        replace_moved(result[i], frames[1], step, moved, filling if i == 0 else None)
    return result


def windows_of(size: tuple[int, int], side: int) -> Iterator[Window]:
    """Windows around everyone, in the dark frame and in the reference."""
    if side == 0:
        yield slice(0, size[0]), slice(0, size[1])
        return
    for i in range(len(PEOPLE)):
        for step in (-1, 0):
            yield window_at(place_of(i, step, size), (side, side), size)


def window_at(place: tuple[int, int], window: tuple[int, int], size: tuple[int, int]) -> Window:
    """A window (width, height) around a place, moved into the picture."""
    left = min(max(place[0] - window[0] // 2, 0), size[1] - window[0])
    top = min(max(place[1] - window[1] // 2, 0), size[0] - window[1])
    return slice(top, top + window[1]), slice(left, left + window[0])


def psnr_mu(results: Sequence[np.ndarray], truths: Sequence[np.ndarray], where: Sequence[np.ndarray]) -> float:
    errors = [(tonemap(result) - tonemap(truth))[at] for result, truth, at in zip(results, truths, where, strict=True)]
    every = np.concatenate([error.ravel() for error in errors])
    return float(-10.0 * np.log10((every**2).mean())) if every.size else float("nan")


# ---- the picture


def picture(model: AFUNet, frames: Frames, truth: np.ndarray, scale: int | None) -> np.ndarray:
    """Frames, both results and the truth where the third person is in the dark frame, (H, W, 3) uint8."""
    at = window_at(place_of(2, -1, truth.shape[:2]), SHOWN, truth.shape[:2])
    results = {
        way: reconstruct(model, prepare(frames)[:, *at], EV) for way, prepare in ways(model, scale, False).items()
    }
    shown = {
        name: ldr_to_float(frame[at])
        for name, frame in zip(("Dark frame", "Reference", "Bright frame"), frames, strict=True)
    }
    shown["Full size alone (--scale 1)"], shown["With --scale auto"] = (
        to_ldr(hdr, SHOWN_EV) for hdr in results.values()
    )
    shown["What there is"] = to_ldr(truth[at], SHOWN_EV)
    page = Image.new("RGB", (3 * SHOWN[0] + 2 * GAP, 2 * (LINE + SHOWN[1])), PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=20)
    for i, (title, image) in enumerate(shown.items()):
        x, y = i % 3 * (SHOWN[0] + GAP), i // 3 * (LINE + SHOWN[1])
        pen.text((x, y + 2), title, INK, font)
        paste(page, to_8_bit(image), (x, y + LINE), SHOWN)
    return np.asarray(page)


if __name__ == "__main__":
    run(main)

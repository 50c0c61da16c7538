"""The picture at the top of the README: three frames, what a classical merge makes of them, and what the network does.

python -m benchmarks.readme_picture

Both results are shown by one tone mapping: five exposures of the HDR image, fused as Mertens et al. do (2007). The
classical merge is OpenCV's MergeDebevec after registration of the camera (:mod:`utils.baselines`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datasets.scenes import SAMPLES
from utils.baselines import BASELINES
from utils.checkpoint import load_model
from utils.cli import existing_file, run
from utils.exposure import to_ldr
from utils.files import EXPOSURE_FILE, read_exposures, user_path, writable_file
from utils.images import ldr_to_float, read_ldr, to_8_bit, write_png
from utils.inference import reconstruct
from utils.shipped import SHIPPED

SCENE = "courtyard_0033"  # two people walk by, hand-held; the reference clips the sky
CLASSICAL = "MergeDebevec, registered"
FRAMES = ("input_1.tif", "input_2.tif", "input_3.tif")
STOPS = 5  # exposures that are fused
SMALL, GAP, LINE = 208, 10, 30  # pixels: width of a frame, space between pictures, height of a title
INK, PAPER = (27, 30, 35), (255, 255, 255)
QUALITY = 92


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=user_path, default=SAMPLES / SCENE, help="a sample scene's folder")
    parser.add_argument("--pretrained_model", type=user_path, default=SHIPPED)
    parser.add_argument("--out", type=user_path, default=Path("docs") / "before_after.jpg")
    args = parser.parse_args()
    writable_file(args.out, "--out")
    existing_file(args.pretrained_model, "--pretrained_model", "give a checkpoint, or leave it out")
    frames = np.stack([read_ldr(args.scene / name) for name in FRAMES])
    ev = np.array(read_exposures(args.scene / EXPOSURE_FILE), np.float32)
    classical = BASELINES[CLASSICAL](frames, ev)
    ours = reconstruct(load_model(args.pretrained_model), frames, ev)
    write_png(args.out, before_and_after(frames, attractive(classical, ev), attractive(ours, ev)))
    print(f"{args.out}: {args.scene.name} with {args.pretrained_model.name}")


def attractive(hdr: np.ndarray, ev: np.ndarray) -> np.ndarray:
    """Linear HDR (H, W, 3) as a picture to look at, (H, W, 3) uint8: its exposures, fused."""
    exposures = [to_8_bit(to_ldr(hdr, float(stop))) for stop in np.linspace(ev[0], ev[-1], STOPS)]
    return to_8_bit(cv2.createMergeMertens().process(exposures))


def before_and_after(frames: np.ndarray, classical: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """The frames in a column, and both results beside it at its height, each with a title; (H, W, 3) uint8."""
    height, width = frames.shape[1:3]
    small = round(SMALL * height / width)
    large = 3 * small + 2 * GAP
    wide = round(large * width / height)
    page = Image.new("RGB", (SMALL + 2 * (wide + GAP), LINE + large), PAPER)
    for i, frame in enumerate(frames):
        paste(page, to_8_bit(ldr_to_float(frame)), (0, LINE + i * (small + GAP)), (SMALL, small))
    titles: Sequence[tuple[str, int]] = (
        ("Three exposures", 0),
        ("Classical merge (OpenCV): ghosts", SMALL + GAP),
        ("AFUNet", SMALL + wide + 2 * GAP),
    )
    for picture, (_, x) in zip((classical, ours), titles[1:], strict=True):
        paste(page, picture, (x, LINE), (wide, large))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=20)
    for title, x in titles:
        pen.text((x, 2), title, INK, font)
    return np.asarray(page)


def paste(page: Image.Image, picture: np.ndarray, place: tuple[int, int], size: tuple[int, int]) -> None:
    page.paste(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS), place)


if __name__ == "__main__":
    run(main)

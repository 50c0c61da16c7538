"""Your own photographs: a bracket in, an HDR image out.

python predict.py a.jpg b.jpg c.jpg
python predict.py folder_of_brackets --compare

Exposures come from EXIF, from --ev or --times, or from an exposure.txt beside the files; the order doesn't matter.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from tqdm import tqdm

from models import AFUNet
from utils.alignment import Mode, Motion
from utils.bracket import Bracket, estimate_seconds, load_bracket, reconstruct
from utils.bracket_search import Found, find_brackets
from utils.checkpoint import SHIPPED, SHIPPED_FACTS, load_model
from utils.cli import checked, pick_device, run
from utils.inference import Path as Inference
from utils.io import InputError, atomic_path, writable_folder, write_exr, write_hdr, write_png
from utils.photographs import is_raw, write_preview
from utils.preview import OPERATORS, comparison, tone_mapped
from utils.provenance import device_name, git_revision, sha256, versions

LARGE = 4_000_000  # pixels from which the time is announced


@dataclass(frozen=True)
class Job:
    """What every bracket of a run shares."""

    args: argparse.Namespace
    model: AFUNet
    weights: dict[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    writable_folder(args.save_dir, "--save_dir")
    exposures = args.ev or args.times
    if exposures and len(exposures) < 3:
        raise InputError(f"{'--ev' if args.ev else '--times'}: {len(exposures)} where at least three are meant")
    found, left_out = find_brackets(args.photographs, count=len(exposures) if exposures else None)
    say(*left_out)
    if args.pretrained_model == SHIPPED:
        say(f"using the shipped weights, which were trained on made scenes only ({SHIPPED_FACTS})")
    model = load_weights(args.pretrained_model, pick_device(args.device))
    model.use_kernels(args.kernels)
    job = Job(args, model, describe(args.pretrained_model))
    names: set[str] = set()
    failed = 0
    for item in tqdm(found, "brackets", unit="bracket", disable=len(found) == 1 or None):
        try:
            process(job, item, names)
        except InputError as error:
            failed += 1
            tqdm.write(f"error: {error}", file=sys.stderr)
    return 2 if failed else 0


def process(job: Job, item: Found, names: set[str]) -> None:
    """One bracket from its files to its results. Raises InputError."""
    args = job.args
    bracket = load_bracket(
        item.paths,
        ev=args.ev,
        times=args.times,
        gamma=args.gamma,
        alignment=args.align,
        reference=args.reference,
    )
    name = unused(item.name or bracket.shots[1].path.stem, names)
    say(*report(bracket, name))
    announce(job.model, bracket)
    started = time.perf_counter()
    with Bar() as bar:
        hdr = reconstruct(job.model, bracket.frames, bracket.ev, inference=args.inference, progress=bar.show, say=say)
    write_results(job, bracket, name, hdr, time.perf_counter() - started)


def write_results(job: Job, bracket: Bracket, name: str, hdr: np.ndarray, seconds: float) -> None:
    """The HDR image, the preview, the facts, and where asked for the picture that explains them."""
    args, folder = job.args, job.args.save_dir
    written = []
    if args.format in ("exr", "both"):
        write_exr(folder / f"{name}.exr", hdr, half=args.half)
        written.append(f"{name}.exr")
    if args.format in ("hdr", "both"):
        write_hdr(folder / f"{name}.hdr", hdr)
        written.append(f"{name}.hdr")
    if args.preview != "none":
        written.append(f"{name}_preview.{args.preview}")
        write_preview(folder / written[-1], tone_mapped(hdr, args.tonemap), bracket.shots[1])
    if args.compare:
        written.append(f"{name}_compare.png")
        heading = f"{name}: AFUNet with {Path(job.weights['path']).name}"
        write_png(folder / written[-1], comparison(bracket, hdr, heading))
    with atomic_path(folder / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(facts(job, bracket, seconds), indent=2) + "\n", encoding="utf-8")
    say(f"  written to {folder}: {', '.join(written)}, {name}.json ({seconds:.1f} s)")


def report(bracket: Bracket, name: str) -> list[str]:
    """What was understood of a bracket, in lines for the user."""
    h, w = bracket.frames.shape[1:3]
    lines = [f"{name}: {w}x{h}, exposures from {bracket.source}"]
    for i, (shot, ev, motion) in enumerate(zip(bracket.shots, bracket.ev, bracket.motions, strict=True)):
        found = shot.describe() if bracket.source == "EXIF" else shot.path.name
        line = f"  {found}, EV {ev:+.1f}" + (" (reference)" if i == 1 else "")
        if motion.method != "none":
            line += f", moved by {motion.shift:.1f} pixels ({motion.method})"
        elif motion.shift > 0:
            line += f", within {motion.shift:.1f} pixels of the reference"
        lines.append(line + (f": {motion.note}" if motion.note else ""))
    top, bottom, left, right = bracket.region
    if (top, bottom, left, right) != (0, h, 0, w):
        covered = f"rows {top} to {bottom} and columns {left} to {right}"
        lines.append(f"  all frames cover {covered}; beyond, the reference fills in")
    return lines + [f"  {note}" for note in bracket.notes]


def facts(job: Job, bracket: Bracket, seconds: float) -> dict[str, Any]:
    """How a result was made and what its values mean, for the JSON file beside it."""
    return {
        "reference": str(bracket.shots[1].path),
        "frames": [
            {
                "file": str(shot.path),
                "ev": float(ev),
                "seconds": shot.seconds,
                "f_number": shot.f_number,
                "iso": shot.iso,
                "alignment": {"method": motion.method, "shift_pixels": motion.shift, "homography": moved(motion)},
            }
            for shot, ev, motion in zip(bracket.shots, bracket.ev, bracket.motions, strict=True)
        ],
        "exposures_from": bracket.source,
        "tone_curve": "linear" if is_raw(bracket.shots[1].path) else job.args.gamma,
        "scale": {
            "meaning": "linear RGB; 1 is where the darkest frame clips, reference_clips_at where the reference does",
            "reference_clips_at": float(2.0 ** -bracket.ev[1]),
            # log2(t ISO / N^2): value / 2^this compares brackets of one camera
            "log2_exposure_of_1": bracket.shots[0].ev if bracket.source == "EXIF" else None,
        },
        "covered_by_all_frames": dict(zip(("top", "bottom", "left", "right"), bracket.region, strict=True)),
        "notes": list(bracket.notes),
        "preview": job.args.tonemap if job.args.preview != "none" else None,
        "checkpoint": job.weights,
        "device": device_name(next(job.model.parameters()).device),
        "seconds": round(seconds, 2),
        "versions": versions(),
        "git_revision": git_revision(),
    }


class Bar:
    """A progress bar over the strips of a photograph, shown on a terminal."""

    def __init__(self) -> None:
        self.bar = tqdm(desc="  strips", unit="", leave=False, disable=None)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)


def announce(model: AFUNet, bracket: Bracket) -> None:
    """Say how long a large photograph will take, from a timed band of it."""
    pixels = math.prod(bracket.frames.shape[1:3])
    if pixels >= LARGE:
        seconds = estimate_seconds(model, bracket.frames, bracket.ev)
        say(f"  {pixels / 1e6:.1f} megapixels: about {duration(seconds)}")


def moved(motion: Motion) -> list[list[float]] | None:
    """The homography that was undone; None where nothing was."""
    return None if motion.method == "none" else motion.matrix.tolist()


def duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def load_weights(path: Path, device: torch.device) -> AFUNet:
    if path == SHIPPED and not path.exists():
        raise InputError(
            f"{path}: no weights; give a checkpoint with --pretrained_model, the authors' (Kalantari.pth of their "
            "repository) or your own from train.py"
        )
    return load_model(path, device)


def describe(weights: Path) -> dict[str, str]:
    return {"path": str(weights), "sha256": sha256(weights)}


def unused(name: str, names: set[str]) -> str:
    """The name, numbered where another bracket of the run has it already."""
    unique, number = name, 2
    while unique in names:
        unique, number = f"{name}_{number}", number + 1
    names.add(unique)
    return unique


def say(*lines: str) -> None:
    for line in lines:
        tqdm.write(line)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Reconstruct HDR images from your own bracketed photographs.")
    add = parser.add_argument
    add("photographs", nargs="+", type=Path, help="files of one bracket (JPEG, PNG, TIFF, HEIC, RAW), or folders")
    add("--pretrained_model", type=Path, default=SHIPPED, help="checkpoint, official or ours (default: shipped)")
    add("--save_dir", type=Path, default=Path("results/photographs"))
    exposures = parser.add_mutually_exclusive_group()
    exposures.add_argument("--ev", nargs="+", type=exponent, help="exposures to base 2, one per file: --ev 0 2 4")
    exposures.add_argument("--times", nargs="+", type=seconds_of, help="exposure times: --times 1/100 1/25 1/6")
    add("--gamma", type=curve, default="srgb", help="tone curve of the files: srgb, linear, or a number such as 2.2")
    add("--align", choices=get_args(Mode), default="auto", help="registration of a hand-held camera")
    add("--reference", type=int, help="the frame to align with, counted from 1 for the darkest")
    add("--format", choices=["exr", "hdr", "both"], default="exr")
    add("--half", action="store_true", help="16-bit EXR, half the size")
    add("--preview", choices=["jpg", "png", "none"], default="jpg")
    add("--tonemap", choices=OPERATORS, default="mu", help="of the preview")
    add("--compare", action="store_true", help="also write the picture that explains the result")
    add("--inference", choices=get_args(Inference), default="auto", help="strips: bounded memory, same numbers")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--kernels", action=argparse.BooleanOptionalAction, default=True, help="fused kernels on GPUs that take them")
    args = parser.parse_args(argv)
    if args.half and args.format == "hdr":
        parser.error("--half is for EXR files; --format hdr writes none")
    return args


def to_curve(text: str) -> str | float:
    return text if text in ("srgb", "linear") else float(text)


curve = checked(to_curve, lambda c: isinstance(c, str) or 0.1 <= c <= 10.0, "srgb, linear, or an exponent such as 2.2")
exponent = checked(float, math.isfinite, "an exposure to base 2 (photographs come before --ev)")
seconds_of = checked(
    lambda text: float(Fraction(text)),
    lambda seconds: 0 < seconds < math.inf,
    "a time in seconds such as 1/100 or 0.01 (photographs come before --times)",
)


if __name__ == "__main__":
    run(main)

"""From brackets to results on disk: read, reconstruct, write, and say what was done."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models import AFUNet
from utils.alignment import Motion
from utils.files import InputError, atomic_path
from utils.images import write_exr, write_hdr, write_png
from utils.inference import estimate_seconds, reconstruct
from utils.photographs.bracket import Bracket, load_bracket
from utils.photographs.preview import comparison, tone_mapped
from utils.photographs.search import Found
from utils.photographs.settings import Settings
from utils.photographs.shots import write_preview
from utils.provenance import device_name, git_revision, sha256, versions

LARGE = 4_000_000  # pixels from which the time is announced


@dataclass
class Job:
    """What every bracket of a run shares: the settings, the network and the file of its weights, names in use."""

    settings: Settings
    model: AFUNet
    weights: Path
    names: set[str] = field(default_factory=set)


def merge_all(job: Job, found: Sequence[Found]) -> int:
    """Every bracket in turn; one that fails is one line and does not stop the others. Returns how many failed."""
    failed = 0
    for item in tqdm(found, "brackets", unit="bracket", disable=len(found) == 1 or None):
        try:
            merge(job, item)
        except InputError as error:
            failed += 1
            tqdm.write(f"error: {error}", file=sys.stderr)
    return failed


def merge(job: Job, item: Found) -> list[Path]:
    """One bracket from its files to its results, whose paths are returned. Raises InputError."""
    settings = job.settings
    bracket = load_bracket(
        item.paths,
        ev=settings.ev,
        times=settings.times,
        gamma=settings.gamma,
        alignment=settings.align,
        reference=settings.reference,
        gamut=settings.gamut,
    )
    name = unused(item.name or bracket.shots[1].path.stem, job.names)
    say(*report(bracket, name))
    announce(job.model, bracket)
    started = time.perf_counter()
    with Bar() as bar:
        hdr = reconstruct(
            job.model, bracket.frames, bracket.ev, way=settings.inference, progress=bar.show, say=tqdm.write
        )
    seconds = time.perf_counter() - started
    written = write_results(job, bracket, name, hdr, seconds)
    say(f"  written to {settings.save_dir}: {', '.join(path.name for path in written)} ({seconds:.1f} s)")
    return written


def write_results(job: Job, bracket: Bracket, name: str, hdr: np.ndarray, seconds: float) -> list[Path]:
    """The HDR image, the preview, where asked for the picture that explains them, and the facts."""
    settings, folder = job.settings, job.settings.save_dir
    written = []
    if settings.format in ("exr", "both"):
        written.append(folder / f"{name}.exr")
        write_exr(written[-1], hdr, half=settings.half)
    if settings.format in ("hdr", "both"):
        written.append(folder / f"{name}.hdr")
        write_hdr(written[-1], hdr)
    if settings.preview != "none":
        written.append(folder / f"{name}_preview.{settings.preview}")
        write_preview(written[-1], tone_mapped(hdr, settings.tonemap), bracket.shots[1])
    if settings.compare:
        written.append(folder / f"{name}_compare.png")
        write_png(written[-1], comparison(bracket, hdr, f"{name}: AFUNet with {job.weights.name}"))
    written.append(folder / f"{name}.json")
    with atomic_path(written[-1]) as temporary:
        temporary.write_text(json.dumps(facts(job, bracket, seconds), indent=2) + "\n", encoding="utf-8")
    return written


def report(bracket: Bracket, name: str) -> list[str]:
    """What was understood of a bracket, in lines for the user."""
    h, w = bracket.frames.shape[1:3]
    lines = [f"{name}: {w}x{h}, exposures from {bracket.source}, colours: {bracket.colours}"]
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
    settings = job.settings
    return {
        "reference": str(bracket.shots[1].path),
        "frames": frame_facts(bracket),
        "exposures_from": bracket.source,
        "colours_of_the_files": bracket.colours,
        "tone_curve": settings.gamma,
        "primaries": settings.gamut,
        "scale": {
            "meaning": "linear RGB; 1 is where the darkest frame clips, reference_clips_at where the reference does",
            "reference_clips_at": float(2.0 ** -bracket.ev[1]),
            # log2(t ISO / N^2): value / 2^this compares brackets of one camera
            "log2_exposure_of_1": bracket.shots[0].ev if bracket.source == "EXIF" else None,
        },
        "covered_by_all_frames": dict(zip(("top", "bottom", "left", "right"), bracket.region, strict=True)),
        "notes": list(bracket.notes),
        "preview": settings.tonemap if settings.preview != "none" else None,
        "checkpoint": {"path": str(job.weights), "sha256": sha256(job.weights)},
        "device": device_name(next(job.model.parameters()).device),
        "seconds": round(seconds, 2),
        "versions": versions(),
        "git_revision": git_revision(),
    }


def frame_facts(bracket: Bracket) -> list[dict[str, Any]]:
    """File, exposure and registration of each frame."""
    return [
        {
            "file": str(shot.path),
            "ev": float(ev),
            "seconds": shot.seconds,
            "f_number": shot.f_number,
            "iso": shot.iso,
            "alignment": {"method": motion.method, "shift_pixels": motion.shift, "homography": undone(motion)},
        }
        for shot, ev, motion in zip(bracket.shots, bracket.ev, bracket.motions, strict=True)
    ]


def undone(motion: Motion) -> list[list[float]] | None:
    """The homography that was undone; None where nothing was."""
    return None if motion.method == "none" else motion.matrix.tolist()


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


def duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


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

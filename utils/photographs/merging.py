"""From brackets to results on disk: read, reconstruct, write, and say what was done."""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models import AFUNet
from utils.alignment import Motion
from utils.distributed import rank_and_world
from utils.files import InputError, atomic_path, read_facts, shortened_stem
from utils.images import write_png
from utils.inference import estimate_seconds, reconstruct
from utils.memory import give_back_freed_memory
from utils.photographs.bracket import Bracket, load_bracket
from utils.photographs.colour import to_bt709
from utils.photographs.extra_frames import add_frames
from utils.photographs.large_motion import chosen_scale, describe, without_large_motion
from utils.photographs.lossy import fill_nearly_clipped
from utils.photographs.preview import comparison, tone_mapped
from utils.photographs.results import Picture, white_luminance, write_image
from utils.photographs.search import Found
from utils.photographs.settings import Settings
from utils.photographs.shots import write_preview
from utils.progress import Pace, duration
from utils.provenance import device_name, git_revision, sha256, versions
from utils.shipped import is_shipped

NOT_IN_RESULTS = ("save_dir", "overwrite", "inference")  # settings that leave the results as they are
LARGE = 4_000_000  # pixels from which the time is announced


@dataclass(frozen=True)
class Job:
    """What every bracket of a run shares: the settings, the network and the file of its weights."""

    settings: Settings
    model: AFUNet
    weights: Path

    @property
    def fill_jpeg(self) -> bool:
        """Whether rims are filled in lossy references: as asked for, else unless the weights know JPEG."""
        return not is_shipped(self.weights) if self.settings.fill_jpeg is None else self.settings.fill_jpeg


@dataclass(frozen=True)
class Result:
    """What became of a bracket: its name, the files that were written, lines worth telling, and the time it took."""

    name: str
    paths: list[Path]
    notes: tuple[str, ...]
    seconds: float


def merge(job: Job, item: Found) -> list[Path]:
    """One bracket from its files to its results, whose paths are returned. Raises InputError."""
    return process(job, item).paths


def merge_all(job: Job, found: Sequence[Found]) -> int:
    """Every bracket in turn, each process of a group its share; returns how many failed.

    Those that are finished are skipped, unless the settings say otherwise. One that fails is one line and does not stop
    the others. Of several brackets each is told in one line, with the time that is left.
    """
    rank, processes = rank_and_world()
    share = range(rank, len(found), processes)
    names = earlier_names(found)
    todo = [i for i in share if job.settings.overwrite or not finished(job, found[i])]
    if skipped := len(share) - len(todo):
        say(f"{skipped} of {len(share)} brackets are finished already (--overwrite makes them again)")
    failed, started = 0, time.perf_counter()
    for done, i in enumerate(todo):
        try:
            result = process(job, found[i], names[i], brief=len(found) > 1)
        except InputError as error:
            failed += 1
            tqdm.write(f"error: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            say(f"{done} of {len(todo)} brackets were finished; the same command goes on after them")
            raise
        else:
            if len(found) > 1:
                left = (time.perf_counter() - started) / (done + 1) * (len(todo) - done - 1)
                say(one_line(result, f"[{done + 1}/{len(todo)}]", left))
    return failed


def process(job: Job, item: Found, taken: Counter[str] | None = None, *, brief: bool = False) -> Result:
    """One bracket from its files to its results.

    Args:
        job: settings, network, weights.
        item: the files.
        taken: how many other brackets may have each name.
        brief: without the lines that say what was understood.

    Raises:
        InputError: see :func:`utils.photographs.bracket.load_bracket`.
    """
    settings = job.settings
    bracket = load_bracket(
        item.paths,
        ev=settings.ev,
        times=settings.times,
        gamma=settings.gamma,
        alignment=settings.align,
        reference=settings.reference,
        gamut=settings.gamut,
        every_frame=settings.every_frame,
    )
    name = unused(shortened_stem(item.name or bracket.shots[1].path.stem), taken or Counter(), settings.save_dir, item)
    bracket, frames = without_motion(bracket, settings)
    if not brief:
        say(*report(bracket, name))
    announce(job.model, bracket)
    started = time.perf_counter()
    with Pace(0, "", "  strips", leave=False) as pace:
        hdr = reconstruct(
            job.model,
            frames_for(replace(bracket, frames=frames), job.fill_jpeg),
            bracket.ev,
            way=settings.inference,
            progress=pace.reach,
            say=tqdm.write,
        )
    bracket, hdr = with_extra_frames(bracket, hdr)
    seconds = time.perf_counter() - started
    written = write_results(job, item, bracket, name, hdr, seconds)
    give_back_freed_memory()
    if not brief:
        say(f"  written to {settings.save_dir}: {', '.join(path.name for path in written)} ({seconds:.1f} s)")
    return Result(name, written, bracket.notes, seconds)


def with_extra_frames(bracket: Bracket, hdr: np.ndarray) -> tuple[Bracket, np.ndarray]:
    """The result bettered by the frames beside the three, and the bracket with a note of what they gave."""
    if not bracket.extra:
        return bracket, hdr
    hdr, extended, quieter = add_frames(hdr, bracket.frames, bracket.ev, bracket.extra)
    names = ", ".join(one.shot.path.name for one in bracket.extra)
    note = f"{names}: range added to {extended:.1%} of the picture, noise lowered in {quieter:.1%}"
    return replace(bracket, notes=(*bracket.notes, note)), hdr


def without_motion(bracket: Bracket, settings: Settings) -> tuple[Bracket, np.ndarray]:
    """The bracket with a note of what moved far, and its frames without it. Raises InputError: too large a scale."""
    scale = chosen_scale(settings.scale, *bracket.frames.shape[1:3])
    frames, shares = without_large_motion(bracket.frames, bracket.ev, scale)
    notes = (describe(scale, shares),) if scale > 1 else ()
    return replace(bracket, notes=(*bracket.notes, *notes)), frames


def frames_for(bracket: Bracket, fill_jpeg: bool) -> np.ndarray:
    """The frames as the network gets them, (3, H, W, 3) uint16."""
    if not (fill_jpeg and bracket.shots[1].lossy):
        return bracket.frames
    dark, reference, bright = bracket.frames
    return np.stack([dark, fill_nearly_clipped(reference), bright])


def one_line(result: Result, place: str, left: float) -> str:
    """A bracket of many in one line."""
    told = "".join(f"; {note}" for note in result.notes)
    rest = f"; about {duration(left)} left" if left > 0 else ""
    files = ", ".join(path.name for path in result.paths)
    return f"{place} {result.name}: {files} ({result.seconds:.1f} s){told}{rest}"


def earlier_names(found: Sequence[Found]) -> list[Counter[str]]:
    """For each bracket how many before it may have a name, so that every process numbers alike."""
    counts, so_far = [], Counter[str]()
    for item in found:
        counts.append(so_far.copy())
        so_far.update(item.possible_names())
    return counts


def unused(name: str, taken: Counter[str], folder: Path, item: Found) -> str:
    """The name, numbered where other brackets of the run may have it, or one of another run has it in the folder."""
    for number in itertools.count(taken[name] + 1):
        unique = name if number == 1 else f"{name}_{number}"
        if not (number > 1 and taken[unique]) and not _others(folder, unique, item):
            break
    return unique


def _others(folder: Path, name: str, item: Found) -> bool:
    """Whether results of this name were made of other photographs."""
    made_from = _facts_of(folder / f"{name}.json").get("photographs")
    return made_from is not None and made_from != photographs_of(item)


def photographs_of(item: Found) -> list[str]:
    """Its files, as results name them."""
    return sorted(str(path.resolve()) for path in item.paths)


def finished(job: Job, item: Found) -> bool:
    """Whether the folder of results has all that this job would make of a bracket."""
    for file in job.settings.save_dir.glob("*.json"):
        made = _facts_of(file)
        if made.get("photographs") == photographs_of(item):
            same = made.get("settings") == settings_facts(job.settings) and _same_weights(made, job.weights)
            if same and _are_there(file.parent, made.get("files", [])):
                return True
    return False


def _same_weights(made: dict[str, Any], weights: Path) -> bool:
    checkpoint = made.get("checkpoint")
    return isinstance(checkpoint, dict) and checkpoint.get("sha256") == sha256(weights)


def _are_there(folder: Path, names: Any) -> bool:
    """Whether ``names`` are those of files in the folder; what a damaged file of facts holds in their place is none."""
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return listed and all(os.path.isfile(folder / name) for name in names)  # noqa: PTH113 (is_file may raise)


def _facts_of(file: Path) -> dict[str, Any]:
    """The facts that a reconstruction left; empty for another file, or none."""
    try:
        return read_facts(file, "", "facts")
    except InputError:
        return {}


def settings_facts(settings: Settings) -> dict[str, Any]:
    """What of the settings makes results differ, as JSON has it."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return json.loads(json.dumps({key: values[key] for key in values if key not in NOT_IN_RESULTS}))


def write_results(job: Job, item: Found, bracket: Bracket, name: str, hdr: np.ndarray, seconds: float) -> list[Path]:
    """The HDR image, the preview, where asked for the picture that explains them, and the facts."""
    settings, folder = job.settings, job.settings.save_dir
    picture = Picture(hdr, bracket, settings)
    written = [write_image(kind, folder / name, picture) for kind in settings.format]
    if settings.preview != "none":
        written.append(folder / f"{name}_preview.{settings.preview}")
        shown = tone_mapped(to_bt709(hdr, settings.gamut), settings.tonemap)
        write_preview(written[-1], shown, bracket.shots[1])
    if settings.compare:
        written.append(folder / f"{name}_compare.png")
        write_png(written[-1], comparison(bracket, hdr, f"{name}: AFUNet with {job.weights.name}"))
    written.append(folder / f"{name}.json")
    made: dict[str, Any] = {"photographs": photographs_of(item), "files": [path.name for path in written]}
    made |= {"settings": settings_facts(settings), **facts(job, bracket, seconds)}
    with atomic_path(written[-1]) as temporary:  # the last: where it is, the others are whole
        temporary.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
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
    for one in bracket.extra:
        lines.append(f"  {one.shot.path.name}, EV {one.ev:+.1f}: for {'range' if one.ev < 0 else 'quieter shadows'}")
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
        "further_frames": [{"file": str(one.shot.path), "ev": one.ev} for one in bracket.extra],
        "exposures_from": bracket.source,
        "colours_of_the_files": bracket.colours,
        "tone_curve": settings.gamma,
        "primaries": settings.gamut,
        "scale": {
            "meaning": "linear RGB; 1 is where the first frame clips, reference_clips_at where the reference does",
            "reference_clips_at": float(2.0 ** -bracket.ev[1]),
            # log2(t ISO / N^2): value / 2^this compares brackets of one camera
            "luminance_of_1": white_luminance(bracket),  # cd/m2, within a stop
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


def announce(model: AFUNet, bracket: Bracket) -> None:
    """Say how long a large photograph will take, from a timed band of it."""
    pixels = math.prod(bracket.frames.shape[1:3])
    if pixels >= LARGE:
        seconds = estimate_seconds(model, bracket.frames, bracket.ev)
        say(f"  {pixels / 1e6:.1f} megapixels: about {duration(seconds)}")


def say(*lines: str) -> None:
    for line in lines:
        tqdm.write(line)

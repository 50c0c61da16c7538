"""A bracket of photographs made ready for the network.

    bracket = load_bracket(["a.jpg", "b.jpg", "c.jpg"])
    hdr = utils.inference.reconstruct(load_model("afunet.pth"), bracket.frames, bracket.ev)

The HDR image is aligned with the reference, the middle exposure. Its value 1 is where the darkest frame clips; the
reference clips at 2^-ev[1].
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.alignment import Motion, align, common_region, reexpose, warp
from utils.choices import Gamut, Mode
from utils.exposure import CLIPPED
from utils.files import EXPOSURE_FILE, InputError, read_exposures
from utils.images import ldr_to_float
from utils.photographs.shots import (
    Shot,
    photographs_in,
    read_frame_and_holes,
    read_shot,
    read_white_balance,
)

STEPS = (2.0, 3.0)  # EV between neighbours in the training sets
WIDE = 4.3  # EV; steps beyond it brighten midtones, since the shipped weights have seen 1 to 4 (benchmarks/choices.py)
SMALLEST = 16  # pixels of a side
WIDEST = 30.0  # EV between the darkest and the brightest frame; beyond it a figure is wrong
SAME = 0.2  # EV; exposures nearer than this are one exposure
AS_NEAR = 0.25  # EV; cameras round exposure times by so much
AS_GOOD = 0.03  # share of clipped pixels that makes no difference
DARKER = 0.9  # of the brightness; a frame of more exposure that shows less than this contradicts itself
BLACK = 0.02  # LDR value below which a pixel tells nothing
PASS = "pass --ev (e.g. --ev 0 2 4) or --times (e.g. --times 1/100 1/25 1/6), one per file in the order of the files"


@dataclass(frozen=True)
class Extra:
    """A frame beside the three: (H, W, 3) uint16, registered to their reference; ``ev`` counts from the darkest of
    the three, so that it is below 0 for a darker one."""

    shot: Shot
    frame: np.ndarray
    ev: float
    motion: Motion


@dataclass(frozen=True)
class Bracket:
    """Three frames of rising exposure; the second is the reference.

    Attributes:
        shots: the three photographs.
        frames: (3, H, W, 3) uint16 LDR on the 2.2 curve, registered to the reference.
        ev: (3,) float32, exponents to base 2, the darkest frame's being 0.
        source: where the exposures come from, e.g. "EXIF".
        colours: what the files say of their colours, or what was assumed.
        motions: what registration found for each frame.
        region: rows and columns (top, bottom, left, right) that all three frames cover.
        notes: decisions worth telling the user, one line each.
        extra: the further frames, by rising exposure, where they were asked for.
    """

    shots: tuple[Shot, ...]
    frames: np.ndarray
    ev: np.ndarray
    source: str
    colours: str
    motions: tuple[Motion, ...]
    region: tuple[int, int, int, int]
    notes: tuple[str, ...]
    extra: tuple[Extra, ...] = ()


def load_bracket(
    paths: Sequence[str | Path],
    *,
    ev: Sequence[float] | None = None,
    times: Sequence[float] | None = None,
    gamma: str | float | None = None,
    alignment: Mode = "auto",
    reference: int | None = None,
    gamut: Gamut = "bt709",
    every_frame: bool = False,
) -> Bracket:
    """Read three or more photographs of one scene, in any order.

    Args:
        paths: JPEG, PNG, TIFF, HEIC or RAW files of one size.
        ev: exposures to base 2, one per path; by default ``times``, an ``exposure.txt`` beside the files, or EXIF.
        times: exposure times in seconds, one per path.
        gamma: tone curve of the files: ``srgb``, ``linear`` or the exponent of a power law; by default what the files
            say of their colours, and sRGB where they say nothing.
        alignment: registration of the camera, see :func:`utils.alignment.align`.
        reference: the frame to align with, counted from 1 for the darkest; by default the one with the fewest clipped
            pixels.
        gamut: primaries of the frames, and so of the result.
        every_frame: read those beside the three too.

    Raises:
        InputError: a file cannot be read, sizes differ, or exposures are missing, equal, fewer than three, or
            contradicted by the pixels.
    """
    shots = [read_shot(path) for path in paths]
    check_photographs(shots)
    exposures, source = find_exposures(shots, ev, times)
    check_exposures(shots, exposures)
    order = np.argsort(exposures, kind="stable")
    shots, rising = [shots[i] for i in order], [exposures[i] for i in order]
    chosen, notes = _choose(shots, rising, gamma, reference)
    turned = same_turn(shots, shots[chosen[1]])
    if turned != shots:
        notes = [*notes, f"orientation tags differ; that of {shots[chosen[1]].path.name}, the reference, counts"]
    others = [i for i in range(len(shots)) if i not in chosen] if every_frame else []
    taken = [*chosen, *others]
    shots, relative = [turned[i] for i in taken], np.array([rising[i] - rising[chosen[0]] for i in taken])
    frames, holes = _read_frames(shots, gamma, gamut)
    motions = align_with_holes(frames, holes, relative, alignment)
    check_brightness(shots[:3], [brightness(frame[::4, ::4]) for frame in frames[:3]])
    return Bracket(
        tuple(shots[:3]),
        frames[:3],
        relative[:3].astype(np.float32),
        source,
        "; ".join(dict.fromkeys(_colours(shot, gamma) for shot in shots)),
        tuple(motions[:3]),
        common_region(motions[:3], frames.shape[1:3]),
        (*notes, *_hole_notes(shots, holes), *_step_notes(relative[:3])),
        tuple(Extra(*one) for one in zip(shots[3:], frames[3:], relative[3:].tolist(), motions[3:], strict=True)),
    )


def find_exposures(
    shots: Sequence[Shot], ev: Sequence[float] | None = None, times: Sequence[float] | None = None
) -> tuple[list[float], str]:
    """One exponent to base 2 per photograph, and where they come from. Raises InputError."""
    if ev is not None:
        return _per_file(ev, shots, "--ev"), "--ev"
    if times is not None:
        return [math.log2(time) for time in _per_file(times, shots, "--times")], "--times"
    beside = shots[0].path.parent / EXPOSURE_FILE
    if os.path.lexists(beside) and len({shot.path.parent for shot in shots}) == 1:
        return _from_exposure_file(beside, shots), EXPOSURE_FILE
    return _exif_exposures(shots), "EXIF"


def check_photographs(shots: Sequence[Shot]) -> None:
    """Raise InputError unless there are three or more photographs of one size, each once."""
    if len({shot.path.resolve() for shot in shots}) < len(shots):
        raise InputError(f"a photograph is given twice ({', '.join(str(shot.path) for shot in shots)})")
    if len(shots) < 3:
        raise InputError(f"{len(shots)} photograph(s) where at least three are meant ({_listed(shots)})")
    if len({(shot.height, shot.width) for shot in shots}) > 1 and len({shot.stored for shot in shots}) > 1:
        sizes = ", ".join(f"{shot.path.name}: {shot.width}x{shot.height}" for shot in shots)
        raise InputError(f"photographs of unequal size ({sizes}); export them alike")
    if min(shots[0].height, shots[0].width) < SMALLEST:
        size = f"{shots[0].width}x{shots[0].height}"
        raise InputError(f"{shots[0].path}: {size} pixels; {SMALLEST}x{SMALLEST} is the least")


def check_exposures(shots: Sequence[Shot], exposures: Sequence[float]) -> None:
    """Raise InputError unless the exposures are finite and differ."""
    if not np.isfinite(exposures).all():
        raise InputError(f"exposures {list(exposures)} are not finite numbers; {PASS}")
    if np.ptp(exposures) > WIDEST:
        raise InputError(f"exposures more than {WIDEST:g} EV apart ({_listed(shots, exposures)}); {PASS}")
    if np.diff(np.sort(exposures)).min() < SAME:
        raise InputError(f"some exposures are equal ({_listed(shots, exposures)}); leave one out, or {PASS}")


def same_turn(shots: Sequence[Shot], reference: Shot) -> list[Shot]:
    """The photographs with the reference's orientation, where all lie alike in their files: a camera that points up or
    down guesses, and within a bracket nobody turns it."""
    if len({shot.stored for shot in shots}) > 1:
        return list(shots)
    return [shot if shot.orientation == reference.orientation else shot.turned(reference.orientation) for shot in shots]


def check_brightness(shots: Sequence[Shot], means: Sequence[float]) -> None:
    """Raise InputError where a frame of more exposure shows clearly less light than the one before it."""
    for darker, brighter, less, more in zip(shots, shots[1:], means, means[1:], strict=False):
        if more < DARKER * less:
            raise InputError(
                f"{brighter.path.name} is darker than {darker.path.name} though its exposure is said to be longer "
                f"({_listed((darker, brighter))}); the exposures are wrong: {PASS}"
            )


def align_with_holes(
    frames: np.ndarray, holes: Sequence[np.ndarray | None], ev: np.ndarray, mode: Mode
) -> list[Motion]:
    """Register the frames, in place; what is transparent in one shows what the reference has there.

    The reference's own holes show the first other frame that covers them.
    """
    others = [i for i in range(len(frames)) if i != 1]
    left = holes[1]
    for i in others:
        if left is not None:
            other = holes[i]
            seen = left if other is None else left & ~other
            frames[1][seen] = reexpose(frames[i][seen], ev[i], ev[1])
            left = left & ~seen
    for i in others:
        _fill(frames, i, holes[i], ev)  # so that the border of a hole moves nothing
    motions = align(frames, ev, mode)
    for i in others:
        hole = holes[i]
        if hole is not None and motions[i].method != "none":
            _fill(frames, i, warp(hole.astype(np.uint8), motions[i].matrix)[0] > 0, ev)
    return motions


def _fill(frames: np.ndarray, i: int, hole: np.ndarray | None, ev: np.ndarray) -> None:
    if hole is not None:
        frames[i][hole] = reexpose(frames[1][hole], ev[1], ev[i])


def choose_three(ev: Sequence[float], clipped: Sequence[float], reference: int | None = None) -> tuple[int, int, int]:
    """The three of N rising exposures that serve the network best, as indices.

    Steps come first: both nearest to one of the training sets' (``python -m benchmarks.choices``). Of triples whose
    steps are as near, the reference has the fewest clipped pixels; within AS_GOOD of the fewest, the wider steps win,
    and then the fewer clipped pixels.
    """
    middle = range(1, len(ev) - 1) if reference is None else [reference]
    triples = [(i, j, k) for j in middle for i in range(j) for k in range(j + 1, len(ev))]
    misfits = [misfit(ev[j] - ev[i], ev[k] - ev[j]) for i, j, k in triples]
    fit = [triple for triple, far in zip(triples, misfits, strict=True) if far <= min(misfits) + AS_NEAR]
    fewest = min(clipped[j] for _, j, _ in fit)
    good = [(i, j, k) for i, j, k in fit if clipped[j] <= fewest + AS_GOOD]
    return min(good, key=lambda triple: (-round(ev[triple[2]] - ev[triple[0]], 1), clipped[triple[1]]))


def misfit(down: float, up: float) -> float:
    """How far two steps are from equal steps of the training sets, in EV."""
    return min(abs(down - step) + abs(up - step) for step in STEPS)


def clipped_share(frame: np.ndarray) -> float:
    """Share of the pixels of a (..., 3) uint16 frame that are blown out in a channel or black in all."""
    largest = ldr_to_float(frame).max(axis=-1)
    return float(((largest >= CLIPPED) | (largest <= BLACK)).mean())


def brightness(frame: np.ndarray) -> float:
    """The mean LDR value of a (..., 3) uint16 frame."""
    return float(ldr_to_float(frame).mean())


def _covered(frame: np.ndarray, holes: np.ndarray | None) -> np.ndarray:
    """(N, 3): one in sixteen of a frame's pixels, those left out that are transparent."""
    small = frame[::4, ::4].reshape(-1, 3)
    return small.copy() if holes is None else small[~holes[::4, ::4].ravel()]


def _choose(
    shots: Sequence[Shot], ev: Sequence[float], gamma: str | float | None, reference: int | None
) -> tuple[tuple[int, int, int], list[str]]:
    if reference is not None and not 2 <= reference <= len(shots) - 1:
        names = ", ".join(f"{i} = {shot.path.name}" for i, shot in enumerate(shots, 1))
        raise InputError(f"--reference {reference}: needs a darker and a brighter frame; rising exposure: {names}")
    if len(shots) == 3:
        return (0, 1, 2), []
    clipped = [0.0] * len(shots)
    if reference is None:
        small = [_covered(*read_frame_and_holes(shot, gamma, None, "bt709")) for shot in shots]
        check_brightness(shots, [brightness(frame) for frame in small])
        clipped = [clipped_share(frame) for frame in small]
    chosen = choose_three(ev, clipped, None if reference is None else reference - 1)
    why = "as told" if reference is not None else f"{clipped[chosen[1]]:.1%} of its pixels clipped"
    names = ", ".join(shots[i].path.name for i in chosen)
    return chosen, [f"of {len(shots)} frames took {names} (reference: {shots[chosen[1]].path.name}, {why})"]


def _read_frames(
    shots: Sequence[Shot], gamma: str | float | None, gamut: Gamut
) -> tuple[np.ndarray, list[np.ndarray | None]]:
    white_balance = read_white_balance(shots[1])
    frames = np.empty((len(shots), shots[0].height, shots[0].width, 3), np.uint16)
    holes: list[np.ndarray | None] = []
    for frame, shot in zip(frames, shots, strict=True):
        frame[:], hole = read_frame_and_holes(shot, gamma, white_balance, gamut)
        holes.append(hole)
    return frames, holes


def _colours(shot: Shot, gamma: str | float | None) -> str:
    return shot.colours.name if gamma is None or shot.raw else shot.colours.with_curve(gamma).name


def _hole_notes(shots: Sequence[Shot], holes: Sequence[np.ndarray | None]) -> list[str]:
    return [
        f"{shot.path.name}: {hole.mean():.1%} is transparent; {'another frame' if i == 1 else 'the reference'} fills in"
        for i, (shot, hole) in enumerate(zip(shots, holes, strict=True))
        if hole is not None
    ]


def _per_file(values: Sequence[float], shots: Sequence[Shot], source: str) -> list[float]:
    if len(values) != len(shots):
        raise InputError(f"{source}: {len(values)} exposures for {len(shots)} photographs ({_listed(shots)})")
    return [float(value) for value in values]


def _from_exposure_file(file: Path, shots: Sequence[Shot]) -> list[float]:
    """Line i of the file belongs to photograph i of its folder, in name order."""
    values = read_exposures(file)
    paths = photographs_in(file.parent)
    if len(values) != len(paths):
        raise InputError(f"{file}: {len(values)} exposures for {len(paths)} photographs in this folder")
    by_path = dict(zip((path.name for path in paths), values, strict=True))
    if others := [shot.path.name for shot in shots if shot.path.name not in by_path]:
        raise InputError(f"{file}: says nothing of {', '.join(others)}, by its name no photograph; {PASS}")
    return [by_path[shot.path.name] for shot in shots]


def _exif_exposures(shots: Sequence[Shot]) -> list[float]:
    evs = [shot.ev for shot in shots]
    if any(ev is None for ev in evs):
        raise InputError(f"no exposure time in EXIF ({_listed(shots)}); {PASS}")
    for name in ("f_number", "iso"):
        known = [getattr(shot, name) is not None for shot in shots]
        if any(known) and not all(known):  # missing everywhere it is the same everywhere: a manual lens
            raise InputError(f"aperture or ISO known for some files only ({_listed(shots)}); {PASS}")
    return [ev for ev in evs if ev is not None]


def _listed(shots: Sequence[Shot], exposures: Sequence[float] | None = None) -> str:
    if exposures is None:
        return "; ".join(shot.describe() for shot in shots)
    return "; ".join(f"{shot.describe()} = EV {ev:.2f}" for shot, ev in zip(shots, exposures, strict=True))


def _step_notes(ev: np.ndarray) -> list[str]:
    steps = np.diff(ev)
    if ((steps > STEPS[0] - 0.6) & (steps < STEPS[1] + 0.6)).all():
        return []
    about = f"steps of {steps[0]:.1f} and {steps[1]:.1f} EV"
    if steps.max() > WIDE:
        return [
            f"{about}, wider than the shipped weights were trained on: midtones can come out too bright, by a half "
            "at 6 EV; frames 2 or 3 EV apart would be right"
        ]
    return [f"{about}; the shipped weights were trained on steps of 1 to 4 EV, the data sets have 2 and 3"]

"""What a folder of bracketed scenes, made or real, is like: how much clips, how much moves, how noisy it is."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from datasets.scenes import LAYOUTS, find_scenes
from datasets.synthesis.development import EIGHT, JPEG, SIXTEEN
from datasets.synthesis.photographs import luminance
from datasets.synthesis.variety import PLAIN_FACTS
from utils.exposure import CLIPPED, to_ldr, to_linear
from utils.files import InputError, is_folder, read_facts, reason
from utils.images import float_to_ldr, ldr_to_float, to_8_bit

MOVING = 2.0  # pixels a pixel's motion differs from the whole picture's to count as moving
AGREEING = 1.0  # pixels that flow there and back may differ
DENOISING = 1.5  # pixels of blur before motion is estimated
EIGHT_BIT = float_to_ldr(np.arange(256, dtype=np.float32) / 255)  # the values that a frame of 8 bits can take
BINS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4, 1.0)  # of the clipped share
STEPS = (1, 2, 3, 4)  # EV from dark to reference, rounded
FRAME_NAMES = ("dark", "reference", "bright")


@dataclass(frozen=True)
class SceneStatistics:
    """Figures of one scene. Shares are of pixels; noise is in steps of an 8-bit picture (LDR value * 255)."""

    clipped: tuple[float, float, float]  # share clipped, per frame
    steps: tuple[float, float]  # EV between neighbouring frames
    white: float  # largest value of the reference, of 255
    eight_bit: bool  # the reference holds no more than the 256 values of an 8-bit file
    colour: float  # saturation of the label, (largest - smallest) / largest channel, mean over the picture
    saturated_label: float  # share of the label at its largest value
    stops: float  # log2 of the label's 99.9th over its 1st percentile
    camera_motion: float  # pixels, median over the picture, larger of the two outer frames
    object_motion: float  # pixels, 99th percentile of what differs from the camera's motion
    moving: float  # share of pixels that move by more than MOVING of their own
    reference_noise: float  # robust deviation of the reference from its label
    dark_noise: float  # of the dark frame, by Immerkaer's estimate
    drawn: Mapping[str, bool] = field(default_factory=dict)  # what scene.json says it varies in; {} where it says none


def measure(frames: np.ndarray, ev: np.ndarray, label: np.ndarray) -> SceneStatistics:
    """Measure one scene: frames (3, H, W, 3) uint16, ev (3,), label (H, W, 3) linear."""
    ldr = ldr_to_float(frames)
    light = luminance(label)
    low, high = np.percentile(light, [1.0, 99.9])
    camera, own = zip(*(_motion(ldr, ev, outer) for outer in (0, 2)), strict=True)
    moving = np.maximum(*own)
    return SceneStatistics(
        clipped=tuple((frame.max(axis=-1) >= CLIPPED).mean().item() for frame in ldr),
        steps=(float(ev[1] - ev[0]), float(ev[2] - ev[1])),
        white=255.0 * float(ldr[1].max()),
        eight_bit=bool(np.isin(frames[1], EIGHT_BIT).all()),
        colour=float((1.0 - label.min(axis=-1) / label.max(axis=-1).clip(min=1e-9)).mean()),
        saturated_label=float((label.max(axis=-1) >= 0.999 * label.max()).mean()),
        stops=math.log2(max(high, 1e-12) / max(low, 1e-6)),
        camera_motion=max(camera),
        object_motion=float(np.percentile(moving, 99.0)),
        moving=float((moving > MOVING).mean()),
        reference_noise=255.0 * _residual(ldr[1], to_ldr(label, float(ev[1]))),
        dark_noise=255.0 * immerkaer(ldr[0].mean(axis=-1)) * math.sqrt(3.0),  # the mean of three channels is quieter
    )


def _motion(ldr: np.ndarray, ev: np.ndarray, outer: int) -> tuple[float, np.ndarray]:
    """(camera motion in pixels, own motion of every pixel) between the reference and an outer frame.

    Both are brought to the brighter one's exposure and blurred a little, then dense inverse search flow (Kroeger et al.
    2016) there and back. A pixel counts as still where the two ways do not agree, or it is clipped or black: where
    nothing can be matched, nothing can be seen to move.
    """
    brighter = max(1, outer)
    pair = [to_ldr(to_linear(ldr[i], float(ev[i])), float(ev[brighter])) for i in (1, outer)]
    grey = [to_8_bit(cv2.GaussianBlur(image.mean(axis=-1), (0, 0), DENOISING)) for image in pair]
    there, back = _flow(grey[0], grey[1]), _flow(grey[1], grey[0])
    y, x = np.mgrid[0 : there.shape[0], 0 : there.shape[1]].astype(np.float32)
    returned = there + cv2.remap(back, x + there[..., 0], y + there[..., 1], cv2.INTER_LINEAR)
    seen = (grey[0] < 250) & (grey[0] > 5) & (np.linalg.norm(returned, axis=-1) < AGREEING)
    if not seen.any():
        return 0.0, np.zeros(seen.shape)
    whole = np.median(there[seen], axis=0)
    return float(np.linalg.norm(whole)), np.where(seen, np.linalg.norm(there - whole, axis=-1), 0.0)


def _flow(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    dense = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return dense.calc(start, end, np.zeros((*start.shape, 2), np.float32))


def _residual(frame: np.ndarray, expected: np.ndarray) -> float:
    """Robust standard deviation (1.4826 MAD) of a frame from what its label says, where neither is clipped or black."""
    within = (expected > 0.1) & (expected < 0.9) & (frame < CLIPPED)
    if not within.any():
        return math.nan
    difference = (frame - expected)[within]
    return 1.4826 * float(np.median(np.abs(difference - np.median(difference))))


def immerkaer(grey: np.ndarray) -> float:
    """Noise of a picture from itself, Immerkaer 1996, "Fast noise variance estimation"; texture makes it too high."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    inner = cv2.filter2D(grey.astype(np.float32), -1, mask)[1:-1, 1:-1]
    return math.sqrt(math.pi / 2) * float(np.abs(inner).mean()) / 6.0


def measure_folder(folder: Path, layout: str = "kalantari") -> list[SceneStatistics]:
    """Measure every scene folder that lies directly in ``folder``; ``layout`` says how its files are named.

    Raises InputError for a folder without scenes, or a scene that cannot be read.
    """
    if not is_folder(folder):
        raise InputError(f"{folder}: no such folder; give one that holds scene folders")
    here = replace(LAYOUTS[layout], folder="", test_path="")
    scenes = tqdm(find_scenes(here, folder, "test"), unit="scene", leave=False)
    return [
        replace(measure(*scene.read()), drawn=drawn(scene.exposure_path.with_name("scene.json"))) for scene in scenes
    ]


def drawn(path: Path) -> dict[str, bool]:
    """In which of ``VARIED`` a made scene differs from a plain one; {} for a scene that was not made.

    Raises InputError for a file that no scene was made with.
    """
    if not os.path.lexists(path):
        return {}
    what, advice = "the facts of a made scene", "remove it, or make the scene anew"
    facts = read_facts(path, advice, what)
    try:
        return {name: varies(facts) for name, varies in VARIED.items()}
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"{path}: not {what} ({reason(error)[:100]}); {advice}") from None


def _reference_kind(facts: Mapping[str, Any]) -> str:
    return str(facts["files"][1]["kind"]) if "files" in facts else SIXTEEN


VARIED: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "other colours": lambda facts: facts.get("light", PLAIN_FACTS["light"]) != PLAIN_FACTS["light"],
    "JPEG reference": lambda facts: _reference_kind(facts) == JPEG,
    "8-bit reference": lambda facts: _reference_kind(facts) == EIGHT,
    "other camera curve": lambda facts: facts.get("curve", PLAIN_FACTS["curve"]) != PLAIN_FACTS["curve"],
    "other steps": lambda facts: bool(facts.get("timing", {}).get("steps")),
    "true exposures off": lambda facts: any(facts.get("timing", {}).get("errors", [])),
    "fast objects": lambda facts: facts.get("movement", {}).get("reach") is not None,
    "objects against their ground": lambda facts: facts.get("movement", {}).get("contrasted", 0) > 0,
    "more shake": lambda facts: facts.get("movement", {}).get("shake", 1) > 1,
    "nothing moves": lambda facts: not facts.get("objects", ["?"]),
}


def table(sets: dict[str, list[SceneStatistics]]) -> str:
    """A Markdown table, a column per set and a row per figure, with a line below that explains it."""
    lines = [f"| | {' | '.join(sets)} |", f"|---|{'---|' * len(sets)}"]
    for title, cell in _rows().items():
        lines.append(f"| {title} | {' | '.join(cell(scenes) for scenes in sets.values())} |")
    bins = " / ".join(f"{100 * low:g}-{100 * high:g}" for low, high in pairwise(BINS))
    return "\n".join(
        [*lines, "", f"Median (10th to 90th percentile) over scenes. *: histogram, {bins} % of pixels clipped."]
    )


Cell = Callable[[list[SceneStatistics]], str]


def _rows() -> dict[str, Cell]:
    rows: dict[str, Cell] = {
        "scenes": lambda scenes: str(len(scenes)),
        f"steps of {' / '.join(map(str, STEPS))} EV, unequal (% of scenes)": _steps,
        "reference of 8 bits (% of scenes)": lambda scenes: _percent(scene.eight_bit for scene in scenes),
    }
    rows |= {f"{name} (% of scenes made)": _drawn(name) for name in VARIED}
    for i, name in enumerate(FRAME_NAMES):
        rows[f"clipped, {name} frame (% of pixels)"] = _spread(lambda s, i=i: 100.0 * s.clipped[i])  # type: ignore[misc]
        rows[f"scenes by what clips in the {name} frame* (%)"] = _histogram(i)
    named = {
        "white": ("largest value of the reference (of 255)", 1.0),
        "colour": ("saturation of the label (%)", 100.0),
        "saturated_label": ("label at its maximum (% of pixels)", 100.0),
        "stops": ("label's range (stops)", 1.0),
        "camera_motion": ("camera motion (pixels)", 1.0),
        "object_motion": ("object motion, 99th percentile (pixels)", 1.0),
        "moving": ("moving by itself (% of pixels)", 100.0),
        "reference_noise": ("noise of the reference (of 255)", 1.0),
        "dark_noise": ("noise of the dark frame (of 255)", 1.0),
    }
    assert set(named) <= {f.name for f in fields(SceneStatistics)}
    for name, (title, factor) in named.items():
        rows[title] = _spread(lambda s, name=name, factor=factor: factor * getattr(s, name))  # type: ignore[misc]
    return rows


def _spread(value: Callable[[SceneStatistics], float]) -> Cell:
    def cell(scenes: list[SceneStatistics]) -> str:
        low, middle, high = np.nanpercentile([value(scene) for scene in scenes], [10.0, 50.0, 90.0])
        return f"{middle:.2f} ({low:.2f} to {high:.2f})"

    return cell


def _histogram(frame: int) -> Cell:
    def cell(scenes: list[SceneStatistics]) -> str:
        counts, _ = np.histogram([scene.clipped[frame] for scene in scenes], BINS)
        return " / ".join(f"{100 * count / len(scenes):.0f}" for count in counts)

    return cell


def _steps(scenes: list[SceneStatistics]) -> str:
    shares = [_percent(round(scene.steps[0]) == step for scene in scenes) for step in STEPS]
    return f"{' / '.join(shares)}, {_percent(scene.steps[0] != scene.steps[1] for scene in scenes)}"


def _drawn(name: str) -> Cell:
    def cell(scenes: list[SceneStatistics]) -> str:
        made = [scene.drawn[name] for scene in scenes if scene.drawn]
        return _percent(made) if made else "-"

    return cell


def _percent(marks: Iterable[bool]) -> str:
    return f"{100 * np.mean(list(marks)):.0f}"

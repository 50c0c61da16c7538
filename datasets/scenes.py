"""Bracketed scenes on disk: three 16-bit frames, three exposures, one HDR label.

``LAYOUTS`` is the one place that knows how each data set names its folders and files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from utils.files import EXPOSURE_FILE, InputError, entries, is_file, is_folder, is_there, read_exposures
from utils.images import read_hdr, read_ldr

Split = Literal["train", "test"]
Value = TypeVar("Value")

FRAMES = 3
STEPS = (0.3, 7.0)  # EV between neighbouring frames, at least and at most, that cameras take
DARKER = 0.9  # of the mean before; clipping and motion make smaller differences
TIFF = (".tif", ".tiff")
SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class Layout:
    """How a data set names things. Paths are relative to the data set's folder; ``dataclasses.replace`` makes variants.

    Attributes:
        folder: the data set's usual folder name below ``--dataset_dir``; "" where it has none.
        train_path, test_path: the folders that hold the scene folders of each split.
        ldr_prefix: frames are the TIFFs whose names begin with it, in name order.
        ldr_ending: where some frames end so, the others are left out (Hu's folders may also hold unaligned frames).
        ldr_folder_name: a sub-folder of the scene that holds the frames; "" for the scene folder itself.
        exposure_file_name: text file of three exponents to base 2, in frame order.
        label_file_name: the HDR image aligned with the second frame; where it is missing, the same name with .exr is
            taken, as made scenes have it.
        moments: frame i of scene ``xxx`` lies in a folder ``xxx_i``, label and exposures in ``xxx_2`` (Challenge123,
            which has a whole bracket of every moment). A plain scene folder with all three frames is read as well.
    """

    folder: str = ""
    train_path: str = "Training"
    test_path: str = "Test"
    ldr_prefix: str = ""
    ldr_ending: str = ""
    ldr_folder_name: str = ""
    exposure_file_name: str = EXPOSURE_FILE
    label_file_name: str = "HDRImg.hdr"
    moments: bool = False

    def split_path(self, split: Split) -> str:
        """The folder of one split's scenes, relative to the data set's folder."""
        return self.train_path if split == "train" else self.test_path


LAYOUTS: dict[str, Layout] = {
    "kalantari": Layout("Kal", test_path="Test/Test-set"),
    "tel": Layout("Tel", ldr_prefix="input"),
    "hu": Layout(
        "Hu",
        ldr_prefix="input",
        ldr_ending="_aligned",
        exposure_file_name="input_exp.txt",
        label_file_name="ref_hdr_aligned_linear.hdr",
    ),
    "challenge123": Layout("Challenge123", ldr_prefix="ldr_img", label_file_name="hdr_img.hdr", moments=True),
    "samples": Layout(train_path="", test_path=""),
}


class Sample(NamedTuple):
    """A bracket with its ground truth: a whole scene, or a crop of one.

    Attributes:
        frames: (3, H, W, 3) uint16 RGB, rising exposure.
        ev: (3,) float32, exponents to base 2 relative to the first frame: linear = (frame / 2^16)^2.2 / 2^ev.
        label: (H, W, 3) float32 linear RGB.
    """

    frames: np.ndarray
    ev: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class Scene:
    """The files of one scene, as found: ``ldr_paths`` has three entries unless the folder is at fault."""

    name: str
    ldr_paths: tuple[Path, ...]
    exposure_path: Path
    label_path: Path

    def read(self) -> Sample:
        """Read and check the scene.

        The label is unscaled and unclipped. The first exponent is subtracted from all: the real sets begin at 0 anyway,
        and a file with -2, 0, 2 would otherwise give linear values up to 4.

        Raises:
            InputError: one line with the scene and everything that is wrong with it.
        """
        frames, ev, label, problems = self._load()
        if problems:
            raise InputError(f"scene {self.name}: {'; '.join(problems)}")
        return Sample(np.stack(frames), ev - ev[0], label)

    def read_label(self) -> np.ndarray:
        """The label alone, as :meth:`read` gives it. Raises InputError, one line with the scene."""
        try:
            return read_label(self.label_path)
        except InputError as error:
            raise InputError(f"scene {self.name}: {error}") from None

    def problems(self) -> list[str]:
        """Everything that is wrong with the scene or looks wrong, one line each; reads all of its files."""
        frames, ev, _, problems = self._load()
        return [f"scene {self.name}: {problem}" for problem in [*problems, *_suspicions(self, frames, ev)]]

    def _load(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, list[str]]:
        problems = list(_frame_count_problems(self.ldr_paths, self.exposure_path.parent))
        attempts = [_attempt(problems, read_ldr, path) for path in self.ldr_paths[:FRAMES]]
        ev = _attempt(problems, read_rising, self.exposure_path)
        label = _attempt(problems, read_label, self.label_path)
        frames = [frame for frame in attempts if frame is not None]
        problems += _size_problems(frames, label)
        nothing = np.zeros(0, np.float32)
        return frames, nothing if ev is None else ev, nothing if label is None else label, problems


def read_rising(path: Path) -> np.ndarray:
    """A scene's exposure file as (3,) float32: exponents to base 2, rising. Raises InputError."""
    advice = "write one number per line, in frame order, e.g. 0, 2 and 4"
    if not is_there(path):
        raise InputError(f"{path}: no exposure file; {advice}, or name it with --exposure_file_name")
    values = read_exposures(path)
    ev = np.array(values, np.float32)
    if ev.shape != (FRAMES,) or not np.isfinite(ev).all() or not (np.diff(ev) > 0).all():
        listed = ", ".join(f"{value:g}" for value in values[:6]) + (", ..." if len(values) > 6 else "")
        raise InputError(f"{path}: exposures [{listed}] are not three rising numbers; {advice}")
    return ev


def read_label(path: Path) -> np.ndarray:
    """The ground truth as (H, W, 3) float32 linear RGB. Raises InputError."""
    if not is_file(path):
        raise InputError(f"{path}: no label; put the ground truth there, or name it with --label_file_name")
    label = read_hdr(path)
    if not np.isfinite(label).all():
        raise InputError(f"{path}: holds NaN or infinite values; make the label anew")
    return label


def find_scenes(layout: Layout, root: str | Path | None, split: Split) -> list[Scene]:
    """The scenes of one split in name order. Only looks at names; :meth:`Scene.read` opens the files.

    Args:
        layout: usually from ``LAYOUTS``.
        root: the folder that holds the data set's folder (``Kal``, ...), or that folder itself; None for the shipped
            sample scenes.
        split: "train" or "test".

    Raises:
        InputError: there is no such folder, or no scene in it.
    """
    folder = _split_folder(layout, Path(root) if root is not None else SAMPLES, split)
    scenes = sorted(_scenes_in(layout, folder), key=lambda scene: scene.name)
    if not scenes:
        raise InputError(
            f"{folder}: no scene folders in it; each scene is a folder of three TIFFs, exposures and label"
        )
    return scenes


def split_validation(scenes: Sequence[Scene], fraction: float, seed: int) -> tuple[list[Scene], list[Scene]]:
    """(training scenes, held-out scenes): ``fraction`` of them, at least one, chosen by ``seed``; 0 holds none out.

    Raises InputError where nothing would be left to train on.
    """
    count = max(1, round(fraction * len(scenes))) if fraction > 0 else 0
    if count >= len(scenes):
        raise InputError(
            f"{len(scenes)} training scene(s) cannot be split with --val_fraction {fraction:g}; "
            "lower it, or choose --validate_on test"
        )
    held = set(np.random.default_rng((seed, 0, 0)).permutation(len(scenes))[:count].tolist())
    kept = [scene for i, scene in enumerate(scenes) if i not in held]
    return kept, [scene for i, scene in enumerate(scenes) if i in held]


def check_scenes(scenes: Iterable[Scene]) -> list[str]:
    """Read every scene; everything that is wrong, one line each, [] when all is well."""
    return [problem for scene in scenes for problem in scene.problems()]


def _split_folder(layout: Layout, root: Path, split: Split) -> Path:
    inside = Path(layout.split_path(split))
    ways = [inside, *(path for path in inside.parents if path.name)]  # the archive has Test/EXTRA and Test/PAPER
    candidates = [root / place / way for way in ways for place in (layout.folder, "")]
    for folder in candidates:
        if is_folder(folder):
            return folder
    looked = " or ".join(str(path) for path in dict.fromkeys(candidates))
    raise InputError(f"no {split} scenes: looked for the folder {looked}; see --dataset_dir and --{split}_path")


def _scenes_in(layout: Layout, folder: Path) -> Iterator[Scene]:
    plain = _sub_folders(folder)
    if layout.moments:
        moments = _group_moments(layout, plain)
        yield from (_moments_scene(layout, folder / name) for name in moments)
        taken = {path for paths in moments.values() for path in paths}
        plain = [path for path in plain if path not in taken]
    for path in plain:
        yield from _scenes_of(layout, path)


def _scenes_of(layout: Layout, folder: Path) -> Iterator[Scene]:
    """The scene that a folder is, or those of a folder of scenes, as archives have them."""
    beneath = (
        [] if _find_frames(layout, folder) else [path for path in _sub_folders(folder) if _find_frames(layout, path)]
    )
    if not beneath:
        yield _plain_scene(layout, folder)
    for path in beneath:
        yield replace(_plain_scene(layout, path), name=f"{folder.name}_{path.name}")


def _sub_folders(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if is_folder(path) and not path.name.startswith((".", "__"))]


def _plain_scene(layout: Layout, folder: Path) -> Scene:
    ldr_paths = tuple(_find_frames(layout, folder))
    return Scene(folder.name, ldr_paths, folder / layout.exposure_file_name, _label_path(layout, folder))


def _label_path(layout: Layout, folder: Path) -> Path:
    """The label of a folder, there or not."""
    named = folder / layout.label_file_name
    exr = named.with_suffix(".exr") if named.name else named
    return exr if is_file(exr) and not is_file(named) else named


def _moments_scene(layout: Layout, stem: Path) -> Scene:
    folders = [stem.with_name(f"{stem.name}_{i}") for i in range(1, FRAMES + 1)]
    frames = [_find_frames(layout, folder, f"_{i}") for i, folder in enumerate(folders, 1) if is_folder(folder)]
    reference = folders[1]
    return Scene(
        stem.name,
        tuple(path for paths in frames for path in paths),
        reference / layout.exposure_file_name,
        _label_path(layout, reference),
    )


def _group_moments(layout: Layout, folders: list[Path]) -> dict[str, list[Path]]:
    """Folders ``xxx_1``, ``xxx_2``, ``xxx_3`` by ``xxx``; not the ones that can only be scenes of their own."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        stem, _, index = folder.name.rpartition("_")
        if stem and index in {str(i) for i in range(1, FRAMES + 1)}:
            groups[stem].append(folder)

    def is_scene(group: list[Path]) -> bool:
        return len(group) == FRAMES or not any(len(_find_frames(layout, folder)) == FRAMES for folder in group)

    return {stem: group for stem, group in groups.items() if is_scene(group)}


def _find_frames(layout: Layout, scene_folder: Path, ending: str = "") -> list[Path]:
    """The scene's TIFFs in name order; hidden files, which macOS leaves beside real ones, don't count."""
    folder = scene_folder / layout.ldr_folder_name
    if not is_folder(folder):
        return []
    try:
        there = entries(folder)
    except InputError:  # a folder that may not be looked into is a scene without frames
        return []
    frames = sorted(
        path
        for path in there
        if path.suffix.lower() in TIFF
        and path.name.startswith(layout.ldr_prefix)
        and path.stem.endswith(ending)
        and not path.name.startswith(".")
    )
    preferred = [path for path in frames if layout.ldr_ending and path.stem.endswith(layout.ldr_ending)]
    return preferred or frames


def _attempt(problems: list[str], read: Callable[[Path], Value], path: Path) -> Value | None:
    try:
        return read(path)
    except InputError as error:
        problems.append(str(error))
        return None


def _suspicions(scene: Scene, frames: list[np.ndarray], ev: np.ndarray) -> Iterator[str]:
    """What can be read and is hardly meant: exposures that no camera steps by, frames darker than the one before."""
    steps = np.diff(ev)
    if len(steps) and not ((steps >= STEPS[0]) & (steps <= STEPS[1])).all():
        listed = ", ".join(f"{value:g}" for value in ev)
        yield (
            f"{scene.exposure_path}: steps no camera takes ({listed}); exponents to base 2 are meant, such as 0, 2 "
            "and 4 (of times or factors take log2)"
        )
    light = [float(frame.mean()) for frame in frames]
    for darker, (path, before, after) in enumerate(zip(scene.ldr_paths[1:], light, light[1:], strict=False)):
        if after < DARKER * before:
            yield f"{path.name} is darker than {scene.ldr_paths[darker].name}; frames rise in exposure, in name order"


def _frame_count_problems(paths: tuple[Path, ...], folder: Path) -> Iterator[str]:
    if len(paths) != FRAMES:
        names = ", ".join(path.name for path in paths) or "none"
        yield (
            f"{folder}: {len(paths)} TIFF frames where three are meant (found: {names}); keep three, in name order "
            "from dark to bright, or choose them with --ldr_prefix and --ldr_folder_name"
        )


def _size_problems(frames: list[np.ndarray], label: np.ndarray | None) -> Iterator[str]:
    sizes = [frame.shape[:2] for frame in frames]
    if len(set(sizes)) > 1:
        listed = ", ".join(f"{w}x{h}" for h, w in sizes)
        yield f"frames of unequal size ({listed}); crop or export them alike"
    elif label is not None and sizes and label.shape[:2] != sizes[0]:
        (h, w), (label_h, label_w) = sizes[0], label.shape[:2]
        yield f"the label is {label_w}x{label_h}, the frames are {w}x{h}; take the label that belongs to these frames"

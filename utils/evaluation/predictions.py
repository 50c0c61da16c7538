"""Results of other methods: found in a folder, matched with the scenes by name, read and looked over.

Without torch, so that a mistake in an option or a file name is answered at once.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils.files import InputError, is_file, is_folder
from utils.images import LINEAR_SUFFIXES, check_finite, read_linear

WILDCARDS = frozenset("*?[")
APART = frozenset(",|\n")  # not in the name of a method: they part names and cells of the tables
SHOWN = 5  # names in one line


@dataclass(frozen=True)
class Asked:
    """One method as the option names it: its row in the table, and a folder or a pattern of files."""

    name: str
    place: str


def named_folder(text: str) -> Asked:
    """``NAME=FOLDER`` or ``NAME=PATTERN``, a type for argparse."""
    name, _, place = text.partition("=")
    if not name.strip() or not place or APART & set(name):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER, e.g. SCTNet=out/sctnet")
    return Asked(name.strip(), place)


@dataclass(frozen=True)
class Predictions:
    """The images of one method.

    Attributes:
        name: of the method, its row in the table.
        place: the folder or pattern they were found with.
        files: by scene name, natural order; one each unless something is wrong.
        in_order: matched by natural order, because no file's name holds a scene's name.
        extra: images of no scene.
    """

    name: str
    place: str
    files: dict[str, list[Path]]
    in_order: bool = False
    extra: list[Path] = field(default_factory=list)

    @property
    def matched(self) -> str:
        return "in natural order" if self.in_order else "by name"

    def lines(self) -> list[str]:
        """What the matching gave, to be printed: pairs where names said nothing, and images that belong to no scene."""
        found = sum(len(paths) == 1 for paths in self.files.values())
        lines = [
            f"{self.name}: {found} image(s) of {self.place} for {len(self.files)} scene(s), matched {self.matched}"
        ]
        if self.in_order:
            lines += [f"{self.name}: {paths[0].name} is taken for scene {scene}" for scene, paths in self.files.items()]
        return lines + self.extra_lines()

    def extra_lines(self) -> list[str]:
        if not self.extra:
            return []
        return [f"{self.name}: {len(self.extra)} image(s) of no scene, left out: {_listed(self.extra)}"]

    def file_of(self, scene: str) -> Path:
        """The one image of a scene. Raises InputError where there is none, or more than one."""
        paths = self.files[scene]
        if not paths:
            raise InputError(f"no image for it in {self.place}; add one whose name begins with {scene}")
        if len(paths) > 1:
            raise InputError(
                f"{len(paths)} images for it: {_listed(paths)}; keep one, or name a pattern: {_pattern(self)}"
            )
        return paths[0]

    def read(self, scene: str, label: np.ndarray) -> np.ndarray:
        """The image of a scene as (H, W, 3) float32, linear, of the label's shape.

        Raises:
            InputError: one line that says why there is none.
        """
        path = self.file_of(scene)
        image = read_linear(path)
        if image.shape != label.shape:
            raise InputError(f"{path}: {misshapen((image.shape[0], image.shape[1]), (label.shape[0], label.shape[1]))}")
        return check_finite(image, path)


def find_predictions(asked: Sequence[Asked], scenes: Sequence[str]) -> list[Predictions]:
    """The images of every method by scene name. Looks at names only.

    Raises:
        InputError: two methods of one name, a folder that is not there or holds no image, or names that say nothing
            where the count does not fit either.
    """
    names = [one.name for one in asked]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"--predictions: {twice} is named twice; each method needs a name of its own")
    return [match(one, scenes) for one in asked]


def match(asked: Asked, scenes: Sequence[str]) -> Predictions:
    """One method's images by scene: by name, or in natural order where no name says anything but the count fits."""
    root, paths = _images(asked)
    ordered = sorted(scenes, key=natural)
    files: dict[str, list[Path]] = {scene: [] for scene in ordered}
    extra: list[Path] = []
    for path in paths:
        fits = scenes_of(path.relative_to(root), scenes)
        (files[fits[0]] if len(fits) == 1 else extra).append(path)
    if any(files.values()):
        return Predictions(asked.name, asked.place, files, extra=extra)
    if len(paths) == len(scenes):
        return Predictions(asked.name, asked.place, {s: [p] for s, p in zip(ordered, paths, strict=True)}, True)
    raise InputError(
        f"--predictions {asked.name}: {len(paths)} image(s) of {asked.place} for {len(scenes)} scene(s), and no name "
        f"holds a scene's: {_listed(paths)} against {_listed([Path(s) for s in ordered])}; name them after the scenes"
    )


def scenes_of(path: Path, scenes: Sequence[str]) -> list[str]:
    """The scenes that a file may be of, by the first rule that fits any: its name, how it begins, a folder it is in, or
    a part of its name. Where scene names hold each other (``a`` and ``a_2``), the longest counts."""
    stem, folders = path.stem.casefold(), {part.casefold() for part in path.parts[:-1]}
    rules: list[Callable[[str], object]] = [
        lambda scene: stem == scene,
        lambda scene: re.match(rf"{re.escape(scene)}(?![^\W_])", stem),
        lambda scene: scene in folders,
        lambda scene: re.search(rf"(?<![^\W_]){re.escape(scene)}(?![^\W_])", stem),
    ]
    for rule in rules:
        if fits := [scene for scene in scenes if rule(scene.casefold())]:
            longest = max(map(len, fits))
            return [scene for scene in fits if len(scene) == longest]
    return []


def natural(text: str) -> list[str | int]:
    """A key to sort by that counts: im2 before im10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split("([0-9]+)", text.casefold()))]


def misshapen(size: tuple[int, int], wanted: tuple[int, int]) -> str:
    """What happened to an image of (H, W) = ``size`` that should have ``wanted``, in words."""
    (h, w), (H, W) = size, wanted
    is_wanted = f"{w}x{h} pixels where the label has {W}x{H}"
    if (h, w) == (W, H):
        return f"{is_wanted}: transposed; write it as rows of pixels"
    if abs(h * W - w * H) <= max(h, w, H, W) and not 0.9 < h / H < 1.1:
        return f"{is_wanted}: resized; results are compared at the label's size"
    if h <= H and w <= W:
        return f"{is_wanted}: cropped, {H - h} rows and {W - w} columns are missing; give the whole image"
    if h >= H and w >= W:
        return f"{is_wanted}: padded, {h - H} rows and {w - W} columns too many; cut them off where they were added"
    return f"{is_wanted}: another image; results are compared at the label's size"


def _images(asked: Asked) -> tuple[Path, list[Path]]:
    """(the folder they are below, the images of a folder and all below it, or of a pattern, in natural order)."""
    try:
        place = Path(asked.place).expanduser()
    except RuntimeError:
        raise InputError(f"--predictions {asked.name}: nobody's home is {asked.place}; write the path out") from None
    wild = next((i for i, part in enumerate(place.parts) if WILDCARDS & set(part)), None)
    if wild is None and not is_folder(place):
        raise InputError(f"--predictions {asked.name}: no folder {place}; give the folder of the method's HDR images")
    root = place if wild is None else Path(*place.parts[:wild])
    found = root.rglob("*") if wild is None else root.glob(str(Path(*place.parts[wild:])))
    images = [path for path in found if _is_image(path.relative_to(root)) and is_file(path)]
    if not images:
        raise InputError(f"--predictions {asked.name}: no {', '.join(LINEAR_SUFFIXES)} in {place}; give another folder")
    return root, sorted(images, key=lambda path: natural(path.relative_to(root).as_posix()))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in LINEAR_SUFFIXES and not any(part.startswith(".") for part in path.parts)


def _pattern(predictions: Predictions) -> str:
    return f"--predictions '{predictions.name}={Path(predictions.place) / '*.exr'}'"


def _listed(paths: Sequence[Path]) -> str:
    names = [path.name for path in paths]
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")

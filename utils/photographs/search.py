"""Which photographs of a folder belong together: brackets by capture time and exposure, or one per sub-folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from utils.files import EXPOSURE_FILE, InputError, entries, existing_paths, is_file, is_folder, natural
from utils.photographs.bracket import SAME
from utils.photographs.shots import HEIC, RAW, Shot, is_result, photographs_in, read_shot

PAUSE = 5.0  # seconds between two exposures that end a bracket
SLOW = 1.0  # seconds from which a camera may take a dark frame, which takes as long again, before the next exposure
LONGEST = 3600.0  # seconds that one bracket may take, where its exposures alone hold it together
KINDS = (  # of files that show one photograph, the better first, and the package that must be there for them
    (RAW, "rawpy"),
    (HEIC, "pillow_heif"),
    ({".tif", ".tiff"}, None),
    ({".png"}, None),
    ({".jpg", ".jpeg"}, None),
)


@dataclass(frozen=True)
class Found:
    """The photographs of one bracket; ``name`` is None where the reference's name will do."""

    paths: tuple[Path, ...]
    name: str | None = None

    def possible_names(self) -> set[str]:
        """What its results may be called."""
        return {self.name} if self.name else {path.stem for path in self.paths}


@dataclass
class Group:
    """Photographs in order of capture that belong together.

    Attributes:
        shots: the photographs.
        ended: why the next one does not belong to them; empty for the last group.
        doubles: lines about photographs that were dropped in between.
    """

    shots: list[Shot] = field(default_factory=list)
    ended: str = ""
    doubles: list[str] = field(default_factory=list)


def find_brackets(inputs: Sequence[str | Path], count: int | None = None) -> tuple[list[Found], list[str]]:
    """Brackets among files and folders, and lines about what was left out and why.

    Files given by name are one bracket. A folder's sub-folders are brackets, mostly one each; photographs are
    split where the camera rested, the size changes or an exposure comes a second time. Groups of fewer than three are
    left out, unless the whole folder is one run of differing exposures. Beside an ``exposure.txt`` all photographs are
    one bracket.

    Args:
        inputs: files, folders and patterns.
        count: photographs per bracket where exposures are given by hand; EXIF exposures are not looked at then.

    Raises:
        InputError: nothing there, or no bracket in a folder.
    """
    paths = existing_paths(inputs)
    files = [path for path in paths if not is_folder(path)]
    own = [path for path in files if is_result(path)]  # a pattern catches the previews of an earlier run
    left_out = [f"left out: {path.name}: a result, no photograph" for path in own]
    found = [Found(tuple(path for path in files if path not in own))] if len(files) > len(own) else []
    for folder in (path for path in paths if is_folder(path)):
        brackets, lines = search_folder(folder, count)
        found += brackets
        left_out += lines
    return found, left_out


def search_folder(folder: Path, count: int | None = None) -> tuple[list[Found], list[str]]:
    """The brackets in a folder and its sub-folders, and lines about what was left out. Raises InputError."""
    found, left_out = _split(folder, count)
    for path in sorted(entries(folder), key=natural):
        if is_folder(path) and not path.name.startswith("."):
            brackets, lines = _sub_folder(path, count)
            found += brackets
            left_out += lines
    if not found:
        what = "; ".join(line.removeprefix("left out: ") for line in left_out) or "no photographs in it"
        raise InputError(f"{folder}: no bracket of three or more photographs ({what})")
    return found, left_out


def _sub_folder(folder: Path, count: int | None) -> tuple[list[Found], list[str]]:
    """Mostly one bracket; where none is found, all photographs, whose reading will say what is wrong.

    A folder that cannot be looked into is a line.
    """
    try:
        if not photographs_in(folder):
            return [], []
        found, left_out = _split(folder, count)
    except InputError as error:
        return [], [f"left out: {error}"]
    if len(found) > 1:
        return found, left_out
    paths = found[0].paths if found else tuple(_one_kind(photographs_in(folder)))
    return [Found(paths, folder.name)], left_out if found else []


def _split(folder: Path, count: int | None) -> tuple[list[Found], list[str]]:
    paths = _one_kind(photographs_in(folder))
    if len(paths) >= 3 and (len(paths) == count or is_file(folder / EXPOSURE_FILE)):
        return [Found(tuple(paths), folder.resolve().name)], []
    shots, lines = _readable(paths)
    groups = group_shots(shots, count)
    if count is None and all(len(group.shots) < 3 for group in groups) and one_run(shots):
        rests = "; ".join(group.ended for group in groups if group.ended)
        return [Found(tuple(paths_of(shots)))], [*lines, f"taken for one bracket, as all exposures differ ({rests})"]
    found = [Found(tuple(paths_of(group.shots))) for group in groups if len(group.shots) >= 3]
    return found, lines + _left_out(groups)


def _left_out(groups: Sequence[Group]) -> list[str]:
    lines = []
    before = ""
    for group in groups:
        lines += group.doubles
        if len(group.shots) < 3:
            why = "; ".join(reason for reason in (before, group.ended) if reason) or "three are needed"
            lines.append(f"left out: {'; '.join(shot.describe() for shot in group.shots)} ({why})")
        before = group.ended
    return lines


def paths_of(shots: Sequence[Shot]) -> list[Path]:
    """Their files, in natural order."""
    return sorted((shot.path for shot in shots), key=natural)


def one_run(shots: Sequence[Shot]) -> bool:
    """Whether three or more photographs of one size, taken within LONGEST, all differ in exposure."""
    evs = sorted(shot.ev for shot in shots if shot.ev is not None)
    times = [shot.captured for shot in shots if shot.captured]
    alike = len({(shot.height, shot.width) for shot in shots}) == 1
    near = not times or (max(times) - min(times)).total_seconds() <= LONGEST
    differ = all(more - less >= SAME for less, more in pairwise(evs))
    return len(shots) >= 3 and len(evs) == len(shots) and alike and near and differ


def group_shots(shots: Sequence[Shot], count: int | None = None) -> list[Group]:
    """Split photographs, in order of capture, into runs that belong together; see :func:`find_brackets`."""
    ordered = sorted(shots, key=lambda shot: (shot.captured or datetime.max, natural(shot.path)))
    groups: list[Group] = []
    for i, shot in enumerate(ordered):
        why = _parts(groups[-1].shots, shot, count) if groups else ""
        following = ordered[i + 1] if i + 1 < len(ordered) else None
        if not groups or (why and not _double(groups[-1], shot, following, why)):
            if groups:
                groups[-1].ended = why
            groups.append(Group([shot]))
        elif why:
            groups[-1].doubles.append(f"left out: {shot.describe()} ({why})")
        else:
            groups[-1].shots.append(shot)
    return groups


def _parts(group: Sequence[Shot], shot: Shot, count: int | None) -> str:
    """Why a photograph does not continue a group, as a phrase for the user; empty where it does."""
    last = group[-1]
    pair = f"{last.path.name} and {shot.path.name}"
    if (shot.height, shot.width) != (last.height, last.width):
        sizes = f"{shot.width}x{shot.height} against {last.width}x{last.height}"
        return f"{shot.path.name} and {last.path.name}: {sizes}"
    if (shot.captured is None) != (last.captured is None):
        return f"{pair}: only one has a time of capture"
    if shot.captured and last.captured:
        exposure = last.seconds or 0.0
        apart = (shot.captured - last.captured).total_seconds()
        if apart - exposure * (2.0 if exposure >= SLOW else 1.0) > PAUSE:
            return f"{pair} are {_span(apart)} apart"
    if count is not None:
        return "" if len(group) < count else f"{count} photographs are a bracket"
    twins = [other for other in group if _equal(shot, other)]
    return f"{twins[0].path.name} and {shot.path.name}: two frames of equal exposure" if twins else ""


def _double(group: Group, shot: Shot, following: Shot | None, why: str) -> bool:
    """Whether a photograph is the last one's twin and the bracket goes on after it, so that it alone is dropped."""
    if "equal exposure" not in why or not _equal(shot, group.shots[-1]) or following is None:
        return False
    return not _parts(group.shots, following, None)


def _equal(shot: Shot, other: Shot) -> bool:
    return shot.ev is not None and other.ev is not None and abs(shot.ev - other.ev) < SAME


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _readable(paths: Sequence[Path]) -> tuple[list[Shot], list[str]]:
    shots, lines = [], []
    for path in paths:
        try:
            shots.append(read_shot(path))
        except InputError as error:
            lines.append(f"left out: {error}")
    return shots, lines


def _one_kind(paths: Sequence[Path]) -> list[Path]:
    """Of files that differ in their suffix only (RAW and JPEG, HEIC and JPEG) the best that can be read."""
    best: dict[str, Path] = {}
    for path in sorted(paths, key=_rank):
        best.setdefault(path.stem, path)
    return [path for path in paths if best[path.stem] == path]


def _rank(path: Path) -> int:
    """0 for the best kind; kinds whose package is missing come last."""
    for rank, (suffixes, package) in enumerate(KINDS):
        if path.suffix.lower() in suffixes:
            return rank if package is None or importlib.util.find_spec(package) else rank + len(KINDS)
    return len(KINDS)

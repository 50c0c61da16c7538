"""Which photographs of a folder belong together: brackets by capture time and exposure, or one per sub-folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from utils.files import EXPOSURE_FILE, InputError
from utils.photographs.bracket import SAME
from utils.photographs.shots import RAW, Shot, photographs_in, read_shot

PAUSE = 5.0  # seconds between two exposures that end a bracket


@dataclass(frozen=True)
class Found:
    """The photographs of one bracket; ``name`` is None where the reference's name will do."""

    paths: tuple[Path, ...]
    name: str | None = None


def find_brackets(inputs: Sequence[str | Path], count: int | None = None) -> tuple[list[Found], list[str]]:
    """Brackets among files and folders, and lines about what was left out.

    Files given by name are one bracket. A folder's sub-folders are brackets, mostly one each; photographs are
    split where the camera rested, the size changes or an exposure comes a second time. Groups of fewer than three are
    left out. Beside an ``exposure.txt`` all photographs are one bracket.

    Args:
        inputs: files and folders.
        count: photographs per bracket where exposures are given by hand; EXIF exposures are not looked at then.

    Raises:
        InputError: nothing there, or no bracket in a folder.
    """
    paths = [Path(item) for item in inputs]
    if missing := [str(path) for path in paths if not path.exists()]:
        raise InputError(f"{', '.join(missing)}: no such file or folder")
    files = tuple(path for path in paths if path.is_file())
    found, left_out = [Found(files)] if files else [], []
    for folder in (path for path in paths if path.is_dir()):
        brackets, lines = search_folder(folder, count)
        found += brackets
        left_out += lines
    return found, left_out


def search_folder(folder: Path, count: int | None = None) -> tuple[list[Found], list[str]]:
    """The brackets in a folder and its sub-folders, and lines about what was left out. Raises InputError."""
    found, left_out = _split(folder, count)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith(".") and photographs_in(path):
            brackets, lines = _sub_folder(path, count)
            found += brackets
            left_out += lines
    if not found:
        what = "; ".join(left_out) or "no photographs in it"
        raise InputError(f"{folder}: no bracket of three or more photographs ({what})")
    return found, left_out


def _sub_folder(folder: Path, count: int | None) -> tuple[list[Found], list[str]]:
    """One bracket, whose reading will say what is wrong with it; several where capture times and exposures say so."""
    several, left_out = _split(folder, count)
    if len(several) > 1:
        return several, left_out
    return [Found(tuple(_one_kind(photographs_in(folder))), folder.name)], []


def _split(folder: Path, count: int | None) -> tuple[list[Found], list[str]]:
    paths = _one_kind(photographs_in(folder))
    if len(paths) >= 3 and (len(paths) == count or (folder / EXPOSURE_FILE).is_file()):
        return [Found(tuple(paths), folder.resolve().name)], []
    shots, left_out = _readable(paths)
    groups = group_shots(shots, count)
    for group in groups:
        if len(group) < 3:
            left_out.append(f"left out: {'; '.join(shot.describe() for shot in group)}")
    return [Found(tuple(sorted(shot.path for shot in group))) for group in groups if len(group) >= 3], left_out


def group_shots(shots: Sequence[Shot], count: int | None = None) -> list[list[Shot]]:
    """Split photographs, in order of capture, into runs that belong together; see :func:`find_brackets`."""
    groups: list[list[Shot]] = []
    for shot in sorted(shots, key=lambda shot: (shot.captured or datetime.max, shot.path)):
        if groups and _continues(groups[-1], shot, count):
            groups[-1].append(shot)
        else:
            groups.append([shot])
    return groups


def _continues(group: Sequence[Shot], shot: Shot, count: int | None) -> bool:
    last = group[-1]
    if (shot.height, shot.width) != (last.height, last.width) or (shot.captured is None) != (last.captured is None):
        return False
    if shot.captured and last.captured:
        rest = (shot.captured - last.captured).total_seconds() - (last.seconds or 0.0)
        if rest > PAUSE:
            return False
    if count is not None:
        return len(group) < count
    return not any(shot.ev is not None and other.ev is not None and abs(shot.ev - other.ev) < SAME for other in group)


def _readable(paths: Sequence[Path]) -> tuple[list[Shot], list[str]]:
    shots, lines = [], []
    for path in paths:
        try:
            shots.append(read_shot(path))
        except InputError as error:
            lines.append(f"left out: {error}")
    return shots, lines


def _one_kind(paths: Sequence[Path]) -> list[Path]:
    """Of a RAW file and a JPEG of the same name, the RAW file where rawpy is installed, else the JPEG."""
    raw = {path.stem for path in paths if path.suffix.lower() in RAW}
    other = {path.stem for path in paths if path.suffix.lower() not in RAW}
    want_raw = importlib.util.find_spec("rawpy") is not None
    return [path for path in paths if path.stem not in raw & other or (path.suffix.lower() in RAW) == want_raw]

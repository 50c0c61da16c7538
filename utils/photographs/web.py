"""What a web page needs beyond merging: uploads taken in without trusting them, and folders that do not stay.

No page is drawn here and nothing is merged here: :func:`utils.photographs.merging.merge` does that, as for predict.py.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from PIL import Image

from models import AFUNet
from utils.files import EXPOSURE_FILE, InputError
from utils.images import ldr_to_float, to_8_bit
from utils.photographs.bracket import PASS, check_photographs, find_exposures
from utils.photographs.merging import Job, merge
from utils.photographs.results import check_formats
from utils.photographs.search import Found
from utils.photographs.settings import Settings
from utils.photographs.shots import SUFFIXES, Shot, read_frame, read_shot
from utils.progress import Listener, heard_by

ASK = "type them below, one per photograph in the order listed"
KINDS = ("EV", "seconds")  # in which exposures may be typed
SHOWN = 1600  # pixels of the longer side of a picture on the page
LONGEST = 60  # characters of a file name
REQUEST = "request-"  # what a folder's name begins with
CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Limits:
    """What is taken: photographs of a bracket, megapixels of each, megabytes of all together, unpacked."""

    photographs: int = 9
    megapixels: float = 64.0
    megabytes: float = 600.0


@dataclass(frozen=True)
class Answer:
    """What came of a bracket.

    Attributes:
        pictures: the reference and the result to look at, two (H, W, 3) uint8 of one size.
        explained: the picture that explains the result.
        files: everything to download.
        lines: what was understood of the photographs.
    """

    pictures: tuple[np.ndarray, np.ndarray]
    explained: Path
    files: list[Path]
    lines: list[str]


class Shelf:
    """Folders below a temporary one, each for a single request and gone some time after it."""

    def __init__(self, seconds: float) -> None:
        self.root, self.seconds = Path(tempfile.mkdtemp(prefix="afunet-")), seconds

    def folder(self) -> Path:
        """A new one, that nobody else has."""
        self.sweep()
        return Path(tempfile.mkdtemp(prefix=REQUEST, dir=self.root))

    def sweep(self) -> None:
        """Remove what is old."""
        for path in self.root.glob(f"{REQUEST}*"):
            if time.time() - path.stat().st_mtime > self.seconds:
                shutil.rmtree(path, ignore_errors=True)

    def sweep_often(self) -> None:
        """From now on, also when nobody asks for a folder."""

        def go_on() -> None:
            while self.root.exists():
                time.sleep(self.seconds / 6)
                self.sweep()

        threading.Thread(target=go_on, daemon=True).start()

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


@dataclass(frozen=True)
class Service:
    """What all requests share. It holds nothing of any of them, so that users cannot mix."""

    model: AFUNet
    weights: Path
    limits: Limits
    shelf: Shelf

    def look_at(self, uploads: Sequence[str | Path]) -> tuple[list[str], bool]:
        """What the photographs are, in lines, and whether their exposures are known. Raises InputError."""
        folder = self.shelf.folder()
        try:
            return self._described(folder, uploads)
        except InputError as error:
            raise InputError(for_the_page(error, folder)) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def merge(self, uploads: Sequence[str | Path], settings: Settings, listener: Listener) -> Answer:
        """The bracket merged, in a folder of its own whatever ``settings`` say; raises InputError.

        Args:
            uploads: files as they arrived.
            settings: as predict.py has them.
            listener: hears of the progress.
        """
        folder = self.shelf.folder()
        settings = replace(settings, save_dir=folder / "results", compare=True)
        try:
            check_formats(settings.format)
            shots = self._taken_in(folder, uploads)
            with heard_by(listener):
                paths = merge(Job(settings, self.model, self.weights), Found(tuple(shot.path for shot in shots)))
            return answer(paths, settings)
        except InputError as error:
            raise InputError(for_the_page(error, folder)) from None

    def _described(self, folder: Path, uploads: Sequence[str | Path]) -> tuple[list[str], bool]:
        shots = self._taken_in(folder, uploads)
        lines = [f"{shot.describe()}, {shot.width}x{shot.height}" for shot in shots]
        try:
            exposures, source = find_exposures(shots)
        except InputError:
            return [*lines, f"No exposures for all of them: {ASK}."], False
        known = ", ".join(f"{ev - min(exposures):+.1f}" for ev in exposures)
        return [*lines, f"Exposures from {source}: EV {known}."], True

    def _taken_in(self, folder: Path, uploads: Sequence[str | Path]) -> list[Shot]:
        shots = [read_shot(path) for path in take_in(uploads, folder, self.limits)]
        for shot in shots:
            if shot.width * shot.height > self.limits.megapixels * 1e6:
                size = f"{shot.width}x{shot.height}"
                raise InputError(f"{shot.path}: {size} pixels; {self.limits.megapixels:g} megapixels are the most here")
        check_photographs(shots)
        return shots


def answer(paths: Sequence[Path], settings: Settings) -> Answer:
    """What the page shows of the files that were written."""
    facts = json.loads(next(path for path in paths if path.suffix == ".json").read_text(encoding="utf-8"))
    reference = read_frame(read_shot(facts["reference"]), settings.gamma)
    explained = next(path for path in paths if path.stem.endswith("_compare"))
    preview = next(path for path in paths if path.stem.endswith("_preview"))
    with Image.open(preview) as image:
        pictures = shown(to_8_bit(ldr_to_float(reference))), shown(np.asarray(image.convert("RGB")))
    lines = [
        f"{Path(frame['file']).name}: EV {frame['ev']:+.1f}, moved by {frame['alignment']['shift_pixels']:.1f} pixels"
        for frame in facts["frames"]
    ]
    return Answer(pictures, explained, list(paths), [*lines, *facts["notes"], f"{facts['seconds']:.1f} seconds"])


def shown(picture: np.ndarray) -> np.ndarray:
    """A picture no larger than a page needs."""
    scale = SHOWN / max(picture.shape[:2])
    if scale >= 1.0:
        return np.ascontiguousarray(picture)
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def typed_exposures(text: str, kind: str) -> dict[str, Any]:
    """``0 2 4`` or ``1/100 1/25 1/6`` as the settings have it, {} for nothing. Raises InputError."""
    words = text.replace(",", " ").replace(";", " ").split()
    if not words:
        return {}
    try:
        values = tuple(float(Fraction(word)) for word in words)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise InputError(f"exposures {text[:LONGEST]!r} are no numbers; write 0 2 4, or 1/100 1/25 1/6") from None
    if kind == "EV":
        return {"ev": values}
    if min(values) <= 0:
        raise InputError("exposure times are above 0; write e.g. 1/100 1/25 1/6")
    return {"times": values}


def for_the_page(error: InputError, folder: Path) -> str:
    """The message without the server's folders and the options of a command line."""
    return str(error).replace(f"{folder}/", "").replace(str(folder), "").replace(PASS, ASK)


# ---- taking in


def take_in(uploads: Sequence[str | Path], folder: Path, limits: Limits) -> list[Path]:
    """Copies of the photographs among the uploads, under names of our own making, in the order of these.

    A zip's members count as uploads, wherever in it they lie. An ``exposure.txt`` comes along.

    Raises:
        InputError: too many or too large, another kind of file, or a damaged archive.
    """
    try:
        paths = _copied(uploads, folder, limits)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError):
        raise InputError("a zip archive is damaged, encrypted or of another kind; pack it anew") from None
    return sorted(path for path in paths if path.name != EXPOSURE_FILE)


def _copied(uploads: Sequence[str | Path], folder: Path, limits: Limits) -> list[Path]:
    room, count = int(limits.megabytes * 1e6), 0
    paths: list[Path] = []
    for name, opened in _members(uploads):
        path = folder / safe_name(name, {path.name for path in paths})
        count += path.name != EXPOSURE_FILE
        if count > limits.photographs:
            raise InputError(f"more than {limits.photographs} photographs; leave some out")
        if path.suffix.lower() not in SUFFIXES and path.name != EXPOSURE_FILE:
            raise InputError(f"{path.name}: no photograph by its name; give JPEG, PNG, TIFF, HEIC or RAW, or a zip")
        room = _copy(opened, path, room)
        paths.append(path)
    return paths


def safe_name(name: str, taken: set[str]) -> str:
    """A file name of letters, digits, dots, dashes and underscores, without a folder, and not in ``taken``."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, suffix = re.sub(r"[^A-Za-z0-9._-]+", "_", last).lstrip(".-_").rpartition(".")
    stem = (stem if dot else suffix)[:LONGEST].rstrip(".") or "photograph"
    suffix = f".{suffix[:8]}" if dot else ""
    number, unique = 2, f"{stem}{suffix}"
    while unique.lower() in {other.lower() for other in taken}:
        number, unique = number + 1, f"{stem}_{number}{suffix}"
    return unique


def _members(uploads: Sequence[str | Path]) -> Iterator[tuple[str, IO[bytes]]]:
    """Names and contents of the uploads and of what lies in archives."""
    for upload in map(Path, uploads):
        if upload.suffix.lower() == ".zip":
            yield from _zipped(upload)
        else:
            yield upload.name, upload.open("rb")


def _zipped(upload: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(upload) as archive:
        for member in archive.infolist():
            hidden = Path(member.filename).name.startswith(".") or member.filename.startswith("__MACOSX/")
            if not (member.is_dir() or hidden):
                yield member.filename, archive.open(member)


def _copy(source: IO[bytes], path: Path, room: int) -> int:
    """Copy at most ``room`` bytes, whatever a header promised; returns what room is left. Raises InputError."""
    with source, path.open("wb") as target:
        while chunk := source.read(CHUNK):
            room -= len(chunk)
            if room < 0:
                raise InputError("the photographs are too large together; export them smaller, or leave some out")
            target.write(chunk)
    return room

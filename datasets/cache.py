"""Scenes decoded once: into memory-mapped files below a folder, or into memory."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from datasets.scenes import Sample, Scene
from utils.files import InputError, atomic_path, regular_file, remove_leftovers, shortened_stem, writable_folder
from utils.progress import paced

CACHE_VERSION = 2  # goes up when the layout of cached files changes
CACHE_CHOICES = ("disk", "memory", "none")
CHECKSUM = 4  # bytes at the end of a file: the CRC-32 of all before them
PIECE = 2**20  # bytes read at a time
ABANDONED = 3600.0  # seconds after which nobody writes on at an unfinished file

Reader = Callable[[], Sample]


def readers(scenes: Sequence[Scene], choice: str, cache_dir: str | Path, *, progress: bool = True) -> list[Reader]:
    """One function per scene that returns its (frames, ev, label), as :meth:`Scene.read` does.

    Args:
        scenes: the scenes, any number.
        choice: "disk" decodes once into memory-mapped files below ``cache_dir``; "memory" decodes once and holds the
            arrays; "none" decodes at every call.
        cache_dir: used by "disk" only.
        progress: show a bar while scenes are decoded.

    Raises:
        InputError: a scene cannot be read, or the cache cannot be written.
    """
    if choice == "disk":
        return [partial(open_cached, path) for path in build_cache(scenes, Path(cache_dir), progress=progress)]
    if choice == "memory":
        return [partial(_held, s.read()) for s in paced(scenes, "scene", "decoding", quiet=not progress)]
    return [scene.read for scene in scenes]


def _held(bracket: Sample) -> Sample:
    return bracket


def build_cache(scenes: Sequence[Scene], cache_dir: Path, *, progress: bool = True) -> list[Path]:
    """The cache files of ``scenes``, made where they are missing. Raises InputError.

    Each file appears whole or not at all, so any number of processes may build at once. They go through the scenes in
    random order, and so share the work. Files that are there are read once, and made anew where their checksum does not
    fit: 0.02 s for a scene of Kalantari's size.
    """
    try:
        writable_folder(cache_dir, "--cache_dir")
    except InputError as error:
        raise InputError(f"{error}, or do without the cache: --cache_choice none") from None
    remove_leftovers(cache_dir, ".npy", ABANDONED)
    paths = [cache_path(scene, cache_dir) for scene in scenes]
    missing = [(scene, path) for scene, path in zip(scenes, paths, strict=True) if not _is_whole(path)]
    random.SystemRandom().shuffle(missing)
    for scene, path in paced(missing, "scene", "building the cache", quiet=not (progress and missing)):
        if not _is_whole(path):  # another process may have been quicker
            _write_cached(path, scene.read())
    return paths


def cache_path(scene: Scene, cache_dir: Path) -> Path:
    """Where a scene is cached: the name changes with the place, size and time of each of its files."""
    files = [*scene.ldr_paths, scene.exposure_path, scene.label_path]
    try:
        stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except (OSError, RuntimeError):  # RuntimeError: links in a circle, before Python 3.13
        scene.read()  # says which file is missing
        raise
    digest = hashlib.sha256(repr((CACHE_VERSION, stats)).encode()).hexdigest()[:16]
    return cache_dir / f"{shortened_stem(scene.name)}-{digest}.npy"


def open_cached(path: Path) -> Sample:
    """Memory-mapped (frames, ev, label) of a cache file, one that :func:`build_cache` has found sound.

    Opened for every crop and let go after it: a mapping that is kept would count towards the memory of each process,
    page by page, until it holds the data set.
    """
    record = np.load(path, mmap_mode="r")
    return Sample(record["frames"], record["ev"], record["label"])


def _write_cached(path: Path, bracket: Sample) -> None:
    frames, ev, label = bracket
    record = np.empty((), [("label", "<f4", label.shape), ("ev", "<f4", ev.shape), ("frames", "<u2", frames.shape)])
    record["frames"], record["ev"], record["label"] = frames, ev, label
    try:
        with atomic_path(path) as temporary:
            np.save(temporary, record)
            with temporary.open("ab") as file:
                file.write(checksum(temporary).to_bytes(CHECKSUM, "little"))
    except InputError as error:
        size = f"{record.nbytes / 2**20:.0f} MiB a scene"
        raise InputError(
            f"{error}: --cache_dir; or do without the cache, which takes {size}: --cache_choice none"
        ) from None


def _is_whole(path: Path) -> bool:
    """Whether a cache file is there, and holds what was written into it."""
    try:
        size = regular_file(path).stat().st_size - CHECKSUM
        with path.open("rb") as file:
            file.seek(max(size, 0))
            kept = file.read()
        return size > 0 and kept == checksum(path, size).to_bytes(CHECKSUM, "little")
    except (OSError, InputError):
        return False


def checksum(path: Path, size: int | None = None) -> int:
    """The CRC-32 of a file, or of its first ``size`` bytes."""
    found, left = 0, path.stat().st_size if size is None else size
    with path.open("rb") as file:
        while left and (piece := file.read(min(PIECE, left))):
            found, left = zlib.crc32(piece, found), left - len(piece)
    return found

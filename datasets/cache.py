"""Scenes decoded once: into memory-mapped files below a folder, or into memory."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datasets.scenes import Sample, Scene
from utils.files import InputError, atomic_path

CACHE_VERSION = 1  # goes up when the layout of cached files changes
CACHE_CHOICES = ("disk", "memory", "none")

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
        return [partial(_held, s.read()) for s in tqdm(scenes, "decoding", disable=None if progress else True)]
    return [scene.read for scene in scenes]


def _held(bracket: Sample) -> Sample:
    return bracket


def build_cache(scenes: Sequence[Scene], cache_dir: Path, *, progress: bool = True) -> list[Path]:
    """The cache files of ``scenes``, made where they are missing. Raises InputError.

    Each file appears whole or not at all, so any number of processes may build at once. They go through the scenes in
    random order, and so share the work.
    """
    paths = [cache_path(scene, cache_dir) for scene in scenes]
    missing = [(scene, path) for scene, path in zip(scenes, paths, strict=True) if not _is_whole(path)]
    random.SystemRandom().shuffle(missing)
    for scene, path in tqdm(missing, "building the cache", disable=None if progress and missing else True):
        if not _is_whole(path):  # another process may have been quicker
            _write_cached(path, scene.read())
    return paths


def cache_path(scene: Scene, cache_dir: Path) -> Path:
    """Where a scene is cached: the name changes with the place, size and time of each of its files."""
    files = [*scene.ldr_paths, scene.exposure_path, scene.label_path]
    try:
        stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError:
        scene.read()  # says which file is missing
        raise
    digest = hashlib.sha256(repr((CACHE_VERSION, stats)).encode()).hexdigest()[:16]
    return cache_dir / f"{scene.name}-{digest}.npy"


def open_cached(path: Path) -> Sample:
    """Memory-mapped (frames, ev, label) of a cache file.

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
    except InputError as error:
        size = f"{record.nbytes / 2**20:.0f} MiB a scene"
        raise InputError(
            f"{error}: --cache_dir; or do without the cache, which takes {size}: --cache_choice none"
        ) from None


def _is_whole(path: Path) -> bool:
    try:
        np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):  # absent, or cut short by other hands
        return False
    return True

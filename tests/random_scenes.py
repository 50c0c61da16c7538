"""Small scenes of random content, where a test needs every pixel to differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.scenes import Scene
from tests.scene_files import write_scene
from utils.images import write_hdr, write_ldr

SIZE = (30, 41)


def random_scene(folder: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Scene:
    """A scene in Kalantari's layout, exposures 0, 2, 4; frames and label are noise."""
    rng = np.random.default_rng(seed)
    write_scene(folder, size=size)
    frames = tuple(sorted(folder.glob("*.tif")))
    for path in frames:
        write_ldr(path, rng.integers(0, 2**16, (*size, 3), dtype=np.uint16))
    label = folder / "HDRImg.hdr"
    write_hdr(label, rng.random((*size, 3), dtype=np.float32))
    return Scene(folder.name, frames, folder / "exposure.txt", label)

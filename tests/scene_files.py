"""Scene folders made for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from utils.images import write_hdr, write_ldr

SIZE = (16, 24)


def write_scene(
    folder: Path,
    *,
    names: tuple[str, ...] = ("a.tif", "b.tif", "c.tif"),
    exposures: str = "0\n2\n4\n",
    exposure_file: str = "exposure.txt",
    label_file: str = "HDRImg.hdr",
    size: tuple[int, int] = SIZE,
) -> Path:
    """A whole scene; frame i is filled with (i + 1) * 10000 plus its row number, the label is 0.25."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        write_ldr(folder / name, frame(i, size))
    (folder / exposure_file).write_text(exposures)
    write_hdr(folder / label_file, np.full((*size, 3), 0.25, np.float32))
    return folder


def frame(i: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint16."""
    rows = np.arange(size[0], dtype=np.uint16)[:, None, None]
    return np.broadcast_to(rows + np.uint16((i + 1) * 10000), (*size, 3)).copy()

"""What a user can choose about a bracket and its results, with the defaults. Read by parsers, so without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from utils.choices import Gamut, Mode, Operator, Way

FORMATS = ("exr", "hdr", "tiff16", "dng", "ultrahdr")
PREVIEWS = ("jpg", "png", "none")


@dataclass(frozen=True)
class Settings:
    """The settings of a run.

    Attributes:
        save_dir: the folder of the results.
        ev, times, gamma, gamut, align, reference: see :func:`utils.photographs.bracket.load_bracket`.
        every_frame: of more than three frames, let those beside the three add range and lower noise.
        scale: how many times smaller the pictures are in which large motion is looked for; None for what the size asks
            for, 1 to leave all motion to the network. See :mod:`utils.photographs.large_motion`.
        fill_jpeg: see :mod:`utils.photographs.lossy`; None for what the weights ask for.
        format, half: files of the HDR image, and whether an EXR has 16 bits.
        preview, tonemap: the kind of picture of it, and its curve.
        compare: also write the picture that explains the result.
        overwrite: make results again that are there already.
        inference: see :func:`utils.inference.forward`.
    """

    save_dir: Path = Path("results/photographs")
    ev: tuple[float, ...] | None = None
    times: tuple[float, ...] | None = None
    gamma: str | float | None = None
    gamut: Gamut = "bt709"
    align: Mode = "auto"
    reference: int | None = None
    every_frame: bool = True
    scale: int | None = None
    fill_jpeg: bool | None = None
    format: tuple[str, ...] = ("exr",)
    half: bool = False
    preview: str = "jpg"
    tonemap: Operator = "photo"
    compare: bool = False
    inference: Way = "auto"
    overwrite: bool = False

"""How a TIFF file keeps its pixels, and those layouts that OpenCV and Pillow get wrong.

tifffile comes with scikit-image. It is imported when the first TIFF file is met.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from utils.files import InputError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, in either order of bytes
SENSOR = (32803, 34892)  # photometric interpretations of a colour filter array and of linear RAW
DNG_VERSION = 50706  # a tag that every DNG has
REDUCED = 1  # bit of NewSubfileType: a smaller version of another picture of the file
SEPARATE = 2  # planar configuration: one plane per channel
MOST_PAGES = 16  # pictures of a file, and beneath one of them, that are looked at; RAW files have about five
ALPHA = (1, 2)  # extra samples that say how far a pixel is covered


@dataclass(frozen=True)
class Layout:
    """What the first picture of a TIFF file says of itself.

    Attributes:
        dtype: of a sample; None where nothing in numpy is like it.
        bits: of a sample.
        channels: per pixel, extra ones included.
        kind: "MINISBLACK", "RGB", "SEPARATED", ...
        planar: whether each channel has a plane of its own.
        alpha: whether an extra channel is transparency.
        orientation: EXIF's number.
        raw: whether the file is a camera's RAW file, whatever its name.
        thumbnail: whether the first picture is a smaller version of another one.
    """

    dtype: np.dtype | None
    bits: int
    channels: int
    kind: str
    planar: bool
    alpha: bool
    orientation: int
    raw: bool
    thumbnail: bool


def layout(path: str | Path) -> Layout | None:
    """The layout of a TIFF file by its content, or None for a file of another kind or one too damaged to tell."""
    with Path(path).open("rb") as file:
        head = file.read(16)
    if not head.startswith(MAGIC):
        return None
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it says of a damaged file is said in one line here
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            return Layout(
                dtype=page.dtype,
                bits=int(page.bitspersample),
                channels=int(page.samplesperpixel),
                kind=getattr(page.photometric, "name", "unknown"),
                planar=page.planarconfig == SEPARATE and page.samplesperpixel > 1,
                alpha=any(int(sample) in ALPHA for sample in page.extrasamples),
                orientation=int(page.tags.valueof("Orientation", 1)),
                raw=head[8:10] == b"CR" or DNG_VERSION in page.tags or _holds_sensor_data(tiff),
                thumbnail=bool(int(page.subfiletype) & REDUCED),
            )
    except Exception:  # of a damaged file tifffile raises whatever its parts do; the reader of pixels will say so
        return None


def read_planes(path: str | Path) -> np.ndarray:
    """The pixels of a TIFF with a plane per channel, as stored: (H, W, channels). Raises InputError."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            planes = tiff.pages.first.asarray()
        if planes.ndim != 3:
            raise ValueError(f"an array of {planes.ndim} dimensions")
        return np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    except Exception as error:  # tifffile's codecs raise whatever they like
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: a TIFF with a plane per channel that cannot be read ({reason}); save it interleaved"
        ) from None


def camera_tags(path: str | Path) -> tuple[dict[str, str], dict[str, str]]:
    """What a TIFF says of camera and lens, by EXIF's names: of the picture, and of its EXIF directory."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            tags = tiff.pages.first.tags
            main = {name: tags.valueof(name) for name in ("Make", "Model", "DateTime", "Artist", "Copyright")}
            exif = tags.valueof("ExifTag") or {}
    except Exception:  # no TIFF, or a damaged one
        return {}, {}
    details = {name: exif.get(name) for name in ("LensModel", "LensMake", "DateTimeOriginal")}
    return _texts(main), _texts(details)


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in values.items() if isinstance(value, str) and value}


def _holds_sensor_data(tiff: Any) -> bool:
    """Whether a picture of the file, or one beneath it, holds what a sensor saw."""
    for page in islice(tiff.pages, MOST_PAGES):  # they may follow each other in a circle
        beneath = islice(page.pages or (), MOST_PAGES)
        if any(_photometric(each) in SENSOR for each in (page, *beneath)):
            return True
    return False


def _photometric(page: Any) -> int:
    tag = page.tags.get("PhotometricInterpretation") if hasattr(page, "tags") else None
    return int(tag.value) if tag is not None else -1

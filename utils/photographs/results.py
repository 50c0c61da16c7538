"""The files that a reconstruction leaves: HDR images of several kinds, made for other programs to read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL.ExifTags import Base

from utils import ultrahdr
from utils.choices import Gamut
from utils.exr import rgb_to_xyz, write_exr
from utils.files import atomic_path
from utils.images import write_hdr
from utils.photographs.bracket import Bracket
from utils.photographs.colour import PRIMARIES, srgb_profile, to_bt709
from utils.photographs.preview import tone_curve
from utils.photographs.settings import Settings
from utils.photographs.shots import Shot

SATURATION = 78.0 / 0.65  # luminance that clips times t ISO / N^2: ISO 12232's saturation, and a lens's usual losses
JPEG_QUALITY = 95
LINEAR_RAW, ORIENTATION, D65_LIGHT = 34892, 274, 21  # DNG's numbers


@dataclass(frozen=True)
class Picture:
    """A result on its way to files: (H, W, 3) float32 linear RGB in some primaries, and the bracket it was made of."""

    hdr: np.ndarray
    bracket: Bracket
    settings: Settings

    @property
    def reference(self) -> Shot:
        return self.bracket.shots[1]


def write_image(kind: str, stem: Path, picture: Picture) -> Path:
    """Write one kind of file; its name is the stem's with the ending of the kind. Returns the path."""
    ending, write = WRITERS[kind]
    path = stem.with_name(f"{stem.name}{ending}")
    write(path, picture)
    return path


def check_formats(kinds: tuple[str, ...]) -> None:
    """Raise InputError where a package is missing that one of the kinds needs."""
    if "ultrahdr" in kinds:
        ultrahdr.check_available()


def exr_attributes(bracket: Bracket, gamut: Gamut) -> dict[str, Any]:
    """What an EXR's header says: primaries, the reference's exposure and camera, and the luminance of the value 1."""
    shot = bracket.shots[1]
    attributes = {
        "chromaticities": tuple(number for point in PRIMARIES[gamut] for number in point),
        "whiteLuminance": white_luminance(bracket),
        "expTime": shot.seconds,
        "aperture": shot.f_number,
        "isoSpeed": shot.iso,
        "cameraMake": _text(shot, Base.Make),
        "cameraModel": _text(shot, Base.Model),
        "lensModel": shot.lens,
        "capDate": shot.captured and shot.captured.strftime("%Y:%m:%d %H:%M:%S"),
    }
    return {name: value for name, value in attributes.items() if value is not None}


def white_luminance(bracket: Bracket) -> float | None:
    """Candela per square metre of the value 1, where the darkest frame clips; None where EXIF does not say enough.

    By the definition of ISO speed (ISO 12232, by saturation), which cameras keep within a stop.
    """
    shot = bracket.shots[0]
    if bracket.source != "EXIF" or not (shot.seconds and shot.iso and shot.f_number):
        return None
    return SATURATION * shot.f_number**2 / (shot.seconds * shot.iso)


def _write_exr(path: Path, picture: Picture) -> None:
    attributes = exr_attributes(picture.bracket, picture.settings.gamut)
    write_exr(path, picture.hdr, half=picture.settings.half, attributes=attributes)


def _write_hdr(path: Path, picture: Picture) -> None:
    write_hdr(path, to_bt709(picture.hdr, picture.settings.gamut))  # which is what its readers take it for


def _write_tiff(path: Path, picture: Picture) -> None:
    """The tone-mapped picture with 16 bits, in sRGB."""
    shown = tone_curve(to_bt709(picture.hdr, picture.settings.gamut), picture.settings.tonemap)
    pixels = np.rint(np.nan_to_num(shown).clip(0.0, 1.0) * np.iinfo(np.uint16).max).astype(np.uint16)
    tags = _camera_tags(picture.reference)
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary, pixels, photometric="rgb", compression="adobe_deflate", iccprofile=srgb_profile(),
            extratags=tags, metadata=None, software="AFUNet",
        )  # fmt: skip


def _write_dng(path: Path, picture: Picture) -> None:
    """Linear RAW of three channels, 32-bit floats: LibRaw reads 16-bit ones only with a predictor that tifffile does
    not write by itself."""
    to_camera = np.linalg.inv(rgb_to_xyz(PRIMARIES[picture.settings.gamut]))
    tags = [
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),  # DNG version, and the oldest that reads it
        (50707, "B", 4, bytes([1, 4, 0, 0]), True),
        (50708, "s", 0, f"AFUNet {_text(picture.reference, Base.Model) or ''}".strip(), True),
        (50721, "2i", 9, tuple(_rationals(to_camera)), True),  # colour matrix: XYZ to camera
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),  # white balance: none is left to do
        (50778, "H", 1, D65_LIGHT, True),
        (ORIENTATION, "H", 1, 1, True),
        *_camera_tags(picture.reference),
    ]
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary, np.ascontiguousarray(picture.hdr, np.float32), photometric=LINEAR_RAW, planarconfig="contig",
            extratags=tags, metadata=None,
        )  # fmt: skip


def _write_ultrahdr(path: Path, picture: Picture) -> None:
    """Its white, what screens show without HDR, is where the reference clips."""
    light = picture.hdr * np.float32(2.0 ** picture.bracket.ev[1])
    even = light[: light.shape[0] // 2 * 2, : light.shape[1] // 2 * 2]
    data = ultrahdr.encode(even, JPEG_QUALITY, gamut=picture.settings.gamut)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


WRITERS: dict[str, tuple[str, Callable[[Path, Picture], None]]] = {
    "exr": (".exr", _write_exr),
    "hdr": (".hdr", _write_hdr),
    "tiff16": ("_tonemapped.tif", _write_tiff),
    "dng": ("_linear.dng", _write_dng),
    "ultrahdr": ("_ultrahdr.jpg", _write_ultrahdr),
}


def _camera_tags(shot: Shot) -> list[tuple[Any, ...]]:
    """Make, model and time as TIFF's extra tags."""
    texts = {Base.Make: _text(shot, Base.Make), Base.Model: _text(shot, Base.Model)}
    texts[Base.DateTime] = shot.captured.strftime("%Y:%m:%d %H:%M:%S") if shot.captured else None
    return [(int(tag), "s", 0, text, True) for tag, text in texts.items() if text]


def _text(shot: Shot, tag: Base) -> str | None:
    value = str(shot.exif.get(tag, "")).strip("\0 ")
    return value or None


def _rationals(values: np.ndarray) -> list[int]:
    return [number for value in values.ravel() for number in (round(value * 10_000), 10_000)]

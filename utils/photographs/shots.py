"""Photographs as cameras write them: JPEG, PNG, TIFF, HEIC and RAW files, upright, with what EXIF says of the exposure.

Pixels come out as the network knows them: 16-bit frames on the gamma curve of the data sets, whatever the file held.
RAW needs the package rawpy, HEIC the package pillow-heif; neither is imported before such a file is met.
"""

from __future__ import annotations

import importlib
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from utils.exposure import to_ldr
from utils.files import InputError, atomic_path
from utils.images import float_to_ldr, ldr_to_float, read_ldr

RAW = {".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".pef"}
HEIC = {".heic", ".heif", ".hif"}
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"} | HEIC | RAW

GREY_16 = {"I;16", "I;16B", "I;16L", "I;16N"}  # what Pillow calls a 16-bit image of one channel
KEPT = {
    *(Base.ImageDescription, Base.Make, Base.Model, Base.Orientation, Base.Software, Base.DateTime, Base.Artist),
    Base.Copyright,
}  # of EXIF in the preview, beside DIRECTORIES; the other tags of a TIFF describe how its own pixels are stored
DIRECTORIES = (IFD.Exif, IFD.GPSInfo)  # directories of EXIF
OFFSETS = (int(Base.MakerNote), int(IFD.Interop))  # hold only in their own file; and a note can be too long for a JPEG
RESULTS = ("_preview", "_compare")  # endings of the pictures that a reconstruction leaves, beside a .json
GREY = GREY_16 | {"1", "L", "LA"}
LYING = (5, 6, 7, 8)  # orientations stored with rows and columns exchanged
DAMAGE = (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error, Image.DecompressionBombError)
Image.MAX_IMAGE_PIXELS = 2**30  # Pillow's own limit takes a 180-megapixel photograph for an attack


@dataclass(frozen=True)
class Shot:
    """One photograph and the exposure its EXIF tells: seconds, f-number, ISO; None for what is not there."""

    path: Path
    height: int  # of the upright picture
    width: int
    seconds: float | None = None
    f_number: float | None = None
    iso: float | None = None
    captured: datetime | None = None
    exif: Image.Exif = field(default_factory=Image.Exif, repr=False, compare=False)
    icc_profile: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def ev(self) -> float | None:
        """log2(t ISO / N^2), rising with exposure; None without a time. An aperture or ISO not known counts as 1."""
        if self.seconds is None:
            return None
        return math.log2(self.seconds * (self.iso or 1.0) / (self.f_number or 1.0) ** 2)

    def describe(self) -> str:
        """What was found in the file, for messages: ``a.jpg: 1/100 s f/8 ISO 100``."""
        parts = [
            self.seconds and f"{_seconds_text(self.seconds)} s",
            self.f_number and f"f/{self.f_number:g}",
            self.iso and f"ISO {self.iso:g}",
        ]
        return f"{self.path.name}: {' '.join(part for part in parts if part) or 'no exposure'}"


def is_raw(path: Path) -> bool:
    """Whether a file is camera RAW, by its name."""
    return path.suffix.lower() in RAW


def photographs_in(folder: Path) -> list[Path]:
    """The photographs directly in a folder, in name order; hidden files and pictures made by predict.py don't count."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    shown = [path for path in paths if not path.name.startswith(".")]  # macOS leaves ._IMG.JPG beside IMG.JPG
    return sorted(path for path in shown if not _is_result(path))


def _is_result(path: Path) -> bool:
    name = next((path.stem.removesuffix(end) for end in RESULTS if path.stem.endswith(end)), None)
    return name is not None and path.with_name(f"{name}.json").is_file()


def read_shot(path: str | Path) -> Shot:
    """Size, exposure and capture time of a photograph, without decoding its pixels. Raises InputError."""
    path = Path(path)
    return _read_raw_shot(path) if is_raw(path) else _read_exif_shot(path)


def read_frame(shot: Shot, gamma: str | float = "srgb", white_balance: list[float] | None = None) -> np.ndarray:
    """The upright pixels of a photograph as an LDR frame of the data sets' kind: (H, W, 3) uint16 on the 2.2 curve.

    Args:
        shot: from :func:`read_shot`.
        gamma: the tone curve of the file: ``srgb``, ``linear`` or the exponent of a power law. RAW is always linear.
        white_balance: multipliers for a RAW file, from :func:`read_white_balance`; its own where None.

    Raises:
        InputError: a damaged file, a missing package, or colours that are not RGB or grey with 8 or 16 bits.
    """
    if is_raw(shot.path):
        return curve_table("linear", 16)[_decode_raw(shot.path, white_balance)]
    pixels = _decode(shot.path)
    return curve_table(gamma, 8 * pixels.itemsize)[pixels]


def read_white_balance(shot: Shot) -> list[float] | None:
    """The multipliers a RAW file was shot with, so that a bracket is developed alike; None for other files."""
    if not is_raw(shot.path):
        return None
    with _open_raw(shot.path) as raw:
        return [float(factor) for factor in raw.camera_whitebalance]


def curve_table(gamma: str | float, bits: int) -> np.ndarray:
    """Table from the values of a file with 8 or 16 bits to 16-bit LDR on the 2.2 curve; the identity for 16 and 2.2."""
    values = np.arange(2**bits)
    encoded = values / 255.0 if bits == 8 else ldr_to_float(values).astype(np.float64)
    return float_to_ldr(to_ldr(_decode_curve(encoded, gamma), 0.0))


def write_preview(path: str | Path, picture: np.ndarray, shot: Shot) -> None:
    """Write (H, W, 3) uint8 as JPEG or PNG (by the suffix), with the EXIF data and colour profile of ``shot``."""
    exif = _upright_exif(shot)
    with atomic_path(path) as temporary:
        image = Image.fromarray(picture)
        try:
            image.save(temporary, quality=95, exif=exif, icc_profile=shot.icc_profile)
        except (*DAMAGE, OverflowError):  # EXIF that cannot be written, or is too long for a JPEG
            image.save(temporary, quality=95, icc_profile=shot.icc_profile)


def _seconds_text(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds > 0.3 else f"1/{1.0 / seconds:.0f}"


def _decode_curve(encoded: np.ndarray, gamma: str | float) -> np.ndarray:
    if gamma == "srgb":  # IEC 61966-2-1
        return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return encoded if gamma == "linear" else encoded ** float(gamma)


# ---- files that Pillow opens


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    if path.suffix.lower() in HEIC:
        _optional("pillow_heif", "pillow-heif", path).register_heif_opener()
    try:
        with path.open("rb") as file, Image.open(file) as image:  # given the path, Pillow scrambles TIFFs that lie
            yield image
    except Image.UnidentifiedImageError:
        raise InputError(f"{path}: not a photograph that can be read (damaged, or another kind of file)") from None
    except DAMAGE as error:
        raise InputError(f"{path}: cannot be read ({_reason(error)}); the file is damaged or incomplete") from None


def _read_exif_shot(path: Path) -> Shot:
    with _open(path) as image:
        exif = _exif(image)
        width, height = image.size
        if exif.get(Base.Orientation) in LYING and image.format != "TIFF":  # Pillow turns TIFF images itself
            width, height = height, width
        tags = {**exif, **exif.get_ifd(IFD.Exif)}
        return Shot(
            path,
            height,
            width,
            seconds=_positive(tags.get(Base.ExposureTime)) or _apex(tags.get(Base.ShutterSpeedValue), -1.0),
            f_number=_positive(tags.get(Base.FNumber)) or _apex(tags.get(Base.ApertureValue), 0.5),
            iso=_iso(tags),
            captured=_captured(tags),
            exif=exif,
            icc_profile=None if image.mode in GREY else image.info.get("icc_profile"),
        )


def _exif(image: Image.Image) -> Image.Exif:
    try:
        exif = image.getexif()
        details = exif.get_ifd(IFD.Exif)  # of a TIFF they are read on demand, from a file that would be closed by then
        if IFD.Interop in details:  # Pillow 12 raises KeyError where it is not
            exif.get_ifd(IFD.Interop)
        if IFD.GPSInfo in exif:
            exif.get_ifd(IFD.GPSInfo)
    except DAMAGE:  # a photograph with damaged EXIF is one without
        return Image.Exif()
    return exif


def _positive(value: Any) -> float | None:
    try:
        number = float(value[0] if isinstance(value, tuple) else value)
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return None
    return number if 0.0 < number < math.inf else None


def _apex(value: Any, sign: float) -> float | None:
    """Seconds from a shutter speed Tv = -log2 t, or an f-number from an aperture Av = 2 log2 N (EXIF 2.3, annex C)."""
    try:
        return 2.0 ** (sign * float(value))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None


def _iso(tags: dict[int, Any]) -> float | None:
    iso = _positive(tags.get(Base.ISOSpeedRatings))
    if iso in (None, 65535.0):  # the 16-bit tag is full: the figure stands in a longer one
        iso = _positive(tags.get(Base.RecommendedExposureIndex)) or _positive(tags.get(Base.ISOSpeed))
    return iso


def _captured(tags: dict[int, Any]) -> datetime | None:
    text = str(tags.get(Base.DateTimeOriginal) or tags.get(Base.DateTime) or "").strip("\0 ")
    try:
        time = datetime.strptime(text, "%Y:%m:%d %H:%M:%S")
        return time + timedelta(seconds=float(f"0.{str(tags.get(Base.SubsecTimeOriginal, '')).strip()}0"))
    except ValueError:
        return None


def _decode(path: Path) -> np.ndarray:
    """Upright (H, W, 3) RGB, uint8 or uint16; grey is repeated, an alpha channel dropped."""
    with _open(path) as image:
        if image.mode in ("RGB", "RGBA", "RGBX") and _bits(image, path) == 16:
            pixels = read_ldr(path)  # Pillow would keep the upper eight bits only
            # OpenCV turns TIFFs itself, whatever the flags
            orientation = 1 if image.format == "TIFF" else _exif(image).get(Base.Orientation, 1)
        else:
            pixels = _pillow_pixels(image, path)
            orientation = _exif(image).get(Base.Orientation, 1)  # after decoding: gone where Pillow has obeyed it
    return _turn(pixels, orientation)


def _pillow_pixels(image: Image.Image, path: Path) -> np.ndarray:
    if image.mode in GREY_16:
        return np.repeat(np.asarray(image).astype(np.uint16)[..., None], 3, axis=2)
    if image.mode in ("CMYK", "LAB", "HSV", "I", "F"):
        raise InputError(
            f"{path}: {image.mode} pixels where RGB or grey with 8 or 16 bits is meant; export the photograph as RGB"
        )
    return np.asarray(image.convert("RGBA").convert("RGB") if image.mode == "P" else image.convert("RGB"))


def _bits(image: Image.Image, path: Path) -> int:
    """Bits per channel of the file, which Pillow's mode does not tell."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]  # IHDR
    return max(image.tag_v2.get(258, (8,))) if image.format == "TIFF" else 8  # type: ignore[attr-defined]


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as stored -> upright, by the EXIF orientation 1 to 8: transpose, then flip."""
    if orientation in LYING:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


# ---- RAW


@contextmanager
def _open_raw(path: Path) -> Iterator[Any]:
    rawpy = _optional("rawpy", "rawpy>=0.26", path)
    try:
        with rawpy.imread(str(path)) as raw:
            yield raw
    except (rawpy.LibRawError, OSError) as error:
        raise InputError(f"{path}: not a RAW file that LibRaw can read ({_reason(error)})") from None


def _read_raw_shot(path: Path) -> Shot:
    with _open_raw(path) as raw:
        sizes, other = raw.sizes, raw.other
        height, width = (sizes.iheight, sizes.iwidth) if sizes.flip not in (5, 6) else (sizes.iwidth, sizes.iheight)
        captured = other.timestamp if other.timestamp and other.timestamp.year > 1970 else None
        return Shot(
            path,
            height,
            width,
            seconds=_positive(other.shutter_speed),
            f_number=_positive(other.aperture),
            iso=_positive(other.iso_speed),
            captured=captured,
        )


def _decode_raw(path: Path, white_balance: list[float] | None) -> np.ndarray:
    """Linear (H, W, 3) uint16, upright. No step of the development may depend on a frame's own content."""
    with _open_raw(path) as raw:
        return raw.postprocess(
            gamma=(1, 1),
            no_auto_bright=True,
            adjust_maximum_thr=0.0,
            output_bps=16,
            user_wb=white_balance,
            use_camera_wb=white_balance is None,
        )


# ---- writing


def _upright_exif(shot: Shot) -> Image.Exif:
    """The tags of a shot that its preview keeps, as a copy."""
    exif = Image.Exif()
    for tag in KEPT & set(shot.exif):
        exif[tag] = shot.exif[tag]
    for part in DIRECTORIES:
        if values := shot.exif.get_ifd(part):
            exif.get_ifd(part).update(values)
    details = exif.get_ifd(IFD.Exif)
    for key in OFFSETS:
        details.pop(key, None)
    if is_raw(shot.path):
        details.update(_exposure_tags(shot))
    exif[Base.Orientation] = 1  # the pixels are upright now
    return exif


def _exposure_tags(shot: Shot) -> dict[int, Any]:
    tags = {
        Base.ExposureTime: shot.seconds and IFDRational(Fraction(shot.seconds).limit_denominator(100_000)),
        Base.FNumber: shot.f_number and IFDRational(Fraction(shot.f_number).limit_denominator(100)),
        Base.ISOSpeedRatings: shot.iso and round(shot.iso),
        Base.DateTimeOriginal: shot.captured and shot.captured.strftime("%Y:%m:%d %H:%M:%S"),
    }
    return {int(tag): value for tag, value in tags.items() if value}


def _optional(module: str, package: str, path: Path) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f'{path}: reading this kind of file needs a package: pip install "{package}"') from None


def _reason(error: Exception) -> str:
    first = error.args[0] if error.args else ""
    text = first.decode(errors="replace") if isinstance(first, bytes) else str(error)  # LibRaw's are bytes
    return (getattr(error, "strerror", None) or text or type(error).__name__).splitlines()[0]

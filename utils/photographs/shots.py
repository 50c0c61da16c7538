"""Photographs as cameras write them: JPEG, PNG, TIFF, HEIC and RAW files, upright, with what EXIF says of the exposure.

Pixels come out as the network knows them: 16-bit frames on the gamma curve of the data sets, whatever the file held.
RAW needs the package rawpy, HEIC the package pillow-heif; neither is imported before such a file is met.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from utils import tiff
from utils.choices import Gamut
from utils.files import InputError, atomic_path, entries, is_file, natural, regular_file
from utils.headers import check_header, check_size
from utils.images import LYING, read_ldr_and_alpha, turn
from utils.photographs import colour
from utils.photographs.colour import ASSUMED, LINEAR, STATED_SRGB, ColourError, Colours

RAW = {
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef", ".mos"),
    *(".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
}
RAW_MAGIC = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")  # that are no TIFFs
CANON_RAW, HEIC_BRANDS = b"ftypcrx", (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1")  # from byte 4 on
HEIC = {".heic", ".heif", ".hif"}
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"} | HEIC | RAW

GREY_16 = {"I;16", "I;16B", "I;16L", "I;16N"}  # what Pillow calls a 16-bit image of one channel
KEPT = {
    *(Base.ImageDescription, Base.Make, Base.Model, Base.Orientation, Base.Software, Base.DateTime, Base.Artist),
    Base.Copyright,
}  # of EXIF in the preview, beside DIRECTORIES; the other tags of a TIFF describe how its own pixels are stored
DIRECTORIES = (IFD.Exif, IFD.GPSInfo)  # directories of EXIF
OFFSETS = (int(Base.MakerNote), int(IFD.Interop))  # hold only in their own file; and a note can be too long for a JPEG
RESULTS = ("_preview", "_compare", "_tonemapped", "_linear", "_ultrahdr")  # endings of results, beside a .json
LOSSY = ("JPEG", "MPO", "HEIF", "AVIF")  # Pillow's names
INVERSE_TURN = {6: 8, 8: 6}  # the other orientations are their own
RAW_TURNS = {0: 1, 3: 3, 5: 8, 6: 6}  # LibRaw's flip -> EXIF's orientation
LONG_ISO = {  # kinds of sensitivity by EXIF's number, in the order in which they are taken where it names none
    2: Base.RecommendedExposureIndex,
    3: Base.ISOSpeed,
    1: Base.StandardOutputSensitivity,
}
UNCALIBRATED, ADOBE = 65535, "R03"  # colour space and interoperability index of EXIF that mean Adobe RGB together
FORMATS = ("JPEG", "MPO", "PNG", "TIFF", "HEIF", "AVIF", "WEBP", "JPEG2000", "BMP", "GIF", "PPM")
SECONDS, F_NUMBERS, ISOS = (1e-7, 1e6), (0.1, 1e4), (0.01, 1e9)  # beyond these EXIF is wrong
Image.MAX_IMAGE_PIXELS = None  # utils.headers has the limit; Pillow's own is below a 180-megapixel photograph


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
    lens: str | None = None
    exif: Image.Exif = field(default_factory=Image.Exif, repr=False, compare=False)
    colours: Colours = field(default=ASSUMED, repr=False, compare=False)
    lossy: bool = False  # JPEG and its like, where values near clipped ones are not what the camera saw
    raw: bool = False  # camera RAW, by its name or its content
    orientation: int = 1  # EXIF's, as the file has it
    turned_as: int | None = None  # an orientation that counts in place of the file's

    @property
    def stored(self) -> tuple[int, int]:
        """Rows and columns as they lie in the file."""
        lying = (self.turned_as or self.orientation) in LYING
        return (self.width, self.height) if lying else (self.height, self.width)

    def turned(self, orientation: int) -> Shot:
        """The same photograph with another orientation than its own."""
        rows, columns = self.stored
        height, width = (columns, rows) if orientation in LYING else (rows, columns)
        return replace(self, height=height, width=width, turned_as=orientation)

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
    """Whether a file is camera RAW, by its name or, whatever its name, its content."""
    if path.suffix.lower() in RAW:
        return True
    try:
        with path.open("rb") as file:
            head = file.read(16)
        found = tiff.layout(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give the name of a photograph") from None
    return head.startswith(RAW_MAGIC) or head[4:11] == CANON_RAW or (found is not None and found.raw)


def photographs_in(folder: Path) -> list[Path]:
    """The photographs directly in a folder, in natural order of names; hidden files and results don't count."""
    paths = [path for path in entries(folder) if path.suffix.lower() in SUFFIXES]
    shown = [path for path in paths if not path.name.startswith(".")]  # macOS leaves ._IMG.JPG beside IMG.JPG
    return sorted((path for path in shown if not is_result(path)), key=natural)


def is_result(path: Path) -> bool:
    """Whether a picture is what a reconstruction left, and no photograph."""
    name = next((path.stem.removesuffix(end) for end in RESULTS if path.stem.endswith(end)), None)
    return name is not None and is_file(path.with_name(f"{name}.json"))


def read_shot(path: str | Path) -> Shot:
    """Size, exposure and capture time of a photograph, without decoding its pixels. Raises InputError."""
    path = regular_file(path, "give the name of a photograph")
    return _read_raw_shot(path) if is_raw(path) else _read_exif_shot(path)


def read_frame(
    shot: Shot,
    gamma: str | float | None = None,
    white_balance: list[float] | None = None,
    gamut: Gamut = "bt709",
) -> np.ndarray:
    """The upright pixels of a photograph as an LDR frame of the data sets' kind: (H, W, 3) uint16 on the 2.2 curve.

    Args:
        shot: from :func:`read_shot`.
        gamma: the tone curve of the file: ``srgb``, ``linear`` or the exponent of a power law; by default what the file
            says, and sRGB where it says nothing. RAW is always linear.
        white_balance: multipliers for a RAW file, from :func:`read_white_balance`; its own where None.
        gamut: primaries of the frame.

    Raises:
        InputError: a damaged file, a missing package, or colours that are not RGB or grey with 8 or 16 bits.
    """
    return read_frame_and_holes(shot, gamma, white_balance, gamut)[0]


def read_frame_and_holes(
    shot: Shot, gamma: str | float | None, white_balance: list[float] | None, gamut: Gamut
) -> tuple[np.ndarray, np.ndarray | None]:
    """As :func:`read_frame`, and (H, W) bool where the file is transparent and so shows nothing; None where nowhere."""
    if shot.raw:
        pixels, holes = _decode_raw(shot.path, white_balance, gamut), None
        frame = colour.to_frame(pixels, LINEAR)  # LibRaw has done the primaries
    else:
        pixels, holes = _decode(shot.path)
        try:
            colours = shot.colours if gamma is None else shot.colours.with_curve(gamma)
            frame = colour.to_frame(pixels, colours, gamut)
        except ColourError as error:
            raise InputError(f"{shot.path}: {error}") from None
    if shot.turned_as in (None, shot.orientation):
        return frame, holes
    back = INVERSE_TURN.get(shot.orientation, shot.orientation)
    turned = shot.turned_as or 1
    return turn(turn(frame, back), turned), None if holes is None else turn(turn(holes, back), turned)


def read_white_balance(shot: Shot) -> list[float] | None:
    """The multipliers a RAW file was shot with, so that a bracket is developed alike; None for other files."""
    if not shot.raw:
        return None
    with _open_raw(shot.path) as raw:
        return [float(factor) for factor in raw.camera_whitebalance]


def write_preview(path: str | Path, picture: np.ndarray, shot: Shot) -> None:
    """Write (H, W, 3) uint8 as JPEG or PNG (by the suffix) in sRGB, with the EXIF data of ``shot``."""
    exif, profile = _upright_exif(shot), colour.srgb_profile()
    with atomic_path(path) as temporary:
        image = Image.fromarray(picture)
        try:
            image.save(temporary, quality=95, exif=exif, icc_profile=profile)
        except OSError as error:
            if error.errno is not None:  # the disk's; without a number it is Pillow's: EXIF too long for a JPEG
                raise
            image.save(temporary, quality=95, icc_profile=profile)
        except Exception:  # EXIF that cannot be written: of odd values Pillow raises whatever they do
            image.save(temporary, quality=95, icc_profile=profile)


def _seconds_text(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds > 0.3 else f"1/{1.0 / seconds:.0f}"


# ---- files that Pillow opens


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    if path.suffix.lower() in HEIC or _is_heic(path):
        _optional("pillow_heif", "pillow-heif", path).register_heif_opener()
    check_header(path, "a photograph")
    _check_tiff(path)
    try:
        with (
            path.open("rb") as file,
            Image.open(file, formats=_formats()) as image,
        ):  # given the path, Pillow scrambles TIFFs that lie
            check_size(path, *image.size)
            yield image
    except Image.UnidentifiedImageError:
        raise InputError(f"{path}: not a photograph that can be read (damaged, or another kind of file)") from None
    except InputError:
        raise
    except Exception as error:  # of a damaged file Pillow raises whatever its parts do
        raise InputError(f"{path}: cannot be read ({_reason(error)}); the file is damaged or incomplete") from None


def _is_heic(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(12)[4:].startswith(HEIC_BRANDS)
    except OSError:
        return False


def _check_tiff(path: Path) -> tiff.Layout | None:
    """The layout of a TIFF; raises InputError where its pixels are none of a photograph."""
    try:
        found = tiff.layout(path)
    except OSError:
        return None  # opening it will say why
    if found is None:
        return None
    wrong = None
    if found.raw or found.thumbnail:
        wrong = "its first picture is a thumbnail; give the RAW file itself, or export the photograph"
    elif found.dtype is None or found.dtype.kind == "f":
        wrong = f"floating-point pixels ({found.dtype})"
    elif found.kind == "SEPARATED":
        wrong = "CMYK pixels"
    elif found.bits > 16 or found.dtype.kind == "i" or (found.kind == "RGB" and found.bits not in (8, 16)):
        wrong = f"{found.dtype} pixels of {found.bits} bits"
    elif found.channels > 4:
        wrong = f"{found.channels} channels"
    if wrong:
        meant = "" if "thumbnail" in wrong else " where RGB or grey with 8 or 16 bits is meant; export it as RGB"
        raise InputError(f"{path}: {wrong}{meant}")
    return found


def _read_exif_shot(path: Path) -> Shot:
    with _open(path) as image:
        exif = _exif(image)
        width, height = image.size
        turned = exif.get(Base.Orientation) or image.info.get("original_orientation") or 1
        orientation = turned if turned in range(1, 9) else 1
        if exif.get(Base.Orientation) in LYING and image.format != "TIFF":  # Pillow turns TIFF images itself
            width, height = height, width
        tags = {**exif, **exif.get_ifd(IFD.Exif)}
        return Shot(
            path,
            height,
            width,
            seconds=_positive(tags.get(Base.ExposureTime), SECONDS)
            or _apex(tags.get(Base.ShutterSpeedValue), -1.0, SECONDS),
            f_number=_positive(tags.get(Base.FNumber), F_NUMBERS)
            or _apex(tags.get(Base.ApertureValue), 0.5, F_NUMBERS),
            iso=_iso(tags),
            captured=_captured(tags),
            lens=str(tags[Base.LensModel]).strip() if tags.get(Base.LensModel) else None,
            exif=exif,
            colours=_colours(image, exif, path),
            lossy=image.format in LOSSY,
            orientation=orientation,
        )


def _colours(image: Image.Image, exif: Image.Exif, path: Path) -> Colours:
    """What the file says of its colours: PNG's chunks in the order of its standard, a profile, HEIC's numbers, EXIF."""
    try:
        chunks = _png_chunks(path) if image.format == "PNG" else {}
        if len(cicp := chunks.get(b"cICP", b"")) >= 4:
            return colour.from_cicp(cicp[0], cicp[1])
        if profile := image.info.get("icc_profile"):
            return _obeyed(profile)
        if b"sRGB" in chunks:
            return STATED_SRGB
        if gamma := image.info.get("gamma") if image.format == "PNG" else None:
            return colour.from_gamma(float(gamma), image.info.get("chromaticity"))
        if nclx := image.info.get("nclx_profile"):
            return colour.from_cicp(int(nclx["color_primaries"]), int(nclx["transfer_characteristics"]))
    except ColourError as error:
        raise InputError(f"{path}: {error}") from None
    details = exif.get_ifd(IFD.Exif)
    index = details.get(IFD.Interop)
    index = index.get(1) if isinstance(index, dict) else exif.get_ifd(IFD.Interop).get(1) if index else None
    if details.get(Base.ColorSpace) in (2, UNCALIBRATED) and str(index or "").startswith(ADOBE):
        return colour.adobe_rgb()
    return STATED_SRGB if details.get(Base.ColorSpace) == 1 else ASSUMED


def _obeyed(profile: bytes) -> Colours:
    try:
        return colour.from_profile(profile)
    except ColourError as error:  # the pixels may be sound, and most such files are sRGB
        return replace(ASSUMED, name=f"sRGB (assumed: {error})")


def _png_chunks(path: Path) -> dict[bytes, bytes]:
    """The chunks before the pixels; long ones, which hold no numbers, without their content."""
    chunks: dict[bytes, bytes] = {}
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            length = int.from_bytes(head[:4])
            chunks[head[4:]] = file.read(length) if length < 64 else b""
            file.seek(4 if length < 64 else length + 4, 1)
    return chunks


def _formats() -> list[str]:
    """What Pillow may take a photograph for; it knows kinds of files that run other programs, too."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _exif(image: Image.Image) -> Image.Exif:
    try:
        exif = image.getexif()
        details = exif.get_ifd(IFD.Exif)  # of a TIFF they are read on demand, from a file that would be closed by then
        if IFD.Interop in details:  # Pillow 12 raises KeyError where it is not
            exif.get_ifd(IFD.Interop)
        if IFD.GPSInfo in exif:
            exif.get_ifd(IFD.GPSInfo)
    except Exception:  # a photograph with damaged EXIF is one without; of its parts Pillow raises whatever they do
        return Image.Exif()
    return exif


def _positive(value: Any, limits: tuple[float, float]) -> float | None:
    """A number within ``limits``, out of whatever EXIF holds; None for anything else."""
    try:
        number = float(value[0] if isinstance(value, tuple) else value)
    except (TypeError, ValueError, IndexError, ArithmeticError):
        return None
    return number if limits[0] <= number <= limits[1] else None


def _apex(value: Any, sign: float, limits: tuple[float, float]) -> float | None:
    """Seconds from a shutter speed Tv = -log2 t, or an f-number from an aperture Av = 2 log2 N (EXIF 2.3, annex C)."""
    try:
        return _positive(2.0 ** (sign * float(value)), limits)
    except (TypeError, ValueError, ArithmeticError):
        return None


def _iso(tags: dict[int, Any]) -> float | None:
    """The sensitivity: the 16-bit tag or, where that is full or missing, the longer one that EXIF 2.3 says it means."""
    iso = _positive(tags.get(Base.ISOSpeedRatings), ISOS)
    if iso not in (None, 65535.0):
        return iso
    meant = LONG_ISO.get(tags.get(Base.SensitivityType, 0))
    found = (_positive(tags.get(tag), ISOS) for tag in (meant, *LONG_ISO.values()) if tag is not None)
    return next((value for value in found if value is not None), None)


def _captured(tags: dict[int, Any]) -> datetime | None:
    text = str(tags.get(Base.DateTimeOriginal) or tags.get(Base.DateTime) or "").strip("\0 ")
    try:
        time = datetime.strptime(text, "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    digits = re.match(r"\s*([0-9]{0,9})", str(tags.get(Base.SubsecTimeOriginal, "")), re.ASCII)
    return time + timedelta(seconds=float(f"0.{digits[1] if digits else ''}0"))


def _decode(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Upright (H, W, 3) RGB, uint8 or uint16, grey repeated; and (H, W) bool where alpha is 0, None where nowhere."""
    found = _check_tiff(path)
    with _open(path) as image:
        if image.mode in ("RGB", "RGBA", "RGBX") and _bits(image, path) == 16:
            pixels, alpha = read_ldr_and_alpha(path)  # Pillow would keep the upper eight bits only
            # OpenCV turns TIFFs itself, whatever the flags
            orientation = 1 if image.format == "TIFF" else _exif(image).get(Base.Orientation, 1)
        else:
            pixels, alpha = _pillow_pixels(image, path)
            orientation = _exif(image).get(Base.Orientation, 1)  # after decoding: gone where Pillow has obeyed it
            if image.mode in GREY_16 and found is not None and found.kind == "MINISWHITE":
                pixels = np.iinfo(np.uint16).max - pixels
    if alpha is None or (found is not None and not found.alpha) or alpha.any() == alpha.all():
        return turn(pixels, orientation), None  # covered everywhere, or nowhere, which means nothing
    return turn(pixels, orientation), turn(alpha == 0, orientation)


def _pillow_pixels(image: Image.Image, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    if image.mode in GREY_16:
        return np.repeat(np.asarray(image).astype(np.uint16)[..., None], 3, axis=2), None
    if image.mode in ("CMYK", "LAB", "HSV", "I", "F"):
        raise InputError(
            f"{path}: {image.mode} pixels where RGB or grey with 8 or 16 bits is meant; export the photograph as RGB"
        )
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return np.ascontiguousarray(rgba[..., :3]), rgba[..., 3]
    return np.asarray(image.convert("RGB")), None


def _bits(image: Image.Image, path: Path) -> int:
    """Bits per channel of the file, which Pillow's mode does not tell."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]  # IHDR
    return max(image.tag_v2.get(258, (8,))) if image.format == "TIFF" else 8  # type: ignore[attr-defined]


# ---- RAW


@contextmanager
def _open_raw(path: Path) -> Iterator[Any]:
    regular_file(path, "a photograph is meant")
    rawpy = _optional("rawpy", "rawpy>=0.26", path)
    try:
        with rawpy.imread(str(path)) as raw:
            check_size(path, raw.sizes.raw_width, raw.sizes.raw_height)
            yield raw
    except (rawpy.LibRawError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a RAW file that LibRaw can read ({_reason(error)})") from None


def _read_raw_shot(path: Path) -> Shot:
    with _open_raw(path) as raw:
        sizes, other = raw.sizes, raw.other
        height, width = (sizes.iheight, sizes.iwidth) if sizes.flip not in (5, 6) else (sizes.iwidth, sizes.iheight)
        exif = _raw_exif(path)
        lens = exif.get_ifd(IFD.Exif).get(Base.LensModel)
        captured = other.timestamp if other.timestamp and other.timestamp.year > 1970 else None
        return Shot(
            path,
            height,
            width,
            seconds=_positive(other.shutter_speed, SECONDS),
            f_number=_positive(other.aperture, F_NUMBERS),
            iso=_positive(other.iso_speed, ISOS),
            captured=captured,
            lens=str(lens).strip() if lens else None,
            exif=exif,
            colours=LINEAR,
            raw=True,
            orientation=RAW_TURNS.get(sizes.flip, 1),
        )


def _raw_exif(path: Path) -> Image.Exif:
    """Camera and lens of a RAW file, where it is a TIFF by its build, as most are. Pillow opens few of them."""
    exif = Image.Exif()
    main, details = tiff.camera_tags(path)
    for name, value in main.items():
        exif[getattr(Base, name)] = value
    exif.get_ifd(IFD.Exif).update({int(getattr(Base, name)): value for name, value in details.items()})
    return exif


def _decode_raw(path: Path, white_balance: list[float] | None, gamut: Gamut) -> np.ndarray:
    """Linear (H, W, 3) uint16, upright. No step of the development may depend on a frame's own content."""
    with _open_raw(path) as raw:
        spaces = importlib.import_module("rawpy").ColorSpace
        pixels = raw.postprocess(
            output_color={"bt709": spaces.sRGB, "p3": spaces.P3D65, "bt2020": spaces.Rec2020}[gamut],
            gamma=(1, 1),
            no_auto_bright=True,
            adjust_maximum_thr=0.0,
            output_bps=16,
            user_wb=white_balance,
            use_camera_wb=white_balance is None,
        )
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels[..., :1], 3, axis=2)  # of a monochrome sensor


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
    if shot.raw:
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

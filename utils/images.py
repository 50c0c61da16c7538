"""Image files: 16-bit LDR frames, Radiance and OpenEXR images, PNG pictures. RGB in memory, whatever the file holds.

Every reader raises :class:`utils.files.InputError` with one line that names the file, what is wrong and what to do;
every writer writes through :func:`utils.files.atomic_path`, so that a file is either whole or absent.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import imageio.v3 as imageio
import numpy as np

from utils import exr, tiff
from utils.files import InputError, atomic_path, reason, regular_file
from utils.headers import check_header

TIFF_SUFFIXES = (".tif", ".tiff")
LINEAR_SUFFIXES = (".hdr", ".exr", ".npy", *TIFF_SUFFIXES)  # what read_linear reads
LDR_SCALE = 2**16  # as released: a 16-bit frame is divided by 2^16, not by 65535
LYING = (5, 6, 7, 8)  # orientations stored with rows and columns exchanged
MOST_CHANNELS = 4  # RGB, and how far a pixel is covered
DEFLATE = 8  # TIFF's number for it; OpenCV's default, LZW, makes noisy 16-bit frames larger than they are


def read_ldr(path: str | Path) -> np.ndarray:
    """A 16-bit RGB frame as (H, W, 3) uint16, upright."""
    return read_ldr_and_alpha(path)[0]


def read_ldr_and_alpha(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """A 16-bit RGB frame as (H, W, 3) uint16, upright, and its fourth channel (H, W), where it has one."""
    meant = "a 16-bit RGB TIFF"
    image = _planes(path) if Path(path).suffix.lower() in TIFF_SUFFIXES else None
    image = _decode(path, meant) if image is None else image
    if image.dtype != np.uint16:
        raise InputError(f"{path}: {image.dtype} where 16-bit is meant; save the frame with 16 bits per channel")
    rgb = _rgb(image, path)
    return rgb, np.ascontiguousarray(image[..., 3]) if image.shape[2] == 4 else None


def write_ldr(path: str | Path, frame: np.ndarray) -> None:
    """Write (H, W, 3) uint16 RGB as a compressed 16-bit TIFF (or PNG, by the suffix)."""
    assert frame.dtype == np.uint16, frame.dtype
    compressed = Path(path).suffix.lower() in TIFF_SUFFIXES
    _encode(path, frame, [cv2.IMWRITE_TIFF_COMPRESSION, DEFLATE] if compressed else None)


def ldr_to_float(frame: np.ndarray) -> np.ndarray:
    """uint16 -> float32 in [0, 1): value / 65536, exact."""
    return frame.astype(np.float32) / np.float32(LDR_SCALE)


def float_to_ldr(frame: np.ndarray) -> np.ndarray:
    """[0, 1] -> uint16, rounded; 1.0 becomes 65535, the largest there is."""
    return np.clip(np.rint(frame * LDR_SCALE), 0, LDR_SCALE - 1).astype(np.uint16)


def read_hdr(path: str | Path) -> np.ndarray:
    """A Radiance (.hdr) or OpenEXR (.exr) image as (H, W, 3) float32, linear RGB; the content decides which."""
    meant = "a Radiance .hdr or an OpenEXR image"
    check_header(path, meant)
    if _starts_with(path, exr.MAGIC):
        return exr.read_exr(path)
    image = _decode(path, meant)
    if image.dtype != np.float32:
        raise InputError(f"{path}: {image.dtype} where a linear HDR image is meant; give a .hdr or .exr file")
    return _rgb(image, path)


def read_linear(path: str | Path) -> np.ndarray:
    """An HDR image in any of the forms methods write theirs, as (H, W, 3) float32, linear RGB, unscaled.

    .hdr and .exr as :func:`read_hdr`; .npy: (H, W, 3) or (3, H, W) of any real numbers, also with leading axes of 1;
    .tif: 32-bit floats as they are, 16-bit numbers divided by 65535 and taken for linear.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".npy":
        return _read_npy(path)
    return _read_linear_tiff(path) if suffix in TIFF_SUFFIXES else read_hdr(path)


def check_finite(image: np.ndarray, path: str | Path) -> np.ndarray:
    """The image (H, W, C) as it is. Raises InputError, with the file's name, where it holds NaN or infinity."""
    bad = ~np.isfinite(image).all(axis=-1)
    if bad.any():
        y, x = np.argwhere(bad)[0]
        raise InputError(
            f"{path}: {bad.sum()} of {bad.size} pixels are NaN or infinite, the first in row {y}, column {x}; "
            "repair the image first"
        )
    return image


def write_hdr(path: str | Path, image: np.ndarray) -> None:
    """Write (H, W, 3) linear RGB as Radiance RGBE: 8-bit mantissas with a shared exponent, about 49 dB in mu.

    Where colours are strong, what it leaves of a pixel's weak channels is down to 24 dB.
    """
    _encode(path, np.ascontiguousarray(image, dtype=np.float32))


def _starts_with(path: str | Path, magic: bytes) -> bool:
    try:
        with Path(path).open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False  # decoding says what is wrong


def write_png(path: str | Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) RGB, uint8 or float in [0, 1], as an 8-bit picture (PNG or JPEG, by the suffix)."""
    data = imageio.imwrite("<bytes>", to_8_bit(picture), extension=Path(path).suffix.lower())
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def encode_webp(picture: np.ndarray, quality: int) -> bytes:
    """(H, W, 3) uint8 RGB as the bytes of a WebP file; quality 1 to 100."""
    ok, data = cv2.imencode(".webp", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert ok
    return data.tobytes()


def to_8_bit(image: np.ndarray) -> np.ndarray:
    """[0, 1], any shape -> uint8, rounded; what lies outside is cut off, NaN is black. uint8 comes back as it is."""
    if image.dtype == np.uint8:
        return image
    return np.rint(np.nan_to_num(image).clip(0.0, 1.0) * 255.0).astype(np.uint8)


def rgbe_round(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) linear RGB as float32, as it comes back from a Radiance file that OpenCV has written, bit for bit.

    Eight bits a channel, cut off, under the exponent of the pixel's largest channel (Ward, "Real pixels", 1991). OpenCV
    itself would take a temporary file for it.
    """
    image = image.astype(np.float32)
    largest = image.max(axis=-1, keepdims=True)
    black = largest < 1e-32
    mantissa, exponent = np.frexp(np.where(black, np.float32(1.0), largest))
    steps = (image * (mantissa * np.float32(256.0) / np.where(black, np.float32(1.0), largest))).astype(np.int32)
    return np.where(black, np.float32(0.0), np.ldexp(steps.astype(np.uint8).astype(np.float32), exponent - 8))


def _read_npy(path: str | Path) -> np.ndarray:
    meant = "an array (H, W, 3) or (3, H, W) of numbers is meant"
    try:
        array = np.load(regular_file(path, meant), mmap_mode="r", allow_pickle=False)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or 'damaged'}); {meant}") from None
    except Exception:  # of a damaged header numpy raises whatever its parts do
        raise InputError(f"{path}: not a readable .npy file; {meant}") from None
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype.kind not in "fiu":
        raise InputError(f"{path}: an array {array.shape} of {array.dtype}; {meant}")
    return np.array(array, np.float32, order="C")  # a copy, off the file


def _read_linear_tiff(path: str | Path) -> np.ndarray:
    planes = _planes(path)
    image = _decode(path, "a 16-bit or 32-bit float RGB TIFF") if planes is None else planes
    if image.dtype.kind != "f" and image.dtype != np.uint16:
        raise InputError(f"{path}: {image.dtype} where linear values are meant; save 16-bit numbers or 32-bit floats")
    scale = np.float32(1.0 if image.dtype.kind == "f" else LDR_SCALE - 1)
    return _rgb(image, path).astype(np.float32) / scale


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, ...) as stored -> upright, by the EXIF orientation 1 to 8: transpose, then flip."""
    if orientation in LYING:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _planes(path: str | Path) -> np.ndarray | None:
    """A TIFF with a plane per channel as OpenCV gives others: upright BGR. OpenCV itself scrambles 16-bit planes."""
    if check_header(path, "a TIFF") is None:
        return None
    found = tiff.layout(path)
    if found is None or not found.planar:
        return None
    if found.channels > MOST_CHANNELS:  # a file of some kB may speak of 65535, each of its size
        raise _not_rgb(path, found.channels)
    image = turn(tiff.read_planes(path), found.orientation)
    return image[..., [2, 1, 0, *range(3, image.shape[2])]] if image.shape[2] >= 3 else image


def _decode(path: str | Path, meant: str) -> np.ndarray:
    header = check_header(path, meant)
    try:
        image = _read_radiance(path) if header and header.kind == "Radiance" else None
        if header and image is None:  # not cv2.imread: that cannot open every name on Windows
            image = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}); {meant} is meant") from None
    except (cv2.error, MemoryError):
        image = None
    if image is None:
        raise InputError(f"{path}: not a readable image (damaged or another format); {meant} is meant")
    return image


def _read_radiance(path: str | Path) -> np.ndarray | None:
    """A Radiance file off the disk; None where that fails.

    From memory OpenCV reads them by way of a temporary file, which a full disk does not take.
    """
    try:
        return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except (cv2.error, UnicodeError, TypeError):
        return None


def _rgb(image: np.ndarray, path: str | Path) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] not in (3, 4):
        raise _not_rgb(path, 1 if image.ndim == 2 else image.shape[2])
    return np.ascontiguousarray(image[..., 2::-1])


def _not_rgb(path: str | Path, channels: int) -> InputError:
    return InputError(f"{path}: {channels} channel(s) where RGB is meant; convert it to RGB")


def _encode(path: str | Path, image: np.ndarray, flags: list[int] | None = None) -> None:
    suffix, bgr = Path(path).suffix, np.ascontiguousarray(image[..., ::-1])
    with atomic_path(path) as temporary:
        if suffix == ".hdr" and _write_radiance(temporary, bgr):
            return
        ok, data = cv2.imencode(suffix, bgr, flags or [])
        if not ok or len(data) == 0:
            raise InputError(f"{path}: cannot be encoded; make room in {tempfile.gettempdir()}, which OpenCV works in")
        temporary.write_bytes(data.data)  # ndarray.tofile does not see that the last of it finds no room


def _write_radiance(path: Path, bgr: np.ndarray) -> bool:
    """Write a Radiance file straight to the disk, where its name and the disk let OpenCV; see _read_radiance."""
    try:
        return cv2.imwrite(str(path), bgr)
    except (cv2.error, UnicodeError):
        return False

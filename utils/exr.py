"""OpenEXR files, by the OpenEXR project's own package: RGB as floats, with what a file says of camera and colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.files import InputError, atomic_path
from utils.headers import check_size

MAGIC = b"\x76\x2f\x31\x01"
RGB = ("R", "G", "B")
LUMINANCE_CHROMA = ("Y", "RY", "BY")  # R - Y and B - Y over Y, half as many each way
REC_709 = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)  # what a file without chromaticities means


def read_exr(path: str | Path) -> np.ndarray:
    """The R, G and B channels of a file's first part as (H, W, 3) float32, or what its Y, RY and BY come to.

    What comes back is the display window, black where the file has no data. Raises InputError for a damaged file and
    one without these channels.
    """
    import OpenEXR

    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            header = dict(file.header())  # a copy: the file empties its own when it closes
            found = sorted(file.channels())
            names = LUMINANCE_CHROMA if {*found} >= {*LUMINANCE_CHROMA} and "R" not in found else RGB
            planes = [file.channels()[name].pixels for name in names if name in found]
    except Exception as error:  # the package raises several kinds
        raise InputError(f"{path}: not a readable OpenEXR image ({_first_line(error)})") from None
    if names == LUMINANCE_CHROMA:
        try:
            y, ry, by = planes
            planes = _rgb(y, ry, by, header.get("chromaticities", REC_709)) if _is_halved(y, ry, by) else []
        except (ArithmeticError, ValueError):  # numpy's LinAlgError is one
            raise InputError(f"{path}: not a readable OpenEXR image (its chromaticities are no primaries)") from None
    if len(planes) < 3 or len({plane.shape for plane in planes}) > 1:
        raise InputError(
            f"{path}: channels {', '.join(found) or 'none'} where R, G and B of one size are meant; convert it to RGB"
        )
    (left, top), (right, bottom) = header["displayWindow"]  # may be large where the data window is small
    check_size(Path(path), int(right - left) + 1, int(bottom - top) + 1, Path(path).stat().st_size)
    return _displayed(np.stack(planes, axis=-1).astype(np.float32), header)


def write_exr(
    path: str | Path, image: np.ndarray, *, half: bool = False, attributes: Mapping[str, Any] | None = None
) -> None:
    """Write (H, W, 3) linear RGB: 32-bit floats by default, exact; 16-bit with ``half``.

    Args:
        path: of the file.
        image: linear RGB.
        half: 16-bit floats.
        attributes: names and values of the header, such as ``expTime`` and ``chromaticities``.
    """
    import OpenEXR

    pixels = np.ascontiguousarray(image, dtype=np.float16 if half else np.float32)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **(attributes or {})}
    with atomic_path(path) as temporary:
        try:
            OpenEXR.File(header, {"RGB": pixels}).write(str(temporary))
        except RuntimeError as error:  # what the package makes of a full disk
            raise OSError(_first_line(error)) from None


def read_header(path: str | Path) -> dict[str, Any]:
    """The attributes of a file."""
    import OpenEXR

    with OpenEXR.File(str(path), separate_channels=True, header_only=True) as file:
        return dict(file.header())


def rgb_to_xyz(primaries: Sequence[Sequence[float]]) -> np.ndarray:
    """(3, 3) from linear RGB to XYZ by the x, y of red, green, blue and white; white has the luminance 1."""
    xyz = np.array([[x / y, 1.0, (1.0 - x - y) / y] for x, y in primaries]).T
    return xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])


def _is_halved(y: np.ndarray, *chroma: np.ndarray) -> bool:
    """Whether each plane of chroma has half as many rows and columns as the luminance, as RGB follows from."""
    return all(plane.shape == (-(-y.shape[0] // 2), -(-y.shape[1] // 2)) for plane in chroma)


def _rgb(y: np.ndarray, ry: np.ndarray, by: np.ndarray, chromaticities: Sequence[float]) -> list[np.ndarray]:
    """R, G and B of (H, W) luminance and its chroma (ceil(H/2), ceil(W/2)), which lies on the even pixels.

    The formulas of OpenEXR's technical introduction, section "Luminance/Chroma Images"; here chroma is interpolated
    linearly.
    """
    weights = rgb_to_xyz(np.asarray(chromaticities, np.float64).reshape(4, 2).tolist())[1]  # Y of each of R, G and B
    y, ry, by = (plane.astype(np.float32) for plane in (y, ry, by))
    red, blue = ((_enlarged(chroma, y.shape) + 1) * y for chroma in (ry, by))
    return [red, ((y - weights[0] * red - weights[2] * blue) / weights[1]).astype(np.float32), blue]


def _enlarged(chroma: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Twice as many each way, cut to ``size``: the given values on even pixels, means between them."""
    for axis in (0, 1):
        given = np.moveaxis(chroma, axis, 0)
        between = (given + np.concatenate([given[1:], given[-1:]])) / 2
        both = np.stack([given, between], axis=1).reshape(-1, *given.shape[1:])
        chroma = np.moveaxis(both[: size[axis]], 0, axis)
    return chroma


def _displayed(data: np.ndarray, header: Mapping[str, Any]) -> np.ndarray:
    """The data window brought to the display window: cut where it is larger, black around it where it is smaller."""
    (x0, y0), (x1, y1) = header["displayWindow"]
    (left, top), _ = header["dataWindow"]
    shift_y, shift_x = int(top - y0), int(left - x0)
    height, width = int(y1 - y0) + 1, int(x1 - x0) + 1
    if (shift_y, shift_x, height, width) == (0, 0, *data.shape[:2]):
        return data
    shown = np.zeros((height, width, 3), np.float32)
    rows = slice(max(shift_y, 0), min(shift_y + data.shape[0], height))
    columns = slice(max(shift_x, 0), min(shift_x + data.shape[1], width))
    if rows.start < rows.stop and columns.start < columns.stop:
        shown[rows, columns] = data[
            rows.start - shift_y : rows.stop - shift_y, columns.start - shift_x : columns.stop - shift_x
        ]
    return shown


def _first_line(error: Exception) -> str:
    line = (str(error) or type(error).__name__).splitlines()[0]
    return "damaged or cut short" if "part index" in line else line  # no part of it could be read

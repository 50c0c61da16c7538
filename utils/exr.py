"""OpenEXR files, by the OpenEXR project's own package: RGB as floats, with what a file says of camera and colours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from utils.files import InputError, atomic_path
from utils.headers import check_size

MAGIC = b"\x76\x2f\x31\x01"
RGB = ("R", "G", "B")


def read_exr(path: str | Path) -> np.ndarray:
    """The R, G and B channels of a file's first part as (H, W, 3) float32.

    What comes back is the display window, black where the file has no data. Raises InputError for a damaged file and
    one without these channels.
    """
    import OpenEXR

    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            header = dict(file.header())  # a copy: the file empties its own when it closes
            found = sorted(file.channels())
            planes = [file.channels()[name].pixels for name in RGB if name in found]
    except Exception as error:  # the package raises several kinds
        raise InputError(f"{path}: not a readable OpenEXR image ({_first_line(error)})") from None
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
    return (str(error) or type(error).__name__).splitlines()[0]

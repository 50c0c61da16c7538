"""How large an image file says it is, read off its head: what a decoder would take is known before it is asked.

The formats that this project reads: PNG, JPEG, TIFF, OpenEXR and Radiance.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from utils.files import InputError, reason, regular_file

MOST_PIXELS = int(float(os.environ.get("AFUNET_MOST_MEGAPIXELS", "400")) * 1e6)  # of an image that is read
BYTES_PER_PIXEL = 16  # of the largest there are: four channels of floats
PACKED = 4000  # pixels' bytes that one byte of a file can stand for, by far: deflate reaches 1032
SMALL = 2**26  # bytes in memory that any file may take

TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of numbers in a TIFF
WIDTH, HEIGHT = 256, 257  # tags of TIFF
JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of JPEG that tell the size: start of frame
RADIANCE_HEAD = 64 * 2**10  # bytes in which a Radiance file tells its size


class Header(NamedTuple):
    """What an image says of itself: its format, and its size in pixels."""

    kind: str
    width: int
    height: int


def check_header(path: str | Path, meant: str) -> Header | None:
    """The header of an image file; None for another format, or one too damaged to tell.

    Raises InputError where there is no file with an end, and as :func:`check_size`; ``meant`` says what to give.
    """
    path = regular_file(path, f"{meant} is meant")
    try:
        size = path.stat().st_size
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = _read_header(data)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}); {meant} is meant") from None
    except ValueError:  # an empty file
        return None
    if header:
        check_size(path, header.width, header.height, size)
    return header


def check_size(path: Path, width: int, height: int, file_bytes: int | None = None) -> None:
    """Raise InputError for an image larger than the limit, or than a file of so many bytes can hold.

    The limit is 400 megapixels, or what AFUNET_MOST_MEGAPIXELS says.
    """
    said = f"{path}: says it has {width}x{height} pixels"
    if width * height > MOST_PIXELS:
        raise InputError(f"{said}; {MOST_PIXELS / 1e6:g} megapixels are the most (see AFUNET_MOST_MEGAPIXELS)")
    if file_bytes is not None and width * height * BYTES_PER_PIXEL > SMALL + PACKED * file_bytes:
        raise InputError(f"{said}, in {file_bytes} bytes; it is damaged")
    if file_bytes is not None and file_bytes > SMALL + width * height * BYTES_PER_PIXEL:
        raise InputError(f"{said}, in {file_bytes} bytes; that is no photograph")


def _read_header(data: mmap.mmap) -> Header | None:
    for start, read in READERS.items():
        if data[: len(start)] == start:
            try:
                header = read(data)
            except (struct.error, ValueError, IndexError, KeyError, OverflowError):
                return None
            return header if min(header.width, header.height) > 0 else None
    return None


def _png(data: mmap.mmap) -> Header:
    place = 8
    while place < len(data):
        length = struct.unpack_from(">I", data, place)[0]
        place += 12 + length  # of length, name and checksum beside the content
        if place > len(data):
            raise ValueError("a chunk that ends behind the file")  # OpenCV asks for its memory all the same
    return Header("PNG", *struct.unpack_from(">II", data, 16))


def _jpeg(data: mmap.mmap) -> Header:
    place = 2
    while True:
        mark, marker, length = struct.unpack_from(">BBH", data, place)
        if mark != 0xFF:
            raise ValueError("no marker")
        if marker in JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return Header("JPEG", width, height)
        place += 1 if marker == 0xFF else 2 + length


def _tiff(data: mmap.mmap) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    large = struct.unpack_from(order + "H", data, 2)[0] == 43  # BigTIFF
    start = struct.unpack_from(order + ("Q" if large else "I"), data, 8 if large else 4)[0]
    count = struct.unpack_from(order + ("Q" if large else "H"), data, start)[0]
    step, first, value = (20, start + 8, 12) if large else (12, start + 2, 8)
    tags = {}
    for place in range(first, min(first + step * count, len(data) - step + 1), step):
        tag, kind = struct.unpack_from(order + "HH", data, place)
        if tag in (WIDTH, HEIGHT):
            tags[tag] = struct.unpack_from(order + TIFF_TYPES[kind], data, place + value)[0]
    return Header("TIFF", tags[WIDTH], tags[HEIGHT])


def _exr(data: mmap.mmap) -> Header:
    """The data window of the first part; attributes are name, type, size and value one after the other."""
    place = 8
    while data[place]:
        name_end = data.find(b"\0", place)
        type_end = data.find(b"\0", name_end + 1)
        if type_end < place:
            break
        size = struct.unpack_from("<I", data, type_end + 1)[0]
        if data[place:name_end] == b"dataWindow":
            left, top, right, bottom = struct.unpack_from("<4i", data, type_end + 5)
            return Header("EXR", right - left + 1, bottom - top + 1)
        place = type_end + 5 + size
    raise ValueError("no data window")


def _radiance(data: mmap.mmap) -> Header:
    found = re.search(rb"\n\n[-+]Y +(\d{1,9}) +[-+]X +(\d{1,9})\s", data[:RADIANCE_HEAD])
    if not found:
        raise ValueError("no size")
    return Header("Radiance", int(found[2]), int(found[1]))


READERS: dict[bytes, Callable[[mmap.mmap], Header]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8\xff": _jpeg,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"II+\0": _tiff,
    b"MM\0+": _tiff,
    b"\x76\x2f\x31\x01": _exr,
    b"#?": _radiance,
}

"""The size of an image is known, and judged, before anything decodes it."""

from __future__ import annotations

import resource
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils import headers
from utils.exr import write_exr
from utils.files import InputError
from utils.headers import Header, check_header
from utils.images import read_hdr, read_ldr, write_hdr, write_ldr

GREY = np.zeros((30, 41, 3))


@pytest.mark.parametrize(
    ("name", "write", "kind"),
    [
        ("a.tif", lambda p: write_ldr(p, GREY.astype(np.uint16)), "TIFF"),
        ("a.png", lambda p: write_ldr(p, GREY.astype(np.uint16)), "PNG"),
        ("a.exr", lambda p: write_exr(p, GREY), "EXR"),
        ("a.hdr", lambda p: write_hdr(p, GREY), "Radiance"),
        ("a.jpg", lambda p: Image.fromarray(GREY.astype(np.uint8)).save(p), "JPEG"),
        ("b.jpg", lambda p: Image.fromarray(GREY.astype(np.uint8)).save(p, progressive=True, exif=b"Exif\0\0"), "JPEG"),
        ("b.tif", lambda p: Image.fromarray(GREY.astype(np.uint8)).save(p, big_tiff=True), "TIFF"),
    ],
)
def test_sizes_are_read_off_the_head(name: str, write: Callable[[Path], None], kind: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    assert check_header(tmp_path / name, "an image") == Header(kind, 41, 30)


def exr_of(width: int, height: int) -> bytes:
    """An OpenEXR file of a few hundred bytes that claims to be large."""
    with tempfile.TemporaryDirectory() as folder:
        write_exr(Path(folder) / "a.exr", np.zeros((8, 8, 3), np.float32))
        data = (Path(folder) / "a.exr").read_bytes()
    window = struct.pack("<4i", 0, 0, 7, 7)
    return data.replace(window, struct.pack("<4i", 0, 0, width - 1, height - 1))


def png_of(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for width, height, message in ((20_000, 10_000, "it is damaged"), (100_000, 50_000, "400 megapixels are the most")):
        (tmp_path / "a.exr").write_bytes(exr_of(width, height))
        (tmp_path / "a.png").write_bytes(png_of(width, height))
        (tmp_path / "a.hdr").write_bytes(f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode())
        for read, name in ((read_hdr, "a.exr"), (read_ldr, "a.png"), (read_hdr, "a.hdr")):
            with pytest.raises(InputError, match=rf"{name}: says it has {width}x{height} pixels.*{message}"):
                read(tmp_path / name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_the_limit_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ldr(tmp_path / "a.tif", GREY.astype(np.uint16))
    monkeypatch.setattr(headers, "MOST_PIXELS", 1000)
    with pytest.raises(InputError, match=r"41x30 pixels; 0.001 megapixels are the most"):
        read_ldr(tmp_path / "a.tif")


def test_a_black_photograph_packs_well_and_is_read(tmp_path: Path) -> None:
    write_exr(tmp_path / "a.exr", np.zeros((2000, 3000, 3)))
    assert read_hdr(tmp_path / "a.exr").shape == (2000, 3000, 3)
    write_ldr(tmp_path / "a.png", np.zeros((2000, 3000, 3), np.uint16))
    assert read_ldr(tmp_path / "a.png").shape == (2000, 3000, 3)


def test_a_png_whose_chunk_claims_more_than_the_file_takes_no_memory(tmp_path: Path) -> None:
    write_ldr(tmp_path / "a.png", GREY.astype(np.uint16))
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[33:37] = b"\xff\xfe\x00\x0f"  # the length of the first IDAT
    (tmp_path / "a.png").write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="not a readable image"):
        read_ldr(tmp_path / "a.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB

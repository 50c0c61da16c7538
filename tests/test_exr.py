"""OpenEXR files: exact both ways, whatever windows, channels and parts others write."""

import struct

import numpy as np
import OpenEXR
import pytest

from utils.exr import _enlarged, read_exr, read_header, write_exr
from utils.files import InputError
from utils.images import read_hdr

H, W = 20, 30


@pytest.fixture
def image():
    return (np.random.default_rng(1).random((H, W, 3)) * 8).astype(np.float32)


def write(path, channels, **header):
    basic = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File({**basic, **header}, channels).write(str(path))


def window(left, top, right, bottom):
    return np.array([left, top], np.int32), np.array([right, bottom], np.int32)


def test_there_and_back(tmp_path, image):
    write_exr(tmp_path / "a.exr", image, attributes={"expTime": 0.01, "cameraModel": "Camera"})
    assert np.array_equal(read_exr(tmp_path / "a.exr"), image)
    header = read_header(tmp_path / "a.exr")
    assert header["expTime"] == pytest.approx(0.01) and header["cameraModel"] == "Camera"
    write_exr(tmp_path / "h.exr", image, half=True)
    assert np.array_equal(read_exr(tmp_path / "h.exr"), image.astype(np.float16).astype(np.float32))


def test_the_content_counts_not_the_name(tmp_path, image):
    write_exr(tmp_path / "a.exr", image)
    path = (tmp_path / "a.exr").rename(tmp_path / "a.hdr")
    assert np.array_equal(read_hdr(path), image)


@pytest.mark.parametrize(
    ("data", "display", "expected"),
    [
        ((5, 7, 34, 26), (5, 7, 34, 26), lambda i: i),
        ((5, 7, 34, 26), (0, 0, 44, 39), lambda i: np.pad(i, ((7, 13), (5, 10), (0, 0)))),  # as Hugin writes
        ((-5, -5, 24, 14), (0, 0, 19, 9), lambda i: i[5:15, 5:25]),  # overscan
        ((-5, 10, 24, 29), (0, 0, 29, 19), lambda i: np.pad(i[:10, 5:], ((10, 0), (0, 5), (0, 0)))),
        ((100, 100, 129, 119), (0, 0, 9, 9), lambda i: np.zeros((10, 10, 3), np.float32)),
    ],
)
def test_the_display_window_is_what_comes_back(tmp_path, image, data, display, expected):
    write(tmp_path / "a.exr", {"RGB": image}, dataWindow=window(*data), displayWindow=window(*display))
    assert np.array_equal(read_exr(tmp_path / "a.exr"), expected(image))


def test_other_channels_and_parts_are_left_aside(tmp_path, image):
    planes = {name: np.ascontiguousarray(image[..., i]) for i, name in enumerate("RGB")}
    write(tmp_path / "a.exr", {**planes, "A": planes["R"], "Z": planes["G"], "layer.R": planes["B"]})
    assert np.array_equal(read_exr(tmp_path / "a.exr"), image)
    basic = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    parts = [OpenEXR.Part(dict(basic), {"RGB": image * k}, name) for name, k in (("left", 1), ("right", 2))]
    OpenEXR.File(parts).write(str(tmp_path / "b.exr"))
    assert np.array_equal(read_exr(tmp_path / "b.exr"), image)
    write(tmp_path / "t.exr", {"RGB": image}, type=OpenEXR.tiledimage, tiles=OpenEXR.TileDescription())
    assert np.array_equal(read_exr(tmp_path / "t.exr"), image)


def luminance_chroma_file(planes, primaries=()):
    """An uncompressed OpenEXR file, since the package writes no channels of two sizes. Odd lines hold Y alone."""

    def attribute(name, kind, value):
        return b"%s\0%s\0%s%s" % (name, kind, struct.pack("<i", len(value)), value)

    names = sorted(planes)
    steps = {name: H // planes[name].shape[0] for name in names}
    channels = b"".join(b"%s\0" % n.encode() + struct.pack("<i4x2i", 2, steps[n], steps[n]) for n in names) + b"\0"
    area, one = struct.pack("<4i", 0, 0, W - 1, H - 1), struct.pack("<f", 1)
    given = [attribute(b"chromaticities", b"chromaticities", struct.pack("<8f", *primaries))] if primaries else []
    header = [
        *given,
        *(attribute(b"channels", b"chlist", channels), attribute(b"compression", b"compression", b"\0")),
        *(attribute(b"dataWindow", b"box2i", area), attribute(b"displayWindow", b"box2i", area)),
        *(attribute(b"lineOrder", b"lineOrder", b"\0"), attribute(b"pixelAspectRatio", b"float", one)),
        *(attribute(b"screenWindowCenter", b"v2f", bytes(8)), attribute(b"screenWindowWidth", b"float", one), b"\0"),
    ]
    lines = []
    for y in range(H):
        data = b"".join(planes[n][y // steps[n]].astype("<f4").tobytes() for n in names if y % steps[n] == 0)
        lines.append(struct.pack("<2i", y, len(data)) + data)
    begin = b"\x76\x2f\x31\x01\x02\0\0\0" + b"".join(header)
    offsets = len(begin) + 8 * H + np.cumsum([0, *map(len, lines[:-1])])
    return begin + offsets.astype("<u8").tobytes() + b"".join(lines)


def test_luminance_and_chroma_become_rgb(tmp_path):
    """As some files of openexr-images have it. Of one hue, so chroma is the same everywhere, and light that varies."""
    red, green, blue = colour = np.array([3.0, 1.0, 0.5], np.float32)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    light = np.random.default_rng(2).random((H, W)).astype(np.float32) + 0.5
    half = np.ones((H // 2, W // 2), np.float32)
    planes = {"Y": luminance * light, "RY": (red / luminance - 1) * half, "BY": (blue / luminance - 1) * half}
    (tmp_path / "a.exr").write_bytes(luminance_chroma_file(planes))
    assert read_exr(tmp_path / "a.exr") == pytest.approx(light[..., None] * colour, rel=2e-4)


def test_chroma_of_another_size_is_refused(tmp_path, image):
    write(tmp_path / "a.exr", {name: np.ascontiguousarray(image[..., 0]) for name in ("Y", "RY", "BY")})
    with pytest.raises(InputError, match=r"a\.exr: channels BY, RY, Y where R, G and B of one size are meant"):
        read_exr(tmp_path / "a.exr")


@pytest.mark.parametrize("primaries", [(0.64, 0.0, 0.3, 0.6, 0.15, 0.06, 0.31, 0.33), (0.3, 0.3) * 4])
def test_primaries_that_are_none_are_refused(tmp_path, primaries):
    planes = {"Y": np.ones((H, W)), "RY": np.zeros((H // 2, W // 2)), "BY": np.zeros((H // 2, W // 2))}
    (tmp_path / "a.exr").write_bytes(luminance_chroma_file(planes, primaries))
    with pytest.raises(InputError, match="its chromaticities are no primaries"):
        read_exr(tmp_path / "a.exr")


def test_chroma_is_interpolated():
    assert np.array_equal(_enlarged(np.array([[0.0, 4.0]]), (2, 4)), [[0, 2, 4, 4], [0, 2, 4, 4]])


@pytest.mark.parametrize("names", [("Y",), ("beauty.R", "beauty.G", "beauty.B"), ("R", "G")])
def test_without_rgb_it_says_what_is_there(tmp_path, image, names):
    write(tmp_path / "a.exr", {name: np.ascontiguousarray(image[..., 0]) for name in names})
    with pytest.raises(InputError, match=f"a.exr: channels .*{names[0]}.* where R, G and B"):
        read_hdr(tmp_path / "a.exr")


def test_a_truncated_file(tmp_path, image):
    write_exr(tmp_path / "a.exr", image)
    (tmp_path / "a.exr").write_bytes((tmp_path / "a.exr").read_bytes()[:-900])
    with pytest.raises(InputError, match=r"not a readable OpenEXR image \(damaged or cut short\)"):
        read_exr(tmp_path / "a.exr")

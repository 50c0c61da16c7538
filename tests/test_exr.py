"""OpenEXR files: exact both ways, whatever windows, channels and parts others write."""

import numpy as np
import OpenEXR
import pytest

from utils.exr import read_exr, read_header, write_exr
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


@pytest.mark.parametrize("names", [("Y",), ("beauty.R", "beauty.G", "beauty.B"), ("R", "G")])
def test_without_rgb_it_says_what_is_there(tmp_path, image, names):
    write(tmp_path / "a.exr", {name: np.ascontiguousarray(image[..., 0]) for name in names})
    with pytest.raises(InputError, match=f"a.exr: channels .*{names[0]}.* where R, G and B"):
        read_hdr(tmp_path / "a.exr")


def test_a_truncated_file(tmp_path, image):
    write_exr(tmp_path / "a.exr", image)
    (tmp_path / "a.exr").write_bytes((tmp_path / "a.exr").read_bytes()[:-900])
    with pytest.raises(InputError, match="not a readable OpenEXR image"):
        read_exr(tmp_path / "a.exr")

"""HDR images in every form that methods write theirs: the same values from each, or one line that says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from utils.exr import write_exr
from utils.files import InputError
from utils.images import LINEAR_SUFFIXES, check_finite, read_linear, rgbe_round, write_hdr

IMAGE = np.random.default_rng(0).random((12, 17, 3), dtype=np.float32)
LEVELS = 65535


def tiff(path: Path, image: np.ndarray, **options: object) -> None:
    tifffile.imwrite(path, image, photometric="rgb", **options)


FORMS: dict[str, tuple[Callable[[Path], object], float]] = {  # file -> how it is written, how exact it is
    "a.exr": (lambda path: write_exr(path, IMAGE), 0.0),
    "a.hdr": (lambda path: write_hdr(path, IMAGE), 1 / 256),
    "a.npy": (lambda path: np.save(path, IMAGE), 0.0),
    "chw.npy": (lambda path: np.save(path, IMAGE.transpose(2, 0, 1)), 0.0),
    "batch.npy": (lambda path: np.save(path, IMAGE.transpose(2, 0, 1)[None].astype(np.float64)), 0.0),
    "half.npy": (lambda path: np.save(path, IMAGE.astype(np.float16)), 2**-11),
    "float.tif": (lambda path: tiff(path, IMAGE), 0.0),
    "packed.TIFF": (lambda path: tiff(path, IMAGE, compression="zlib"), 0.0),
    "16bit.tiff": (lambda path: tiff(path, np.rint(IMAGE * LEVELS).astype(np.uint16)), 0.5001 / LEVELS),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_values(name: str, tmp_path: Path) -> None:
    write, tolerance = FORMS[name]
    write(tmp_path / name)
    found = read_linear(tmp_path / name)
    assert found.dtype == np.float32 and found.flags.c_contiguous and found.shape == IMAGE.shape
    assert np.abs(found - IMAGE).max() <= tolerance
    assert (tmp_path / name).suffix.lower() in LINEAR_SUFFIXES


def test_full_scale_of_16_bits_is_one(tmp_path: Path) -> None:
    tiff(tmp_path / "a.tif", np.full((4, 5, 3), LEVELS, np.uint16))
    assert (read_linear(tmp_path / "a.tif") == 1.0).all()


def test_channels_stored_one_after_the_other_are_read_as_others_are(tmp_path: Path) -> None:
    values = (IMAGE * LEVELS).astype(np.uint16)
    tiff(tmp_path / "planar.tif", values.transpose(2, 0, 1), planarconfig="separate")
    tiff(tmp_path / "plain.tif", values)
    assert np.array_equal(read_linear(tmp_path / "planar.tif"), read_linear(tmp_path / "plain.tif"))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "8bit.tif": (lambda path: tiff(path, np.zeros((4, 5, 3), np.uint8)), "uint8 where linear values are meant"),
    "grey.npy": (lambda path: np.save(path, IMAGE[..., 0]), r"an array \(12, 17\) of float32; an array \(H, W, 3\)"),
    "complex.npy": (lambda path: np.save(path, IMAGE.astype(complex)), "of complex128"),
    "object.npy": (lambda path: np.save(path, np.array([{}]), allow_pickle=True), r"not a readable \.npy file"),
    "cut.npy": (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00v"), r"not a readable \.npy file"),
    "empty.npy": (lambda path: path.write_bytes(b""), r"not a readable \.npy file"),
    "text.exr": (lambda path: path.write_text("no image"), "not a readable image"),
    "text.tif": (lambda path: path.write_text("no image"), "not a readable image"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_one_line_with_the_name(name: str, tmp_path: Path) -> None:
    write, message = BAD[name]
    write(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: .*{message}") as caught:
        read_linear(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["absent.npy", "absent.tif", "absent.exr"])
def test_a_missing_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{name}: cannot be read"):
        read_linear(tmp_path / name)


def test_rounding_to_rgbe_is_what_opencv_writes_and_reads() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((300, 400, 3), np.float32) * np.exp2(rng.integers(-40, 40, (300, 400, 1))).astype(np.float32)
    image[::3] *= np.exp2(rng.integers(-12, 1, image[::3].shape)).astype(np.float32)
    image[0, :6] = [[0, 0, 0], [1e-40, 0, 0], [1e-30, 1e-35, 0], [1, 255 / 256, 0.999999], [0.5, -0.2, 0], [-1, -2, -3]]
    ok, data = cv2.imencode(".hdr", image[..., ::-1])
    assert ok and (read := cv2.imdecode(data, cv2.IMREAD_UNCHANGED)) is not None
    rounded = rgbe_round(image)
    assert rounded.dtype == np.float32 and np.array_equal(rounded, read[..., ::-1])


def test_numbers_are_checked_with_the_files_name() -> None:
    assert check_finite(IMAGE, "a.exr") is IMAGE
    broken = IMAGE.copy()
    broken[2, 5, 1] = np.nan
    with pytest.raises(InputError, match=r"a\.exr: 1 of 204 pixels are NaN or infinite, the first in row 2, column 5"):
        check_finite(broken, "a.exr")

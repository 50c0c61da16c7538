"""Photographs: every kind of file comes out upright, on the network's tone curve, with its exposure."""

import struct
import sys
import time

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.ExifTags import IFD, Base

from tests.handheld import exif
from utils.files import InputError
from utils.images import ldr_to_float, read_ldr, write_ldr
from utils.photographs.colour import ASSUMED, curve_of, curve_table, to_frame
from utils.photographs.shots import photographs_in, read_frame, read_shot, write_preview


def write_dng(tifffile, path, mosaic, more=()):
    """The smallest RAW file LibRaw reads: a Bayer mosaic with a linear 16-bit scale, 1/100 s at f/8."""
    tags = [
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),  # DNG version
        (50708, "s", 0, "Test", True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, bytes([0, 1, 1, 2]), True),
        (50717, "I", 1, 65535, True),  # white level
        (50721, "2i", 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True),
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),
        (50778, "H", 1, 21, True),
        (33434, "2I", 1, (1, 100), True),
        (33437, "2I", 1, (8, 1), True),
    ]
    tifffile.imwrite(path, mosaic, photometric=32803, extratags=[*tags, *more], metadata=None)


def test_the_identity_curve_leaves_16_bit_values_as_they_are():
    pixels = np.arange(2**16, dtype=np.uint16).reshape(256, 256, 1).repeat(3, axis=2)
    assert np.array_equal(to_frame(pixels, ASSUMED.with_curve(2.2)), pixels)


@pytest.mark.parametrize(
    ("gamma", "value", "linear"),
    [("srgb", 188, 0.5029), ("srgb", 10, 0.0030353), ("linear", 51, 0.2), (1.8, 128, (128 / 255) ** 1.8)],
)
def test_curves_give_the_radiance_they_stand_for(gamma, value, linear):
    assert curve_table(curve_of(gamma), 8)[value] == pytest.approx(linear, rel=2e-3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation_comes_out_upright(tmp_path, suffix, turn):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16], upright[:16, 32:] = 255, 128  # corners: white, grey; black, black
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1]}
    stored |= {5: np.swapaxes(upright, 0, 1), 6: np.rot90(upright), 8: np.rot90(upright, -1)}
    stored[7] = np.rot90(stored[5], 2)
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(np.ascontiguousarray(stored[turn])).save(path, quality=95, exif=exif(turn=turn))
    shot = read_shot(path)
    frame = read_frame(shot, 2.2)
    assert (shot.height, shot.width) == frame.shape[:2] == (32, 48)
    assert np.abs(ldr_to_float(frame) - upright / 255).max() < 0.05


@pytest.mark.parametrize("kind", ["L", "RGBA", "I;16", "RGB;16", "RGBA;16"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation_of_every_kind_of_tiff(tmp_path, kind, turn):
    depth = np.uint16 if kind.endswith(";16") else np.uint8
    upright = np.random.default_rng(1).integers(0, np.iinfo(depth).max, (12, 20, 4), depth)
    upright = upright[..., : {"L": 1, "I": 1, "RGB": 3, "RGBA": 4}[kind.partition(";")[0]]]
    turns = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1]}
    turns |= {5: upright.swapaxes(0, 1), 6: np.rot90(upright), 8: np.rot90(upright, -1)}
    turns[7] = np.rot90(turns[5], 2)
    path = tmp_path / "photo.tif"
    path.write_bytes(plain_tiff(turns[turn], turn))
    shot = read_shot(path)
    frame = read_frame(shot, 2.2)
    expected = upright[..., :3].astype(np.float64) / (2**16 if depth == np.uint16 else 255)
    assert (shot.height, shot.width) == frame.shape[:2] == (12, 20)
    assert np.abs(ldr_to_float(frame) - expected).max() < 1e-4


def plain_tiff(pixels, turn, extra=()):
    """The bytes of an uncompressed TIFF of one strip, with an orientation and further (tag, type, count, data)."""
    height, width, channels = pixels.shape
    data = np.ascontiguousarray(pixels).tobytes()
    tags = [(256, 4, 1, width), (257, 4, 1, height), (259, 3, 1, 1)]
    tags += [(258, 3, channels, [8 * pixels.itemsize] * channels)]
    tags += [(262, 3, 1, 1 if channels == 1 else 2), (273, 4, 1, 8), (274, 3, 1, turn), (277, 3, 1, channels)]
    tags += [(278, 4, 1, height), (279, 4, 1, len(data)), *([(338, 3, 1, 2)] if channels == 4 else []), *extra]
    tags.sort()
    body, entries = data + b"\0" * (-len(data) % 4), b""
    for tag, kind, count, value in tags:
        raw = value if isinstance(value, bytes) else np.array(value, "<u2" if kind == 3 else "<u4").tobytes()
        if len(raw) > 4:
            raw, body = struct.pack("<I", 8 + len(body)), body + raw + b"\0" * (-len(raw) % 4)
        entries += struct.pack("<HHI", tag, kind, count) + raw.ljust(4, b"\0")
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory


def test_the_preview_of_a_tiff_keeps_what_is_said_of_the_photograph_only(tmp_path):
    pixels = np.zeros((12, 20, 3), np.uint8)
    long = b"x" * 70_000  # XMP and Photoshop data, each longer than a JPEG can hold
    extra = [(700, 1, len(long), long), (34377, 7, len(long), long), (272, 2, 7, b"Camera\0")]
    (tmp_path / "a.tif").write_bytes(plain_tiff(pixels, 1, extra))
    write_preview(tmp_path / "a.jpg", pixels, read_shot(tmp_path / "a.tif"))
    with Image.open(tmp_path / "a.jpg") as image:
        assert {Base.Model, Base.Orientation} <= set(image.getexif()) <= {Base.Model, Base.Orientation, Base.ExifOffset}


def test_a_tiffs_place_is_kept(tmp_path):
    data = exif(1 / 50)
    data.get_ifd(IFD.GPSInfo)[1] = "N"
    data[Base.GPSInfo] = data.get_ifd(IFD.GPSInfo)
    Image.new("RGB", (20, 12)).save(tmp_path / "a.tif", exif=data)
    write_preview(tmp_path / "a.jpg", np.zeros((12, 20, 3), np.uint8), read_shot(tmp_path / "a.tif"))
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.getexif().get_ifd(IFD.GPSInfo)[1] == "N"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bits_are_kept_and_alpha_is_dropped(tmp_path, suffix, channels):
    values = np.random.default_rng(0).integers(0, 2**16, (20, 30, 3), np.uint16)
    path = tmp_path / f"frame{suffix}"
    write_ldr(path, values)
    if channels == 4:
        cv2.imwrite(str(path), np.dstack([values[..., ::-1], np.full((20, 30), 777, np.uint16)]))
    assert np.array_equal(read_frame(read_shot(path), 2.2), values)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_other_8_bit_kinds_become_rgb(tmp_path, mode):
    Image.fromarray(np.full((20, 30, 3), 255, np.uint8)).convert(mode).save(tmp_path / "a.png")
    frame = read_frame(read_shot(tmp_path / "a.png"))
    assert frame.shape == (20, 30, 3)
    assert frame.min() == 65535


def test_16_bit_grey_is_repeated(tmp_path):
    values = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    Image.fromarray(values).save(tmp_path / "grey.png")
    assert np.array_equal(read_frame(read_shot(tmp_path / "grey.png"), 2.2), np.repeat(values[..., None], 3, axis=2))


def test_raw_is_developed_linear_and_read_with_its_exposure(tmp_path):
    pytest.importorskip("rawpy")
    tifffile = pytest.importorskip("tifffile")
    ramp = np.linspace(0, 60000, 64 * 96).reshape(64, 96).astype(np.uint16)
    write_dng(tifffile, tmp_path / "a.dng", ramp)
    shot = read_shot(tmp_path / "a.dng")
    assert (shot.height, shot.width, shot.f_number) == (64, 96, 8.0)
    assert shot.seconds == pytest.approx(0.01)
    green = ldr_to_float(read_frame(shot, "srgb", [1.0, 1.0, 1.0, 1.0]))[10:-10, 10:-10, 1] ** 2.2
    assert green == pytest.approx(ramp[10:-10, 10:-10] / 65536, abs=0.005)


def test_heic_is_read(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    Image.new("RGB", (48, 32), (255, 255, 255)).save(tmp_path / "a.heic", exif=exif(0.02).tobytes())
    shot = read_shot(tmp_path / "a.heic")
    assert (shot.height, shot.width) == (32, 48)
    assert shot.seconds == pytest.approx(0.02)
    assert read_frame(shot).min() > 64000


@pytest.mark.parametrize(("name", "package"), [("a.nef", "rawpy"), ("a.heic", "pillow-heif")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(InputError, match=f'{name}.*pip install "{package}'):
        read_shot(tmp_path / name)


def test_the_preview_keeps_the_references_exif_but_not_its_orientation(tmp_path):
    path = tmp_path / "a.jpg"
    data = exif(1 / 50, turn=6)
    data.get_ifd(IFD.Exif)[Base.MakerNote] = b"x" * 70_000  # longer than a JPEG can hold
    Image.new("RGB", (48, 32)).save(tmp_path / "a.png", exif=data)
    shot = read_shot(tmp_path / "a.png")
    write_preview(path, np.zeros((48, 32, 3), np.uint8), shot)
    assert shot.exif[Base.Orientation] == 6 and Base.MakerNote in shot.exif.get_ifd(IFD.Exif)  # it is left as it was
    with Image.open(path) as image:
        written = image.getexif()
        assert image.size == (32, 48)
        assert written[Base.Orientation] == 1
        assert written[Base.Model] == "Camera"
        assert float(written.get_ifd(IFD.Exif)[Base.ExposureTime]) == pytest.approx(0.02)


def planar(path, values, **more):
    """A TIFF with a plane per channel, as Photoshop saves "per channel"."""
    kind = "rgb" if values.shape[2] >= 3 else "minisblack"
    tifffile.imwrite(path, np.moveaxis(values, -1, 0), photometric=kind, planarconfig="separate", **more)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("more", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"rowsperstrip": 5}])
def test_tiffs_with_a_plane_per_channel(tmp_path, channels, depth, more):
    values = np.random.default_rng(0).integers(1, np.iinfo(depth).max, (24, 40, channels), depth)
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    planar(tmp_path / "a.tif", values, **more, **extra)
    frame = read_frame(read_shot(tmp_path / "a.tif"), 2.2)
    scale = 2**16 if depth == np.uint16 else 255
    assert np.abs(ldr_to_float(frame) - values[..., :3] / scale).max() < 1e-4
    if depth == np.uint16:
        assert np.array_equal(read_ldr(tmp_path / "a.tif"), values[..., :3])  # as data sets are read


def test_planes_without_a_width_are_one_line(tmp_path):
    planar(tmp_path / "a.tif", np.ones((24, 40, 3), np.uint16))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages.first.tags["ImageWidth"].offset
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[place + 4 : place + 8] = b"\xff\xff\xff\xff"  # how many widths there are
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.tif: a TIFF with a plane per channel that cannot be read .*interleaved"):
        read_ldr(tmp_path / "a.tif")


def test_more_channels_than_a_picture_has_are_refused_unread(tmp_path, monkeypatch):
    """65535 of them took seconds, and would take as many times the memory that the header's size says."""
    planar(tmp_path / "a.tif", np.ones((24, 40, 5), np.uint16), extrasamples=["unspecified", "unspecified"])
    monkeypatch.setattr("utils.tiff.read_planes", None)
    with pytest.raises(InputError, match=r"a\.tif: 5 channel\(s\) where RGB is meant"):
        read_ldr(tmp_path / "a.tif")


def test_a_tiff_whose_pictures_follow_each_other_in_a_circle_is_read_at_once(tmp_path):
    values = np.random.default_rng(0).integers(0, 2**16, (24, 40, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        first, place = file.pages.first.offset, file.pages.first.offset + 2 + 12 * len(file.pages.first.tags)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[place : place + 4] = first.to_bytes(4, "little")
    (tmp_path / "a.tif").write_bytes(data)
    began = time.process_time()
    assert np.array_equal(read_ldr(tmp_path / "a.tif"), values)
    assert time.process_time() - began < 1


def test_a_monochrome_sensor_gives_grey(tmp_path, monkeypatch):
    """A damaged DNG, or a camera without a colour filter: LibRaw then gives one channel."""
    rawpy = pytest.importorskip("rawpy")
    write_dng(tifffile, tmp_path / "a.dng", np.full((64, 96), 30000, np.uint16))
    shot = read_shot(tmp_path / "a.dng")
    develop = rawpy.RawPy.postprocess

    class Monochrome:
        def __init__(self, raw):
            self.sizes, self.postprocess = raw.sizes, lambda **options: develop(raw, **options)[..., 1:2]

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    opened = rawpy.imread
    monkeypatch.setattr(rawpy, "imread", lambda path: Monochrome(opened(path)))
    frame = read_frame(shot)
    assert frame.shape == (64, 96, 3) and np.array_equal(frame[..., 0], frame[..., 2]) and frame.max() > 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_planes_are_turned_like_other_tiffs(tmp_path, orientation):
    values = np.random.default_rng(0).integers(0, 2**16, (24, 40, 3), np.uint16)
    planar(tmp_path / "a.tif", values, extratags=[(274, 3, 1, orientation, True)])
    tifffile.imwrite(tmp_path / "b.tif", values, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    ours, interleaved = (read_frame(read_shot(tmp_path / name), 2.2) for name in ("a.tif", "b.tif"))
    assert np.array_equal(ours, interleaved)


@pytest.mark.parametrize(
    ("values", "kind", "word"),
    [
        (np.ones((24, 40, 3), np.float32), "rgb", "float32"),
        (np.ones((24, 40, 3), np.float16), "rgb", "float16"),
        (np.ones((24, 40), np.float32), "minisblack", "float32"),
        (np.ones((24, 40, 3), np.uint32), "rgb", "32 bits"),
        (np.ones((24, 40, 4), np.uint8), "separated", "CMYK"),
        (np.ones((24, 40, 4), np.uint16), "separated", "CMYK"),
        (np.ones((24, 40, 5), np.uint16), "rgb", "5 channels"),
        (np.ones((24, 40), np.int16), "minisblack", "int16"),
    ],
)
def test_tiffs_of_other_pixels_are_refused_by_what_they_are(tmp_path, values, kind, word):
    extra = {"extrasamples": ["unspecified"] * 2} if values.shape[-1] == 5 else {}
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=kind, **extra)
    with pytest.raises(InputError, match=f"a.tif.*{word}"):
        read_frame(read_shot(tmp_path / "a.tif"))


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_grey_whose_zero_is_white(tmp_path, depth):
    values = np.random.default_rng(0).integers(0, np.iinfo(depth).max, (24, 40), depth)
    tifffile.imwrite(tmp_path / "a.tif", np.iinfo(depth).max - values, photometric="miniswhite")
    frame = read_frame(read_shot(tmp_path / "a.tif"), 2.2)[..., 1]
    assert ldr_to_float(frame) == pytest.approx(values / (2**16 if depth == np.uint16 else 255), abs=1e-4)


def like_a_camera(path, first_is_reduced=True):
    """Like Nikon's .nrw or Hasselblad's .3fr: a small picture first, and what the sensor saw beneath it."""
    with tifffile.TiffWriter(path) as file:
        small = np.full((16, 24, 3), 128, np.uint8)
        file.write(small, photometric="rgb", subfiletype=int(first_is_reduced), subifds=1)
        file.write(np.full((64, 96), 1000, np.uint16), photometric=32803, extratags=[(33421, 3, 2, (2, 2), True)])


@pytest.mark.parametrize("name", ["a.nrw", "a.srw", "a.3fr", "a.rwl", "a.iiq", "a.tif", "a.TIFF", "a.jpg", "a.png"])
@pytest.mark.parametrize("first_is_reduced", [True, False])
def test_raw_under_any_name_is_developed(tmp_path, name, first_is_reduced):
    pytest.importorskip("rawpy")
    like_a_camera(tmp_path / name, first_is_reduced)
    shot = read_shot(tmp_path / name)
    assert shot.raw
    assert read_frame(shot).shape == (64, 96, 3)  # the small picture has 16x24


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_a_dng_under_another_name_is_developed(tmp_path, name):
    pytest.importorskip("rawpy")
    write_dng(tifffile, tmp_path / name, np.full((64, 96), 30000, np.uint16))
    shot = read_shot(tmp_path / name)
    assert shot.raw and (shot.height, shot.width) == (64, 96)
    assert np.median(ldr_to_float(read_frame(shot, None, [1.0] * 4))[..., 1]) ** 2.2 == pytest.approx(0.458, abs=0.005)


def test_a_thumbnail_before_the_picture_is_not_taken_for_it(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((16, 24, 3), np.uint8), photometric="rgb", subfiletype=1)
        file.write(np.zeros((64, 96, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="thumbnail"):
        read_shot(tmp_path / "a.tif")


def test_heic_under_the_name_of_a_jpeg(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    Image.new("RGB", (48, 32), (255, 255, 255)).save(tmp_path / "a.heic")
    path = (tmp_path / "a.heic").rename(tmp_path / "IMG_1.JPG")
    assert read_frame(read_shot(path)).min() > 64000


def test_names_are_sorted_as_people_count(tmp_path):
    for name in ("IMG_10.jpg", "IMG_9.jpg", "img_2.JPG", "b1.png", "a20.png", "a3.png", "IMG_9_2.jpg"):
        (tmp_path / name).write_bytes(b"x")
    names = [path.name for path in photographs_in(tmp_path)]
    assert names == ["a3.png", "a20.png", "b1.png", "img_2.JPG", "IMG_9.jpg", "IMG_9_2.jpg", "IMG_10.jpg"]

"""Files that a reconstruction leaves: read back by other programs' libraries, with the radiance that was put in."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.ExifTags import IFD, Base

from tests.gain_map import light_of, metadata_of
from tests.handheld import exif, write_bracket
from utils.exr import read_header
from utils.files import InputError
from utils.images import read_hdr
from utils.photographs.bracket import load_bracket
from utils.photographs.colour import srgb, srgb_profile
from utils.photographs.preview import tone_curve
from utils.photographs.results import Picture, check_formats, exr_attributes, write_image
from utils.photographs.settings import Settings
from utils.photographs.shots import read_shot, write_preview
from utils.ultrahdr import BRIGHTEST


@pytest.fixture(scope="module")
def bracket(tmp_path_factory):
    return load_bracket(write_bracket(tmp_path_factory.mktemp("bracket"), size=(64, 96)), alignment="none")


@pytest.fixture(scope="module")
def hdr():
    """Coloured, smooth, over ten stops."""
    y, x = np.mgrid[0:64, 0:96] / np.array([63.0, 95.0])[:, None, None]
    grey = 2.0 ** (-10 + 10 * x)
    return (grey[..., None] * np.stack([np.ones_like(y), 0.7 + 0.3 * y, 1 - 0.4 * y], axis=-1)).astype(np.float32)


def write(tmp_path, kind, hdr, bracket, **settings):
    return write_image(kind, tmp_path / "a", Picture(hdr, bracket, Settings(**settings)))


def test_an_exr_says_what_its_values_mean(tmp_path, hdr, bracket):
    path = write(tmp_path, "exr", hdr, bracket)
    header = read_header(path)
    assert np.array_equal(read_hdr(path), hdr)
    assert header["chromaticities"] == pytest.approx((0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290))
    assert (header["expTime"], header["aperture"], header["isoSpeed"]) == pytest.approx((0.01, 8.0, 100.0))
    assert (header["cameraMake"], header["cameraModel"]) == ("Maker", "Camera")
    assert header["capDate"] == "2024:05:17 12:30:00"
    # the dark frame, 1/400 s at f/8 and ISO 100, clips at 120 * 64 / (100 / 400) cd/m2
    assert header["whiteLuminance"] == pytest.approx(78 / 0.65 * 64 * 4, rel=1e-4)
    wide = exr_attributes(bracket, "p3")
    assert wide["chromaticities"][:2] == (0.680, 0.320)


@pytest.mark.parametrize("gamut", ["bt709", "p3", "bt2020"])
def test_a_dng_gives_libraw_the_radiance_put_in(tmp_path, hdr, bracket, gamut):
    rawpy = pytest.importorskip("rawpy")
    path = write(tmp_path, "dng", hdr, bracket, gamut=gamut)
    assert path.name == "a_linear.dng"
    spaces = {"bt709": rawpy.ColorSpace.sRGB, "p3": rawpy.ColorSpace.P3D65, "bt2020": rawpy.ColorSpace.Rec2020}
    with rawpy.imread(str(path)) as raw:
        read = raw.postprocess(
            gamma=(1, 1), no_auto_bright=True, adjust_maximum_thr=0.0, output_bps=16, use_camera_wb=True,
            output_color=spaces[gamut],
        )  # fmt: skip
    seen = hdr > 2.0**-6
    off = np.log2(read[seen] / 65535 / hdr[seen])
    assert abs(np.median(off)) < 0.01
    assert np.abs(off[hdr[seen] > 2.0**-4]).max() < 0.01
    assert np.abs(off).max() < 0.03  # LibRaw's 14 bits, in the shadows


def test_an_ultra_hdr_jpeg_reads_back_as_light(tmp_path, hdr, bracket):
    pytest.importorskip("imagecodecs")
    data = write(tmp_path, "ultrahdr", hdr, bracket).read_bytes()
    exr = read_hdr(write(tmp_path, "exr", hdr, bracket))
    light = light_of(data) / 4  # the reference clips at 1/4
    assert light.shape == exr.shape
    assert abs(np.log2(light.max() / exr.max())) < 0.1
    assert np.median(np.abs(np.log2(light[exr > 0.01] / exr[exr > 0.01]))) < 0.05


def test_an_ultra_hdr_jpeg_asks_for_the_room_it_uses(tmp_path, hdr, bracket):
    """Two stops above white here: with more said than used, a screen would show less than it can."""
    pytest.importorskip("imagecodecs")
    data = write(tmp_path, "ultrahdr", hdr, bracket).read_bytes()
    assert metadata_of(data[data.rindex(b"\xff\xd8") :]).headroom == pytest.approx(2.0, abs=0.01)
    dim = write(tmp_path, "ultrahdr", hdr / 16, bracket).read_bytes()
    assert metadata_of(dim[dim.rindex(b"\xff\xd8") :]).headroom == pytest.approx(np.log2(1.1), abs=0.01)
    assert abs(np.log2(light_of(dim).max() / 4 / (hdr / 16).max())) < 0.1


def test_an_ultra_hdr_jpeg_keeps_out_what_is_no_light(tmp_path, hdr, bracket):
    pytest.importorskip("imagecodecs")
    spoilt = hdr * np.float32(2.0**7)  # up to 9 stops above white
    spoilt[:2, :2], spoilt[:2, 2:4] = np.nan, -1.0
    light = light_of(write(tmp_path, "ultrahdr", spoilt, bracket).read_bytes())
    assert abs(np.log2(light.max() / BRIGHTEST)) < 0.1
    assert light[:2, :4].max() < 0.05


@pytest.mark.slow
def test_an_ultra_hdr_jpeg_opens_in_a_browser(tmp_path, hdr, bracket, watched):
    pytest.importorskip("imagecodecs")
    path = write(tmp_path, "ultrahdr", hdr, bracket)
    (tmp_path / "page.html").write_text(f'<link rel="icon" href="data:,"><img src="{path.name}">')
    watched.page.goto((tmp_path / "page.html").as_uri())
    size = "e => e.decode().then(() => [e.naturalWidth, e.naturalHeight])"
    assert watched.page.locator("img").evaluate(size) == [96, 64]
    with Image.open(io.BytesIO(watched.page.locator("img").screenshot())) as image:
        shown = np.asarray(image.convert("RGB")) / 255
    white = hdr * 4
    plain = white / (1 + white.max(axis=2, keepdims=True))
    assert srgb(shown) == pytest.approx(plain, abs=0.04)  # as a screen without HDR shows it
    watched.check()


def test_an_ultra_hdr_jpeg_of_odd_size(tmp_path, hdr, bracket):
    pytest.importorskip("imagecodecs")
    with Image.open(write(tmp_path, "ultrahdr", hdr[:63, :95], bracket)) as image:
        assert image.size == (94, 62)


def test_without_imagecodecs_it_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
    with pytest.raises(InputError, match='pip install "imagecodecs'):
        check_formats(("exr", "ultrahdr"))
    check_formats(("exr", "hdr", "tiff16", "dng"))


def test_a_tone_mapped_tiff_is_the_preview_with_16_bits(tmp_path, hdr, bracket):
    path = write(tmp_path, "tiff16", hdr, bracket)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        assert page.asarray() / 65535 == pytest.approx(tone_curve(hdr).clip(0, 1), abs=1e-4)
        assert page.iccprofile == srgb_profile()
        assert page.tags["Model"].value == "Camera"


def test_a_radiance_file_is_bt709_whatever_the_primaries(tmp_path, hdr, bracket):
    plain = read_hdr(write(tmp_path, "hdr", hdr, bracket))
    assert plain == pytest.approx(hdr, rel=0.02, abs=1e-3)
    wide = read_hdr(write(tmp_path, "hdr", hdr, bracket, gamut="bt2020"))
    assert wide.sum(axis=2) != pytest.approx(plain.sum(axis=2), rel=0.02)


def test_the_preview_carries_camera_lens_and_time(tmp_path):
    data = exif(1 / 50)
    data.get_ifd(IFD.Exif)[int(Base.LensModel)] = "50mm F1.8"
    Image.new("RGB", (48, 32)).save(tmp_path / "a.jpg", exif=data)
    shot = read_shot(tmp_path / "a.jpg")
    assert shot.lens == "50mm F1.8"
    write_preview(tmp_path / "p.jpg", np.zeros((32, 48, 3), np.uint8), shot)
    with Image.open(tmp_path / "p.jpg") as image:
        details = image.getexif().get_ifd(IFD.Exif)
        assert details[Base.LensModel] == "50mm F1.8"
        assert details[Base.DateTimeOriginal] == "2024:05:17 12:30:00"


def test_the_preview_of_raw_carries_the_camera_too(tmp_path):
    pytest.importorskip("rawpy")
    from tests.test_photographs import write_dng

    tags = [(271, "s", 0, "Maker", True), (272, "s", 0, "Camera", True)]
    write_dng(tifffile, tmp_path / "a.dng", np.full((64, 96), 30000, np.uint16), tags)
    write_preview(tmp_path / "p.jpg", np.zeros((64, 96, 3), np.uint8), read_shot(tmp_path / "a.dng"))
    with Image.open(tmp_path / "p.jpg") as image:
        assert image.getexif()[Base.Model] == "Camera"
        assert float(image.getexif().get_ifd(IFD.Exif)[Base.ExposureTime]) == pytest.approx(0.01)

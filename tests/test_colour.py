"""Colours of files: what a profile, a chunk or EXIF says is obeyed, and gives the radiance that was put in."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base

from tests.handheld import exif
from utils.files import InputError
from utils.images import ldr_to_float
from utils.photographs.bracket import load_bracket
from utils.photographs.colour import (
    PRIMARIES,
    ColourError,
    _parametric,
    from_cicp,
    from_profile,
    matrix_between,
    srgb_profile,
    to_bt709,
    to_frame,
    xyz_of,
)
from utils.photographs.shots import read_frame, read_shot, write_preview

BT709 = {"red": (0.4361, 0.2225, 0.0139), "green": (0.3851, 0.7169, 0.0971), "blue": (0.1431, 0.0606, 0.7141)}
SPACES = {  # XYZ (D50) of red, green and blue as the makers' own profiles have them
    "sRGB": tuple(BT709.values()),
    "Display P3": ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)),
    "Adobe RGB": ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)),
    "ProPhoto": ((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249)),
}


def s15(*values):
    return b"".join(struct.pack(">i", round(value * 2**16)) for value in values)


def make_profile(name, gamma, grey=False):
    """An ICC profile of version 2 with a matrix and one curve: an exponent, or None for a table of sRGB."""
    if gamma is None:
        v = np.linspace(0, 1, 1024)
        values = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4) * 65535
        curve = b"curv\0\0\0\0" + struct.pack(">I", 1024) + np.rint(values).astype(">u2").tobytes()
    else:
        curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    text = name.encode() + b"\0"
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)}
    tags |= {b"cprt": b"text\0\0\0\0CC0\0", b"wtpt": b"XYZ \0\0\0\0" + s15(0.9642, 1.0, 0.8249)}
    if grey:
        tags[b"kTRC"] = curve
    else:
        for letter, column in zip("rgb", SPACES[name], strict=True):
            tags[f"{letter}XYZ".encode()] = b"XYZ \0\0\0\0" + s15(*column)
            tags[f"{letter}TRC".encode()] = curve
    start, table, body = 132 + 12 * len(tags), b"", b""
    for key, value in tags.items():
        table += key + struct.pack(">II", start + len(body), len(value))
        body += value + b"\0" * (-len(value) % 4)
    head = struct.pack(
        ">I4sI4s4s4s", start + len(body), b"test", 0x02400000, b"mntr", b"GRAY" if grey else b"RGB ", b"XYZ "
    )
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + s15(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def radiance(h=24, w=36):
    """Linear BT.709 in (0.02, 0.9), coloured, and inside every gamut here."""
    rng = np.random.default_rng(3)
    grey = np.geomspace(0.03, 0.6, w)[None, :, None]
    return (grey * rng.uniform(0.7, 1.4, (h, w, 3))).clip(0.02, 0.9)


def encoded(light, space, gamma):
    """BT.709 light as the values of a space: the arithmetic of colour, done apart from the code under test."""
    to_space = np.linalg.inv(np.array(SPACES[space]).T) @ np.array(SPACES["sRGB"]).T
    inside = light @ to_space.T
    if gamma is None:
        return np.where(inside <= 0.0031308, 12.92 * inside, 1.055 * inside ** (1 / 2.4) - 0.055)
    return inside ** (1 / gamma)


def write(path, values, bits, profile):
    """Values in [0, 1] as a TIFF, PNG or JPEG with a profile, in RGB order; 16-bit PNGs get theirs as a chunk."""
    pixels = np.rint(values * (2**bits - 1)).astype(np.uint16 if bits == 16 else np.uint8)
    if path.suffix == ".tif":
        kind = "rgb" if pixels.ndim == 3 else "minisblack"
        tifffile.imwrite(path, pixels, photometric=kind, iccprofile=profile)
    elif bits == 8:
        Image.fromarray(pixels).save(path, quality=100, subsampling=0, icc_profile=profile)
    else:
        cv2.imwrite(str(path), pixels[..., ::-1])
        add_chunk(path, b"iCCP", b"x\0\0" + zlib.compress(profile))


def add_chunk(path, kind, data):
    png = path.read_bytes()
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(png[:33] + chunk + png[33:])


def seen(path, gamma=None, gamut="bt709"):
    """The linear light of the frame that is made of a file."""
    return ldr_to_float(read_frame(read_shot(path), gamma, gamut=gamut)).astype(np.float64) ** 2.2


CURVES = {"sRGB": None, "Display P3": None, "Adobe RGB": 2.2, "ProPhoto": 1.8}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(("suffix", "bits"), [(".tif", 16), (".tif", 8), (".png", 16), (".png", 8), (".jpg", 8)])
def test_an_embedded_profile_gives_the_radiance_put_in(tmp_path, space, suffix, bits):
    light, path = radiance(), tmp_path / f"a{suffix}"
    write(path, encoded(light, space, CURVES[space]), bits, make_profile(space, CURVES[space]))
    assert read_shot(path).colours.name == f"embedded profile {space}"
    if suffix == ".jpg":  # its chroma is rounded
        assert np.median(np.abs(seen(path) / light - 1)) < 0.02
    else:
        assert seen(path) == pytest.approx(light, rel=2e-3 if bits == 16 else 0.06, abs=2e-4 if bits == 16 else 4e-3)


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2, None])
def test_a_linear_profile_and_others_of_the_same_primaries(tmp_path, gamma):
    light, path = radiance(), tmp_path / "a.tif"
    write(path, encoded(light, "sRGB", gamma), 16, make_profile("sRGB", gamma))
    assert seen(path) == pytest.approx(light, rel=2e-3, abs=2e-4)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("gamma", [1.0, 1.8, None])
def test_grey_with_a_profile_of_grey(tmp_path, bits, gamma):
    light, path = radiance()[..., 1], tmp_path / "a.tif"
    values = encoded(np.repeat(light[..., None], 3, axis=2), "sRGB", gamma)[..., 1]
    write(path, values, bits, make_profile("grey", gamma, grey=True))
    assert read_shot(path).colours.name == "embedded profile grey"
    expected = np.repeat(light[..., None], 3, axis=2)
    assert seen(path) == pytest.approx(expected, rel=2e-3 if bits == 16 else 0.05, abs=5e-4 if bits == 16 else 4e-3)


def test_littlecms_agrees(tmp_path):
    values = np.rint(encoded(radiance(), "Adobe RGB", 2.2) * 255).astype(np.uint8)
    profile = make_profile("Adobe RGB", 2.2)
    theirs = ImageCms.profileToProfile(
        Image.fromarray(values), ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    )
    theirs = np.asarray(theirs) / 255
    theirs = np.where(theirs <= 0.04045, theirs / 12.92, ((theirs + 0.055) / 1.055) ** 2.4)
    ours = ldr_to_float(to_frame(values, from_profile(profile))).astype(np.float64) ** 2.2
    assert ours == pytest.approx(theirs, abs=6e-3)


def test_an_exponent_by_hand_counts_and_the_primaries_stay(tmp_path):
    light, path = radiance(), tmp_path / "a.tif"
    write(path, encoded(light, "Adobe RGB", 1.5), 16, make_profile("Adobe RGB", 2.2))  # the profile lies of the curve
    assert seen(path, gamma=1.5) == pytest.approx(light, rel=2e-3, abs=2e-4)
    assert "tone curve 1.5 as told" in read_shot(path).colours.with_curve(1.5).name


def test_a_profile_of_tables_is_left_to_littlecms(tmp_path):
    """A profile without matrix, for which no exact arithmetic is here: 8 bits go through, 16 are refused."""
    colours = from_profile(make_profile("Display P3", None))
    tables = type(colours)("tables", tables=make_profile("Display P3", None))
    light = radiance()
    values = encoded(light, "Display P3", None)
    frame = to_frame(np.rint(values * 255).astype(np.uint8), tables)
    assert ldr_to_float(frame).astype(np.float64) ** 2.2 == pytest.approx(light, rel=0.08, abs=6e-3)
    with pytest.raises(ColourError, match="8 bits only"):
        to_frame(np.rint(values * 65535).astype(np.uint16), tables)


@pytest.mark.parametrize("kind", range(5))
def test_parametric_curves(kind):
    """Those of ICC.1, 10.18, at sRGB's numbers as far as the kind has them."""
    p = np.array([(2.4,), (2.4, 1 / 1.055, 0.055 / 1.055), (2.4, 0.9, 0.1, 0.05)][kind] if kind < 3 else ())
    if kind == 3:
        p = np.array((2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    if kind == 4:
        p = np.array((2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045, 0.01, 0.02))
    high = {0: 0.5**2.4, 1: 0.21404, 2: 0.55**2.4 + 0.05, 3: 0.21404, 4: 0.22404}[kind]
    low = {0: 0.01**2.4, 1: 0.0012450, 2: 0.109**2.4 + 0.05, 3: 0.01 / 12.92, 4: 0.01 / 12.92 + 0.02}[kind]
    assert _parametric(kind, p)(np.array([0.5, 0.01])) == pytest.approx([high, low], rel=1e-3)


def test_a_damaged_profile_is_said_and_srgb_assumed(tmp_path):
    Image.new("RGB", (32, 32), (188, 188, 188)).save(tmp_path / "a.jpg", icc_profile=b"nonsense" * 40)
    shot = read_shot(tmp_path / "a.jpg")
    assert shot.colours.name.startswith("sRGB (assumed: a damaged colour profile")
    assert seen(tmp_path / "a.jpg") == pytest.approx(0.5029, rel=0.01)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_pngs_gamma(tmp_path, bits, gamma):
    light, path = radiance(), tmp_path / "a.png"
    pixels = np.rint(light ** (1 / gamma) * (2**bits - 1)).astype(np.uint16 if bits == 16 else np.uint8)
    cv2.imwrite(str(path), pixels[..., ::-1])
    add_chunk(path, b"gAMA", struct.pack(">I", round(100_000 / gamma)))
    assert seen(path) == pytest.approx(light, rel=2e-3 if bits == 16 else 0.07, abs=2e-4 if bits == 16 else 4e-3)
    add_chunk(path, b"sRGB", b"\0")  # counts before gAMA
    assert read_shot(path).colours.name == "sRGB"


def test_pngs_gamma_with_its_chromaticities(tmp_path):
    light, path = radiance(), tmp_path / "a.png"
    pixels = np.rint(encoded(light, "Adobe RGB", 2.2) * 65535).astype(np.uint16)
    cv2.imwrite(str(path), pixels[..., ::-1])
    numbers = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
    add_chunk(path, b"cHRM", struct.pack(">8I", *(round(number * 100_000) for number in numbers)))
    add_chunk(path, b"gAMA", struct.pack(">I", 45455))
    assert seen(path) == pytest.approx(light, rel=5e-3, abs=5e-4)


@pytest.mark.parametrize("bits", [8, 16])
def test_pngs_cicp_counts_before_its_profile(tmp_path, bits):
    light, path = radiance(), tmp_path / "a.png"
    write(path, encoded(light, "Display P3", None), bits, make_profile("Adobe RGB", 2.2))
    add_chunk(path, b"cICP", bytes([12, 13, 0, 1]))
    assert seen(path) == pytest.approx(light, rel=5e-3 if bits == 16 else 0.06, abs=5e-4 if bits == 16 else 4e-3)


def test_the_curve_of_television():
    pixels = np.full((16, 16, 3), 32768, np.uint16)
    light = ldr_to_float(to_frame(pixels, from_cicp(1, 1))).astype(np.float64) ** 2.2
    assert light == pytest.approx(((0.5 + 0.099) / 1.099) ** (1 / 0.45), rel=1e-3)


@pytest.mark.parametrize(("transfer", "word"), [(16, "PQ"), (18, "HLG"), (200, "not known")])
def test_finished_hdr_pictures_are_refused(tmp_path, transfer, word):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((16, 16, 3), np.uint8))
    add_chunk(tmp_path / "a.png", b"cICP", bytes([9, transfer, 0, 1]))
    with pytest.raises(InputError, match=word):
        read_shot(tmp_path / "a.png")


def test_adobe_rgb_that_only_exif_names(tmp_path):
    light, path = radiance(), tmp_path / "a.jpg"
    data = exif()
    details = data.get_ifd(IFD.Exif)
    details[int(Base.ColorSpace)], details[int(IFD.Interop)] = 65535, {1: "R03"}
    pixels = np.rint(encoded(light, "Adobe RGB", 563 / 256) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=100, subsampling=0, exif=data)
    assert read_shot(path).colours.name == "Adobe RGB, by EXIF"
    assert np.median(np.abs(seen(path) / light - 1)) < 0.02


def test_what_is_assumed_is_said(tmp_path):
    paths = []
    for i, ev in enumerate((0, 2, 4)):
        paths.append(tmp_path / f"{i}.png")
        cv2.imwrite(str(paths[-1]), np.full((32, 48, 3), 10 * 2**ev, np.uint8))
    assert load_bracket(paths, ev=[0, 2, 4]).colours == "sRGB (assumed, no profile in the files)"
    assert load_bracket(paths, ev=[0, 2, 4], gamma=2.2).colours == "tone curve 2.2 as told"
    add_chunk(paths[1], b"gAMA", struct.pack(">I", 100_000))
    assert "PNG's gamma 1" in load_bracket(paths, ev=[0, 2, 4], gamma=None).colours


@pytest.mark.parametrize(("gamut", "primaries"), [("p3", "Display P3"), ("bt709", "sRGB")])
def test_a_wide_gamut_on_request(tmp_path, gamut, primaries):
    """A colour that BT.709 cannot show comes out whole in P3, and cut off in BT.709."""
    path = tmp_path / "a.tif"
    inside = np.broadcast_to(np.array([0.8, 0.05, 0.02]), (16, 16, 3))
    write(
        path,
        np.where(inside <= 0.0031308, 12.92 * inside, 1.055 * inside ** (1 / 2.4) - 0.055),
        16,
        make_profile("Display P3", None),
    )
    light = seen(path, gamut=gamut)
    matrix = np.linalg.inv(np.array(SPACES[primaries]).T) @ np.array(SPACES["Display P3"]).T
    assert light == pytest.approx((inside @ matrix.T).clip(0, 1), rel=5e-3, abs=1e-3)
    if gamut == "p3":
        assert to_bt709(light, "p3")[0, 0] == pytest.approx([0.969, 0.019, 0.002], abs=0.01)


def test_white_and_clipped_values_stay_what_they_are():
    white = np.full((16, 16, 3), 65535, np.uint16)
    for name, gamma in CURVES.items():
        assert to_frame(white, from_profile(make_profile(name, gamma))).min() > 65500
    for name in PRIMARIES:
        assert matrix_between(xyz_of(*PRIMARIES[name]), "bt2020").sum(axis=1) == pytest.approx(1.0)


def test_the_preview_is_srgb_whatever_the_photograph_was(tmp_path):
    write(tmp_path / "a.tif", encoded(radiance(), "sRGB", 1.0), 16, make_profile("sRGB", 1.0))
    write_preview(tmp_path / "a.jpg", np.full((24, 36, 3), 128, np.uint8), read_shot(tmp_path / "a.tif"))
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.info["icc_profile"] == srgb_profile()

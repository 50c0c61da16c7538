"""What a file says of its colours, obeyed: pixel values become linear light, in the primaries of the results.

A matrix profile is computed here, exactly and with all 16 bits; LittleCMS, by way of Pillow, checks every profile and
computes those made of tables, which it can for 8 bits only.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np
from PIL import Image, ImageCms

from utils.choices import Gamut
from utils.exposure import GAMMA, to_ldr
from utils.images import float_to_ldr, ldr_to_float

Curve = Callable[[np.ndarray], np.ndarray]  # encoded values in [0, 1] -> light in [0, 1]

D65 = (0.3127, 0.3290)
D50 = np.array([0.9642, 1.0, 0.8249])  # XYZ of the white that profiles are related to
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
PRIMARIES: dict[str, tuple[tuple[float, float], ...]] = {  # x, y of red, green, blue and white
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), D65),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),
    "adobe": ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060), D65),
    "ntsc": ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), (0.310, 0.316)),
    "pal": ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), D65),
    "smpte": ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    "dci": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
}
CICP_PRIMARIES = {1: "bt709", 4: "ntsc", 5: "pal", 6: "smpte", 7: "smpte", 9: "bt2020", 11: "dci", 12: "p3"}  # H.273
NAMES: dict[str, str] = dict(zip(get_args(Gamut), ("BT.709", "Display P3", "BT.2020"), strict=True))
SAME_PRIMARIES = 2e-3  # matrices nearer to the identity than this are roundings of it
ROWS = 256  # converted at a time


def srgb(v: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def television(v: np.ndarray) -> np.ndarray:
    """The camera curve of BT.709 and BT.2020."""
    return np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))


def power(exponent: float) -> Curve:
    return lambda v: v**exponent


CICP_CURVES: dict[int, Curve] = {  # H.273
    **dict.fromkeys((1, 6, 14, 15), television),
    4: power(GAMMA),
    5: power(2.8),
    8: power(1.0),
    13: srgb,
}
HDR_CURVES = {16: "PQ", 18: "HLG"}  # of finished HDR pictures, which are no exposures


class ColourError(Exception):
    """Colours that cannot be obeyed; the message says why, without the name of the file."""


@dataclass(frozen=True, eq=False)
class Colours:
    """How the values of a file become light.

    Attributes:
        name: what users are told, e.g. "embedded profile Display P3".
        curves: of red, green and blue.
        to_xyz: (3, 3) from linear RGB to XYZ with white D50; None for BT.709.
        tables: a profile made of tables, for LittleCMS; curves and to_xyz say nothing then.
        assumed: whether the file says nothing of its colours.
    """

    name: str
    curves: tuple[Curve, Curve, Curve] = (srgb, srgb, srgb)
    to_xyz: np.ndarray | None = None
    tables: bytes | None = field(default=None, repr=False)
    assumed: bool = False

    def with_curve(self, gamma: str | float) -> Colours:
        """The same primaries with a tone curve given by hand."""
        name = f"{self.name}, tone curve {gamma} as told" if self.to_xyz is not None else f"tone curve {gamma} as told"
        return replace(self, name=name, curves=(curve_of(gamma),) * 3, tables=None, assumed=False)


ASSUMED = Colours("sRGB (assumed, no profile in the files)", assumed=True)
STATED_SRGB = Colours("sRGB")
LINEAR = Colours("RAW, developed linear", (power(1.0),) * 3)


def curve_of(gamma: str | float) -> Curve:
    """``srgb``, ``linear``, or the exponent of a power law."""
    return srgb if gamma == "srgb" else power(1.0 if gamma == "linear" else float(gamma))


def adobe_rgb() -> Colours:
    """What a camera means that names Adobe RGB in EXIF and embeds nothing (DCF 2.0, option file)."""
    return Colours("Adobe RGB, by EXIF", (power(563 / 256),) * 3, xyz_of(*PRIMARIES["adobe"]))


def from_cicp(primaries: int, transfer: int) -> Colours:
    """The code points of ITU-T H.273 as PNG's cICP and HEIC's nclx have them; 2 is unspecified. Raises ColourError."""
    if transfer in HDR_CURVES:
        raise ColourError(f"a finished HDR picture ({HDR_CURVES[transfer]}), no exposure of a bracket")
    if (primaries not in CICP_PRIMARIES and primaries != 2) or (transfer not in CICP_CURVES and transfer != 2):
        raise ColourError(f"colours that are not known here (cICP {primaries}, {transfer}); export as sRGB")
    space = CICP_PRIMARIES.get(primaries, "bt709")
    name = f"cICP {primaries}/{transfer} ({space})"
    return Colours(name, (CICP_CURVES.get(transfer, srgb),) * 3, xyz_of(*PRIMARIES[space]))


def from_gamma(gamma: float, chromaticities: tuple[float, ...] | None = None) -> Colours:
    """PNG's gAMA, the encoding exponent, and its cHRM: x, y of white, red, green, blue. Raises ColourError."""
    if not 0.05 < gamma < 20.0:
        raise ColourError(f"a gAMA chunk of {gamma:g}, which is no exponent; remove it or pass --gamma")
    to_xyz = None
    if chromaticities is not None:
        white, *rgb = zip(chromaticities[::2], chromaticities[1::2], strict=True)
        to_xyz = xyz_of(*rgb, white)
    return Colours(f"PNG's gamma {1.0 / gamma:.3g}", (power(1.0 / gamma),) * 3, to_xyz)


def from_profile(icc: bytes) -> Colours:
    """An embedded ICC profile of RGB or grey. Raises ColourError for a damaged one."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile
        name = f"embedded profile {(profile.profile_description or 'without a name').strip()}"
        tags = _tags(icc)
        if profile.xcolor_space.strip() == "GRAY":
            return Colours(name, (_curve(tags[b"kTRC"]),) * 3)
        if profile.xcolor_space.strip() != "RGB":
            raise ColourError(f"{name} is for {profile.xcolor_space.strip()} where RGB or grey is meant")
        if not {b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"} <= tags.keys():
            return Colours(name, tables=icc)
        curves = _curve(tags[b"rTRC"]), _curve(tags[b"gTRC"]), _curve(tags[b"bTRC"])
        colorants = profile.red_colorant, profile.green_colorant, profile.blue_colorant
        return Colours(name, curves, np.array([colorant[0] for colorant in colorants if colorant]).T)
    except (OSError, ImageCms.PyCMSError, struct.error, ValueError, KeyError, TypeError, IndexError) as error:
        raise ColourError(f"a damaged colour profile ({error})") from None


def xyz_of(*points: tuple[float, float]) -> np.ndarray:
    """(3, 3) from linear RGB to XYZ, adapted to white D50 as profiles are, for x, y of red, green, blue and white."""
    xyz = np.array([[x / y, 1.0, (1.0 - x - y) / y] for x, y in points]).T
    rgb, white = xyz[:, :3], xyz[:, 3]
    cones = np.diag((BRADFORD @ D50) / (BRADFORD @ white))
    return np.linalg.inv(BRADFORD) @ cones @ BRADFORD @ (rgb * np.linalg.solve(rgb, white))


def matrix_between(to_xyz: np.ndarray | None, gamut: Gamut) -> np.ndarray:
    """(3, 3) from a file's linear RGB to that of the results. White stays white exactly."""
    source = xyz_of(*PRIMARIES["bt709"]) if to_xyz is None else to_xyz
    matrix = np.linalg.solve(xyz_of(*PRIMARIES[gamut]), source)
    return matrix / matrix.sum(axis=1, keepdims=True)


def curve_table(curve: Curve, bits: int) -> np.ndarray:
    """Light for each value of a file with 8 or 16 bits: (2^bits,) float64 in [0, 1]."""
    values = np.arange(2**bits)
    return curve(values / 255.0 if bits == 8 else ldr_to_float(values).astype(np.float64)).clip(0.0, 1.0)


def to_frame(pixels: np.ndarray, colours: Colours, gamut: Gamut = "bt709") -> np.ndarray:
    """A file's pixels as a frame of the data sets' kind.

    Args:
        pixels: (H, W, 3) uint8 or uint16, as the file has them.
        colours: what they mean.
        gamut: primaries of the result. What lies outside them is cut off.

    Returns:
        (H, W, 3) uint16 on the 2.2 curve.

    Raises:
        ColourError: 16-bit pixels with a profile made of tables.
    """
    if colours.tables is not None:
        pixels, colours = _by_tables(pixels, colours), STATED_SRGB
    bits = 8 * pixels.itemsize
    light = [curve_table(curve, bits) for curve in colours.curves]
    matrix = matrix_between(colours.to_xyz, gamut)
    frame = np.empty(pixels.shape, np.uint16)
    if np.abs(matrix - np.eye(3)).max() < SAME_PRIMARIES:
        for channel, table in enumerate(light):
            frame[..., channel] = float_to_ldr(to_ldr(table, 0.0))[pixels[..., channel]]
        return frame
    tables = [table.astype(np.float32) for table in light]
    for first in range(0, len(pixels), ROWS):
        rows = slice(first, first + ROWS)
        linear = np.stack([table[pixels[rows, :, channel]] for channel, table in enumerate(tables)], axis=-1)
        frame[rows] = float_to_ldr(to_ldr(linear @ matrix.T.astype(np.float32), 0.0))
    return frame


@functools.cache
def srgb_profile() -> bytes:
    """The profile of pictures made here; LittleCMS writes the time into it, so it is made once."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def to_bt709(image: np.ndarray, gamut: Gamut) -> np.ndarray:
    """Linear RGB (H, W, 3) of a wide gamut as screens take it; colours that they cannot show are cut off at 0."""
    if gamut == "bt709":
        return image
    matrix = matrix_between(xyz_of(*PRIMARIES[gamut]), "bt709").astype(np.float32)
    return (image @ matrix.T).clip(min=0.0)


def _by_tables(pixels: np.ndarray, colours: Colours) -> np.ndarray:
    if pixels.dtype != np.uint8:
        raise ColourError(f"{colours.name} is made of tables, which are obeyed for 8 bits only; export as sRGB")
    source = ImageCms.ImageCmsProfile(io.BytesIO(colours.tables or b""))
    moved = ImageCms.profileToProfile(Image.fromarray(pixels), source, ImageCms.createProfile("sRGB"))
    assert moved is not None  # it is not changed in place
    return np.asarray(moved)


def _tags(icc: bytes) -> dict[bytes, bytes]:
    """The tags of a profile (ICC.1, 7.3)."""
    (count,) = struct.unpack_from(">I", icc, 128)
    entries = [struct.unpack_from(">4sII", icc, 132 + 12 * i) for i in range(min(count, 1000))]
    return {name: icc[offset : offset + size] for name, offset, size in entries}


def _curve(tag: bytes) -> Curve:
    """A curve type (ICC.1, 10.6) or a parametric one (10.18)."""
    if tag[:4] == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        return _parametric(kind, np.frombuffer(tag, ">i4", (1, 3, 4, 5, 7)[kind], 12) / 2.0**16)  # s15Fixed16
    if tag[:4] != b"curv":
        raise ValueError(f"a curve of type {tag[:4]!r}")
    (count,) = struct.unpack_from(">I", tag, 8)
    values = np.frombuffer(tag, ">u2", count, 12).astype(np.float64)
    if count == 0:
        return power(1.0)
    if count == 1:
        return power(values[0] / 256.0)
    return lambda v: np.interp(v, np.linspace(0.0, 1.0, count), values / 65535.0)


def _parametric(kind: int, p: np.ndarray) -> Curve:
    """y = (a x + b)^g + e from x = d on, c x + f below; kinds 0 to 4 state more and more of the seven."""
    g, a, b, c, d, e, f = p[0], 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if kind >= 1:
        a, b = p[1], p[2]
        d = -b / a
    if kind == 2:
        e = f = p[3]
    if kind >= 3:
        c, d = p[3], p[4]
    if kind == 4:
        e, f = p[5], p[6]
    return lambda v: np.where(v >= d, (a * v + b).clip(min=0.0) ** g + e, c * v + f)

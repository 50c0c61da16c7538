"""Ultra HDR: a JPEG that any program shows, with a gain map (ISO 21496-1) by which an HDR screen shows more.

The encoder is an optional package.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np

from utils.choices import Gamut
from utils.files import InputError

PACKAGE = "imagecodecs>=2025.3"
MISSING = f'Ultra HDR needs a package: pip install "{PACKAGE}"'
PRIMARIES: dict[Gamut, str] = {"bt709": "BT_709", "p3": "DISPLAY_P3", "bt2020": "BT_2100"}  # as the encoder calls them
WHITE, TOP = 203.0, 10_000.0  # cd/m2 of white (ITU-R BT.2408), and where the encoder stops
BRIGHTEST = TOP / WHITE  # times white
LEAST_ROOM = 1.1  # times white that a file asks of a screen at least: the encoder takes no less


def available() -> bool:
    """Whether the encoder is installed."""
    try:
        check_available()
    except InputError:
        return False
    return True


def check_available() -> None:
    """Raise InputError, with what to install, where the encoder is missing."""
    _encoder()


def encode(light: np.ndarray, quality: int, *, gamut: Gamut = "bt709", coarser: int = 1) -> bytes:
    """The bytes of a JPEG with a gain map, which asks a screen for as much room above white as the picture uses.

    Without HDR it shows light as itself / (1 + its largest channel), the encoder's curve.

    Args:
        light: (H, W, 3) linear RGB, H and W even (the encoder halves chroma); 1 is white, what lies above is highlight.
            Negative values and NaN become 0, values above BRIGHTEST become BRIGHTEST.
        quality: of both JPEGs, 1 to 100.
        gamut: primaries of the values.
        coarser: by how much each side of the gain map is smaller than the picture's.

    Raises InputError where the encoder is missing.
    """
    codec = _encoder()
    named = codec.ULTRAHDR
    sound = np.nan_to_num(light, nan=0.0, posinf=BRIGHTEST).clip(0.0, BRIGHTEST)
    pixels = np.dstack([sound, np.ones(light.shape[:2])]).astype(np.float16)
    data: bytes = codec.ultrahdr_encode(
        pixels,
        level=quality,
        scale=coarser,
        gamut=getattr(named.CG, PRIMARIES[gamut]),
        transfer=named.CT.LINEAR,
        nits=min(WHITE * max(float(sound.max()), LEAST_ROOM), TOP),
    )
    return data


def _encoder() -> ModuleType:
    try:
        codec = importlib.import_module("imagecodecs")
        if codec.ULTRAHDR.available:
            return codec
    except (ImportError, AttributeError):
        pass
    raise InputError(MISSING)

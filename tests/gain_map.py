"""A JPEG with a gain map read without the library that wrote it: Pillow for both pictures, ISO 21496-1 for the rest."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image

from utils.photographs.colour import srgb

NAME = b"urn:iso:std:iso:ts:21496:-1\0"
MANY_CHANNELS, BASE_COLOURS, BACKWARD, COMMON_DENOMINATOR = 128, 64, 4, 8  # bits of the flags


@dataclass(frozen=True)
class GainMap:
    """The metadata of annex C: log2 of the least and the largest gain, the exponent and the offsets, per channel."""

    low: np.ndarray
    high: np.ndarray
    gamma: np.ndarray
    base_offset: np.ndarray
    other_offset: np.ndarray
    headroom: float  # log2, of a screen that shows all


def light_of(data: bytes) -> np.ndarray:
    """(H, W, 3) linear light, 1 is white, as a screen with room for all of it shows the file. Its base is sRGB."""
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "MPO" and image.n_frames == 2
        base = np.asarray(image.convert("RGB"), np.float64) / 255
        image.seek(1)
        gains = np.asarray(image.resize(base.shape[1::-1], Image.Resampling.BILINEAR), np.float64) / 255
        start = image.offset  # of the second picture, whose metadata counts
    meta = metadata_of(data[start:])
    gains = gains[..., None] if gains.ndim == 2 else gains
    log = meta.low + (meta.high - meta.low) * gains ** (1 / meta.gamma)
    return (srgb(base) + meta.base_offset) * 2**log - meta.other_offset


def metadata_of(jpeg: bytes) -> GainMap:
    body = jpeg[jpeg.index(NAME) + len(NAME) :]
    least, _, flags = struct.unpack_from(">HHB", body)
    assert least == 0 and not flags & BACKWARD
    channels = 3 if flags & MANY_CHANNELS else 1
    count = 2 + 5 * channels
    if flags & COMMON_DENOMINATOR:
        whole, *numbers = struct.unpack_from(">I" + "II" + "iiIii" * channels, body, 5)
        values = np.array(numbers) / whole
    else:
        numbers = list(struct.unpack_from(">" + "IIII" + "iIiIIIiIiI" * channels, body, 5))
        values = np.array(numbers[0::2]) / np.array(numbers[1::2])
    assert len(values) == count
    low, high, gamma, base, other = values[2:].reshape(channels, 5).T
    return GainMap(low, high, gamma, base, other, float(values[1]))

"""What the metric has to be told: colour encoding and viewing situation. Read by parsers, so without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from utils.files import InputError

VERSION = "2.2.2"
ENCODINGS = {"luminance": 1, "luma-display": 1, "sRGB-display": 3, "rgb-bt.709": 3, "XYZ": 3}  # name: channels
PPD_RANGE = (1.0, 1e4)  # pixels per degree that can be asked for; people resolve about 100
PEAK_RANGE = (1e-6, 1e10)  # cd/m2 of the value 1; the sun has 1.6e9
LOWEST_PPD = 20.0  # below it Q is high whatever images show; published figures are computed at 23.8 to 26.8
RGB_ENCODINGS = [name for name, channels in ENCODINGS.items() if channels == 3]


@dataclass(frozen=True)
class Display:
    """A viewing situation that pixels per degree follow from.

    Attributes:
        inches: diagonal of the display.
        metres: viewing distance.
        resolution: (width, height) in pixels that fill the diagonal; None: the size of each image.
    """

    inches: float
    metres: float
    resolution: tuple[int, int] | None = None

    def pixels_per_degree(self, width: int, height: int) -> float:
        """For an image of ``width`` x ``height`` pixels."""
        return pixels_per_degree(self.inches, self.resolution or (width, height), self.metres)

    def __str__(self) -> str:
        size = "image size" if self.resolution is None else "{} x {} pixels".format(*self.resolution)
        return f"{self.inches:g} inch, {size}, seen from {self.metres:g} m"


def pixels_per_degree(inches: float, resolution: tuple[int, int], metres: float) -> float:
    """Angular resolution in the middle of a display with square pixels.

    Args:
        inches: diagonal.
        resolution: (width, height) in pixels.
        metres: viewing distance.

    Raises:
        InputError: a size or the distance is not positive.
    """
    width, height = resolution
    if min(inches, width, height, metres) <= 0:
        raise InputError(f"display of {inches} inch, {width}x{height} pixels, {metres} m: all must be above 0")
    height_mm = 25.4 * inches / math.hypot(1.0, width / height)
    degrees = math.degrees(2.0 * math.atan(0.5 * height_mm / (1000.0 * metres)))
    return height / degrees

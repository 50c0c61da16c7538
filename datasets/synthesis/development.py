"""From the sensor to a frame: the camera's curve, where it saturates, and what its file format leaves of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from utils.exposure import to_ldr
from utils.images import float_to_ldr

WHITE = 255  # of 8 bits
SIXTEEN, EIGHT, JPEG = "16-bit", "8-bit", "JPEG"


@dataclass(frozen=True)
class Curve:
    """How one camera turns linear light into values. The plain one is the power law of the data sets.

    Cameras differ mostly in how they bend a common curve in the middle and at its ends: Grossberg and Nayar, "Modeling
    the space of camera response functions", 2004.

    Attributes:
        srgb: the sRGB curve instead of the power law.
        contrast: of the S-curve on top of it, per frame: the slope at mid-grey is 1 + contrast, at both ends 1 -
            contrast.
        knee: linear value above which light is compressed, so that white comes softly; 1 saturates at once.
        white: largest value a frame reaches, of 255.
    """

    srgb: bool = False
    contrast: tuple[float, ...] = (0.0, 0.0, 0.0)
    knee: float = 1.0
    white: int = WHITE

    def shoulder(self, exposure: np.ndarray) -> np.ndarray:
        """Linear light, at least 0 -> what is left of it above the knee: an exponential approach to 1."""
        if self.knee == 1.0:
            return exposure
        room = 1.0 - self.knee
        over = np.maximum(exposure - self.knee, 0.0)
        return np.where(over > 0, self.knee + room * (1.0 - np.exp(-over / room)), exposure)

    def encode(self, value: np.ndarray, frame: int) -> np.ndarray:
        """Linear sensor values in [0, 1] -> values in [0, 1] on the curve of that frame."""
        encoded = srgb_encoded(value) if self.srgb else to_ldr(value, 0.0)
        if contrast := self.contrast[frame]:
            encoded = encoded - contrast * np.sin(2 * np.pi * encoded) / (2 * np.pi)
        return encoded if self.white == WHITE else np.minimum(encoded, np.float32(self.white / WHITE))


@dataclass(frozen=True)
class Curves:
    """How cameras develop; shares are of scenes."""

    bent: float = 0.3  # an S-curve
    contrast: tuple[float, float] = (-0.1, 0.3)  # picture styles of cameras are steeper rather than flatter
    jitter: float = 0.02  # standard deviation of a frame's contrast around its scene's: cameras adapt their curve
    srgb: float = 0.15
    soft: float = 0.2
    knee: tuple[float, float] = (0.7, 0.95)
    below: float = 0.3  # white stays below the largest value
    levels: tuple[int, int] = (1, 8)  # by so many of 255

    def curve(self, rng: np.random.Generator) -> Curve:
        """The curve of one scene's camera."""
        bent, srgb, soft, below = rng.random(4) < (self.bent, self.srgb, self.soft, self.below)
        contrast = rng.uniform(*self.contrast) + rng.normal(0.0, self.jitter, 3)
        knee = float(rng.uniform(*self.knee))
        levels = int(rng.integers(self.levels[0], self.levels[1] + 1))
        return Curve(
            srgb=bool(srgb),
            contrast=tuple(contrast.tolist()) if bent else (0.0, 0.0, 0.0),
            knee=knee if soft else 1.0,
            white=WHITE - levels if below else WHITE,
        )


@dataclass(frozen=True)
class File:
    """What a frame was stored as."""

    kind: str = SIXTEEN
    quality: int = 100  # of JPEG
    subsampled: bool = False  # JPEG's colours at half resolution, 4:2:0

    def stored(self, encoded: np.ndarray) -> np.ndarray:
        """Values (H, W, 3) in [0, 1] -> the frame a decoder gives, (H, W, 3) uint16."""
        if self.kind == SIXTEEN:
            return float_to_ldr(encoded)
        levels = np.rint(encoded * WHITE).astype(np.uint8)
        if self.kind == JPEG:
            levels = through_jpeg(levels, self.quality, self.subsampled)
        return float_to_ldr(levels.astype(np.float32) / WHITE)


@dataclass(frozen=True)
class Files:
    """What frames are stored as; ``alike`` is the share of scenes with three files of one kind."""

    shares: tuple[float, float, float] = (0.25, 0.2, 0.55)  # 16 bits, 8 bits, JPEG
    quality: tuple[int, int] = (75, 98)
    subsampled: float = 0.5  # share of scenes: most phones and many cameras
    alike: float = 0.75

    def files(self, rng: np.random.Generator) -> tuple[File, ...]:
        """The files of one scene's frames."""
        kinds = rng.choice((SIXTEEN, EIGHT, JPEG), 3, p=self.shares)
        qualities = rng.integers(self.quality[0], self.quality[1] + 1, 3)
        subsampled, alike = bool(rng.random() < self.subsampled), rng.random() < self.alike
        sources = (0, 0, 0) if alike else (0, 1, 2)
        return tuple(
            File(JPEG, int(qualities[i]), subsampled) if kinds[i] == JPEG else File(str(kinds[i])) for i in sources
        )


def srgb_encoded(value: np.ndarray) -> np.ndarray:
    """Linear [0, 1] -> sRGB [0, 1], IEC 61966-2-1."""
    return np.where(value <= 0.0031308, 12.92 * value, 1.055 * value.clip(min=1e-9) ** (1 / 2.4) - 0.055)


def through_jpeg(levels: np.ndarray, quality: int, subsampled: bool) -> np.ndarray:
    """(H, W, 3) uint8 RGB as it comes back from a JPEG file (ITU-T T.81), colours subsampled 2x2 where asked for."""
    colours = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if subsampled else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, colours]
    ok, data = cv2.imencode(".jpg", np.ascontiguousarray(levels[..., ::-1]), flags)
    assert ok
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]  # type: ignore[index]

"""A hand-held bracket made by code: one drawn scene seen by a camera that moves a little between its exposures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

MARGIN = 64  # of the scene around what the still camera sees, in pixels
START = datetime(2024, 5, 17, 12, 30, 0)


def draw_scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A linear HDR scene in [0, 1], (H + 2 MARGIN, W + 2 MARGIN, 3) float32: texture on all scales and a window of
    light 32 times as bright as the rest."""
    rng = np.random.default_rng(seed)
    h, w = height + 2 * MARGIN, width + 2 * MARGIN
    scene = np.zeros((h, w, 3), np.float32)
    for cell in (2, 5, 12, 40):
        noise = rng.random((h // cell + 2, w // cell + 2, 3), dtype=np.float32)
        scene += cv2.resize(noise, (w, h), interpolation=cv2.INTER_CUBIC) * cell**0.4
    scene = (scene - scene.min()) / (scene.max() - scene.min())
    scene = 0.002 + 0.03 * scene**2
    scene[h // 3 : h // 2, w // 2 : w // 2 + w // 4] *= 32.0
    return np.clip(scene, 0.0, 1.0)


def hand_motion(angle: float, x: float, y: float, tilt: float = 0.0) -> np.ndarray:
    """Homography from the reference's pixels to the frame's: degrees, pixels, and a perspective tilt per pixel."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.array([[c, -s, x], [s, c, y], [tilt, -tilt, 1.0]])


def expose(scene: np.ndarray, ev: float, motion: np.ndarray | None = None) -> np.ndarray:
    """One 8-bit sRGB frame of the scene, (H, W, 3) uint8: clipped, then encoded as cameras do."""
    h, w = scene.shape[0] - 2 * MARGIN, scene.shape[1] - 2 * MARGIN
    shift = np.array([[1.0, 0.0, MARGIN], [0.0, 1.0, MARGIN], [0.0, 0.0, 1.0]])
    to_scene = shift @ np.linalg.inv(np.eye(3) if motion is None else motion)
    seen = cv2.warpPerspective(scene, to_scene, (w, h), flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR)
    linear = np.clip(seen * 2.0**ev, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255.0).astype(np.uint8)


def exif(
    seconds: float | None = 0.01,
    f_number: float | None = 8.0,
    iso: int | None = 100,
    second: float = 0.0,
    turn: int = 1,
) -> Image.Exif:
    """EXIF data as a camera writes it; ``second`` counts from START, ``turn`` is the orientation."""
    data = Image.Exif()
    time = START + timedelta(seconds=second)
    data[Base.Make], data[Base.Model], data[Base.Orientation] = "Maker", "Camera", turn
    tags = {
        Base.ExposureTime: seconds and IFDRational(Fraction(seconds).limit_denominator(100_000)),
        Base.FNumber: f_number and IFDRational(Fraction(f_number).limit_denominator(10)),
        Base.ISOSpeedRatings: iso,
        Base.DateTimeOriginal: time.strftime("%Y:%m:%d %H:%M:%S"),
        Base.SubsecTimeOriginal: f"{time.microsecond // 10_000:02d}",
    }
    details = data.get_ifd(IFD.Exif)
    details.update({int(tag): value for tag, value in tags.items() if value is not None})
    return data


def write_bracket(
    folder: Path,
    evs: Sequence[float] = (0.0, 2.0, 4.0),
    names: Sequence[str] | None = None,
    size: tuple[int, int] = (96, 128),
    motions: Sequence[np.ndarray | None] | None = None,
    start: float = 0.0,
    seed: int = 0,
) -> list[Path]:
    """Write a bracket of JPEGs with EXIF, in the order given: exposures of 1/400 s times 2^ev, half a second apart."""
    folder.mkdir(parents=True, exist_ok=True)
    scene = draw_scene(*size, seed=seed)
    paths = [folder / name for name in names or [f"IMG_{i:04d}.JPG" for i in range(1, len(evs) + 1)]]
    for i, (path, ev, motion) in enumerate(zip(paths, evs, motions or [None] * len(evs), strict=True)):
        data = exif(2.0**ev / 400, second=start + i / 2)
        Image.fromarray(expose(scene, ev, motion)).save(path, quality=95, exif=data)
    return paths

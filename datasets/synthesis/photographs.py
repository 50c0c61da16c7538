"""HDR photographs and panoramas, and the views and textures taken out of them. All images are linear (H, W, 3) RGB."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import cv2
import numpy as np

from utils.files import InputError, entries, regular_file
from utils.images import read_hdr

SUFFIXES = (".hdr", ".exr")
SUPERSAMPLING = 2  # views are drawn with 2x2 samples a pixel, then averaged
FIELD_OF_VIEW = (60.0, 105.0)  # degrees across: between a normal lens and the wide end of a zoom
MAGNIFICATION = 1.25  # pixels of the scene per pixel of the panorama; more than this looks soft
PITCH = (-14.0, 8.0)  # degrees; a hand-held camera looks about level, rather down than up
ROLL = 1.5  # degrees, standard deviation
CANDIDATES = 6  # views looked at before one is taken
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # ITU-R BT.709


@dataclass(frozen=True)
class Photograph:
    """An HDR image by name. Twice as wide as high means an equirectangular panorama, anything else a plain picture."""

    name: str
    image: np.ndarray

    @property
    def is_panorama(self) -> bool:
        height, width = self.image.shape[:2]
        return width == 2 * height


@dataclass(frozen=True)
class Camera:
    """Direction (radians) and focal length (in pixels of the scene) of a pinhole camera."""

    yaw: float
    pitch: float
    roll: float
    focal: float

    def horizon(self, height: int) -> float:
        """The row of the horizon in the middle of a scene of that height, in pixels from the top."""
        return height / 2 + self.focal * math.tan(self.pitch)


def find_photographs(folders: list[Path], only: list[str], exclude: list[str]) -> list[Path]:
    """The .hdr and .exr files of some folders, by name. ``only`` and ``exclude`` hold names or patterns (``studio*``).

    Raises InputError where nothing is left, or a name fits no photograph.
    """
    found = (path for folder in folders for path in entries(folder) if path.suffix.lower() in SUFFIXES)
    paths = sorted((regular_file(path, "remove it, or --exclude it") for path in found), key=lambda path: path.name)
    for name in [*only, *exclude]:
        if not any(fnmatch(path.stem, name) for path in paths):
            raise InputError(
                f"{name}: no photograph of that name; there are {', '.join(p.stem for p in paths) or 'none'}"
            )
    kept = [p for p in paths if not only or any(fnmatch(p.stem, n) for n in only)]
    kept = [p for p in kept if not any(fnmatch(p.stem, n) for n in exclude)]
    if not kept:
        raise InputError(
            f"{', '.join(map(str, folders))}: no .hdr or .exr photograph here; give --hdri a folder of them"
        )
    return kept


def read_photograph(path: Path) -> Photograph:
    """Read one file; values that are not finite become 0, and specks are filled."""
    image = np.nan_to_num(read_hdr(path), nan=0.0, posinf=0.0, neginf=0.0).clip(min=0.0)
    if image.max() <= 0:
        raise InputError(f"{path}: black everywhere; leave it out with --exclude {path.stem}")
    return Photograph(path.stem, without_specks(image))


def without_specks(image: np.ndarray) -> np.ndarray:
    """Fill dark specks beside lamps and windows, where lossy EXR compression dips to zero and below.

    A pixel keeps at least half the median of its 3x3 neighbourhood. Bright points, which are real, stay.
    """
    return np.maximum(image, 0.5 * cv2.medianBlur(image, 3))


def luminance(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) linear RGB -> (H, W), BT.709 weights."""
    return image @ LUMINANCE


def log_average(image: np.ndarray) -> float:
    """Geometric mean of the luminance, robust to black pixels: the "key" of Reinhard et al. 2002, equation 1."""
    light = luminance(image)
    return float(np.exp(np.log(light + 1e-4 * light.mean() + 1e-12).mean()))


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """3x3 rotation of camera rays (x right, y down, z ahead): roll first, then pitch (up is positive), then yaw."""
    turn = (np.array([0.0, yaw, 0.0]), np.array([pitch, 0.0, 0.0]), np.array([0.0, 0.0, roll]))
    around_y, around_x, around_z = (cv2.Rodrigues(axis)[0] for axis in turn)
    return around_y @ around_x @ around_z


def perspective(panorama: np.ndarray, camera: Camera, size: tuple[int, int], samples: float) -> np.ndarray:
    """What a pinhole camera sees in an equirectangular panorama.

    Args:
        panorama: (H, 2H, 3), the middle column is yaw 0, the top row straight up.
        camera: where it looks; its focal length is in pixels of the scene.
        size: (height, width) of the view, in pixels of the scene.
        samples: samples per pixel along each side.

    Returns:
        (height * samples, width * samples, 3) float32.
    """
    rows, columns = (round(n * samples) for n in size)
    x = (np.arange(columns) + 0.5 - columns / 2) / samples / camera.focal
    y = (np.arange(rows) + 0.5 - rows / 2) / samples / camera.focal
    rays = np.stack(np.broadcast_arrays(x[None, :], y[:, None], 1.0), axis=-1)
    rays = rays @ rotation(camera.yaw, camera.pitch, camera.roll).T
    source = _shrunk(panorama, 2 * math.pi * camera.focal * samples)
    height, width = source.shape[:2]
    longitude = np.arctan2(rays[..., 0], rays[..., 2])
    latitude = np.arcsin(rays[..., 1] / np.linalg.norm(rays, axis=-1))
    across = (longitude / (2 * math.pi) + 0.5) * width - 0.5
    down = (latitude / math.pi + 0.5) * height - 0.5
    return _interpolate(source, across.astype(np.float32), down.astype(np.float32))


def _shrunk(panorama: np.ndarray, useful_width: float) -> np.ndarray:
    """The panorama by area averaging where it is finer than the samples taken of it, so that they do not alias."""
    if panorama.shape[1] <= useful_width:
        return panorama
    width = round(useful_width)
    return cv2.resize(panorama, (width, width // 2), interpolation=cv2.INTER_AREA)


def _interpolate(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bicubic samples taken on logarithms: around a lamp, cubic interpolation of the radiance would dip below zero."""
    floor = 1e-3 * float(np.median(image)) + 1e-9
    logs = cv2.remap(np.log(image + floor), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
    return (np.exp(logs) - floor).clip(min=0.0)


def random_camera(rng: np.random.Generator, panorama_width: int, width: int) -> Camera:
    """A camera whose view of the panorama, ``width`` pixels across, is as sharp as the panorama allows."""
    widest = width / 2 / math.tan(math.radians(FIELD_OF_VIEW[1]) / 2)
    normal = width / 2 / math.tan(math.radians(FIELD_OF_VIEW[0]) / 2)
    longest = np.clip(MAGNIFICATION * panorama_width / (2 * math.pi), widest, normal)
    yaw = rng.uniform(-math.pi, math.pi)
    pitch, roll = math.radians(rng.uniform(*PITCH)), math.radians(rng.normal(0.0, ROLL))
    return Camera(yaw, pitch, roll, float(rng.uniform(widest, longest)))


def interest(view: np.ndarray) -> float:
    """How much a view has to offer: its dynamic range in stops times its mean edge, both of log luminance."""
    stops = np.log2(luminance(view) + 1e-3 * log_average(view))
    low, high = np.percentile(stops, [5.0, 99.0])
    edges = np.abs(np.diff(stops, axis=0)).mean() + np.abs(np.diff(stops, axis=1)).mean()
    return float(min(high - low, 10.0) * min(edges, 1.0))


def choose_camera(rng: np.random.Generator, panorama: np.ndarray, size: tuple[int, int]) -> Camera:
    """The most interesting of a few random views: photographers do not point at bare walls."""
    cameras = [random_camera(rng, panorama.shape[1], size[1]) for _ in range(CANDIDATES)]
    coarse = 48 / size[1]
    return max(cameras, key=lambda camera: interest(perspective(panorama, camera, size, coarse)))


def take_view(
    rng: np.random.Generator, photograph: Photograph, size: tuple[int, int], margin: int
) -> tuple[np.ndarray, Camera]:
    """A random view with ``margin`` pixels more on every side, supersampled, and its camera.

    A plain picture is cropped at random instead of reprojected; its camera then only tells horizon and focal length.
    """
    canvas = (size[0] + 2 * margin, size[1] + 2 * margin)
    if photograph.is_panorama:
        camera = choose_camera(rng, photograph.image, size)
        return perspective(photograph.image, camera, canvas, SUPERSAMPLING), camera
    crop = random_crop(rng, photograph.image, canvas[0] / canvas[1])
    shape = (canvas[1] * SUPERSAMPLING, canvas[0] * SUPERSAMPLING)
    return resized(crop, shape), Camera(0.0, math.radians(rng.uniform(*PITCH)), 0.0, float(size[1]))


def random_crop(rng: np.random.Generator, image: np.ndarray, aspect: float) -> np.ndarray:
    """A crop of height/width ``aspect``, from half of the largest there is up to the largest."""
    height, width = image.shape[:2]
    columns = max(int(min(width, height / aspect) * rng.uniform(0.5, 1.0)), 8)
    rows = min(max(round(columns * aspect), 8), height)
    top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
    return image[top : top + rows, left : left + columns]


def resized(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize to (width, height): by area averaging when it shrinks, linearly when it grows."""
    shrinks = image.shape[1] >= shape[0]
    return cv2.resize(image, shape, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def texture(rng: np.random.Generator, photograph: Photograph, side: int) -> np.ndarray:
    """A patch of a photograph as reflectance, (side, side, 3) in [0.03, 0.9]: from black cloth to white paint.

    Its 90th percentile becomes 0.6. Patches of panoramas come from within 45 degrees of the horizon, where the
    projection hardly stretches.
    """
    height, width = photograph.image.shape[:2]
    band = (height // 4, 3 * height // 4) if photograph.is_panorama else (0, height)
    cut = min(max(side, 32), band[1] - band[0], width)
    top, left = rng.integers(band[0], band[1] - cut + 1), rng.integers(0, width - cut + 1)
    patch = resized(photograph.image[top : top + cut, left : left + cut], (side, side))
    white = np.percentile(luminance(patch), 90.0) + 1e-9
    return np.clip(0.6 * patch / white, 0.03, 0.9).astype(np.float32)

"""The camera: exposure, shake, photon and read noise, saturation, the gamma curve and 16 bits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from datasets.synthesis.development import Curve, File
from datasets.synthesis.photographs import SUPERSAMPLING, Camera, log_average, luminance

BRACKETS = ((0.0, 2.0, 4.0), (0.0, 3.0, 6.0))  # the two spacings of Kalantari and Ramamoorthi 2017, section 4
KEY = 0.18  # linear value a meter gives to the log-average luminance: middle grey (Reinhard et al. 2002)
METERING = (-0.5, 0.6)  # stops from the meter's proposal, mean and standard deviation: bracketing protects highlights
CLIPPED_AT_MOST = 0.3  # of the reference frame, by luminance: more than this is not well exposed
DARK_CLIPPED = 0.005  # of the darkest frame: where two stops leave more than this, people take three

ISO = (100, 200, 400, 800, 1600)
# A full-frame sensor such as that of a Canon EOS 5D Mark III, in round figures: electrons a pixel holds at ISO 100, and
# read noise in electrons before and after the amplifier; the latter counts for less at higher gain.
FULL_WELL = 67_500.0
READ_NOISE = (2.5, 33.0)

TRIPOD = 0.3  # share of scenes without camera shake
SHAKE = 5.0  # pixels at the image centre between two frames, standard deviation, at most ...
SHAKE_SHARE = 0.008  # ... this share of the width, for small scenes
SHAKE_ROLL = 0.25  # degrees, standard deviation


@dataclass(frozen=True)
class Timing:
    """Exposures of one scene: EV between neighbouring frames (None: one of ``BRACKETS``), and by how much each misses.

    ``errors`` are in EV, 0 for the reference: what the exposures in the file don't tell.
    """

    steps: tuple[float, float] | None = None
    errors: tuple[float, ...] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Exposures:
    """How scenes are bracketed; shares are of scenes."""

    share: float = 0.5  # with steps of their own, else ``BRACKETS``
    steps: tuple[float, float] = (1.0, 4.0)  # EV; cameras offer thirds
    unequal: float = 0.4  # of those: two different steps
    erring: float = 0.6  # true exposures miss the nominal ones ...
    error: float = 0.15  # ... by at most so many EV: half a third, the step in which cameras state exposures

    def timing(self, rng: np.random.Generator) -> Timing:
        """The exposures of one scene."""
        own, unequal, erring = rng.random(3) < (self.share, self.unequal, self.erring)
        first, second = np.round(np.rint(3 * rng.uniform(*self.steps, 2)) / 3, 2).tolist()
        dark, bright = rng.uniform(-self.error, self.error, 2).tolist()
        steps = (first, second if unequal else first) if own else None
        return Timing(steps, (dark, 0.0, bright) if erring else (0.0, 0.0, 0.0))


def reference_exposure(rng: np.random.Generator, view: np.ndarray) -> float:
    """Factor from radiance to the reference frame's linear value (1 = saturation), such that it is well exposed.

    The log-average comes to middle grey give or take ``METERING``; lower where more than ``CLIPPED_AT_MOST`` clips.
    """
    metered = KEY * 2.0 ** rng.normal(*METERING) / log_average(view)
    limit = 1.0 / (np.quantile(luminance(view), 1.0 - CLIPPED_AT_MOST) + 1e-12)
    return float(min(metered, limit))


def bracket(rng: np.random.Generator, reference: np.ndarray, steps: tuple[float, float] | None = None) -> np.ndarray:
    """The exponents (3,) of a bracket around a reference exposure (its linear values), rising from 0 by ``steps``.

    Without steps one of ``BRACKETS``: either, where the darkest frame holds the highlights at two stops already; else
    the wide one.
    """
    narrow, wide = BRACKETS
    drawn = rng.integers(2)
    holds = (luminance(reference) > 2.0 ** narrow[1]).mean() <= DARK_CLIPPED
    chosen = BRACKETS[drawn] if holds else wide
    return np.array(chosen if steps is None else (0.0, steps[0], sum(steps)), dtype=np.float32)


def shake(rng: np.random.Generator, camera: Camera, width: int, strength: float = 1.0) -> np.ndarray:
    """A homography K R K^-1 in scene pixels around the image centre: hand shake is a rotation of the camera.

    ``strength`` multiplies the angles. Hartley and Zisserman, "Multiple View Geometry", section 8.4.2.
    """
    spread = min(SHAKE, SHAKE_SHARE * width) / camera.focal
    angles = strength * np.array([*rng.normal(0.0, spread, 2), math.radians(rng.normal(0.0, SHAKE_ROLL))])
    intrinsic = np.diag([camera.focal, camera.focal, 1.0])
    return intrinsic @ cv2.Rodrigues(angles)[0] @ np.linalg.inv(intrinsic)


def look(canvas: np.ndarray, homography: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture (H, W, 3) a shaken camera sees of a supersampled canvas with margins."""
    rows, columns = (n * SUPERSAMPLING for n in size)
    to_canvas = _centred(canvas.shape[:2]) @ homography @ np.linalg.inv(_centred((rows, columns)))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    fine = cv2.warpPerspective(canvas, to_canvas, (columns, rows), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return cv2.resize(fine, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def _centred(shape: tuple[int, int]) -> np.ndarray:
    """Scene pixels around the centre -> sample indices of an image of that shape."""
    rows, columns = shape
    return np.array([[SUPERSAMPLING, 0, (columns - 1) / 2], [0, SUPERSAMPLING, (rows - 1) / 2], [0, 0, 1.0]])


def sensor_noise(iso: float) -> tuple[float, float]:
    """(electrons at saturation, read noise in electrons) at a gain: FULL_WELL * 100/iso, and both read noises added."""
    before, after = READ_NOISE
    return FULL_WELL * 100.0 / iso, math.hypot(before, after * 100.0 / iso)


def expose(rng: np.random.Generator, exposure: np.ndarray, iso: float) -> np.ndarray:
    """A noisy, saturated sensor value in [0, 1] of an exposure (1 = saturation): photon noise and read noise.

    The Gaussian approximation of the Poisson-Gaussian model (Foi et al., "Practical Poissonian-Gaussian noise modeling
    and fitting for single-image raw-data", 2008): variance = (exposure * electrons + read^2) / electrons^2.
    Saturation comes last: a pixel well above it stays at 1 whatever its noise.
    """
    electrons, read = sensor_noise(iso)
    deviation = np.sqrt(exposure * electrons + read**2) / electrons
    signal = exposure + deviation * rng.standard_normal(exposure.shape, dtype=np.float32)
    return np.clip(signal, 0.0, 1.0).astype(np.float32)


def shoot(
    rng: np.random.Generator,
    radiance: np.ndarray,
    ev: float,
    iso: float,
    curve: Curve = Curve(),  # noqa: B008  # frozen
    file: File = File(),  # noqa: B008
    frame: int = 0,
) -> np.ndarray:
    """An LDR frame (H, W, 3) uint16 of a radiance in the label's scale; ``frame`` is its number, for the curve."""
    value = expose(rng, curve.shoulder(radiance * 2.0**ev), iso)
    return file.stored(curve.encode(value, frame))

"""The scale of a result against its label: the commonest mistake of all, and what else a result may be mistaken for.

Functions of (H, W, 3) float arrays, linear RGB, of one shape.
"""

from __future__ import annotations

import math

import numpy as np

from utils.exposure import tonemap

SAMPLED = 100_000  # pixels that are looked at
NEAR = 20.0  # dB PSNR-mu: from here on two images show the same in the same scale
GAIN = 4.0  # dB that an explanation has to bring
SAME = 0.07  # a factor as close to 1 as this is no other scale
INTEGERS = (255.0, 256.0, 65535.0)


def fit_scale(prediction: np.ndarray, label: np.ndarray) -> float:
    """The factor that brings the prediction nearest to the label, by least squares on linear values; 1 for black."""
    x, y = prediction.astype(np.float64).ravel(), label.astype(np.float64).ravel()
    factor = float(x @ y / power) if (power := float(x @ x)) > 0 else 1.0
    return factor if 0.0 < factor < math.inf else 1.0


def median_ratio(prediction: np.ndarray, label: np.ndarray) -> float:
    """Median of label / prediction where the label is neither black nor at its brightest; NaN for no such place."""
    inside = (label > 0.001 * label.max()) & (label < 0.98 * label.max()) & (prediction > 0)
    return float(np.median(label[inside] / prediction[inside])) if inside.any() else math.nan


def remark(prediction: np.ndarray, label: np.ndarray) -> str:
    """What brings the prediction near the label, in words, where something does that the prediction itself is not; ""
    where it is near enough, or far from it anyway."""
    peak = float(prediction.max()), float(label.max())
    prediction, label = (_sampled(image) for image in (prediction, label))
    factor = median_ratio(prediction, label)
    wanted = tonemap(label)
    explained = (
        {
            _scale_words(factor, *peak): tonemap(prediction * factor) if abs(math.log2(factor)) > SAME else None,
            "red and blue exchanged": tonemap(prediction[..., ::-1]),
            "undoing the mu-law: it is tone-mapped, not linear": prediction,
        }
        if factor > 0
        else {}
    )
    figures = {words: _psnr(image, wanted) for words, image in explained.items() if image is not None}
    words = max(figures, key=figures.__getitem__, default="")
    before = _psnr(tonemap(prediction), wanted)
    if not words or figures[words] < max(NEAR, before + GAIN):
        return ""
    return f"{words} brings it near the label, PSNR-mu {figures[words]:.1f} in place of {before:.1f} dB"


def _scale_words(factor: float, peak: float, label_peak: float) -> str:
    """The factor, and where it may come from."""
    words = f"a factor of {factor:.4g}"
    power = round(math.log2(factor)) if factor > 0 else 0
    if any(abs(factor * full - 1.0) < 0.02 for full in INTEGERS):
        return f"{words} (it holds integers that were not divided by their range)"
    if abs(factor / 2.0**power - 1.0) < 0.02:
        return f"{words} (2^{power}: exposures counted from another frame)"
    if abs(peak - 1.0) < 1e-3 and abs(label_peak / factor - 1.0) < 0.05:
        return f"{words} (it was divided by its own maximum)"
    return words


def _sampled(image: np.ndarray) -> np.ndarray:
    """(N, 3) float64: every so many-th pixel."""
    pixels = image.reshape(-1, image.shape[-1])
    return pixels[:: max(1, len(pixels) // SAMPLED)].astype(np.float64)


def _psnr(image: np.ndarray, wanted: np.ndarray) -> float:
    mse = float(np.square(image - wanted).mean())
    return math.inf if mse == 0 else -10.0 * math.log10(mse)

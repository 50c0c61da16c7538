"""The paper's "Neural noise", with contrast masking: what of a difference the visual system can notice."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from utils.hdrvdp2.numerics import filter_padded, frequency_grid, lookup, power, power_, resize
from utils.hdrvdp2.pathway import LOG_RANGE
from utils.hdrvdp2.pyramid import Bands

DIFFERENT = 0.001  # relative difference from which a pixel counts in Q

# Neural contrast sensitivity: parameters at six adapting luminances, cd/m2
NCSF_LUMINANCE = (0.002, 0.02, 0.2, 2.0, 20.0, 150.0)
NCSF_PARAMETERS = (
    (0.991265, 0.800889, 0.476505, 0.405782, 0.334278, 0.394533),
    (3.74038, 3.54104, 4.37453, 4.40602, 3.79542, 2.7755),
    (0.50722, 0.682505, 0.750315, 0.935314, 1.07327, 1.16577),
    (4.46044, 4.94958, 5.28678, 5.61425, 6.4635, 7.45665),
)

P = 10.0**0.544068  # exponent of excitation
Q = 10.0**0.49576  # exponent of inhibition
K_SELF = 10.0**0.189065  # weights of masking within a band, across orientations, across neighbouring bands
K_XO = 10.0**0.449199
K_XN = 10.0**1.52512
PSYCHOMETRIC = 3.5 / P  # slope 3.5 of the psychometric function, of which P is already applied


def difference_mask(test: Tensor, reference: Tensor) -> Tensor:
    """(H, W), 1.0 where any channel of the linear images (C, H, W) differs by more than 0.1 %, else 0.0.

    Relative to the signed reference, as released: a negative reference never counts, 0 against another value does,
    and NaN does not.
    """
    different = torch.zeros_like(reference[0], dtype=torch.bool)
    for t, r in zip(test, reference, strict=True):
        different |= (t - r).abs_().div_(r) > DIFFERENT
    return different.double()


def ncsf(rho: Tensor, luminance: float | np.ndarray) -> Tensor:
    """Neural contrast sensitivity at ``rho`` cycles per degree and ``luminance`` cd/m2 (broadcast); 0 at rho = 0."""
    at, known = np.log10(luminance), np.log10(NCSF_LUMINANCE)  # np.interp holds the ends, as meant
    p1, p2, p3, p4 = (torch.as_tensor(np.interp(at, known, p)) for p in NCSF_PARAMETERS)
    transition = -torch.expm1(-((rho / 7.0) ** 2))  # 1 - exp(...)
    return p4 * torch.sqrt(transition**p3 / (1.0 + (p1 * rho) ** p2))


def base_band_filter(size: tuple[int, int], frequency: float, mean_luminance: float) -> Tensor:
    """Sensitivity on the doubled grid of the base band of ``size``, whose frequency is ``frequency``.

    The factor sqrt(2) beyond the geometry is kept as released.
    """
    ppd = frequency * 2.0 * math.sqrt(2.0)
    return ncsf(frequency_grid((2 * size[0], 2 * size[1]), ppd), mean_luminance)


def filter_base_band(base: Tensor, luminance: Tensor, frequency: float, pad: Tensor) -> Tensor:
    """The base band (h, w) weighted by sensitivity at the image's mean adapting ``luminance`` (H, W)."""
    transfer = base_band_filter((base.shape[0], base.shape[1]), frequency, float(luminance.mean()))
    return filter_padded(base, transfer.to(base), pad)


def sensitivity_table(frequency: float) -> Tensor:
    """nCSF at ``frequency`` cycles per degree for 256 luminances over LOG_RANGE."""
    return ncsf(torch.tensor(frequency, dtype=torch.float64), 10.0 ** np.linspace(*LOG_RANGE, 256))


def sensitivity(log_luminance: Tensor, frequency: float) -> Tensor:
    """S (h, w) of a band at ``frequency`` where the log10 of the adapting luminance is ``log_luminance`` (h, w)."""
    return lookup(sensitivity_table(frequency).to(log_luminance.device), *LOG_RANGE, log_luminance)


def mutual_masking(pair: Tensor) -> Tensor:
    """m (h, w): the content that the test and the reference of a band (2, h, w) share around each coefficient."""
    return box3(pair.abs().amin(dim=0))


def box3(x: Tensor) -> Tensor:
    """Mean of 3 x 3 pixels of (h, w), with zeros around the image."""
    rows = x.clone()
    rows[1:] += x[:-1]
    rows[:-1] += x[1:]
    box = rows.clone()
    box[:, 1:] += rows[:, :-1]
    box[:, :-1] += rows[:, 1:]
    return box.div_(9.0)


def across_orientations(masking: list[Tensor], orientation: int) -> Tensor:
    """xo: masking by the other orientations of a band, (h, w)."""
    others = [m for o, m in enumerate(masking) if o != orientation]
    return sum(others[1:], others[0].clone()) if others else torch.zeros_like(masking[0])


def across_bands(masking: Bands, band: int, orientation: int) -> Tensor:
    """xn: masking by the finer and the coarser neighbour of a band, (h, w).

    As released, the base band is no neighbour to others, and a band of one orientation lends and takes orientation 0.
    """
    n = 2.0**band
    size = masking[band][0].shape
    total = torch.zeros_like(masking[band][0])
    if band >= 1:
        total += _neighbour(masking[band - 1], orientation, size).div(n / 2.0)
    if band <= len(masking) - 3:
        total += _neighbour(masking[band + 1], orientation, size).div(2.0 * n)
    return total


def _neighbour(band: list[Tensor], orientation: int, size: torch.Size) -> Tensor:
    source = band[orientation] if len(band) > 1 else band[0]
    return resize(source, size).clamp(min=0.0)


def neural_noise(s: Tensor) -> Tensor:
    """Square of the noise (1 / S)^p of a band of sensitivity S (h, w)."""
    return power(s, -2.0 * P)


def masking_gain(s: Tensor, n: float) -> Tensor:
    """n (S / n)^q, which all contrast masking of a band of sensitivity S (h, w) at n = 2^band is multiplied by."""
    return power_(s / n, Q).mul_(n)


def masking_noise(within: Tensor, xo: Tensor, xn: Tensor, gain: Tensor, n: float) -> Tensor:
    """N: contrast masking of a band by itself, by its other orientations and by its neighbours, (h, w).

    n (k_self (self S/n)^q + k_xo (xo S/n)^q + k_xn (xn S)^q), less the common factor: see :func:`masking_gain`.
    """
    total = power(within, Q).mul_(K_SELF).add_(power(xo, Q), alpha=K_XO)
    return total.add_(power(xn, Q), alpha=K_XN * n**Q).mul_(gain)


def excitation(difference: Tensor, n: float) -> Tensor:
    """E: the difference of a band, expanded by the exponent of excitation, sign kept."""
    return signed_power(difference, P, n)


def normalised_difference(e: Tensor, noise: Tensor, neural: Tensor) -> Tensor:
    """D0: the difference over the noise of masking and the neural noise (``neural`` is its square)."""
    return e / torch.addcmul(neural, noise, noise).sqrt_()


def psychometric(d0: Tensor, n: float) -> Tensor:
    """D: slope of the psychometric function."""
    return signed_power(d0, PSYCHOMETRIC, n)


def signed_power(x: Tensor, exponent: float, n: float) -> Tensor:
    """sgn(x) |x / n|^exponent n."""
    return power_(x.abs().div_(n), exponent).mul_(n).copysign_(x)

"""Optical and retinal pathway, as the paper calls it: light in the scene to the achromatic response."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from utils.files import InputError
from utils.hdrvdp2.numerics import filter_padded, frequency_grid, lookup

DARKEST, BRIGHTEST = 1e-5, 1e10  # cd/m2, range of the retinal image
NAN_LIGHT = 1e-5  # what a NaN pixel is taken for

# Modulation transfer function of the eye's optics: amplitudes and decays per cycle per degree
_C1, _C2 = 0.061466549455263, 0.9972737002377707
MTF_A = (_C2 * 0.426, _C2 * 0.574, (1 - _C2) * _C1, (1 - _C2) * (1 - _C1))
MTF_B = (0.028, 0.37, 37.0, 360.0)

# Response of L, M, S cones and rods to one unit of each channel: the integral over 360..780 nm of the channel's
# emission spectrum and the receptor's sensitivity. Cones: Smith and Pokorny 1975; rods: CIE 1951 scotopic luminosity;
# D65: CIE; display spectra: as measured for HDR-VDP-2 (Mantiuk et al.).
EMISSION = {
    "ccfl-lcd": (
        (0.19899612033792877, 0.0410058604075889, 6.150630884864326e-05, 0.014377368621119182),
        (0.4047626070381254, 0.25492330644134537, 0.0006959174513330267, 0.48092084108413197),
        (0.05439061925532119, 0.050012248959300704, 0.007037567895370682, 0.45427589566936005),
    ),
    "crt": (
        (0.1935214385678038, 0.04505320908570622, 0.00016653637014154313, 0.04707366617554168),
        (0.41422401076384, 0.2562751959621852, 0.0008837706078248817, 0.5384547675333984),
        (0.050716636286267415, 0.0452380197199973, 0.006983640028693988, 0.4004139423163883),
    ),
    "led-lcd": (
        (0.17871747083254413, 0.04729528934232735, 0.00026744637869722653, 0.06886827321687111),
        (0.4417184176473636, 0.2649529315030184, 0.0009722414903444233, 0.584439209301963),
        (0.03729898381333776, 0.034067516210767056, 0.006214954592537459, 0.33097358677530136),
    ),
    "d65": ((0.6018471522446989, 0.31670829557916963, 0.007664812169566438, 0.9046706545995032),),
}

LOG_RANGE = (-5.0, 5.0)  # log10 cd/m2 over which every response is tabulated
PEAK_CONTRAST = 0.006894596  # Daly's model at the peak of its sensitivity


def optical_mtf(rho: Tensor) -> Tensor:
    """Intra-ocular light scatter: contrast the optics let through at ``rho`` cycles per degree; 1 at 0."""
    return sum((torch.mul(rho, -b).exp_().mul_(a) for a, b in zip(MTF_A, MTF_B, strict=True)), torch.zeros_like(rho))


def optical_transfer(size: tuple[int, int], ppd: float) -> Tensor:
    """The MTF on the doubled grid of images of ``size`` (H, W), as :func:`filter_padded` takes it: (H + 1, W + 1)."""
    return optical_mtf(frequency_grid((2 * size[0], 2 * size[1]), ppd))


def retinal_image(light: Tensor, surround: Tensor, transfer: Tensor) -> Tensor:
    """Light after scatter in the eye, (C, H, W) in cd/m2 per channel; around the image lies ``surround`` (C,).

    As released, the surround fills the right and the lower side of a doubled image and wraps around, so that every
    border falls off towards it.
    """
    retinal = torch.empty_like(light, dtype=transfer.dtype)
    for seen, channel, pad in zip(retinal, light, surround, strict=True):
        filled = channel.nan_to_num(NAN_LIGHT).to(transfer)
        seen.copy_(filter_padded(filled, transfer, pad)).clamp_(DARKEST, BRIGHTEST)
    return retinal


def emission_matrix(channels: int, rgb_display: str | None = None) -> Tensor:
    """(channels, 4): what L, M, S cones and rods catch of one unit of each channel.

    Three channels are lit by a display's primaries ("ccfl-lcd" unless named), one by daylight, or by the sum of a
    named display's primaries.

    Raises:
        InputError: unknown display.
    """
    name = rgb_display or ("ccfl-lcd" if channels == 3 else "d65")
    if name not in EMISSION or len(EMISSION[name]) < channels:
        raise InputError(f"rgb_display {name!r} is unknown; choose one of ccfl-lcd, crt, led-lcd")
    spectra = torch.tensor(EMISSION[name], dtype=torch.float64)
    return spectra if channels == len(spectra) else spectra.sum(dim=0, keepdim=True)


def spectral_response(retinal: Tensor, matrix: Tensor) -> Tensor:
    """Photoreceptor spectral sensitivity: (C, H, W) light to (4, H, W) responses of L, M, S cones and rods."""
    return torch.tensordot(matrix.t().to(retinal), retinal, dims=1)


def retina(
    light: Tensor, around: Tensor, transfer: Tensor, matrix: Tensor, transducers: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """The whole pathway of one image: linear (C, H, W) to the achromatic response P and to L_a, both (H, W)."""
    receptors = spectral_response(retinal_image(light, around, transfer), matrix)
    p_l, p_m, p_rod = photoreceptor_response(receptors, *transducers)
    return achromatic_response(p_l, p_m, p_rod), adapting_luminance(receptors)


def adapting_luminance(responses: Tensor) -> Tensor:
    """L_a (H, W) in cd/m2: each pixel adapts to its own luminance, the sum of the L and M responses."""
    return responses[0] + responses[1]


def joint_sensitivity(luminance: np.ndarray) -> np.ndarray:
    """s_A: contrast sensitivity of rods and cones together."""
    return 30.162 * ((4.0627 / luminance) ** 1.6596 + 1.0) ** -0.2712


def rod_sensitivity(luminance: np.ndarray, log_gain: float = 0.0) -> np.ndarray:
    """s_R: contrast sensitivity of the rods alone, times 10^log_gain."""
    peak = 1.1732
    distance = np.abs(np.log10(luminance / peak))
    above, below = np.exp(-(distance**2.9899) / 0.5547), np.exp(-(distance**1.2167) / 1.1478)
    return 10.0 ** (1.1414 + log_gain) * np.where(luminance > peak, above, below)


def cone_sensitivity(luminance: np.ndarray, log_gain: float = 0.0) -> np.ndarray:
    """s_C of one of two equal cone types, on the increasing grid ``luminance``: half of what the rods leave at 2 l."""
    cones = np.maximum(joint_sensitivity(luminance) - rod_sensitivity(luminance, log_gain), 1e-3)
    return 0.5 * np.interp(np.minimum(2.0 * luminance, luminance[-1]), luminance, cones)


@lru_cache(maxsize=8)
def transducers(peak_sensitivity: float = 2.4, rod_log_gain: float = 0.0) -> tuple[Tensor, Tensor]:
    """Luminance masking: the responses J_C of a cone type and J_R of the rods, 2048 entries over LOG_RANGE.

    A step of 1 in J is one just noticeable difference: J is the integral of sensitivity over ln luminance.
    """
    grid = np.linspace(*LOG_RANGE, 2048)
    scale = PEAK_CONTRAST / 10.0**-peak_sensitivity
    luminance = 10.0**grid
    cone, rod = cone_sensitivity(luminance, rod_log_gain), rod_sensitivity(luminance, rod_log_gain)
    return _integral(grid, scale * cone), _integral(grid, scale * rod)


def _integral(log_luminance: np.ndarray, sensitivity: np.ndarray) -> Tensor:
    """Cumulative trapezoid over log10 luminance, in units of ln."""
    steps = np.diff(log_luminance) * (sensitivity[1:] + sensitivity[:-1]) / 2.0
    return torch.from_numpy(np.concatenate([[0.0], np.cumsum(steps)]) * math.log(10.0))


def photoreceptor_response(responses: Tensor, cone: Tensor, rod: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P_L, P_M and P_rod (H, W), in just noticeable differences; the S cones are not used further, as released."""
    curves = ((responses[0], cone), (responses[1], cone), (responses[3], rod))
    p_l, p_m, p_rod = (lookup(curve.to(r.device), *LOG_RANGE, r.log10()) for r, curve in curves)
    return p_l, p_m, p_rod


def achromatic_response(p_l: Tensor, p_m: Tensor, p_rod: Tensor) -> Tensor:
    """P (H, W): cones and rods summed, each without its mean over the image."""
    cones = p_l + p_m
    return (cones - cones.mean()) + (p_rod - p_rod.mean())

"""The metric as a whole: two images in, quality and visibility out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from utils.files import InputError
from utils.hdrvdp2 import contrast, pathway, pooling, pyramid
from utils.hdrvdp2.display import surround, to_light
from utils.hdrvdp2.numerics import resize


@dataclass(frozen=True)
class Result:
    """What HDR-VDP-2 says of a pair of images.

    Attributes:
        Q: quality; 100 where nothing differs, unbounded below, often 40..80.
        P_det: probability in [0, 1] that a viewer sees any difference; None unless maps were asked for.
        C_max: largest contrast of the difference, in detection thresholds; None likewise.
        P_map: (H, W) probability of detection per pixel; None likewise.
        C_map: (H, W) contrast in thresholds; None likewise.
    """

    Q: float
    P_det: float | None = None
    C_max: float | None = None
    P_map: Tensor | None = None
    C_map: Tensor | None = None


def hdrvdp2(
    test: Tensor,
    reference: Tensor,
    color_encoding: str,
    pixels_per_degree: float,
    *,
    surround_l: float | Sequence[float] = 1e-5,
    rgb_display: str | None = None,
    peak_sensitivity: float = 2.4,
    rod_sensitivity: float = 0.0,
    maps: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Result:
    """Compare ``test`` with ``reference`` as an average observer would.

    Args:
        test: (C, H, W) or (H, W), values as ``color_encoding`` says, any dtype, CPU or CUDA.
        reference: the same shape on the same device.
        color_encoding: "luminance" or "luma-display" (one channel), "sRGB-display", "rgb-bt.709" or "XYZ" (three).
        pixels_per_degree: angular resolution (see :func:`utils.hdrvdp2.pixels_per_degree`).
        surround_l: light around the image in cd/m2, one number or one per channel; -1: the reference's geometric mean.
        rgb_display: "ccfl-lcd" (default for three channels), "crt" or "led-lcd": whose primaries the channels are.
        peak_sensitivity: log10 of the observer's peak contrast sensitivity.
        rod_sensitivity: log10 of a gain on the rods.
        maps: also compute P_map, P_det, C_map and C_max, which takes about twice the time.
        dtype: of the FFTs and the pyramid; float32 moves Q by up to 4e-4, tables and pooling stay float64.

    NaN pixels count as 1e-5 cd/m2 and never as a difference.

    Raises:
        InputError: shapes differ or are not images, infinite pixels, fewer than 15 rows or columns, an unknown encoding
            or display, channels the encoding does not take, pixels per degree that are not positive.
    """
    test, reference = _checked(test, reference, pixels_per_degree)
    test, reference = to_light(test, color_encoding), to_light(reference, color_encoding)
    mask = contrast.difference_mask(test, reference)

    # Optical and retinal pathway
    around = surround(reference, surround_l)
    transfer = pathway.optical_transfer((mask.shape[0], mask.shape[1]), pixels_per_degree).to(mask.device, dtype)
    matrix = pathway.emission_matrix(len(test), rgb_display)
    curves = pathway.transducers(peak_sensitivity, rod_sensitivity)
    seen = [pathway.retina(light, around, transfer, matrix, curves) for light in (test, reference)]
    del test, reference, transfer  # room for the pyramid
    achromatic, luminance = (torch.stack(images) for images in zip(*seen, strict=True))
    del seen

    # Multi-scale decomposition
    bands = pyramid.decompose(achromatic.to(dtype))
    frequencies = pyramid.band_frequencies(len(bands) - 2, pixels_per_degree)
    bands[-1] = [weighted_base_band(bands[-1][0], luminance, frequencies[-1])]

    # Contrast detection and pooling
    differences = normalised_differences(bands, luminance, frequencies)
    masks = [resize(mask, band[0].shape[-2:]) for band in bands]
    return _pool(differences, masks, frequencies, maps)


def weighted_base_band(base: Tensor, luminance: Tensor, frequency: float) -> Tensor:
    """The base bands (2, h, w) of test and reference weighted by sensitivity; the reference's mean pads both."""
    pad = base[1].mean()
    return torch.stack([contrast.filter_base_band(*one, frequency, pad) for one in zip(base, luminance, strict=True)])


def normalised_differences(
    bands: pyramid.Bands, luminance: Tensor, frequencies: list[float]
) -> Iterator[tuple[int, Tensor]]:
    """Band number and D0 (h, w), for every band and orientation in order; bands and L_a of (test, reference)."""
    masking = [[contrast.mutual_masking(pair) for pair in band] for band in bands]
    log_luminance = luminance.mean(dim=0, dtype=torch.float64).clamp_(1e-5, 1e5).log10_()
    for b, band in enumerate(bands):
        n = 2.0**b
        s = band_sensitivity(log_luminance, masking[b][0].shape, None if b == len(bands) - 1 else frequencies[b])
        gain, neural = contrast.masking_gain(s, n), contrast.neural_noise(s)
        for o, (test, reference) in enumerate(band):
            xo, xn = contrast.across_orientations(masking[b], o), contrast.across_bands(masking, b, o)
            noise = contrast.masking_noise(masking[b][o], xo, xn, gain, n)
            yield b, contrast.normalised_difference(contrast.excitation(test - reference, n), noise, neural)


def band_sensitivity(log_luminance: Tensor, size: torch.Size, frequency: float | None) -> Tensor:
    """S (h, w) of a band; 1 for the base band, which is weighted already and has no ``frequency`` here."""
    if frequency is None:
        return log_luminance.new_ones(size)
    return contrast.sensitivity(resize(log_luminance, size), frequency)


def _pool(
    differences: Iterator[tuple[int, Tensor]], masks: list[Tensor], frequencies: list[float], maps: bool
) -> Result:
    losses: list[Tensor] = []
    visible: pyramid.Bands = [[] for _ in frequencies]
    for b, d0 in differences:
        losses.append(pooling.quality_loss(pooling.pooled_error(d0, masks[b]), frequencies[b]))
        if maps:
            visible[b].append(contrast.psychometric(d0, 2.0**b)[None])
    q = 100.0 - float(torch.stack(losses).sum())
    return Result(q, *_detection(visible)) if maps else Result(q)


def _detection(visible: pyramid.Bands) -> tuple[float, float, Tensor, Tensor]:
    """P_det, C_max, P_map, C_map."""
    c_map = pooling.spatial_pooling(pyramid.reconstruct(visible)[0].abs())
    p_map = pooling.detection_probability(c_map)
    return float(p_map.max()), float(c_map.max()), p_map, c_map


def _checked(test: Tensor, reference: Tensor, ppd: float) -> tuple[Tensor, Tensor]:
    if test.shape != reference.shape:
        raise InputError(
            f"test {tuple(test.shape)} and reference {tuple(reference.shape)} differ in shape; give equal ones"
        )
    if test.ndim not in (2, 3):
        raise InputError(f"shape {tuple(test.shape)} is no image; give (C, H, W) or (H, W)")
    for name, image in (("test", test), ("reference", reference)):
        if not image.sum().isfinite() and image.isinf().any():  # the sum is the quick look
            raise InputError(f"the {name} image has infinite pixels; repair it first")
    if not 0.0 < ppd < float("inf"):
        raise InputError(f"{ppd} pixels per degree: must be above 0")
    if test.ndim == 2:
        test, reference = test[None], reference[None]
    return test, reference

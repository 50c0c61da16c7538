"""Multi-scale decomposition, as the paper calls it: a steerable pyramid of four orientations and its inverse.

Filters "sp3" of Simoncelli and Freeman, "The steerable pyramid", ICIP 1995, taken from pyrtools. Borders mirror
without repeating the edge pixel. All filtering is by FFT of the mirrored image: because the low-pass filters are
symmetric, the mirror of a filtered image is the filtered mirror, and one spectrum serves every filter of a level.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from utils.files import InputError

SMALLEST = 15  # pixels; the high-pass filter is 15 x 15
Bands = list[list[Tensor]]  # [band][orientation] (B, h, w): high-pass, oriented levels from fine to coarse, base


@dataclass(frozen=True)
class Filters:
    """The taps, float64: ``bands`` (4, 9, 9), ``low0`` (9, 9), ``high0`` (15, 15), ``low`` (17, 17)."""

    low0: Tensor
    high0: Tensor
    low: Tensor
    bands: Tensor


@lru_cache(maxsize=1)
def filters() -> Filters:
    """The sp3 filters. pyrtools is imported here because it brings matplotlib along and takes a second."""
    from pyrtools.pyramids.filters import steerable_filters

    taps = steerable_filters("sp3_filters")
    low0, high0, low = (torch.tensor(taps[name], dtype=torch.float64) for name in ("lo0filt", "hi0filt", "lofilt"))
    bands = torch.tensor(taps["bfilts"].T.copy(), dtype=torch.float64)  # columns hold the taps column by column
    return Filters(low0, high0, low, bands.reshape(4, 9, 9).mT.contiguous())


def height(size: tuple[int, int]) -> int:
    """Number of oriented levels of an image of ``size`` (rows, columns)."""
    side, levels = min(size), 0
    while side >= 17:  # the low-pass filter is 17 x 17
        side, levels = side // 2, levels + 1
    return levels


def band_frequencies(levels: int, ppd: float) -> list[float]:
    """Peak frequency of each of ``levels`` + 2 bands in cycles per degree."""
    return [2.0**-band * ppd / 2.0 for band in range(levels + 2)]


def decompose(image: Tensor) -> Bands:
    """Split (B, H, W) into its bands.

    Returns:
        The high-pass band, ``height`` levels of four orientations, each half as large as the one before (rounded up),
        and the base band.

    Raises:
        InputError: the image is smaller than the 15 x 15 high-pass filter.
    """
    rows, columns = image.shape[-2:]
    if min(rows, columns) < SMALLEST:
        raise InputError(
            f"{columns}x{rows} pixels are fewer than the pyramid's filters: {SMALLEST}x{SMALLEST} at least"
        )
    taps = filters()
    spectrum = _Mirrored(image, margin=12)  # reach of low0 and low together
    bands = [[spectrum.filtered(taps.high0)]]
    spectrum.multiply(taps.low0)
    low = spectrum.image()
    for level in range(height((rows, columns))):
        if level:
            spectrum = _Mirrored(low, margin=8)
        bands.append([spectrum.filtered(band) for band in taps.bands])
        low = spectrum.halved(taps.low)
    return [*bands, [low]]


def reconstruct(bands: Bands) -> Tensor:
    """Rebuild (B, H, W) from its bands; close to the inverse of :func:`decompose`, as the filters allow."""
    taps = filters()
    low = bands[-1][0]
    for level in reversed(bands[1:-1]):
        spread = torch.zeros_like(level[0])
        spread[..., ::2, ::2] = low
        low = _synthesis([spread, *level], [taps.low, *taps.bands])
    return _synthesis([low, bands[0][0]], [taps.low0, taps.high0])


def _synthesis(images: list[Tensor], taps: list[Tensor]) -> Tensor:
    """Sum of (B, h, w) images, each convolved with its taps (turned half around against the analysis)."""
    spectra = [_Mirrored(image, margin=8) for image in images]
    for spectrum, kernel in zip(spectra, taps, strict=True):
        spectrum.multiply(kernel.flip(0, 1))
    for spectrum in spectra[1:]:
        spectra[0].add(spectrum)
    return spectra[0].image()


class _Mirrored:
    """The spectra of images (B, h, w), each continued by its mirror image for ``margin`` pixels (even) all around.

    Correlations with filters that reach no further than the margin are exact inside the images. Image after image,
    because memory for the planes of a large image at once is slow to come by.
    """

    def __init__(self, images: Tensor, margin: int) -> None:
        self.shape, self.margin = images.shape[-2:], margin
        self.size = (_fft_length(self.shape[0] + 2 * margin), _fft_length(self.shape[1] + 2 * margin))
        self.spectra = [torch.fft.rfft2(self._canvas(image)) for image in images]

    def _canvas(self, image: Tensor) -> Tensor:
        (h, w), m = self.shape, self.margin
        canvas = image.new_zeros(self.size)
        canvas[m : m + h, m : m + w] = image
        canvas[m : m + h, :m] = image[:, 1 : m + 1].flip(1)
        canvas[m : m + h, m + w : w + 2 * m] = image[:, w - m - 1 : w - 1].flip(1)
        canvas[:m] = canvas[m + 1 : 2 * m + 1].flip(0)
        canvas[m + h : h + 2 * m] = canvas[h - 1 : m + h - 1].flip(0)
        return canvas

    def multiply(self, taps: Tensor) -> None:
        """Correlate with ``taps``, in place."""
        transfer = self._transfer(taps)
        for spectrum in self.spectra:
            spectrum *= transfer

    def add(self, other: _Mirrored) -> None:
        """Add other images of the same size and margin, in place."""
        for spectrum, term in zip(self.spectra, other.spectra, strict=True):
            spectrum += term

    def image(self) -> Tensor:
        """The images as filtered so far: (B, h, w)."""
        return torch.stack([self._inside(torch.fft.irfft2(x, s=self.size)) for x in self.spectra])

    def filtered(self, taps: Tensor) -> Tensor:
        """The images correlated with ``taps``: (B, h, w)."""
        transfer = self._transfer(taps)
        return torch.stack([self._inside(torch.fft.irfft2(x * transfer, s=self.size)) for x in self.spectra])

    def halved(self, taps: Tensor) -> Tensor:
        """The images correlated with ``taps``, every second row and column: (B, ceil(h / 2), ceil(w / 2))."""
        transfer = self._transfer(taps)
        return torch.stack([self._halved(x * transfer) for x in self.spectra])

    def _halved(self, spectrum: Tensor) -> Tensor:
        """Every second row is taken in the spectrum, by adding its aliases."""
        upper, lower = spectrum.chunk(2)
        half = torch.fft.irfft2((upper + lower) / 2.0, s=(self.size[0] // 2, self.size[1]))
        (h, w), m = self.shape, self.margin
        return half[m // 2 : m // 2 + (h + 1) // 2, m : m + w : 2]

    def _inside(self, canvas: Tensor) -> Tensor:
        (h, w), m = self.shape, self.margin
        return canvas[m : m + h, m : m + w]

    def _transfer(self, taps: Tensor) -> Tensor:
        """Transfer function (size[0], size[1] // 2 + 1) of correlation with ``taps`` around their centre."""
        rows = _fourier(self.size[0], self.size[0], taps.shape[0]).to(self.spectra[0])
        columns = _fourier(self.size[1], self.size[1] // 2 + 1, taps.shape[1]).to(self.spectra[0])
        return rows @ (taps.to(self.spectra[0]) @ columns.t())


def _fourier(length: int, frequencies: int, taps: int) -> Tensor:
    """exp(2 pi i f x / length) for the first ``frequencies`` f and tap positions x around 0: (frequencies, taps)."""
    x = torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2
    phase = torch.outer(torch.arange(frequencies, dtype=torch.float64), x) * (2.0 * torch.pi / length)
    return torch.polar(torch.ones_like(phase), phase)


def _fft_length(n: int) -> int:
    """The smallest even length from ``n`` on with no prime factor above 7: a fast FFT that can be halved."""
    n += n % 2
    while not _smooth(n):
        n += 2
    return n


def _smooth(n: int) -> bool:
    for prime in (2, 3, 5, 7):
        while n % prime == 0:
            n //= prime
    return n == 1

"""From pixel values to light: colour encodings and the surround."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from utils.files import InputError
from utils.hdrvdp2.numerics import power_
from utils.hdrvdp2.settings import ENCODINGS

# White and black of the display model behind "luma-display" and "sRGB-display", cd/m2: L = 99 v + 1
GAIN, BLACK = 99.0, 1.0

XYZ_TO_RGB = (
    (3.240708, -1.537259, -0.498570),
    (-0.969257, 1.875995, 0.041555),
    (0.055636, -0.203996, 1.057069),
)


def to_light(image: Tensor, color_encoding: str) -> Tensor:
    """Pixel values (C, H, W) to linear values in absolute units (cd/m2 per channel), float64, same shape.

    Nothing is clipped: values below 0 and above 1 follow the same curves.

    Raises:
        InputError: unknown encoding, or a number of channels it does not take.
    """
    names = {name.lower(): name for name in ENCODINGS}
    if color_encoding.lower() not in names:
        raise InputError(f"colour encoding {color_encoding!r} is unknown; choose one of {', '.join(ENCODINGS)}")
    name = names[color_encoding.lower()]
    channels = ENCODINGS[name]
    if image.shape[0] != channels:
        raise InputError(f"{image.shape[0]} channel(s) where {name} takes {channels}; give (C, H, W) or (H, W)")
    return DECODERS[name](image)


def _linear(image: Tensor) -> Tensor:
    return image.double()


def _luma_display(image: Tensor) -> Tensor:
    """A display of gamma 2.2. A negative luma has no real power and becomes NaN."""
    return image.double().pow(2.2).mul_(GAIN).add_(BLACK)


def _srgb_display(image: Tensor) -> Tensor:
    return torch.stack([_srgb_channel(channel.double()) for channel in image])


def _srgb_channel(s: Tensor) -> Tensor:
    curve = power_((s + 0.055).div_(1.055), 2.4)
    return torch.where(s <= 0.04045, s / 12.92, curve).mul_(GAIN).add_(BLACK)


def _xyz(image: Tensor) -> Tensor:
    image = image.double()
    return torch.tensordot(image.new_tensor(XYZ_TO_RGB), image, dims=1)


DECODERS: dict[str, Callable[[Tensor], Tensor]] = {  # of the encodings, to float64
    "luminance": _linear,
    "luma-display": _luma_display,
    "sRGB-display": _srgb_display,
    "rgb-bt.709": _linear,
    "XYZ": _xyz,
}


def surround(reference: Tensor, surround_l: float | Sequence[float]) -> Tensor:
    """Light around the image, one value per channel (C,), from the linear reference (C, H, W).

    Args:
        surround_l: a number for all channels, one number per channel, or -1 for the reference's geometric mean.

    Raises:
        InputError: not one number per channel, or a geometric mean of values that have none.
    """
    values = reference.new_tensor(surround_l).reshape(-1)
    if values.tolist() == [-1.0]:
        values = reference.log().mean(dim=(-2, -1)).exp()
        if not values.isfinite().all():
            raise InputError(
                "surround_l -1: the reference has negative or NaN pixels, so no geometric mean; give a value"
            )
    if values.numel() not in (1, reference.shape[0]):
        raise InputError(
            f"surround_l: {values.numel()} values for {reference.shape[0]} channel(s); give one or one each"
        )
    return values.expand(reference.shape[0])

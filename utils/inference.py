"""The network on whole images: padding to the published test protocol, and the way it runs, whole or in strips.

Which way is taken, and how features are kept where memory is short, is decided here for every script.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from models import AFUNet
from models.streaming import Rows
from models.streaming import reconstruct as reconstruct_in_strips
from utils.choices import Way
from utils.exposure import network_input
from utils.files import InputError
from utils.memory import choose_storage

BANDS = 50  # a timed band is one in so many of the rows
RAN = {  # what forward says of how it ran
    "whole": "the whole image at once",
    "strips": "strip by strip, the same numbers in bounded memory",
    "strips, half storage": "strip by strip, features kept in half precision (near 80 dB PSNR-mu of the exact result)",
}
OUT_OF_MEMORY = "out of GPU memory: going on in strips, which take less and give the same numbers"
LITTLE_MEMORY = (
    "little memory: features are kept in half precision, which changes the result a little (near 80 dB PSNR-mu)"
)

Say = Callable[[str], None]
Progress = Callable[[int, int], None]


@torch.inference_mode()
def reconstruct(
    model: AFUNet,
    frames: np.ndarray,
    ev: Sequence[float] | np.ndarray,
    *,
    way: Way = "auto",
    progress: Progress | None = None,
    say: Say = print,
) -> np.ndarray:
    """The HDR image of three frames.

    Args:
        model: an AFUNet in eval mode; its device does the work.
        frames: (3, H, W, 3) RGB of rising exposure on the 2.2 curve, uint16, or float in [0, 1].
        ev: three exponents to base 2, the darkest frame's being 0.
        way, progress, say: see :func:`forward`.

    Returns:
        (H, W, 3) float32 linear RGB in (0, 1), aligned with the second frame; 1 is where the first frame clips.

    Raises:
        InputError: not enough memory for strips either, or an output that is not finite.
    """
    frames = frames if frames.dtype == np.uint16 else frames.astype(np.float32)

    def rows(first: int, last: int) -> Tensor:
        """The network input of some rows: of a large photograph it is never held as a whole."""
        return network_input(frames[:, first:last], ev)[None]

    y, _ = forward(model, rows, frames.shape[1:3], way=way, progress=progress, say=say)
    return np.ascontiguousarray(y[0].permute(1, 2, 0).float().cpu().numpy())


@torch.inference_mode()
def predict(
    model: AFUNet, x: Tensor, patch_size: int = 128, way: Way = "auto", *, say: Say = print
) -> tuple[Tensor, str]:
    """The paper's test protocol: pad by reflection to a multiple of ``patch_size``, network, crop.

    The padding changes the result a little, since channel attention looks at the whole image; published figures
    have it.

    Args:
        model: an AFUNet in eval mode.
        x: (B, 18, H, W) network input on the model's device.
        patch_size: 1 for no padding.
        way, say: see :func:`forward`.

    Returns:
        (B, 3, H, W) linear HDR in (0, 1), and how the network ran, a key of ``RAN``.

    Raises:
        InputError: as :func:`forward`.
    """
    h, w = x.shape[-2:]
    y, ran = forward(model, pad_to_multiple(x, patch_size), way=way, say=say)
    return y[..., :h, :w], ran


def forward(
    model: AFUNet,
    x: Tensor | Rows,
    size: tuple[int, ...] | None = None,
    *,
    way: Way = "auto",
    progress: Progress | None = None,
    say: Say = print,
) -> tuple[Tensor, str]:
    """The network's output, by the way that fits the device and its memory.

    Args:
        model: an AFUNet in eval mode.
        x: input (B, 18, H, W), or a function (first row, last row) -> those rows (1, 18, rows, W).
        size: (H, W), needed where x is a function.
        way: "whole" is one forward call, "strips" gives the same numbers in bounded memory; "auto" takes strips on the
            CPU (faster there), and on a GPU where its memory does not do.
        progress: called with (done, total) as the strips go by.
        say: gets a line where memory makes another way necessary.

    Returns:
        (B, 3, H, W) in (0, 1), and how the network ran, a key of ``RAN``.

    Raises:
        InputError: not enough memory for strips either, or an output that is not finite.
    """
    h, w = x.shape[-2:] if isinstance(x, Tensor) else cast(tuple[int, int], size)
    device = x.device if isinstance(x, Tensor) else next(model.parameters()).device
    y = None
    ran = choose_way(device, way)
    if ran == "whole":
        y = whole_or_none(model, x if isinstance(x, Tensor) else x(0, h), device, tolerant=way == "auto")
        if y is None:
            say(OUT_OF_MEMORY)
    if y is None:
        storage = choose_storage(device, h * w)
        ran = "strips"
        if storage == torch.float16:
            ran = "strips, half storage"
            say(LITTLE_MEMORY)
        y = cast(Tensor, reconstruct_in_strips(model, x, size=(h, w), storage=storage, progress=progress))
    if not torch.isfinite(y).all():
        raise InputError("the network's output is not finite; the weights or the exposures are wrong")
    return y, ran


def choose_way(device: torch.device, way: Way = "auto") -> str:
    """What "auto" means: on the CPU "strips" (faster there), elsewhere "whole" (until memory runs out)."""
    if way != "auto":
        return way
    return "strips" if device.type == "cpu" else "whole"


def whole_or_none(model: AFUNet, x: Tensor, device: torch.device, *, tolerant: bool) -> Tensor | None:
    """``model(x)`` on the device the model is on; None where a GPU's memory does not do and ``tolerant`` is set.

    What the failed call had made is free again only when its exception is gone, so whoever goes on does it after this.
    """
    try:
        return model(x.to(device))
    except torch.cuda.OutOfMemoryError:
        if not tolerant:
            raise InputError("out of GPU memory; pass --inference strips, which takes less") from None
    torch.cuda.empty_cache()
    return None


def estimate_seconds(model: AFUNet, frames: np.ndarray, ev: Sequence[float] | np.ndarray) -> float:
    """How long :func:`reconstruct` will take, from a timed band of the frames; the band is one in BANDS of the rows."""
    height = frames.shape[1]
    rows = max(math.ceil(height / BANDS / 8) * 8, 16)
    reconstruct(model, frames[:, :16], ev)  # the first call of a process is slower than the others
    started = time.perf_counter()
    reconstruct(model, frames[:, :rows], ev)
    return (time.perf_counter() - started) * height / min(rows, height)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad (..., H, W) at the bottom and right by reflection, until H and W are multiples of ``multiple``."""
    h, w = x.shape[-2:]
    rows = reflect_indices(h, -(-h // multiple) * multiple).to(x.device)
    columns = reflect_indices(w, -(-w // multiple) * multiple).to(x.device)
    return x.index_select(-2, rows).index_select(-1, columns)


def reflect_indices(size: int, target: int) -> Tensor:
    """(target,) long: the index into a line of ``size`` pixels, reflected at its ends as often as needed.

    As ``numpy.pad(mode="reflect")`` does; torch's reflection stops at size - 1 pixels. A line of one pixel repeats it.
    """
    period = max(2 * (size - 1), 1)
    i = torch.arange(target) % period
    return torch.minimum(i, period - i) if size > 1 else torch.zeros(target, dtype=torch.long)

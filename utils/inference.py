"""The network on a whole image: padding to the published test protocol, and the choice between two ways to run."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor

from models import AFUNet
from models.streaming import reconstruct
from utils.io import InputError

Path = Literal["auto", "whole", "strips"]


def reflect_indices(size: int, target: int) -> Tensor:
    """(target,) long: the index into a line of ``size`` pixels, reflected at its ends as often as needed.

    As ``numpy.pad(mode="reflect")`` does; torch's reflection stops at size - 1 pixels. A line of one pixel repeats it.
    """
    period = max(2 * (size - 1), 1)
    i = torch.arange(target) % period
    return torch.minimum(i, period - i) if size > 1 else torch.zeros(target, dtype=torch.long)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad (..., H, W) at the bottom and right by reflection, until H and W are multiples of ``multiple``."""
    h, w = x.shape[-2:]
    rows = reflect_indices(h, -(-h // multiple) * multiple).to(x.device)
    columns = reflect_indices(w, -(-w // multiple) * multiple).to(x.device)
    return x.index_select(-2, rows).index_select(-1, columns)


def choose_path(device: torch.device, path: Path = "auto") -> str:
    """What "auto" means: on the CPU "strips" (faster there), elsewhere "whole" (until memory runs out)."""
    if path != "auto":
        return path
    return "strips" if device.type == "cpu" else "whole"


@torch.inference_mode()
def predict(model: AFUNet, x: Tensor, patch_size: int = 128, path: Path = "auto") -> tuple[Tensor, str]:
    """The paper's test protocol: pad by reflection to a multiple of ``patch_size``, network, crop.

    The padding changes the result a little, since channel attention looks at the whole image; published figures
    have it.

    Args:
        model: an AFUNet in eval mode.
        x: (B, 18, H, W) network input on the model's device.
        patch_size: 1 for no padding.
        path: "whole" (one forward call), "strips" (bounded memory, same numbers) or "auto".

    Returns:
        (B, 3, H, W) linear HDR in (0, 1), and the path that ran. A GPU that runs out of memory falls back to strips
        under "auto".

    Raises:
        InputError: the output is not finite.
    """
    h, w = x.shape[-2:]
    ran = choose_path(x.device, path)
    padded = pad_to_multiple(x, patch_size)
    y = whole_or_none(model, padded, x.device, tolerant=path == "auto") if ran == "whole" else None
    if y is None:
        y, ran = cast(Tensor, reconstruct(model, padded)), "strips"
    y = y[..., :h, :w]
    if not torch.isfinite(y).all():
        raise InputError("the network's output is not finite; the weights or the exposures are wrong")
    return y, ran


def whole_or_none(model: AFUNet, x: Tensor, device: torch.device, *, tolerant: bool = True) -> Tensor | None:
    """``model(x)`` on the device the model is on; None where a GPU's memory does not do, unless that may not be.

    What the failed call had made is free again only when its exception is gone, so whoever goes on does it after this.
    """
    try:
        return model(x.to(device))
    except torch.cuda.OutOfMemoryError:
        if not tolerant:
            raise
    torch.cuda.empty_cache()
    return None

"""AFUNet through torch.hub: model = torch.hub.load("<this repository>", "afunet", weights="Kalantari.pth")."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models import AFUNet

dependencies = ["torch", "numpy", "cv2", "einops", "imageio"]


def afunet(weights: str | Path | None = None, device: str = "cpu", **config: object) -> AFUNet:
    """The network in eval mode.

    Args:
        weights: a checkpoint, official or ours, which also decides the architecture; None for an untrained network.
        device: where to put it.
        config: fields of :class:`models.AFUNetConfig`, for an untrained network.

    Raises:
        utils.io.InputError: the file is no checkpoint of AFUNet.
    """
    from models import AFUNet, AFUNetConfig  # here, so that torch.hub names a missing package first
    from utils.checkpoint import load_model

    if weights is None:
        return AFUNet(AFUNetConfig(**config)).to(device).eval()  # type: ignore[arg-type]
    return load_model(weights, device)

"""AFUNet through torch.hub: model = torch.hub.load("<this repository>", "afunet", weights="Kalantari.pth")."""

from __future__ import annotations

from pathlib import Path

from models import AFUNet, AFUNetConfig
from utils.checkpoint import load_model

dependencies = ["torch", "numpy", "cv2"]


def afunet(weights: str | Path | None = None, device: str = "cpu", **config: object) -> AFUNet:
    """The network in eval mode.

    Args:
        weights: a checkpoint, official or ours, which also decides the architecture; None for an untrained network.
        device: where to put it.
        config: fields of :class:`models.AFUNetConfig`, for an untrained network.

    Raises:
        utils.io.InputError: the file is no checkpoint of AFUNet.
    """
    if weights is None:
        return AFUNet(AFUNetConfig(**config)).to(device).eval()  # type: ignore[arg-type]
    return load_model(weights, device)

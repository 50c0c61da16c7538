"""AFUNet through torch.hub: model = torch.hub.load("<this repository>", "afunet", weights="Kalantari.pth")."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models import AFUNet

dependencies = ["torch", "numpy", "einops"]
HERE = Path(__file__).parent
PACKAGES = ("models", "utils")  # ours, by names that a caller's own packages may have too


def afunet(weights: str | Path | None = None, device: str = "cpu", **config: object) -> AFUNet:
    """The network in eval mode.

    Args:
        weights: a checkpoint, official or ours, which also decides the architecture; None for an untrained network.
        device: where to put it.
        config: fields of :class:`models.AFUNetConfig`, for an untrained network.

    Raises:
        utils.files.InputError: the file is no checkpoint of AFUNet.
    """
    with our_packages():
        models: Any = importlib.import_module("models")
        checkpoint: Any = importlib.import_module("utils.checkpoint")
    if weights is None:
        return models.AFUNet(models.AFUNetConfig(**config)).to(device).eval()
    return checkpoint.load_model(weights, device)


@contextmanager
def our_packages() -> Iterator[None]:
    """Within the block ``models`` and ``utils`` are ours; after it they are again what they were to the caller."""
    theirs = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in PACKAGES}
    if all(Path(getattr(module, "__file__", None) or "").is_relative_to(HERE) for module in theirs.values()):
        theirs = {}
    for name in theirs:
        del sys.modules[name]
    sys.path.insert(0, str(HERE))
    try:
        yield
    finally:
        sys.path.remove(str(HERE))
        if theirs:
            for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
                del sys.modules[name]
            sys.modules.update(theirs)

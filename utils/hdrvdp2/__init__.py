"""HDR-VDP-2 (version 2.2.2): visibility and quality of the difference between two HDR images.

Mantiuk, Kim, Rempel and Heidrich, "HDR-VDP-2: A calibrated visual metric for visibility and quality predictions in all
luminance conditions", ACM Transactions on Graphics 30(4), article 40, 2011. Reads in the order of the paper's figure 2:
``display`` (values to light), ``pathway`` (optics, receptors), ``pyramid`` (multi-scale decomposition), ``contrast``
(neural noise and contrast masking), ``pooling`` (quality and detection); ``metric`` strings them together and
``protocols`` names the settings published deghosting results were computed with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from utils.hdrvdp2.protocols import PROTOCOLS, Protocol
from utils.hdrvdp2.settings import Display, pixels_per_degree

if TYPE_CHECKING:
    from utils.hdrvdp2.metric import Result, hdrvdp2

__all__ = ["PROTOCOLS", "Display", "Protocol", "Result", "hdrvdp2", "pixels_per_degree"]


def __getattr__(name: str) -> Any:
    """The metric itself, when it is first asked for: it imports torch, which parsers have no use for."""
    if name not in ("Result", "hdrvdp2"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from utils.hdrvdp2 import metric

    return getattr(metric, name)

"""HDR-VDP-2 (version 2.2.2): visibility and quality of the difference between two HDR images.

Mantiuk, Kim, Rempel and Heidrich, "HDR-VDP-2: A calibrated visual metric for visibility and quality predictions in all
luminance conditions", ACM Transactions on Graphics 30(4), article 40, 2011. Reads in the order of the paper's figure 2:
``display`` (values to light), ``pathway`` (optics, receptors), ``pyramid`` (multi-scale decomposition), ``contrast``
(neural noise and contrast masking), ``pooling`` (quality and detection); ``metric`` strings them together and
``protocols`` names the settings published deghosting results were computed with.
"""

from utils.hdrvdp2.display import pixels_per_degree
from utils.hdrvdp2.metric import Result, hdrvdp2
from utils.hdrvdp2.protocols import PROTOCOLS, Display, Protocol

__all__ = ["PROTOCOLS", "Display", "Protocol", "Result", "hdrvdp2", "pixels_per_degree"]

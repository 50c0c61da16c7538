"""AFUNet, the network of "Cross-Iterative Alignment-Fusion Synergy for HDR Reconstruction" (ICCV 2025)."""

from models.afunet import AFUNet, AFUNetConfig

__all__ = ["AFUNet", "AFUNetConfig"]

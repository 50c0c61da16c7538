"""Scenes made from HDR photographs: views out of panoramas, moving objects, a camera that clips and is noisy."""

from datasets.synthesis.photographs import Photograph, find_photographs
from datasets.synthesis.scene import MadeScene, make_scene

__all__ = ["MadeScene", "Photograph", "find_photographs", "make_scene"]

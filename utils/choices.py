"""The words that options take and functions are typed with. Standard library only, so that parsers can read them."""

from __future__ import annotations

from typing import Literal

Way = Literal["auto", "whole", "strips"]  # how the network goes over an image: utils.inference
Mode = Literal["auto", "none", "mtb", "ecc"]  # how a bracket is registered: utils.alignment
Gamut = Literal["bt709", "p3", "bt2020"]  # primaries of the results: utils.photographs.colour
Operator = Literal["photo", "mu", "reinhard", "drago", "mantiuk"]  # of previews: utils.photographs.preview

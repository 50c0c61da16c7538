"""Where the weights that come with the code lie. Standard library only, so that parsers can name them."""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "pretrain_model" / "afunet_synthetic.pth"
SHIPPED_FACTS = "pretrain_model/README.md"  # where it says what they are

"""Where the weights that come with the code lie. Standard library only, so that parsers can name them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "pretrain_model"
SHIPPED = FOLDER / "afunet_synthetic.pth"
SHIPPED_FACTS = "pretrain_model/README.md"  # where it says what they are


def is_shipped(weights: Path) -> bool:
    """Whether a file is the one that comes with the code."""
    return weights.resolve() == SHIPPED.resolve()

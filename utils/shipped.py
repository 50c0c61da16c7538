"""Where the weights that come with the code lie. Standard library only, so that parsers can name them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "pretrain_model"
SHIPPED = FOLDER / "afunet_synthetic.pth"  # for 16-bit brackets as the data sets have them: test.py's default
SHIPPED_PHOTOGRAPHS = FOLDER / "afunet_photographs.pth"  # for files as cameras write them: predict.py's and app.py's
SHIPPED_FACTS = "pretrain_model/README.md"  # where it says what they are

"""The five validation sets: ``python -m datasets.validation --hdri DIR --out scenes``.

The same twelve views of four panoramas that no training scene shows, each time: plain (``val``), as JPEG of quality 92
(``val_jpeg92``), in strong colours (``val_strong``), and with exposures 1 and 4 EV apart (``val_1ev``, ``val_4ev``).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from datasets.synthesis import find_photographs
from datasets.synthesise import Recipe, digest, synthesise
from utils.cli import run, whole
from utils.files import user_path

HELD_OUT = ("chinese_garden_1k", "circus_arena_1k", "modern_buildings_2_1k", "peppermint_powerplant_1k")
SCENES, SIZE, SEED = 12, (256, 384), 2026
SETS: dict[str, tuple[str, ...]] = {  # a folder's name -> what its scenes vary in
    "val": (),
    "val_jpeg92": ("jpeg92",),
    "val_strong": ("strong",),
    "val_1ev": ("1ev",),
    "val_4ev": ("4ev",),
}


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m datasets.validation", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--hdri", type=user_path, nargs="+", required=True, metavar="DIR", help="folders with the panoramas"
    )
    parser.add_argument("--out", type=user_path, default=Path("scenes"), metavar="DIR", help="where the sets go")
    parser.add_argument(
        "--workers", type=whole(1, 1024), default=os.cpu_count() or 1, help="processes; default: one a core"
    )
    return parser


def make_sets(
    photographs: list[Path], out: Path, workers: int, size: tuple[int, int], scenes: int
) -> dict[str, list[Path]]:
    """Make what is missing of the five sets below ``out``; the scene folders of each, by its name."""
    made = {}
    for name, vary in SETS.items():
        recipe = Recipe(size, SEED, None, None, digest(photographs), vary)
        made[name] = synthesise(photographs, out / name, range(scenes), recipe, workers)
    return made


def main() -> None:
    """Make what is missing of the five sets."""
    options = make_parser().parse_args()
    photographs = find_photographs(options.hdri, list(HELD_OUT), [])
    make_sets(photographs, options.out, options.workers, SIZE, SCENES)
    print(f"{len(SETS)} sets of {SCENES} scenes in {options.out}")


if __name__ == "__main__":
    run(main)

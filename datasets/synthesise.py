"""Make bracketed scenes from HDR photographs: ``python -m datasets.synthesise --hdri DIR --out DIR --scenes N``.

Each scene is a folder in Kalantari's layout (three 16-bit TIFFs, exposures, HDR label) with a ``scene.json`` that tells
how it was made. The label is OpenEXR with 16-bit floats: in a Radiance file the channels of a pixel share an exponent,
which leaves the weak ones no digits where a colour is strong. A scene follows from the options, its number and the
photographs alone: any number of workers, and a run that was broken off and started again, give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

import utils.interrupts  # noqa: F401  (first, so that Ctrl-C is one line)
from datasets.scenes import LAYOUTS
from datasets.statistics import measure_folder, table
from datasets.synthesis import MadeScene, Photograph, find_photographs, make_scene
from datasets.synthesis.photographs import read_photograph
from datasets.synthesis.variety import ALL, PARTS, variety
from utils.cli import number_up_to, run, seed, whole
from utils.exr import write_exr
from utils.files import (
    ELSEWHERE,
    InputError,
    entries,
    is_folder,
    read_facts,
    reason,
    shortened_stem,
    user_path,
    writable_folder,
)
from utils.images import write_ldr
from utils.progress import paced

SMALLEST, LARGEST = 32, 8192  # pixels along a side
MOST_SCENES = 1_000_000
LABEL = "EXR, 16-bit floats"


@dataclass(frozen=True)
class Recipe:
    """What every scene of a set has in common."""

    size: tuple[int, int]
    seed: int
    motion: float | None
    iso: float | None
    photographs: str  # a digest of the list of files
    vary: tuple[str, ...] = ()  # names out of ``PARTS``

    def facts(self, number: int) -> dict[str, object]:
        """What, with the photographs, a scene follows from."""
        plain: dict[str, object] = {
            "number": number,
            "size": list(self.size),
            "seed": self.seed,
            "motion": self.motion,
            "given_iso": self.iso,
            "photographs": self.photographs,
            "label": LABEL,
        }
        return plain | ({"vary": list(self.vary)} if self.vary else {})


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m datasets.synthesise", description=__doc__.split("\n\n")[0])
    parser.add_argument("--hdri", type=user_path, nargs="+", metavar="DIR", help="folders of .hdr and .exr photographs")
    parser.add_argument("--out", type=user_path, metavar="DIR", help="where the scene folders go")
    parser.add_argument(
        "--scenes", type=whole(1, MOST_SCENES), default=100, metavar="N", help="how many scenes, numbered from 0"
    )
    parser.add_argument("--numbers", type=whole(0, 10**9), nargs="+", metavar="I", help="make these instead of 0..N-1")
    parser.add_argument("--size", type=parse_size, default=(256, 384), metavar="HxW", help="default 256x384")
    parser.add_argument("--seed", type=seed, default=443)
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="use these photographs only (patterns too)"
    )
    parser.add_argument("--exclude", nargs="+", default=[], metavar="NAME", help="hold these out (patterns too)")
    parser.add_argument(
        "--motion", type=number_up_to(LARGEST), metavar="PIXELS", help="fastest object; default 60, at most width/10"
    )
    parser.add_argument(
        "--iso", type=number_up_to(1e7), help="sensitivity of every scene; default: drawn from 100 to 1600"
    )
    parser.add_argument(
        "--vary",
        nargs="+",
        choices=["all", *PARTS],
        default=[],
        metavar="PART",
        help=f"all, or any of {', '.join(PARTS)}",
    )
    parser.add_argument(
        "--workers", type=whole(1, 1024), default=os.cpu_count() or 1, help="processes; default: one a core"
    )
    parser.add_argument(
        "--stats", type=user_path, nargs="+", metavar="DIR", help="describe these folders of scenes instead"
    )
    parser.add_argument("--layout", choices=[*LAYOUTS], default="kalantari", help="how --stats finds files in a scene")
    return parser


def parse_size(text: str) -> tuple[int, int]:
    """``256x384`` -> (256, 384), height first."""
    height, width = (int(part) for part in text.lower().split("x"))
    if not SMALLEST <= min(height, width) <= max(height, width) <= LARGEST:
        raise argparse.ArgumentTypeError(f"{text}: sides of {SMALLEST} to {LARGEST} pixels, please")
    return height, width


def parts(names: list[str]) -> tuple[str, ...]:
    """What ``--vary`` names, with ``all`` spelt out."""
    return tuple(part for name in names for part in (ALL if name == "all" else [name]))


def scene_name(photographs: list[Path], number: int) -> str:
    """Folder name of a scene: its photograph and number."""
    return f"{shortened_stem(photographs[number % len(photographs)].stem)}_{number:04d}"


def write_scene(folder: Path, scene: MadeScene, facts: dict[str, object]) -> None:
    """Write a scene folder in Kalantari's layout, beside its place first: it is there whole or not at all.

    Raises InputError where the disk does not take it.
    """
    partial_folder = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    try:
        partial_folder.mkdir(parents=True)
        _write_files(partial_folder, scene, facts)
        partial_folder.rename(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({reason(error)}); {ELSEWHERE}") from None
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)


def _write_files(partial_folder: Path, scene: MadeScene, facts: dict[str, object]) -> None:
    layout = LAYOUTS["kalantari"]
    for i, frame in enumerate(scene.frames, 1):
        write_ldr(partial_folder / f"input_{i}.tif", frame)
    write_exr(partial_folder / Path(layout.label_file_name).with_suffix(".exr"), scene.label, half=True)
    (partial_folder / layout.exposure_file_name).write_text("".join(f"{ev:g}\n" for ev in scene.ev))
    (partial_folder / "scene.json").write_text(json.dumps(facts | scene.facts, indent=1) + "\n")


_paths: list[Path] = []  # of one worker process
_photographs: list[Photograph] = []  # the same, read with the first scene


def _start_worker(paths: list[Path]) -> None:
    cv2.setNumThreads(1)
    _paths[:] = paths
    _photographs.clear()


def _make(recipe: Recipe, job: tuple[int, Path]) -> Path:
    number, folder = job
    if not _photographs:  # here, so that an error reaches the user: a pool starts workers that fail anew for ever
        _photographs[:] = [read_photograph(path) for path in _paths]
    rng = np.random.default_rng([recipe.seed, number])
    scene = make_scene(
        rng,
        _photographs,
        recipe.size,
        fastest=recipe.motion,
        iso=recipe.iso,
        number=number,
        variety=variety(recipe.vary),
    )
    write_scene(folder, scene, recipe.facts(number))
    return folder


def synthesise(photographs: list[Path], out: Path, numbers: Iterable[int], recipe: Recipe, workers: int) -> list[Path]:
    """Make the scenes that are not there yet, with a progress bar; returns all folders asked for, in order.

    Raises InputError where a scene of that number was made otherwise (another seed, other photographs), or cannot be
    written.
    """
    folders = {number: out / scene_name(photographs, number) for number in numbers}
    jobs = [(number, folder) for number, folder in folders.items() if not _is_made(folder, recipe.facts(number))]
    writable_folder(out, "--out")
    refuse_others(out, folders)
    made = _results(partial(_make, recipe), jobs, photographs, min(workers, len(jobs)))
    for _ in paced(made, "scene", str(out), total=len(folders), done=len(folders) - len(jobs)):
        pass
    return list(folders.values())


def digest(photographs: list[Path]) -> str:
    """A short name of a list of photographs, which changes with their names, order and sizes."""
    listed = repr([(path.name, path.stat().st_size) for path in photographs])
    return hashlib.sha256(listed.encode()).hexdigest()[:16]


def refuse_others(out: Path, folders: dict[int, Path]) -> None:
    """Raise InputError where one of the numbers is there under another photograph's name."""
    for path in entries(out):
        number = path.name.rpartition("_")[2]
        if number.isdecimal() and len(number) < 10 and is_folder(path) and path != folders.get(int(number), path):
            raise InputError(f"{path}: scene {int(number)} of other photographs is there already; give another --out")


def _is_made(folder: Path, expected: dict[str, object]) -> bool:
    if not os.path.lexists(folder):
        return False
    facts = read_facts(folder / "scene.json", "remove the folder, or give another --out", "the facts of a made scene")
    for key, value in ({"vary": None} | expected).items():
        if (found := facts.get(key)) != value:
            raise InputError(f"{folder}: there already, with {key} {str(found)[:80]}, not {value}; give another --out")
    return True


def _results(
    make: partial[Path], jobs: list[tuple[int, Path]], photographs: list[Path], workers: int
) -> Iterator[Path]:
    if workers <= 1:
        _start_worker(photographs if jobs else [])
        yield from map(make, jobs)
        return
    context = multiprocessing.get_context("spawn")  # fork is not safe once cv2 or torch have threads
    with context.Pool(workers, _start_worker, (photographs,)) as pool:
        yield from pool.imap_unordered(make, jobs)


def main() -> None:
    """Parse the command line, then make scenes or describe them."""
    parser = make_parser()
    options = parser.parse_args()
    if options.stats:
        print(table({str(folder): measure_folder(folder, options.layout) for folder in options.stats}))
        return
    if not options.hdri or not options.out:
        parser.error("--hdri and --out are needed to make scenes (or --stats to describe some)")
    photographs = find_photographs(options.hdri, options.only, options.exclude)
    numbers = options.numbers or range(options.scenes)
    vary = parts(options.vary)
    recipe = Recipe(options.size, options.seed, options.motion, options.iso, digest(photographs), vary)
    folders = synthesise(photographs, options.out, numbers, recipe, options.workers)
    print(f"{len(folders)} scenes of {len(photographs)} photographs in {options.out}")


if __name__ == "__main__":
    run(main)

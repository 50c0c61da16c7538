"""Files as no program writes them, given to every reader: each is read, or is one line, in a second and 500 MB.

``python -m tests.fuzz --minutes 10`` goes on as long as it is told, and says how many were tried. Each input follows
from the seed and its number, which are printed where one fails: ``--seed S --first N --count 1`` makes it again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.learning_curve import read_curves
from datasets.cache import build_cache, open_cached
from datasets.scenes import Scene, read_rising
from models import AFUNet, AFUNetConfig
from tests.handheld import exif
from tests.random_scenes import random_scene
from utils.checkpoint import load_model, model_content, save_checkpoint
from utils.exr import write_exr
from utils.files import InputError, read_exposures
from utils.images import read_hdr, read_ldr, write_hdr, write_ldr
from utils.photographs.shots import read_frame, read_shot, write_preview

SECONDS, MEGABYTES = 1.0, 500  # that one input may take
HANG = 5  # seconds of the processor after which an input is given up
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
NUMBERS = (0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (
    "nan",
    "inf",
    "-inf",
    "1e999",
    "-1",
    "0",
    "1e-320",
    "9" * 400,
    "\0",
    "\udcff".encode("utf-8", "replace").decode(),
)


@dataclass(frozen=True)
class Target:
    """A kind of file: a whole one to begin with, and what reads it."""

    name: str
    whole: bytes
    suffix: str
    read: Callable[[Path], object]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to eight faults, mostly near the beginning, where headers are."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        if not made:
            break
        near = rng.random() < 0.6
        place = rng.randrange(min(len(made), 600) if near else len(made))
        rng.choice(FAULTS)(made, place, rng)
    return bytes(made)


def flip(made: bytearray, place: int, rng: random.Random) -> None:
    made[place] ^= 1 << rng.randrange(8)


def byte(made: bytearray, place: int, rng: random.Random) -> None:
    made[place] = rng.choice(INTERESTING)


def number(made: bytearray, place: int, rng: random.Random) -> None:
    kind = rng.choice(("<H", ">H", "<I", ">I"))
    size = struct.calcsize(kind)
    made[place : place + size] = struct.pack(kind, rng.choice(NUMBERS) & (2 ** (8 * size) - 1))


def cut(made: bytearray, place: int, rng: random.Random) -> None:
    del made[place : place + rng.choice((1, 2, 4, 64, len(made)))]


def repeat(made: bytearray, place: int, rng: random.Random) -> None:
    made[place:place] = made[place : place + rng.choice((1, 4, 64, 1024))] * rng.choice((1, 2, 16))


def word(made: bytearray, place: int, rng: random.Random) -> None:
    made[place:place] = rng.choice(WORDS).encode()


def noise(made: bytearray, place: int, rng: random.Random) -> None:
    made[place : place + 8] = rng.randbytes(8)


FAULTS = (flip, flip, byte, number, number, cut, repeat, word, noise)


def exif_block(rng: random.Random) -> bytes:
    """EXIF data with odd values under the tags that are looked at."""
    data, values = exif(), (1e200, 1e-200, 0.0, -1.0, 2000.0, "1e400", "text", b"\xff\xfe", (1, 2), 65535, "", "\0")
    details = data.get_ifd(0x8769)
    for tag in rng.sample((33434, 33437, 34855, 36867, 37377, 37378, 37521, 34866, 40961, 42036), 3):
        details[tag] = rng.choice(values)
    for tag in rng.sample((271, 272, 274, 305, 306, 315, 33432), 2):
        data[tag] = rng.choice(values)
    with contextlib.suppress(Exception):
        return data.tobytes()
    return exif().tobytes()


def odd_photograph(data: bytes, rng: random.Random) -> bytes:
    """A JPEG with odd or damaged EXIF; one in two with other faults as well."""
    block = exif_block(rng)
    if rng.random() < 0.5:
        block = block[:6] + mutated(block[6:], rng)
    made = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.save(made, "JPEG", exif=block[:65000])
    return mutated(made.getvalue(), rng) if rng.random() < 0.5 else made.getvalue()


def read_photograph(path: Path) -> None:
    """All that predict.py does with one: its size, exposure and pixels, and EXIF into a preview."""
    shot = read_shot(path)
    _ = shot.ev, shot.describe(), read_frame(shot)
    write_preview(path.with_name("preview.jpg"), np.zeros((8, 8, 3), np.uint8), shot)


def targets(folder: Path) -> list[Target]:
    """Every reader with a whole file of its kind."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = np.random.default_rng(0).integers(0, 2**10, (24, 32, 3))
    write_ldr(folder / "a.tif", frame.astype(np.uint16))
    write_ldr(folder / "a.png", frame.astype(np.uint16))
    write_hdr(folder / "a.hdr", frame / 1024)
    write_exr(folder / "a.exr", frame / 1024)
    for suffix, options in {"jpg": {}, "png": {}, "tif": {"compression": "tiff_lzw"}}.items():
        Image.fromarray(frame.astype(np.uint8)).save(folder / f"photo.{suffix}", exif=exif(), **options)
    save_checkpoint(folder / "a.pth", model_content(AFUNet(AFUNetConfig(stages=1))))
    torch.save({"state_dict": {"mlps_end.0.fc1.weight": torch.zeros(2)}}, folder / "small.pth")
    torch.save({"epoch": 1}, folder / "old.pth", _use_new_zipfile_serialization=False)
    write_log(folder / "log.jsonl")
    (folder / "exposure.txt").write_text("0\n2.5\n4\n")
    scene = random_scene(folder / "scene", size=(8, 8))
    (cached,) = build_cache([scene], folder / "cache", progress=False)

    def target(name: str, path: Path, read: Callable[[Path], object]) -> Target:
        return Target(name, path.read_bytes(), path.suffix, read)

    return [
        *(target(f"frame {path.suffix}", path, read_ldr) for path in (folder / "a.tif", folder / "a.png")),
        *(target(f"HDR image {path.suffix}", path, read_hdr) for path in (folder / "a.hdr", folder / "a.exr")),
        *(target(f"photograph {path.suffix}", path, read_photograph) for path in sorted(folder.glob("photo.*"))),
        target("EXIF", folder / "photo.jpg", read_photograph),
        *(target(f"checkpoint {path.stem}", path, load_model) for path in sorted(folder.glob("*.pth"))),
        target("exposures", folder / "exposure.txt", read_exposures),
        target("exposures of a scene", folder / "exposure.txt", read_rising),
        target("log", folder / "log.jsonl", lambda path: read_curves([path.parent])),
        target("cache", cached, lambda path: rebuild(scene, cached, path)),
    ]


def write_log(path: Path) -> None:
    recipe = {"batch_size": 2, "processes": 1, "accumulate": 1}
    records = [{"kind": "start", "step": 0, "recipe": recipe}]
    records += [{"kind": "train", "step": i, "l1_mu": 0.1} for i in range(1, 4)]
    records += [{"kind": "epoch", "step": 3, "l1_mu": 0.1, "PSNR-mu": 30.0}]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def rebuild(scene: Scene, place: Path, damaged: Path) -> None:
    """A damaged cache file in its place is found, and made anew."""
    place.write_bytes(damaged.read_bytes())
    (path,) = build_cache([scene], place.parent, progress=False)
    assert np.array_equal(open_cached(path).label, scene.read().label)


def make(target: Target, rng: random.Random) -> bytes:
    return odd_photograph(target.whole, rng) if target.name == "EXIF" else mutated(target.whole, rng)


def try_one(target: Target, data: bytes, folder: Path) -> str:
    """What became of an input: "read" or "refused". Raises AssertionError for anything else."""
    path = folder / ("log.jsonl" if target.name == "log" else f"input{target.suffix}")
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, HANG)  # of this process: a busy machine is no hang
    try:
        target.read(path)
        became = "read"
    except InputError as error:
        assert "\n" not in str(error), f"more than one line: {error}"
        became = "refused"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.process_time() - began
    assert seconds < SECONDS, f"{seconds:.1f} s"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MEGABYTES, f"{grown:.0f} MB"
    return became


def fuzz(seed: int, numbers: Iterator[int], folder: Path, only: str = "") -> tuple[Counter[str], list[str]]:
    """Try inputs by their numbers, of the kinds with ``only`` in their name; how many became what, and what failed."""
    every = [target for target in targets(folder / "whole") if only in target.name]
    became, failures = Counter[str](), []
    warnings.simplefilter("ignore")  # Pillow's, of what it is given
    signal.signal(signal.SIGPROF, _hanging)
    for index in numbers:
        target, rng = every[index % len(every)], random.Random(f"{seed}/{index}")
        data = make(target, rng)
        try:
            became[f"{target.name}: {try_one(target, data, folder)}"] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failures.append(f"--seed {seed} --first {index}: {target.name}: {type(error).__name__}: {str(error)[:200]}")
    return became, failures


def _hanging(*_: object) -> None:
    raise TimeoutError(f"still at it after {HANG} s")


def until(minutes: float, first: int) -> Iterator[int]:
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        yield first
        first += 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: %(default)g)")
    parser.add_argument("--count", type=int, help="how many, in place of --minutes")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="default: drawn, and printed")
    parser.add_argument("--only", default="", metavar="KIND", help="kinds with this in their name, e.g. .exr")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"seed {options.seed}")
    numbers = (
        iter(range(options.first, options.first + options.count))
        if options.count
        else until(options.minutes, options.first)
    )
    with tempfile.TemporaryDirectory() as folder:
        became, failures = fuzz(options.seed, numbers, Path(folder), options.only)
    for name, count in sorted(became.items()):
        print(f"{count:8,} {name}")
    print(*failures[:50], sep="\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{became.total() + len(failures):,} inputs, {len(failures)} failed; {peak:.0f} MB at most")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

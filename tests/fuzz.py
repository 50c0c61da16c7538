"""Files as no program writes them, given to every reader: each is read, or is one line, in a second and 500 MB.

``python -m tests.fuzz --minutes 10`` goes on as long as it is told, and says how many were tried. Each input follows
from the seed and its number, which are printed where one fails: ``--seed S --first N --count 1`` makes it again. What
the decoders say of damaged files goes to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import math
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
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from PIL import Image

from benchmarks.learning_curve import read_curves
from datasets.cache import build_cache, open_cached
from datasets.scenes import read_rising
from datasets.statistics import drawn
from models import AFUNet, AFUNetConfig
from tests.handheld import exif
from tests.random_scenes import random_scene
from tests.test_photographs import write_dng
from utils.checkpoint import load_model, model_content, save_checkpoint
from utils.exr import write_exr
from utils.files import InputError, read_exposures
from utils.images import read_hdr, read_ldr, read_linear, write_hdr, write_ldr
from utils.photographs.merging import Job, finished, photographs_of, settings_facts
from utils.photographs.search import Found
from utils.photographs.settings import Settings
from utils.photographs.shots import read_frame, read_shot, write_preview
from utils.provenance import sha256
from utils.training.engine import Plan, Trainer
from utils.training.session import named_checkpoint, resume
from utils.training.tracking import Checkpoints, RunLog

SECONDS, MEGABYTES = 1.0, 500  # that one input may take
TOLD = 5000  # inputs after which is told how many were tried
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

LEAST = AFUNetConfig(stages=1, without=("cfm", "dcm", "sam"))  # the network of the fewest weights
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 10**9, 10**500, math.nan, math.inf, "text", "9" * 5000, b"\xff", [], {}, (1, 2), {"a": []}),
    *(torch.zeros(0), torch.ones(2, 3), torch.tensor(math.nan), torch.ones(3, dtype=torch.int64)),
    *(torch.ones(2, 3).to_sparse(), torch.ones(3, device="meta"), torch.ones(1, dtype=torch.complex64)),
)  # in a checkpoint
Damage = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """A kind of file: a whole one to begin with, what reads it, what damages it, and how often it is tried."""

    name: str
    whole: bytes
    suffix: str
    read: Callable[[Path], object]
    damage: Damage
    share: float = 1.0


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


def odd_content(data: bytes, rng: random.Random) -> bytes:
    """A checkpoint whose checksums fit, with one to three odd values in it."""
    content = copied(load_once(data))
    for _ in range(rng.choice((1, 1, 3))):
        put_odd_value(content, rng)
    made = io.BytesIO()
    torch.save(content, made)
    return made.getvalue()


@lru_cache
def load_once(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True)


def copied(content: Any) -> Any:
    """A copy of dicts and lists, down to what they hold."""
    if isinstance(content, dict):
        return {key: copied(value) for key, value in content.items()}
    return [copied(value) for value in content] if isinstance(content, list) else content


def put_odd_value(content: Any, rng: random.Random) -> None:
    """Change, add or remove an entry of a dict or a list, or of one within."""
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = rng.choice(keys) if keys else None
    if keys and isinstance(content[key], dict | list) and content[key] and rng.random() < 0.8:
        return put_odd_value(content[key], rng)
    if keys and rng.random() < 0.2:
        del content[key]
    elif isinstance(content, list):
        content.append(rng.choice(ODD_VALUES))
    else:
        content[rng.choice(("odd", 7)) if rng.random() < 0.2 else key] = rng.choice(ODD_VALUES)
    return None


def read_photograph(path: Path) -> None:
    """All that predict.py does with one: its size, exposure and pixels, and EXIF into a preview."""
    shot = read_shot(path)
    _ = shot.ev, shot.describe(), read_frame(shot)
    write_preview(path.with_name("preview.jpg"), np.zeros((8, 8, 3), np.uint8), shot)


def target(
    name: str, path: Path, read: Callable[[Path], object], damage: Damage = mutated, share: float = 1.0
) -> Target:
    return Target(name, path.read_bytes(), path.suffix, read, damage, share)


def targets(folder: Path) -> list[Target]:
    """Every reader with a whole file of its kind."""
    folder.mkdir(parents=True, exist_ok=True)
    return [*images(folder), *photographs(folder), *checkpoints(folder), *texts(folder), *scenes(folder)]


def images(folder: Path) -> list[Target]:
    """What data sets and other methods' results consist of."""
    frame = np.random.default_rng(0).integers(0, 2**10, (24, 32, 3)).astype(np.uint16)
    write_ldr(folder / "a.tif", frame)
    write_ldr(folder / "a.png", frame)
    write_hdr(folder / "a.hdr", frame / 1024)
    write_exr(folder / "a.exr", frame / 1024)
    np.save(folder / "a.npy", (frame / 1024).astype(np.float32))
    tifffile.imwrite(folder / "b.tif", np.moveaxis(frame, -1, 0), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(folder / "c.tif", (frame / 1024).astype(np.float32), photometric="rgb", compression="zlib")
    return [
        target("frame .tif", folder / "a.tif", read_ldr),
        target("frame .png", folder / "a.png", read_ldr),
        target("frame in planes .tif", folder / "b.tif", read_ldr),
        target("HDR image .hdr", folder / "a.hdr", read_hdr),
        target("HDR image .exr", folder / "a.exr", read_hdr),
        target("linear image .npy", folder / "a.npy", read_linear),
        target("linear image .tif", folder / "c.tif", read_linear),
    ]


def photographs(folder: Path) -> list[Target]:
    """What cameras write; RAW and HEIC where the packages for them are there."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    data = exif()
    kinds: dict[str, dict[str, Any]] = {"jpg": {"exif": data}, "png": {"exif": data}}
    kinds["tif"] = {"exif": data, "compression": "tiff_lzw"}
    if find_spec("pillow_heif"):
        importlib.import_module("pillow_heif").register_heif_opener()
        kinds["heic"] = {"exif": data.tobytes()}
    for suffix, options in kinds.items():
        picture.save(folder / f"photo.{suffix}", **options)
    if find_spec("rawpy"):
        write_dng(tifffile, folder / "photo.dng", np.arange(32 * 48, dtype=np.uint16).reshape(32, 48))
    return [
        *(target(f"photograph {path.suffix}", path, read_photograph) for path in sorted(folder.glob("photo.*"))),
        target("EXIF", folder / "photo.jpg", read_photograph, odd_photograph),
    ]


def checkpoints(folder: Path) -> list[Target]:
    """Weights, ours and others', and the state of a training."""
    save_checkpoint(folder / "a.pth", model_content(AFUNet(AFUNetConfig(stages=1))))
    save_checkpoint(folder / "least.pth", model_content(AFUNet(LEAST)))
    torch.save({"state_dict": {"mlps_end.0.fc1.weight": torch.zeros(2)}}, folder / "small.pth")
    torch.save({"epoch": 1}, folder / "old.pth", _use_new_zipfile_serialization=False)
    run = Run()
    torch.save(run.trainer.state(), folder / "state.pth")
    return [
        *(target(f"checkpoint {name}", folder / f"{name}.pth", load_model) for name in ("a", "old", "small")),
        target("odd values in a checkpoint", folder / "least.pth", load_model, odd_content, 0.3),
        target("odd values in a training's state", folder / "state.pth", run.resume, odd_content, 0.1),  # takes 0.1 s
    ]


def texts(folder: Path) -> list[Target]:
    """Exposure files, logs, and the facts beside results."""
    write_log(folder / "log.jsonl")
    (folder / "exposure.txt").write_text("0\n2.5\n4\n")
    item = Found((folder / "photo.jpg",))
    job = Job(Settings(save_dir=folder.parent), AFUNet(AFUNetConfig(stages=1)), folder / "a.pth")
    same = {"photographs": photographs_of(item), "settings": settings_facts(job.settings), "files": ["a.exr"]}
    (folder / "facts.json").write_text(json.dumps({**same, "checkpoint": {"sha256": sha256(job.weights)}}))
    return [
        target("exposures", folder / "exposure.txt", read_exposures),
        target("exposures of a scene", folder / "exposure.txt", read_rising),
        target("log", folder / "log.jsonl", lambda path: read_curves([path.parent])),
        target("facts of a result", folder / "facts.json", lambda path: finished(job, item)),
    ]


def scenes(folder: Path) -> list[Target]:
    """Cache files of scenes, and the facts of made ones."""
    scene = random_scene(folder / "scene", size=(8, 8))
    label = scene.read().label
    (cached,) = build_cache([scene], folder / "cache", progress=False)

    def rebuild(path: Path) -> None:
        """A damaged cache file in its place is found, and made anew."""
        cached.write_bytes(path.read_bytes())
        build_cache([scene], cached.parent, progress=False)
        assert np.array_equal(open_cached(cached).label, label)

    facts = {"light": {}, "files": [{"kind": "jpeg"}] * 3, "timing": {"steps": [2, 2]}, "movement": {"shake": 2}}
    (folder / "scene.json").write_text(json.dumps(facts))
    return [target("cache", cached, rebuild), target("facts of a scene", folder / "scene.json", drawn)]


def write_log(path: Path) -> None:
    recipe = {"batch_size": 2, "processes": 1, "accumulate": 1}
    records = [{"kind": "start", "step": 0, "recipe": recipe}]
    records += [{"kind": "train", "step": i, "l1_mu": 0.1} for i in range(1, 4)]
    records += [{"kind": "epoch", "step": 3, "l1_mu": 0.1, "PSNR-mu": 30.0}]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


class Run:
    """A training run that is resumed from what it is given."""

    def __init__(self) -> None:
        model = AFUNet(LEAST)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer = torch.optim.Adam(model.parameters())
        optimizer.step()
        facts = {"config": asdict(model.config), "recipe": {"seed": 1, "without": []}}
        plan = Plan(epochs=1, lr=1e-3, lr_min=1e-3, seed=1)
        self.log = RunLog(None)
        nothing: Any = None
        self.trainer = Trainer(model, nothing, optimizer, nothing, plan, self.log, nothing, facts=facts)

    def resume(self, path: Path) -> None:
        args = argparse.Namespace(resume=str(path))
        resume(args, self.trainer, Checkpoints(path.parent / "ckpt"), self.log, named_checkpoint(args))


def try_one(target: Target, data: bytes, folder: Path) -> str:
    """What became of an input: "read" or "refused". Raises AssertionError for anything else."""
    path = folder / ("log.jsonl" if target.suffix == ".jsonl" else f"input{target.suffix}")
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


def fuzz(
    seed: int, numbers: Iterator[int], folder: Path, only: str = "", say: Callable[[str], None] = lambda text: None
) -> tuple[Counter[str], list[str]]:
    """Try inputs by their numbers, of the kinds with ``only`` in their name; how many became what, and what failed."""
    every = [target for target in targets(folder / "whole") if only in target.name]
    became, failures = Counter[str](), []
    warnings.simplefilter("ignore")  # Pillow's, of what it is given
    signal.signal(signal.SIGPROF, _hanging)
    for index in numbers:
        rng = random.Random(f"{seed}/{index}")
        (target,) = rng.choices(every, [target.share for target in every])
        data = target.damage(target.whole, rng)
        try:
            became[f"{target.name}: {try_one(target, data, folder)}"] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failures.append(f"--seed {seed} --first {index}: {target.name}: {type(error).__name__}: {str(error)[:200]}")
            say(failures[-1])
        if (tried := became.total() + len(failures)) % TOLD == 0:
            say(f"{tried:,} inputs, {len(failures)} failed")
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
        became, failures = fuzz(options.seed, numbers, Path(folder), options.only, partial(print, flush=True))
    for name, count in sorted(became.items()):
        print(f"{count:8,} {name}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{became.total() + len(failures):,} inputs, {len(failures)} failed; {peak:.0f} MB at most")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

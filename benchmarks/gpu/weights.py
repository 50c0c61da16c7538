"""The part "weights": goes on training the shipped weights with train.py for the time that is left.

Scenes are made here, on all cores, out of the panoramas given; train.py is run as it is, and stopped by the signal that
makes it save. A further call, or --again, trains on from there.
"""

from __future__ import annotations

import math
import os
import signal
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.baselines import PSNRS, network, score
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.record import UNFINISHED, Record, TimeIsUp
from benchmarks.learning_curve import read_log
from datasets import validation
from datasets.scenes import LAYOUTS, find_scenes
from datasets.synthesis import find_photographs
from datasets.synthesis.variety import ALL
from datasets.synthesise import Recipe, digest, synthesise
from utils.checkpoint import load_model, read_checkpoint, save_checkpoint, weights_only
from utils.images import write_hdr
from utils.provenance import REPOSITORY
from utils.shipped import SHIPPED

SAMPLE_PANORAMAS = ("courtyard", "forest", "interior")  # of the sample scenes, which are held out too
SIZE, SEED = (256, 384), 811
TINY_SIZE = (64, 96)
AT_ONCE = 100  # scenes per core that are made before the clock is looked at
AFTERWARDS = 40.0  # seconds kept for the export and the second validation
PATIENCE = 60.0  # seconds that train.py has to save and end
START, BETWEEN_EPOCHS = 90.0, 2.0  # seconds in which train.py starts and compiles, and in which its loaders start
SPEED_EPOCHS = 1000  # a schedule so long that its first epochs have the full learning rate
RECIPE = (
    *("--dataset", "kalantari", "--train_path", "train", "--val_fraction", "0", "--recipe", "released"),
    *("--augmentation", "paper", "--drop_path", "0", "--clip_grad", "1", "--linear_weight", "0.2", "--draws", "2"),
    *("--lr", "8e-4", "--lr_min", "5e-6", "--seed", "447", "--no-tensorboard", "--save_interval", "1000000"),
    *("--save_minutes", "2", "--log_interval", "20"),
)
FULL = ("--train_patch_size", "128", "--batch_size", "32", "--repeat", "8", "--ema", "0.999", "--compile")
TINY = (
    *("--train_patch_size", "16", "--batch_size", "1", "--repeat", "1", "--ema", "0.5", "--epochs", "1"),
    *("--num_workers", "0", "--no-amp"),
)


def run(bench: Bench, record: Record) -> None:
    made = record.step("scenes", partial(make_scenes, bench, record))
    held_out = record.step("validation scenes", partial(make_validation, bench))
    if made is None or held_out is None:
        return
    record.step("before", partial(validate, bench, bench.init or SHIPPED))
    before = record.content["steps"].get("training")
    if record.step("training", partial(train, bench, record), needs=AFTERWARDS + 2 * START) is None:
        return
    if record.content["steps"]["training"] is not before:
        record.forget("export", "after")
    record.step("export", partial(export, bench))
    record.step("after", partial(validate, bench, exported(bench)))


def folder(bench: Bench) -> Path:
    """The data set: train, and the validation sets."""
    return bench.work / "scenes"


def exported(bench: Bench) -> Path:
    return bench.out / "afunet_gpu.pth"


# Scenes


def panoramas(bench: Bench) -> list[Path]:
    """The folders of panoramas; in tiny form without any, some of noise are made."""
    if bench.hdri or not bench.tiny:
        return list(bench.hdri)
    made = bench.work / "panoramas"
    rng = np.random.default_rng(0)
    for name in (*validation.HELD_OUT, "noise"):
        blocks = 2.0 ** rng.uniform(-6, 4, (16, 32, 3))
        made.mkdir(parents=True, exist_ok=True)
        write_hdr(made / f"{name}.hdr", np.kron(blocks, np.ones((8, 8, 1))).astype(np.float32))
    return [made]


def cores() -> int:
    return os.cpu_count() or 1


def make_scenes(bench: Bench, record: Record) -> dict[str, Any]:
    """Training scenes that vary in everything, of all panoramas that are not held out."""
    folders = panoramas(bench)
    names = {path.stem for path in find_photographs(folders, [], [])}
    photographs = find_photographs(folders, [], sorted(names & {*validation.HELD_OUT, *SAMPLE_PANORAMAS}))
    recipe = Recipe(TINY_SIZE if bench.tiny else SIZE, SEED, None, None, digest(photographs), ALL)
    wanted, workers = (2, 1) if bench.tiny else (bench.scenes, cores())
    for last in [*range(AT_ONCE * workers, wanted, AT_ONCE * workers), wanted]:
        if record.left() <= AFTERWARDS and last > AT_ONCE * workers:
            raise TimeIsUp("scenes")
        synthesise(photographs, folder(bench) / "train", range(last), recipe, workers)
    return {"scenes": wanted, "panoramas": len(photographs)}


def make_validation(bench: Bench) -> dict[str, Any]:
    """The validation sets; in tiny form one small scene each."""
    photographs = find_photographs(panoramas(bench), list(validation.HELD_OUT), [])
    size, scenes = (TINY_SIZE, 1) if bench.tiny else (validation.SIZE, validation.SCENES)
    made = validation.make_sets(photographs, folder(bench), 1 if bench.tiny else cores(), size, scenes)
    return {name: len(scenes) for name, scenes in made.items()}


def validate(bench: Bench, path: Path) -> dict[str, Any]:
    """PSNR-mu and PSNR-l of weights on every validation set."""
    method = network(path, bench.device)
    found = {}
    for name in list(validation.SETS)[: 2 if bench.tiny else None]:
        scenes = find_scenes(LAYOUTS["samples"], folder(bench) / name, "test")
        found[name] = dict(zip(PSNRS, score(method, scenes, name, PSNRS), strict=True))
    return found


# Training


def train(bench: Bench, record: Record) -> dict[str, Any]:
    """Run train.py until its schedule or the time ends: epochs, how it ended, and the last epoch's figures.

    The speed of one epoch tells how many fit; the cosine is laid over those and the ones of earlier calls.
    """
    end = call_train(bench, record, 1) if bench.tiny else ""
    if not bench.tiny and not records(bench, "epoch"):
        end = call_train(bench, record, SPEED_EPOCHS, epochs_done(bench) + 1)
    if not bench.tiny and not end:
        scenes = len(find_scenes(LAYOUTS["samples"], folder(bench) / "train", "train"))
        end = call_train(bench, record, epochs_done(bench) + epochs_that_fit(bench, record, scenes))
    return {
        "epochs": epochs_done(bench),
        "ended by": end or "its schedule",
        "last epoch": next(reversed(records(bench, "epoch")), None),
        UNFINISHED: bool(end),
    }


def call_train(bench: Bench, record: Record, epochs: int, stop_after: int | None = None) -> str:
    """One call of train.py with a cosine of ``epochs``; says what ended it before that, if anything.

    Raises RuntimeError with the end of its output where it fails.
    """
    words = [*command(bench), "--epochs", str(epochs), *(["--stop_after", str(stop_after)] if stop_after else [])]
    log = bench.work / "train.log"
    with log.open("ab") as output:
        child = subprocess.Popen(words, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
    try:
        code, end = child.wait(max(1.0, record.left() - AFTERWARDS)), ""
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGTERM)  # it finishes its step, saves and ends
        code, end = child.wait(PATIENCE), "the clock"
    finally:
        child.kill()
    if code:
        raise RuntimeError(f"train.py ended with {code}: {log.read_text(errors='replace')[-300:]}")
    return end


def command(bench: Bench) -> list[str]:
    """train.py on the scenes made here, from the weights given, or on with the run that is there."""
    init = bench.init or SHIPPED
    words = [sys.executable, "train.py", *RECIPE, *(TINY if bench.tiny else FULL), "--device", bench.device.type]
    if not bench.tiny:
        words += ["--num_workers", str(min(12, cores()))]
    places = {"--dataset_dir": folder(bench), "--cache_dir": bench.work / "cache", "--logdir": run_folder(bench)}
    for option, place in {**places, "--init": init}.items():
        words += [option, str(place.resolve())]
    resume = "auto" if bench.resume is None or last_checkpoint(bench).exists() else str(Path(bench.resume).resolve())
    return [*words, "--stages", str(load_model(init).config.stages), "--resume", resume]


def run_folder(bench: Bench) -> Path:
    return bench.work / "run"


def last_checkpoint(bench: Bench) -> Path:
    return run_folder(bench) / "ckpt" / "last.pth"


def epochs_done(bench: Bench) -> int:
    """Of the run that is gone on with, or of the checkpoint that it begins from."""
    source = last_checkpoint(bench) if last_checkpoint(bench).exists() or not bench.resume else Path(bench.resume)
    return int(read_checkpoint(source)["progress"]["epoch"]) if source.exists() else 0


def records(bench: Bench, kind: str) -> list[dict[str, Any]]:
    """Those of a kind in the run's log: "epoch" for finished epochs, "train" for every few steps."""
    log = run_folder(bench) / "log.jsonl"
    return [record for record in (read_log(log) if log.exists() else []) if record["kind"] == kind]


def epochs_that_fit(bench: Bench, record: Record, scenes: int) -> int:
    """How many epochs the time left is good for, one at least.

    By the median of the speeds that the log has of some steps each: the first of them, and so the whole first epoch,
    has the compiling in it, and counts only where there is no other.
    """
    steps, epochs = ([each["images_per_s"] for each in records(bench, kind)] for kind in ("train", "epoch"))
    speed = statistics.median(steps[1:] or epochs)
    seconds = scenes * int(FULL[FULL.index("--repeat") + 1]) / speed + BETWEEN_EPOCHS
    return max(1, math.floor((record.left() - AFTERWARDS - START) / seconds))


def export(bench: Bench) -> dict[str, Any]:
    """The weights without the state of the training, as ``python -m utils.checkpoint weights`` writes them."""
    source = last_checkpoint(bench)
    content = weights_only(read_checkpoint(source), str(source))
    save_checkpoint(exported(bench), content)
    return {"file": exported(bench).name, "keys": len(content["state_dict"])}

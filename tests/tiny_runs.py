"""Training runs of a few dozen steps, for tests: their data, their command line, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.random_scenes import random_scene
from utils.checkpoint import read_checkpoint

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def make_data(root: Path) -> Path:
    """Three training scenes and a test scene in Kalantari's layout."""
    for i, name in enumerate("abc"):
        random_scene(root / "Kal" / "Training" / name, seed=i, size=(24, 32))
    random_scene(root / "Kal" / "Test" / "Test-set" / "t", seed=9, size=(24, 32))
    return root


def tiny_arguments(data: Path) -> list[str]:
    """A run of 2 epochs of 10 steps, a few dozen milliseconds each."""
    cache = str(data / "cache")
    settings = (
        "--recipe released --batch_size 2 --epochs 2 --repeat 10 --train_patch_size 16 --stages 1 --log_interval 1"
    )
    more = "--val_interval 2 --device cpu --no-tensorboard --dataset kalantari"
    return [*settings.split(), *more.split(), "--dataset_dir", str(data), "--cache_dir", cache]


def start(arguments: list[str], logdir: Path) -> subprocess.Popen[str]:
    """train.py as a process of its own; both of its streams in one pipe."""
    command = [sys.executable, str(ROOT / "train.py"), *arguments, "--logdir", str(logdir)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_steps(logdir: Path, count: int) -> None:
    end = time.monotonic() + 240
    while not (logdir / "log.jsonl").exists() or len(lines(logdir, "train")) < count:
        assert time.monotonic() < end
        time.sleep(0.02)


def weights(logdir: Path) -> Tensor:
    return torch.cat(
        [value.flatten() for value in read_checkpoint(logdir / "ckpt" / "last.pth")["state_dict"].values()]
    )


def lines(logdir: Path, kind: str) -> list[dict[str, Any]]:
    """The records of a kind; a last line that is being written is left out."""
    whole = [line for line in (logdir / "log.jsonl").read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [record for record in map(json.loads, whole) if record["kind"] == kind]


def notes(logdir: Path) -> str:
    return "\n".join(line["text"] for line in lines(logdir, "note"))

"""Training runs of a few dozen steps, for tests: their data, their command line, and what they leave."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import train
from tests.random_scenes import random_scene
from utils import cli
from utils.checkpoint import read_checkpoint

ROOT = Path(__file__).parent.parent
LONGEST = 3600.0  # seconds that a run may take to do what it is asked to, on the busiest machine
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


class Apart:
    """train.py as a process of its own that has the modules already: it starts in no time.

    Attributes:
        process: the process.
        logdir: of the run.
        heard: what it has printed so far, on both of its streams.
    """

    def __init__(self, arguments: list[str], logdir: Path) -> None:
        self.logdir, self.heard = logdir, ""
        source, sink = os.pipe()
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=_train, args=([*arguments, "--logdir", str(logdir)], sink), daemon=True)
        self.process.start()
        os.close(sink)
        self.listener = threading.Thread(target=self._listen, args=(source,), daemon=True)
        self.listener.start()

    def _listen(self, source: int) -> None:
        with os.fdopen(source, errors="replace") as stream:
            for line in stream:
                self.heard += line

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def fill_the_disk(self, full: bool = True) -> None:
        """No file of it may grow, as on a full disk; or they may again."""
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        assert self.process.pid is not None
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (0 if full else hard, hard))

    def hear(self, text: str) -> None:
        """Wait until it has said something."""
        wait_until(lambda: text in self.heard)

    def end(self) -> str:
        """Wait for its end; returns what it has said. Raises AssertionError where it hangs, or prints a traceback."""
        self.process.join(LONGEST)
        assert not self.process.is_alive(), f"still running after {LONGEST:g} s: {self.heard[-2000:]}"
        self.listener.join()
        assert "Traceback" not in self.heard, self.heard
        return self.heard


def _train(arguments: list[str], sink: int) -> None:
    sys.stdout = sys.stderr = os.fdopen(sink, "w")  # not the descriptors 1 and 2: pytest has streams of its own
    for number in (signal.SIGTERM, signal.SIGHUP):  # as a shell starts it, also where the tests run under nohup
        signal.signal(number, signal.SIG_DFL)
    cli.run(lambda: train.main(arguments))


def wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + LONGEST
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def wait_for_steps(logdir: Path, count: int) -> None:
    wait_until(lambda: (logdir / "log.jsonl").exists() and len(lines(logdir, "train")) >= count)


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

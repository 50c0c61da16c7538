"""A training run that is killed again and again, at random moments, with a full disk among the faults.

``python -m tests.kills --count 100`` says what was done to it, and whether it ended at the weights of an unbroken run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

import train
from tests.tiny_runs import lines, make_data, tiny_arguments, weights

FAULTS = ("SIGKILL", "SIGTERM", "SIGHUP", "full, then SIGKILL", "full, then SIGTERM", "full, then room")
LONGEST = 600.0  # seconds in which a run that is asked to has to end


def run_apart(arguments: list[str], output: Path) -> BaseProcess:
    """train.main in a process of its own, which has the modules already."""

    def main() -> None:
        with output.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.exit(train.main(arguments))

    process = multiprocessing.get_context("fork").Process(target=main)
    process.start()
    return process


def fill_the_disk(process: BaseProcess, full: bool) -> None:
    """No file of the process may grow, as on a full disk; or they may again."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert process.pid is not None
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0 if full else hard, hard))


def do(fault: str, process: BaseProcess, rng: random.Random, seconds: float) -> None:
    """The fault at a random moment of a run that takes ``seconds``; returns when the process is gone."""
    time.sleep(rng.uniform(0, seconds))
    assert process.pid is not None
    if process.is_alive() and fault.startswith("full"):
        fill_the_disk(process, True)
        time.sleep(rng.uniform(0, seconds / 2))
    name = fault.split()[-1]
    if process.is_alive():
        if name.startswith("SIG"):
            os.kill(process.pid, getattr(signal, name))
        if name != "SIGKILL":
            fill_the_disk(process, False)
    process.join(LONGEST)
    if process.is_alive():
        process.kill()
        raise AssertionError(f"after {fault}: still running after {LONGEST:g} s")


def kill_again_and_again(
    arguments: list[str], folder: Path, count: int, seed: int, say: Callable[[str], None] = lambda text: None
) -> Counter[str]:
    """Do ``count`` faults to one run after the other, until each has ended; returns how many of each.

    Raises AssertionError where weights differ from an unbroken run's, or the log holds a line that is none.
    """
    rng, done, number = random.Random(seed), Counter[str](), 0
    whole, output = folder / "whole", folder / "output.txt"
    began = time.monotonic()
    run_apart([*arguments, "--logdir", str(whole)], output).join()
    seconds, wanted = time.monotonic() - began, weights(whole)
    while done.total() < count:
        number += 1
        broken = [
            *arguments,
            "--logdir",
            str(folder / f"broken_{number}"),
            "--resume",
            "auto",
            "--save_minutes",
            "1e-3",
        ]
        for _ in range(min(10, count - done.total())):
            fault = rng.choice(FAULTS)
            process = run_apart(broken, output)
            do(fault, process, rng, seconds)
            done[fault] += 1
        last = run_apart(broken, output)
        last.join()
        assert last.exitcode == 0, output.read_text()[-2000:]
        assert torch.equal(weights(folder / f"broken_{number}"), wanted), f"run {number} ended at other weights"
        check_log(folder / f"broken_{number}")
        say(f"{done.total()} faults, run {number} ended at the same weights")
    return done


def check_log(logdir: Path) -> None:
    for line in (logdir / "log.jsonl").read_text().splitlines():
        json.loads(line)
    assert lines(logdir, "note")[-1]["text"].startswith("finished after epoch 2")
    assert not list((logdir / "ckpt").glob(".*"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=100, help="faults (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="default: drawn, and printed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as folder:
        arguments = tiny_arguments(make_data(Path(folder) / "data"))
        done = kill_again_and_again(arguments, Path(folder), options.count, options.seed, print)
    print(f"nothing lost in {done.total()} faults: " + ", ".join(f"{n} x {name}" for name, n in sorted(done.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A training run that is killed again and again, at random moments, with a full disk among the faults.

``python -m tests.kills --count 100`` says what was done to it, and whether it ended at the weights of an unbroken run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from tests.tiny_runs import Apart, lines, make_data, tiny_arguments, weights

FAULTS = ("SIGKILL", "SIGTERM", "SIGHUP", "full, then SIGKILL", "full, then SIGTERM", "full, then room")


def do(fault: str, run: Apart, rng: random.Random, seconds: float) -> None:
    """The fault at a random moment of a run that takes ``seconds``; returns when the process is gone."""
    time.sleep(rng.uniform(0, seconds))
    alive, name = run.process.is_alive, fault.split()[-1]
    if alive() and fault.startswith("full"):
        run.fill_the_disk()
        time.sleep(rng.uniform(0, seconds / 2))
    if alive() and name.startswith("SIG"):
        run.send(getattr(signal, name))
    if alive() and name != "SIGKILL":
        run.fill_the_disk(False)
    said = run.end()
    by_default = -getattr(signal, name, 0)  # how a signal ends a process that does not listen for it yet
    assert run.process.exitcode in (0, by_default), f"after {fault}: exit code {run.process.exitcode}: {said}"


def kill_again_and_again(
    arguments: list[str], folder: Path, count: int, seed: int, say: Callable[[str], None] = lambda text: None
) -> Counter[str]:
    """Do ``count`` faults to one run after the other, until each has ended; returns how many of each.

    Raises AssertionError where weights differ from an unbroken run's, or the log holds a line that is none.
    """
    rng, done, number = random.Random(seed), Counter[str](), 0
    began = time.monotonic()
    Apart(arguments, folder / "whole").end()
    seconds, wanted = time.monotonic() - began, weights(folder / "whole")
    often = [*arguments, "--resume", "auto", "--save_minutes", "1e-3"]
    while done.total() < count:
        number += 1
        broken = folder / f"broken_{number}"
        for _ in range(min(10, count - done.total())):
            fault = rng.choice(FAULTS)
            do(fault, Apart(often, broken), rng, seconds)
            done[fault] += 1
        last = Apart(often, broken)
        said = last.end()
        assert last.process.exitcode == 0, said
        assert torch.equal(weights(broken), wanted), f"run {number} ended at other weights"
        check_log(broken)
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
        done = kill_again_and_again(arguments, Path(folder), options.count, options.seed, partial(print, flush=True))
    print(f"nothing lost in {done.total()} faults: " + ", ".join(f"{n} x {name}" for name, n in sorted(done.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())

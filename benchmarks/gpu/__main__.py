"""Everything that has to be measured on a GPU, in one command: ``python -m benchmarks.gpu --out DIR``.

Each part keeps its figures in DIR/<part>.json, step by step; a second call goes on with what is missing. At the end
stand DIR/gpu.md, a page to read, and DIR/gpu.json. The work is done in a process of its own: where a step kills it or
takes too long, that is written down, and another process goes on behind that step.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.page import write_page
from benchmarks.gpu.record import Broken, Record, TimeIsUp, forget_failures, note_death
from utils.cli import existing_file, positive, positive_number, run
from utils.files import InputError, user_path, writable_folder

PARTS = ("kernels", "inference", "training", "accuracy", "weights")
GRACE = 75.0  # seconds that a step may take beyond the time given
SAVING = 20.0  # seconds from the signal to end to the one that kills
BROKEN, FAILED = 3, 4  # exit codes: the GPU answers no more in this process; it went to the end, but a step failed


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--out", type=user_path, required=True, metavar="DIR", help="where the figures go")
    add("--part", nargs="+", choices=PARTS, default=[], help="these parts only; weights runs where it is named")
    add("--minutes", type=positive_number, default=8.0, help="after which no step begins (default: 8)")
    add("--again", action="store_true", help="measure the parts anew; weights trains on")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--tiny", action="store_true", help="small sizes, few steps: a try, whose figures say nothing")
    add("--work", type=user_path, metavar="DIR", help="for what is large: scenes, the training run (default: OUT/work)")
    add("--hdri", type=user_path, nargs="+", default=[], metavar="DIR", help="weights: folders of panoramas")
    add("--scenes", type=positive, default=2508, help="weights: how many scenes to make and train on")
    add("--init", type=user_path, metavar="FILE", help="weights: begin with these (default: the shipped ones)")
    add("--resume", type=user_path, metavar="FILE", help="weights: go on with the training of this checkpoint")
    add("--deadline", type=positive_number, help=argparse.SUPPRESS)  # for the process that does the work
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    args = make_parser().parse_args(argv)
    args.part = args.part or [name for name in PARTS if name != "weights" or args.hdri or args.tiny]
    args.work = args.work or args.out / "work"
    if "weights" in args.part and not (args.hdri or args.tiny):
        raise InputError("--part weights: no panoramas to make scenes of; give --hdri a folder of .hdr or .exr files")
    for option, path in (("--init", args.init), ("--resume", args.resume)):
        if path is not None:
            existing_file(path, option, "give a checkpoint, ours or official")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else list(argv)
    args = parse(words)
    if args.deadline:
        return work(args)
    writable_folder(args.out, "--out")
    files = [args.out / f"{name}.json" for name in args.part]
    for file in files:
        if args.again:
            file.unlink(missing_ok=True)
        forget_failures(file)
    stop_by_exit()
    code = supervise(words, time.time() + 60 * args.minutes, files)
    if code == 2:
        return code
    page = write_page(args.out, PARTS)
    print(page.read_text())
    print(f"written: {page} and {page.with_suffix('.json')}")
    return code


# The process that watches


def supervise(words: Sequence[str], deadline: float, files: Sequence[Path]) -> int:
    """Have the work done; a process that dies in a step is followed by one that goes on behind it.

    Returns 0 when all steps went well, 1 when some failed, 2 for bad input, which the process has told of.
    """
    command = [sys.executable, "-m", "benchmarks.gpu", *words, "--deadline", str(deadline)]
    while True:
        code = wait_for(command, deadline + GRACE)
        if code in (0, 2, FAILED):
            return 1 if code == FAILED else code
        how = f"took longer than the time given and {GRACE:.0f} s" if code is None else f"the process ended with {code}"
        died = [note_death(file, how) for file in files if code != BROKEN]
        if code != BROKEN and not any(died):
            raise InputError(f"the work ended with {code} before its first step; see the lines above")
        if time.time() >= deadline:
            return 1


def stop_by_exit() -> None:
    """From now on SIGTERM ends the process as an error does, so that it ends the work first."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def wait_for(command: Sequence[str], until: float) -> int | None:
    """The exit code of a process; None where it had to be ended, with all that it had started."""
    child = subprocess.Popen(command, process_group=0 if os.name == "posix" else None)
    try:
        return child.wait(max(1.0, until - time.time()))
    except subprocess.TimeoutExpired:
        return None
    finally:
        end_group(child)


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End a process where it still runs, and whatever it left behind; a training has the time to save."""
    if os.name != "posix":
        child.kill()
    else:
        with contextlib.suppress(OSError):  # nobody is left in the group
            os.killpg(child.pid, signal.SIGTERM)
            until = time.monotonic() + SAVING
            while time.monotonic() < until:
                time.sleep(0.05)
                child.poll()
                os.killpg(child.pid, 0)
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()


# The process that works


def work(args: argparse.Namespace) -> int:
    """Run the parts one after another: 0 when all went well, else FAILED, or BROKEN to be started anew."""
    from utils.cli import pick_device

    device = pick_device(args.device)
    if device.type == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # before models.kernels is imported
    from benchmarks.gpu.bench import Bench, facts

    bench = Bench(
        *(device, args.tiny, args.work, args.out, tuple(args.hdri), args.init),
        resume=str(args.resume) if args.resume else None,
        scenes=args.scenes,
    )
    found = facts(device, args.tiny)
    failed = False
    for name in args.part:
        record = Record(args.out / f"{name}.json", found, args.deadline, bench.healthy)
        print(name, flush=True)
        try:
            run_part(name, bench, record)
        except TimeIsUp as left:
            print(f"time is up before: {left}; call again to go on")
        except Broken:
            return BROKEN
        failed |= any("error" in step for step in record.content["steps"].values())
    return FAILED if failed else 0


def run_part(name: str, bench: object, record: Record) -> None:
    """A part, by its module's ``run``; what goes wrong outside its steps is written down too."""
    import importlib

    try:
        importlib.import_module(f"benchmarks.gpu.{name}").run(bench, record)
    except (TimeIsUp, Broken):
        raise
    except Exception as error:  # a package that is not there, mostly
        record.fail(error)
        print(f"    failed: {error}", flush=True)


if __name__ == "__main__":
    run(main)

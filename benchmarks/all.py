"""Every figure of the README's table of speed in one run: ``python -m benchmarks.all [--out results/benchmarks.json]``.

Runs the other benchmarks one after the other, prints one table, and writes all that they measured with what the machine
is. On two cores it takes about half an hour (``--quick``: small images alone, three minutes). Nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from utils.cli import run
from utils.files import user_path, writable_file, write_text

ROOT = Path(__file__).parents[1]
PLAIN, WHOLE, STRIPS, HALF = "plain, masks rebuilt", "model(x)", "streaming", "streaming, half storage"
SIZES = {"256x256": 3, "512x512": 1, "1024x1536": 0}  # rounds in which the variants take turns; 0: each runs once
AVX2_ONLY = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
SETS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve")  # as /proc/cpuinfo names them
STEP = "--batch_size 2 --train_patch_size 128 --steps 4 --perceptual fft --checkpointing --num_workers 0 --device cpu"


def machine() -> dict[str, Any]:
    """The processor, what it may be used for here, and torch."""
    facts = processor_facts()
    return {
        "processor": facts.get("model name", platform.processor() or platform.machine()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instruction sets": [name for name in SETS if name in facts.get("flags", facts.get("Features", "")).split()],
        "torch uses": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }


def processor_facts() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; nothing elsewhere than on Linux."""
    source = Path("/proc/cpuinfo")
    if not source.exists():
        return {}
    lines = source.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def figures_of(module: str, options: str, *more: str, **environment: str) -> Any:
    """What a benchmark writes with ``--json``; it runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"benchmarks.{module}", *options.split(), *more, "--json", str(out)]
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | environment, stdout=sys.stderr)
        return json.loads(out.read_text(encoding="utf-8"))


def help_seconds() -> float:
    """Processor seconds of ``python predict.py --help``, the second time."""
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "predict.py", "--help"], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(quick: bool) -> dict[str, Any]:
    """Run everything; what each benchmark prints goes to the error output as it comes."""
    sizes = {"256x256": 1} if quick else SIZES
    variants = ["--variants", PLAIN, WHOLE, STRIPS, HALF]
    return {
        "machine": machine(),
        "inference": [
            figures_of("inference", f"--device cpu --sizes {size} --runs {runs}", *variants)[0]
            for size, runs in sizes.items()
        ],
        "avx2": figures_of("inference", "--device cpu --threads 1 --sizes 256x256 --runs 1", *variants, **AVX2_ONLY)[0],
        "training": figures_of("train_step", f"{STEP} --rounds {1 if quick else 3}"),
        "help": help_seconds(),
    }


def report(figures: dict[str, Any]) -> str:
    """The table of the README, in Markdown."""
    facts = figures["machine"]
    lines = [
        f"{facts['processor']} ({', '.join(facts['instruction sets'])}; torch uses {facts['torch uses']}), "
        f"{facts['threads']} threads, torch {facts['torch']}, float32",
        "",
        f"| | {PLAIN} | {WHOLE} | {STRIPS} | {HALF} | strips, share of the floor |",
        "|---|---|---|---|---|---|",
    ]
    lines += [inference_row(each["size"], each) for each in figures["inference"]]
    lines += [inference_row("256x256, one thread, AVX2 only", figures["avx2"]), "", training_line(figures["training"])]
    return "\n".join([*lines, f"`predict.py --help`: {figures['help']:.1f} s of processor time"])


def inference_row(name: str, measured: dict[str, Any]) -> str:
    """Seconds, how many times faster than the plain network, peak memory, and how many times less."""
    rows = measured["variants"]
    plain, strips = rows[PLAIN], rows[STRIPS]
    cells = [
        f"{row['seconds']:.1f} s ({plain['seconds'] / row['seconds']:.1f}x), {row['bytes'] / 1e6:,.0f} MB"
        + (f" ({plain['bytes'] / row['bytes']:.1f}x)" if row["bytes"] else "")  # the smallest images need no new pages
        for row in (rows[way] for way in (PLAIN, WHOLE, STRIPS, HALF))
    ]
    return f"| {name} | {' | '.join(cells)} | {measured['floor_seconds'] / strips['seconds']:.0%} |"


def training_line(speeds: dict[str, list[float]]) -> str:
    """Images per second of each way to train, against the plain network in the same round."""
    plain = speeds[PLAIN]
    middle = len(plain) // 2
    ratios = {name: sorted(a / b for a, b in zip(each, plain, strict=True))[middle] for name, each in speeds.items()}
    words = [f"{name} {sorted(speeds[name])[middle]:.2f} images/s ({ratio:.2f}x)" for name, ratio in ratios.items()]
    return f"Training step, 2 x 128x128: {', '.join(words)}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.all", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--out", type=user_path, default=Path("results/benchmarks.json"), help="where to write all figures"
    )
    parser.add_argument("--quick", action="store_true", help="small images and one round alone")
    args = parser.parse_args(argv)
    writable_file(args.out, "--out")
    figures = measure(args.quick)
    write_text(args.out, json.dumps(figures, indent=1) + "\n")
    print(report(figures))
    return 0


if __name__ == "__main__":
    run(main)

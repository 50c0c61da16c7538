"""Time and memory of inference, every way against the plain reference, in one run.

    python benchmarks/inference.py                                 # on this machine's CPU
    python benchmarks/inference.py --device cuda
    python benchmarks/inference.py --sizes 4000x6000 --variants "streaming, half storage" --runs 0

Variants take turns in one process, so that a machine whose speed drifts drifts for all of them; medians are printed,
and ratios to the first variant. Memory is what a process of its own needs beyond the loaded model and its input. The
error is the largest difference from the network in float64. The floor is the network's arithmetic at the rate of one
large float32 matrix product on the same machine.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.plain_afunet import PlainAFUNet
from benchmarks.profiles import profile_table, profiled
from models import AFUNet
from models.streaming import reconstruct
from utils.cli import pick_device, run, threads, whole
from utils.files import user_path, writable_file, write_text

FLOP_PER_PIXEL = 2.67e6  # linear layers 1.80, convolutions 0.44, window products 0.43
EXACT_ROWS = 128  # rows of a strip in float64
Variant = Callable[[Tensor], Any]


def variants(model: AFUNet, device: torch.device) -> dict[str, Variant]:
    """Every way to run the network, by the name it has in the table. The first is the baseline."""
    rebuilt, kept = PlainAFUNet(model, "rebuilt"), PlainAFUNet(model, "kept")
    fused = copy.deepcopy(model)
    model.use_kernels(False)
    table: dict[str, Variant] = {
        "plain, masks rebuilt": rebuilt,
        "plain, masks kept": kept,
        "model(x)": model,
        "streaming": partial(reconstruct, model),
        "streaming, half storage": partial(reconstruct, model, storage=torch.float16),
    }
    if device.type == "cuda":
        table |= {
            "model(x), tf32": with_tf32(model),
            "model(x), fp16": with_autocast(model, torch.float16),
            "model(x), bf16": with_autocast(model, torch.bfloat16),
            "model(x), compiled": torch.compile(model),
            "compiled, tf32": with_tf32(torch.compile(model)),
            "compiled, fp16": with_autocast(torch.compile(model), torch.float16),
            "kernels": fused,
            "kernels, tf32": with_tf32(fused),
            "kernels, fp16": with_autocast(fused, torch.float16),
            "kernels, bf16": with_autocast(fused, torch.bfloat16),
            "streaming, kernels": partial(reconstruct, fused),
            "streaming, half storage, kernels": partial(reconstruct, fused, storage=torch.float16),
        }
    return table


@contextmanager
def tf32(on: bool = True) -> Iterator[None]:
    """Within the block a GPU's float32 products and convolutions may be made in TF32; behind it they are float32."""
    torch.set_float32_matmul_precision("high" if on else "highest")
    torch.backends.cudnn.allow_tf32 = on
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False


def with_tf32(variant: Variant) -> Variant:
    def call(x: Tensor) -> object:
        with tf32():
            return variant(x)

    return call


def with_autocast(variant: Variant, dtype: torch.dtype) -> Variant:
    def call(x: Tensor) -> object:
        with torch.autocast(x.device.type, dtype):
            return variant(x)

    return call


def seconds(call: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start


def seconds_of(variant: Variant, taken: list[float], x: Tensor) -> None:
    """Call a variant and note how long it took."""
    taken.append(seconds(partial(variant, x), x.device))


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def times(chosen: dict[str, Variant], x: Tensor, runs: int) -> dict[str, float]:
    """Median seconds of each variant over ``runs`` rounds in which they take turns, after one round that warms up."""
    taken: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(runs + (runs > 1)):
        for name, variant in chosen.items():
            taken[name].append(seconds(partial(variant, x), x.device))
    return {name: statistics.median(each[runs > 1 :]) for name, each in taken.items()}


def errors(chosen: dict[str, Variant], x: Tensor, model: AFUNet) -> dict[str, float]:
    """Each variant's largest difference from the network in float64."""
    exact = in_float64(model, x)
    return {name: float((variant(x) - exact).abs().max()) for name, variant in chosen.items()}


def in_float64(model: AFUNet, x: Tensor) -> Tensor:
    """What the network gives in float64."""
    return torch.as_tensor(reconstruct(copy.deepcopy(model).double(), x.double(), strip_rows=EXACT_ROWS))


def alone(name: str, size: tuple[int, int], device: torch.device) -> tuple[float, float]:
    """Seconds of one call, and the bytes it needs beyond the loaded model and its input, in a process of its own."""
    command = [sys.executable, __file__, "--device", str(device), "--sizes", f"{size[0]}x{size[1]}"]
    command += ["--threads", str(torch.get_num_threads()), "--memory_of", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:  # out of memory, mostly
        return float("nan"), float("nan")
    taken, memory = json.loads(done.stdout)
    return taken, memory


def own_peak(variant: Variant, x: Tensor) -> float:
    if x.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        variant(x)
        return torch.cuda.max_memory_allocated() - before
    before = peak_rss()
    variant(x)
    return peak_rss() - before


def peak_rss() -> int:
    """The most memory this process has ever held. (Linux's getrusage also counts what the parent held.)"""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(next(line for line in status.read_text().splitlines() if "VmHWM" in line).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def matmul_rate(device: torch.device, n: int = 2048) -> float:
    """FLOP/s of one large float32 matrix product."""
    a = torch.rand(n, n, device=device)
    return 2 * n**3 / min(seconds(lambda: a @ a, device) for _ in range(5))


def measure(
    size: tuple[int, int], model: AFUNet, device: torch.device, names: list[str] | None, runs: int
) -> dict[str, Any]:
    """Every variant's figures at one size, and the floor in seconds."""
    everything = variants(model, device)
    chosen = {name: everything[name] for name in names or list(everything)}
    x = torch.rand(1, 18, *size, device=device)
    floor = FLOP_PER_PIXEL * size[0] * size[1] / matmul_rate(device)
    taken = times(chosen, x, runs) if runs else {}
    error = errors(chosen, x, model) if runs else {}
    del x
    separate = {name: alone(name, size, device) for name in chosen}
    taken = taken or {name: each[0] for name, each in separate.items()}
    rows = {
        name: {"seconds": taken[name], "bytes": separate[name][1], "error": error.get(name, float("nan"))}
        for name in chosen
    }
    return {"size": f"{size[0]}x{size[1]}", "runs": runs, "floor_seconds": floor, "variants": rows}


def table(measured: dict[str, Any]) -> str:
    """One row a variant; ratios are to the first."""
    rows, floor = measured["variants"], measured["floor_seconds"]
    first = next(iter(rows.values()))
    lines = [
        f"\n{measured['size']}, {measured['runs']} runs, floor {floor:.3f} s\n",
        "| variant | s | times faster | share of floor | peak memory, MB | times less | error |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        seconds, memory, error = row["seconds"], row["bytes"], row["error"]
        times_less = f"{first['bytes'] / memory:.1f}" if memory > 0 else ""
        lines.append(
            f"| {name} | {seconds:.3f} | {first['seconds'] / seconds:.2f} | {floor / seconds:.0%} "
            f"| {memory / 1e6:.0f} | {times_less} | {'' if math.isnan(error) else f'{error:.1e}'} |"
        )
    return "\n".join(lines)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--sizes", nargs="+", default=["256x256", "512x512", "1024x1536"], help="HxW ...")
    parser.add_argument("--variants", nargs="+", help="the rows to measure; the first is the baseline")
    parser.add_argument(
        "--runs", type=whole(0, 10_000), default=5, help="0: only the run that measures memory, and no error"
    )
    parser.add_argument("--threads", type=threads, help="CPU threads; torch's own choice without it")
    parser.add_argument("--json", type=user_path, help="also write the figures there")
    parser.add_argument("--profile", action="store_true", help="instead, where each variant spends its time")
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.json:
        writable_file(args.json, "--json")
    device = pick_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32, but for the variants in TF32
    torch.manual_seed(0)
    model = AFUNet().to(device).eval()
    sizes = [(int(h), int(w)) for h, w in (size.split("x") for size in args.sizes)]
    with torch.inference_mode():
        if args.memory_of:
            print(json.dumps(memory_of(args.memory_of, sizes[0], model, device)))
            return 0
        name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
        print(f"{name}, torch {torch.__version__}")
        if args.profile:
            return print_profiles(args.variants, sizes, model, device)
        measured = []
        for size in sizes:
            measured.append(measure(size, model, device, args.variants, args.runs))
            print(table(measured[-1]), flush=True)
    if args.json:
        write_text(args.json, json.dumps(measured, indent=1))
    return 0


def print_profiles(names: list[str] | None, sizes: list[tuple[int, int]], model: AFUNet, device: torch.device) -> int:
    """The longest operations of each variant at each size."""
    everything = variants(model, device)
    for height, width in sizes:
        x = torch.rand(1, 18, height, width, device=device)
        for name in names or list(everything):
            found = profiled(partial(everything[name], x), device)
            print(f"\n{name}, {height}x{width}, {found['total_ms'] / 1000:.3f} s\n\n{profile_table(found)}", flush=True)
    return 0


def memory_of(name: str, size: tuple[int, int], model: AFUNet, device: torch.device) -> tuple[float, float]:
    """What ``alone`` asks a process of its own for."""
    x = torch.rand(1, 18, *size, device=device)
    reconstruct(model, x[..., :16, :16])  # what every first call allocates
    taken: list[float] = []
    memory = own_peak(partial(seconds_of, variants(model, device)[name], taken), x)
    return taken[0], memory


if __name__ == "__main__":
    run(main)

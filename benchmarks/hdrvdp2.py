"""Time and memory of HDR-VDP-2 on a synthetic pair of images: ``python -m benchmarks.hdrvdp2``.

Prints the median and the best time of Q alone and of Q with the maps, the first call apart (it loads the pyramid's
filters), and the most memory this process has used; on a machine with a CUDA GPU also the times there. Other work on
the machine shows in the median; the best time is the machine's own.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.cli import pick_device, positive, run, threads, whole
from utils.hdrvdp2 import PROTOCOLS

PROTOCOL = PROTOCOLS["safnet"]


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hdrvdp2", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--size", type=whole(15, 20_000), nargs=2, default=[1000, 1500], metavar=("H", "W"), help="rows and columns"
    )
    parser.add_argument("--threads", type=threads, default=2, help="CPU threads")
    parser.add_argument("--repeats", type=positive, default=9, help="calls to time after the first")
    parser.add_argument("--device", default="auto", help="auto (the CPU, and CUDA where there is one), cpu or cuda")
    return parser


def image_pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    """A smooth random scene with texture (3, H, W) in [0, 1], and a copy with noise and a ghost in a part of it."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 2 + height // 50, 2 + width // 50, generator=generator)
    scene = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)[0]
    label = (scene + 0.05 * torch.randn(3, height, width, generator=generator)).clamp(0.0, 1.0)
    prediction = label.clone()
    part = prediction[:, : height // 2]
    part *= 1.0 + 0.05 * torch.randn(part.shape, generator=generator)
    ghost = prediction[:, height // 4 : height // 2, width // 4 : width // 2]
    ghost.copy_(0.5 * (ghost + ghost.roll(12, dims=2)))
    return prediction.clamp(0.0, 1.0), label


def seconds(prediction: Tensor, label: Tensor, *, maps: bool) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    PROTOCOL.compare(prediction, label, maps=maps)
    if prediction.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory() -> float:
    """The most memory this process has held, GiB; NaN on Windows, where Python does not tell."""
    try:
        import resource
    except ImportError:
        return math.nan
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def measure(prediction: Tensor, label: Tensor, repeats: int) -> dict[str, float]:
    """Seconds of the first call; median and best of Q and of Q with the maps; and GiB of memory, on one device."""
    found = {"first call": seconds(prediction, label, maps=False)}
    for name, maps in (("Q", False), ("Q and maps", True)):
        times = [seconds(prediction, label, maps=maps) for _ in range(repeats)]
        found |= {f"{name}, median": statistics.median(times), f"{name}, best": min(times)}
        found[f"{name}, GiB"] = torch.cuda.max_memory_allocated() / 2**30 if prediction.is_cuda else peak_memory()
    return found


def describe(device: str, found: dict[str, float]) -> str:
    """The lines of one device."""
    lines = [f"{device}: first call {found['first call']:.2f} s"]
    for name in ("Q", "Q and maps"):
        median, best, memory = (found[f"{name}, {figure}"] for figure in ("median", "best", "GiB"))
        lines.append(f"  {name}: median {median:.3f} s, best {best:.3f} s; memory {memory:.2f} GiB")
    return "\n".join(lines)


def main() -> None:
    args = make_parser().parse_args()
    torch.set_num_threads(args.threads)
    height, width = args.size
    print(f"HDR-VDP-2, {width} x {height}, float64, {args.threads} CPU threads; memory of the whole process")
    devices = {"cpu", "cuda"} if args.device == "auto" and torch.cuda.is_available() else {args.device}
    prediction, label = image_pair(height, width)
    for device in sorted(str(pick_device(name)) for name in devices):
        print(describe(device, measure(prediction.to(device), label.to(device), args.repeats)), flush=True)


if __name__ == "__main__":
    run(main)

"""Speed of training, data loading included: ``python -m benchmarks.train_step [--batch_size 6 --compile ...]``.

Every variant runs the engine itself on crops of the sample scenes. The variants take turns, round by round, so that a
change of the machine's speed meets them all. "plain" is the network written as the released code computes it. On a CPU
all variants keep freed memory, as train.py does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.inference import own_peak, tf32
from benchmarks.plain_afunet import PlainAFUNet
from benchmarks.profiles import profile_table, profiled
from datasets import cache, crops
from datasets.scenes import LAYOUTS, find_scenes
from models import AFUNet, AFUNetConfig
from utils.cli import pick_device, positive, run, whole
from utils.files import user_path, writable_file, write_text
from utils.memory import keep_freed_memory
from utils.provenance import device_name
from utils.training.engine import Plan, Trainer
from utils.training.losses import FFTLoss, TrainingLoss, VGGLoss, vgg19_trunk
from utils.training.session import default_workers

SEED = 0
PROFILED = 2  # more rounds with --profile, the first of which warms up
MIB = 2**20


@dataclass
class Records:
    """A log that keeps the figures of the last record."""

    values: dict[str, float]

    def say(self, text: str) -> None:
        pass

    def record(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        if kind == "train":
            self.values = dict(values)

    def picture(self, name: str, step: int, hdr: Tensor) -> None:
        pass


@dataclass
class Variant:
    """A way to train, and what was measured of it: images/s and share of waiting by round, peak memory in MiB."""

    name: str
    trainer: Trainer
    speeds: list[float]
    waiting: list[float]
    memory: float = 0.0
    tf32: bool = False

    def run_round(self, number: int) -> None:
        """One epoch; the first is a warm-up."""
        self.trainer.plan = replace(self.trainer.plan, stop_after=number + 1)
        reset_peak(self.trainer.device)
        with tf32(self.tf32):
            self.trainer.fit()
        assert isinstance(self.trainer.log, Records)
        if number > 0:
            self.speeds.append(self.trainer.log.values["images_per_s"])
            self.waiting.append(self.trainer.log.values["waiting"])
            self.memory = max(self.memory, peak(self.trainer.device))

    def next_round(self) -> None:
        """One more, behind those that were timed."""
        self.run_round(len(self.speeds) + 1)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--batch_size", type=whole(1, 4096), default=6)
    add("--train_patch_size", type=whole(1, 4096), default=128)
    add("--stages", type=whole(1, 64), default=4)
    add("--perceptual", choices=["vgg", "fft"], default="vgg", help="VGG-19 with random weights: they cost the same")
    add("--steps", type=positive, default=20, help="of a round; the second half is timed")
    add("--rounds", type=positive, default=3)
    add("--amp", action=argparse.BooleanOptionalAction, help="bfloat16 autocast (default: on a GPU)")
    add("--tf32", action="store_true", help="float32 products in TF32, of every variant")
    add("--compile", action="store_true", help="also time torch.compile")
    add("--cuda_graphs", action="store_true", help="also time torch.compile with CUDA graphs")
    add("--checkpointing", action="store_true", help="also time recomputation in the backward pass")
    add("--plain", action=argparse.BooleanOptionalAction, default=True, help="also time the plain network")
    add("--profile", action="store_true", help="also one more round of each variant: where its time goes")
    add("--num_workers", type=whole(0, 256))
    add("--json", type=user_path, help="also write the figures there")
    add("--memory_of", help=argparse.SUPPRESS)
    add("--cache_dir", type=user_path, default=Path(".cache/scenes"))
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return parser


def make_variants(args: argparse.Namespace, device: torch.device) -> list[Variant]:
    """AFUNet as it is trained by default first, then what was asked for."""
    asked = {
        "AFUNet": True,
        "recomputing": args.checkpointing,
        "compiled": args.compile,
        "CUDA graphs": args.cuda_graphs,
        "plain, masks rebuilt": args.plain,
    }
    criterion = make_criterion(args.perceptual).to(device)
    return [make_variant(name, args, device, criterion) for name, wanted in asked.items() if wanted]


def make_variant(name: str, args: argparse.Namespace, device: torch.device, criterion: TrainingLoss) -> Variant:
    """A network to train, by its name, in the precision of ``args``."""
    config = AFUNetConfig(stages=args.stages, drop_path=0.0)  # the plain network has no stochastic depth
    torch.manual_seed(SEED)
    model = AFUNet(config, checkpointing=name == "recomputing").to(device)
    return Variant(name, make_trainer(args, model, as_called(model, name), criterion), [], [], tf32=args.tf32)


def as_called(model: AFUNet, name: str) -> nn.Module:
    """The network as the training calls it; its parameters are the model's."""
    if name.startswith("plain"):
        return PlainAFUNet(model, name.rpartition(" ")[2])
    if name in ("compiled", "CUDA graphs"):
        mode = "reduce-overhead" if name == "CUDA graphs" else "default"
        compiled: Any = torch.compile(model, mode=mode)
        return compiled
    return model


def make_criterion(perceptual: str) -> TrainingLoss:
    if perceptual == "fft":
        return TrainingLoss(FFTLoss())
    torch.manual_seed(SEED)
    return TrainingLoss(VGGLoss(vgg19_trunk().state_dict()))


def make_trainer(args: argparse.Namespace, model: AFUNet, network: nn.Module, criterion: TrainingLoss) -> Trainer:
    device = next(model.parameters()).device
    scenes = find_scenes(LAYOUTS["samples"], None, "train")
    readers = cache.readers(scenes, "disk", args.cache_dir)
    repeat = -(-args.steps * args.batch_size // len(scenes))
    drawn = crops.TrainingCrops(readers, args.train_patch_size, crops.paper_augmentation, repeat, SEED)
    share = crops.EpochBatches(args.steps * args.batch_size, args.batch_size, SEED)
    workers = default_workers(device) if args.num_workers is None else args.num_workers
    batches = crops.TrainingBatches(drawn, share, device, workers)
    plan = Plan(args.rounds + 1 + PROFILED, 1e-4, 1e-6, SEED, amp=args.amp, val_interval=10**9, save_interval=10**9)
    optimizer = torch.optim.Adam(model.parameters(), fused=device.type == "cuda")
    return Trainer(
        model,
        criterion,
        optimizer,
        batches,
        replace(plan, log_interval=max(1, args.steps // 2)),
        Records({}),
        lambda name, content: None,
        network=network,
    )


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> float:
    """MiB allocated at most since :func:`reset_peak`; 0 on the CPU, where ``measure_memory`` asks new processes."""
    return torch.cuda.max_memory_allocated(device) / MIB if device.type == "cuda" else 0.0


def measure_memory(variants: list[Variant]) -> None:
    """On a CPU: what one step needs beyond the network and its input, each variant in a process of its own.

    Before the rounds, after which this process keeps their memory. Where it does not suffice no figure is shown.
    """
    for variant in variants:
        command = [sys.executable, "-m", "benchmarks.train_step", *sys.argv[1:], "--memory_of", variant.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        variant.memory = float(done.stdout) / MIB if done.returncode == 0 else 0.0


def memory_of(args: argparse.Namespace, device: torch.device) -> float:
    """Bytes that one forward and backward pass of ``args.memory_of`` adds to this process at most."""
    variant = make_variant(args.memory_of, args, device, make_criterion(args.perceptual))
    network, criterion = variant.trainer.network.train(), variant.trainer.criterion
    x = torch.rand(args.batch_size, 18, args.train_patch_size, args.train_patch_size)
    return own_peak(lambda x: criterion(network(x), x[:, :3])["total"].backward(), x)


def table(variants: list[Variant]) -> str:
    """One row a variant; times are against the first, round by round."""
    rows = [
        "| variant | images/s | range | waiting for data | times AFUNet's speed | peak memory, MiB |",
        "|---" * 6 + "|",
    ]
    for variant in variants:
        ratios = [ours / first for ours, first in zip(variant.speeds, variants[0].speeds, strict=True)]
        rows.append(
            f"| {variant.name} | {statistics.median(variant.speeds):.2f} "
            f"| {min(variant.speeds):.2f}-{max(variant.speeds):.2f} | {statistics.median(variant.waiting):.1%} "
            f"| {statistics.median(ratios):.2f} | {f'{variant.memory:.0f}' if variant.memory else '-'} |"
        )
    return "\n".join(rows)


def print_profiles(variants: list[Variant], device: torch.device) -> None:
    """The longest operations of one more round of each variant, after another that warms up."""
    for variant in variants:
        found = profiled(variant.next_round, device)
        print(f"\n{variant.name}, {found['total_ms'] / 1000:.3f} s\n\n{profile_table(found)}")


def main() -> int:
    args = make_parser().parse_args()
    if args.json:
        writable_file(args.json, "--json")
    device = pick_device(args.device)
    args.amp = device.type == "cuda" if args.amp is None else args.amp
    if args.memory_of:
        print(memory_of(args, device))
        return 0
    if device.type == "cpu":
        keep_freed_memory()
    variants = make_variants(args, device)
    if device.type == "cpu":
        measure_memory(variants)
    for number in range(args.rounds + 1):
        for variant in variants:
            variant.run_round(number)
    precision = "bfloat16 autocast" if args.amp else "TF32" if args.tf32 else "float32"
    print(
        f"{device_name(device)}, torch {torch.__version__}, {torch.get_num_threads()} thread(s), {precision}, "
        f"{args.stages} stages, {args.perceptual} loss, batch {args.batch_size}x{args.train_patch_size}x"
        f"{args.train_patch_size}, {args.rounds} rounds of {args.steps} steps"
    )
    print(table(variants))
    if args.json:
        write_text(args.json, json.dumps({variant.name: variant.speeds for variant in variants}, indent=1))
    if args.profile:
        print_profiles(variants, device)
    return 0


if __name__ == "__main__":
    run(main)

"""The part "training": speed with the paper's six crops of 128x128, in every precision, loader included."""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.inference import COMPILING, ORACLE, RELEASED
from benchmarks.gpu.record import Record
from benchmarks.profiles import profiled
from benchmarks.train_step import Variant, make_criterion, make_parser, make_variant
from utils.training.losses import TrainingLoss
from utils.training.session import set_device_defaults

WAYS = {  # name -> network of benchmarks.train_step, precision
    ORACLE: (ORACLE, "float32"),
    RELEASED: (RELEASED, "float32"),
    "float32": ("AFUNet", "float32"),
    "tf32": ("AFUNet", "tf32"),
    "bf16": ("AFUNet", "bf16"),
    "bf16, compiled": ("compiled", "bf16"),
    "bf16, CUDA graphs": ("CUDA graphs", "bf16"),
    "tf32, compiled": ("compiled", "tf32"),
}
COMPILED = ("compiled", "CUDA graphs")
PAPER = ("--batch_size", "6", "--train_patch_size", "128", "--steps", "20", "--rounds", "2")
TINY = (
    *("--batch_size", "1", "--train_patch_size", "16", "--steps", "2", "--rounds", "1", "--stages", "1"),
    *("--perceptual", "fft", "--num_workers", "0"),
)


def run(bench: Bench, record: Record) -> None:
    args = options(bench, PAPER)
    criterion = make_criterion(args.perceptual).to(bench.device)
    for name, (network, precision) in WAYS.items():
        if network in COMPILED and not bench.on_gpu:
            continue
        needs = COMPILING if network in COMPILED else 0.0
        record.step(name, partial(measure, in_precision(args, precision), bench, network, criterion), needs)
    record.step("profile, bf16", partial(profile_steps, in_precision(args, "bf16"), bench, criterion))


def options(bench: Bench, words: tuple[str, ...]) -> argparse.Namespace:
    """Options of benchmarks.train_step; what depends on the device is as in train.py."""
    args = make_parser().parse_args([*(TINY if bench.tiny else words), "--cache_dir", str(bench.work / "cache")])
    args.amp = False
    set_device_defaults(bench.device, args)
    return args


def in_precision(args: argparse.Namespace, precision: str) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(args), "amp": precision == "bf16", "tf32": precision == "tf32"})


def measure(args: argparse.Namespace, bench: Bench, network: str, criterion: TrainingLoss) -> dict[str, Any]:
    """Images/s (median of the rounds, and of each), share of the time waiting for data, peak memory in MiB."""
    torch.compiler.reset()  # what was compiled for the way before
    variant = make_variant(network, args, bench.device, criterion)
    for number in range(args.rounds + 1):
        variant.run_round(number)
    return {
        "images_per_s": statistics.median(variant.speeds),
        "rounds": variant.speeds,
        "waiting": statistics.median(variant.waiting),
        "memory_MiB": variant.memory or None,
    }


def profile_steps(args: argparse.Namespace, bench: Bench, criterion: TrainingLoss) -> dict[str, Any]:
    """A few steps of the network under bfloat16 autocast, the loader's waiting apart."""
    few = argparse.Namespace(**{**vars(args), "steps": 1 if bench.tiny else 2, "num_workers": 0})
    variant = make_variant("AFUNet", few, bench.device, criterion)
    return profiled(partial(next_round, variant), bench.device)


def next_round(variant: Variant) -> None:
    variant.run_round(variant.trainer.progress.epoch)

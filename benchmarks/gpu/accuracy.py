"""The part "accuracy": what less precision changes, in the result of the shipped weights and in a training."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import hdrvdp2
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.kernels import in_precision as call_in
from benchmarks.gpu.record import UNFINISHED, Record
from benchmarks.gpu.training import in_precision, options
from benchmarks.inference import Variant
from benchmarks.train_step import Records, make_criterion, make_variant
from benchmarks.train_step import Variant as Run
from datasets.crops import whole_scene
from datasets.scenes import LAYOUTS, find_scenes
from models import AFUNet
from utils.checkpoint import load_model, read_checkpoint, save_checkpoint
from utils.evaluation.metrics import METRICS
from utils.hdrvdp2 import PROTOCOLS
from utils.inference import predict
from utils.shipped import SHIPPED

PSNR = "PSNR-mu"
VDP = "HDR-VDP-2"
TINY_SIDE = (32, 48)  # pixels of the samples that are looked at in tiny form
STEPS = ("--batch_size", "6", "--train_patch_size", "64", "--steps", "250", "--rounds", "7", "--perceptual", "fft")
PRECISIONS = ("float32", "bf16")


def run(bench: Bench, record: Record) -> None:
    record.step("shipped weights", partial(shipped, bench))
    record.step("HDR-VDP-2 of them", partial(shipped_vdp, bench))
    record.step("HDR-VDP-2, time", partial(vdp_time, bench))
    record.step("bf16 against float32", partial(train_both, bench, record), needs=5)


# The shipped weights


def shipped(bench: Bench) -> dict[str, Any]:
    """PSNR-mu against the label by scene and way, and the largest change from float32 in plain torch (dB)."""
    figures = by_way(bench, METRICS[PSNR])
    base = figures["float32"]
    changes = {
        way: max((value - base[scene] for scene, value in scenes.items()), key=abs) for way, scenes in figures.items()
    }
    return {PSNR: figures, "largest change": changes}


def shipped_vdp(bench: Bench) -> dict[str, Any]:
    """HDR-VDP-2, called as by SCTNet, of float32 and of fp16 as inference takes it."""
    return {VDP: by_way(bench, PROTOCOLS["sctnet"].score, ("float32", "fp16, kernels" if bench.on_gpu else "fp16"))}


def by_way(bench: Bench, metric: Any, wanted: tuple[str, ...] = ()) -> dict[str, dict[str, float]]:
    """A metric of each way's result, by way and sample scene."""
    found: dict[str, dict[str, float]] = {}
    model = load_model(SHIPPED, bench.device)
    for scene, x, label in samples(bench):
        for name, way in ways(model, bench).items():
            if not wanted or name in wanted:
                with torch.inference_mode():
                    y: Tensor = way(x)[0]
                found.setdefault(name, {})[scene] = metric(y.float(), label)
    return found


def samples(bench: Bench) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, input (1, 18, H, W) and label (3, H, W) of the sample scenes; in tiny form of a part of one."""
    for scene in find_scenes(LAYOUTS["samples"], None, "test")[: 1 if bench.tiny else None]:
        x, label = whole_scene(scene.read, bench.device)
        if bench.tiny:
            x, label = (image[..., : TINY_SIDE[0], : TINY_SIDE[1]].contiguous() for image in (x, label))
        yield scene.name, x, label


def ways(model: AFUNet, bench: Bench) -> dict[str, Variant]:
    """The test protocol in every precision, in plain torch and by the kernels."""
    found: dict[str, Variant] = {}
    for fused in (False, True) if bench.on_gpu else (False,):
        for precision in ("float32", "tf32", "fp16", "bf16"):
            name = f"{precision}, kernels" if fused else precision
            found[name] = call_in(partial(reconstructed, model, bench.tiny, fused), precision)
    return found


def reconstructed(model: AFUNet, tiny: bool, fused: bool, x: Tensor) -> Tensor:
    model.use_kernels(fused)
    return predict(model, x, patch_size=1 if tiny else 128)[0]


def vdp_time(bench: Bench) -> dict[str, Any]:
    """Time of HDR-VDP-2 on the device and on the CPU, and by how much their Q differ."""
    prediction, label = hdrvdp2.image_pair(*(TINY_SIDE if bench.tiny else (1000, 1500)))
    found: dict[str, Any] = {}
    scores = []
    for device in {torch.device("cpu"), bench.device}:
        pair = prediction.to(device), label.to(device)
        found[device.type] = hdrvdp2.measure(*pair, repeats=1 if bench.tiny or device.type == "cpu" else 9)
        scores.append(hdrvdp2.PROTOCOL.score(*pair))
    return {"seconds": found, "Q differs by": max(scores) - min(scores)}


# A training


def train_both(bench: Bench, record: Record) -> dict[str, Any]:
    """The same steps in bfloat16 and in float32 from one seed: the loss by round, and what the result reaches.

    The two take turns. Where time is up after a round, both are saved and go on with the next call.
    """
    args = options(bench, STEPS)
    criterion = make_criterion(args.perceptual).to(bench.device)
    runs = {name: make_variant("AFUNet", in_precision(args, name), bench.device, criterion) for name in PRECISIONS}
    losses: dict[str, list[float]] = {name: restored(bench, name, each) for name, each in runs.items()}
    while (number := min(each.trainer.progress.epoch for each in runs.values())) <= args.rounds:
        for name, each in runs.items():
            if each.trainer.progress.epoch == number:
                each.run_round(number)
                losses[name].append(last_loss(each))
                keep(bench, name, each, losses[name])
        if record.left() <= 0:
            break
    done = {name: each.trainer.progress.steps for name, each in runs.items()}
    finished = number > args.rounds
    reached = {name: samples_psnr(bench, each.trainer.model) for name, each in runs.items()} if finished else {}
    if finished:  # a call with --again begins anew
        for name in runs:
            place(bench, name).unlink()
    return {"steps": done, "loss by round": losses, PSNR: reached, UNFINISHED: not finished}


def last_loss(run: Run) -> float:
    """The mean loss of the round's second half."""
    assert isinstance(run.trainer.log, Records)
    return run.trainer.log.values["total"]


def place(bench: Bench, name: str) -> Path:
    """Where a run is kept between calls."""
    return bench.work / f"accuracy_{name}.pth"


def keep(bench: Bench, name: str, run: Run, losses: list[float]) -> None:
    save_checkpoint(place(bench, name), {**run.trainer.state(), "losses": losses})


def restored(bench: Bench, name: str, run: Run) -> list[float]:
    """Put a run where an earlier call left it; its losses so far."""
    path = place(bench, name)
    if not path.exists():
        return []
    content = read_checkpoint(path)
    run.trainer.restore(content)
    return list(content["losses"])


def samples_psnr(bench: Bench, model: torch.nn.Module) -> float:
    """Mean PSNR-mu on the sample scenes, which are also those of this training."""
    assert isinstance(model, AFUNet)
    model.eval()
    return statistics.mean(
        METRICS[PSNR](predict(model, x, patch_size=1)[0][0], label) for _, x, label in samples(bench)
    )

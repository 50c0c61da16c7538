"""One process's part of a training run: network, optimiser and schedule put together, resumed, run and written down.

The scenes come from the caller; nothing here knows a data set.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models import AFUNet, AFUNetConfig
from utils.checkpoint import load_weights, model_of, read_checkpoint
from utils.distributed import first_goes_ahead, same_everywhere
from utils.files import InputError
from utils.inference import predict
from utils.memory import keep_freed_memory
from utils.provenance import VERSION, device_name, git_revision, versions
from utils.training.engine import Batches, Plan, Trainer, Validation, check_resumable
from utils.training.lock import own_folder
from utils.training.losses import training_loss
from utils.training.tracking import Checkpoints, RunLog

NOT_IN_RECIPE = {  # flags without influence on the weights
    *("logdir", "resume", "stop_after", "device", "num_workers", "tensorboard", "cache_choice", "cache_dir"),
    *("val_interval", "save_interval", "save_minutes", "log_interval"),
}
LONGEST_VALUE = 200  # characters of a flag's value that are shown and compared


Begun = tuple[Path, dict[str, Any]]  # a checkpoint to go on from: its place and content


@dataclass(frozen=True)
class Data:
    """What is trained on and judged by.

    Attributes:
        batches: called when the run has been found sound, since it may decode a whole data set first.
        scenes: how many scenes the batches come from.
        held_out, metrics: validation, see :class:`utils.training.engine.Validation`.
    """

    batches: Callable[[], Batches]
    scenes: int
    held_out: Sequence[Callable[[], tuple[Tensor, Tensor]]]
    metrics: Mapping[str, Callable[[Tensor, Tensor], float]]


def train(args: argparse.Namespace, data: Data, device: torch.device, rank: int, world: int, again: str) -> None:
    """One process's part of the run. ``args`` are those of train.py; ``again`` is the command that resumes it.

    The first process has the run's folder to itself; it is the only one that writes there.
    """
    with own_folder(args.logdir) if rank == 0 else nullcontext():
        train_in_own_folder(args, data, device, rank, world, again)


def train_in_own_folder(
    args: argparse.Namespace, data: Data, device: torch.device, rank: int, world: int, again: str
) -> None:
    """Put the run together, go on from where it was left, train, and say how it ended."""
    checkpoints = Checkpoints(args.logdir / "ckpt")
    refuse_to_overwrite(args, checkpoints)
    begun = named_checkpoint(args)
    with first_goes_ahead():
        criterion = training_loss(args.perceptual, args.vgg_weights, args.linear_weight).to(device)
    model = make_model(args, device, resumed=bool(args.resume and checkpoints.files()))
    batches = data.batches()
    log = RunLog(args.logdir if rank == 0 else None, tensorboard=args.tensorboard)
    trainer = Trainer(
        model,
        criterion,
        make_optimizer(args, model),
        batches,
        make_plan(args),
        log,
        checkpoints.save,
        network=wrap(args, model, world),
        average=make_average(args, model),
        validation=Validation(data.held_out, infer, data.metrics) if data.held_out else None,
        facts={"version": VERSION, "config": asdict(model.config), "recipe": recipe(args, world, data.scenes)},
    )
    log.on_hangup = trainer.stop.ask
    resume(args, trainer, checkpoints, log, begun)
    announce(args, trainer, log, data.scenes, len(data.held_out))
    finished = trainer.fit()
    announce_end(trainer, log, finished, again)
    log.close()


def set_device_defaults(device: torch.device, args: argparse.Namespace) -> None:
    """Fill in the flags whose default depends on the device, and set up cuDNN and the CPU's memory."""
    if args.amp is None:
        args.amp = device.type == "cuda" and computes_bfloat16(device)
    elif args.amp and not computes_bfloat16(device):
        print("note: --amp: bfloat16 is only emulated here, many times slower than float32; float32 it is")
        args.amp = False
    if args.num_workers is None:
        args.num_workers = default_workers(device)
    torch.backends.cudnn.benchmark = True  # all crops have one size
    if device.type == "cpu":
        keep_freed_memory()


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; where torch cannot tell, it is taken to have."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return not known or any(has for name, has in known.items() if name.endswith("bf16"))


def default_workers(device: torch.device) -> int:
    """Loader processes that keep one GPU fed; none where the CPU itself trains."""
    return min(4, os.cpu_count() or 1) if device.type == "cuda" else 0


def refuse_to_overwrite(args: argparse.Namespace, checkpoints: Checkpoints) -> None:
    """A folder that holds a run is written to only by going on with that run."""
    own = args.resume == "auto" or (args.resume and Path(args.resume).resolve().parent == checkpoints.folder.resolve())
    if checkpoints.files() and not own:
        raise InputError(f"{checkpoints.folder} holds a run: go on with --resume auto, or choose another --logdir")


def make_model(args: argparse.Namespace, device: torch.device, resumed: bool = False) -> AFUNet:
    """The network to train; a run that is resumed has no use for the weights it began with."""
    torch.manual_seed(args.seed)
    config = AFUNetConfig(args.stages, tuple(args.without), args.order, args.drop_path)
    model = AFUNet(config, checkpointing=args.checkpointing)
    if args.init and not resumed:
        load_weights(model, args.init)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as gradients come, for DDP
    return model.to(device)


def wrap(args: argparse.Namespace, model: AFUNet, world: int) -> nn.Module:
    """The model as it is called in training."""
    network: Any = torch.compile(model) if args.compile else model
    return nn.parallel.DistributedDataParallel(network) if world > 1 else network


def make_average(args: argparse.Namespace, model: AFUNet) -> AveragedModel | None:
    """The exponential moving average of the weights, where one is asked for."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.ema)) if args.ema else None


def make_optimizer(args: argparse.Namespace, model: AFUNet) -> torch.optim.Optimizer:
    fused = next(model.parameters()).is_cuda
    return torch.optim.Adam(model.parameters(), args.lr, betas=(0.9, 0.999), eps=1e-8, fused=fused)


def make_plan(args: argparse.Namespace) -> Plan:
    return Plan(
        epochs=args.epochs,
        lr=args.lr,
        lr_min=args.lr_min,
        seed=args.seed,
        accumulate=args.accumulate,
        clip_grad=args.clip_grad or math.inf,
        amp=args.amp,
        stop_after=args.stop_after,
        val_interval=args.val_interval,
        save_interval=args.save_interval,
        save_minutes=args.save_minutes,
        log_interval=args.log_interval,
    )


def infer(model: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(model, AFUNet)
    return predict(model, x)[0]


def recipe(args: argparse.Namespace, world: int, scenes: int) -> dict[str, Any]:
    """Every flag that has a say in the weights, as plain values, with the numbers of processes and scenes."""
    kept = {name: value for name, value in sorted(vars(args).items()) if name not in NOT_IN_RECIPE}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in kept.items()}
    return {**plain, "processes": world, "scenes": scenes}


def named_checkpoint(args: argparse.Namespace) -> Begun | None:
    """The checkpoint that ``--resume`` names, found sound before anything else is done; None for "auto" and without."""
    return None if args.resume in (None, "auto") else sound(Path(args.resume), read_checkpoint(args.resume))


def sound(path: Path, content: dict[str, Any]) -> Begun:
    """The checkpoint as it is. Raises InputError, which says what is wrong with its weights or its training."""
    check_resumable(content, str(path))
    model_of(content, str(path))
    return path, content


def resume(
    args: argparse.Namespace, trainer: Trainer, checkpoints: Checkpoints, log: RunLog, begun: Begun | None
) -> None:
    """Put the trainer where ``--resume`` says, and say what was found."""
    if trainer.rank == 0:
        checkpoints.clean()
    if args.resume is None:
        return
    if begun is None and (newest := checkpoints.newest(log)):
        begun = sound(*newest)
    if begun is None:
        log.say(f"{checkpoints.folder}: no checkpoint yet, beginning anew")
        return
    path, content = begun
    compare(path, content, trainer.facts, log)
    trainer.restore(content, str(path))
    if not same_everywhere(trainer.progress.steps):
        raise InputError(f"{path}: not the same in every process; --logdir has to be on a disk that all of them share")
    progress = trainer.progress
    log.say(f"going on from {path}: {progress.epoch} epoch(s) and {progress.samples} images done")


def compare(path: Path, content: dict[str, Any], facts: dict[str, Any], log: RunLog) -> None:
    """Refuse another architecture, and say which other flags differ from the checkpoint's."""
    if (theirs := content.get("config")) != facts["config"]:
        raise InputError(f"{path}: holds the network {theirs}, asked for is {facts['config']}; give the same options")
    kept = content.get("recipe")
    before: Mapping[str, Any] = kept if isinstance(kept, Mapping) else {}
    for name, value in facts["recipe"].items():
        if name in before and (other := _text(before[name])) != _text(value):
            log.say(f"note: {name} is now {value}, {path.name} was made with {other}")


def _text(value: Any) -> str:
    """A flag's value as it is shown and compared, in one line, whatever a file holds in its place."""
    return " ".join(str(value).split())[:LONGEST_VALUE]


def announce(args: argparse.Namespace, trainer: Trainer, log: RunLog, scenes: int, held_out: int) -> None:
    """The first lines of the log: what is trained, on what, how, and how the best checkpoint is chosen."""
    where = device_name(trainer.device)
    machine = {"device": where, "versions": versions(), "revision": git_revision()}
    log.facts({**trainer.facts, "step": trainer.progress.steps, **machine})
    parameters = sum(p.numel() for p in trainer.model.parameters())
    log.say(f"AFUNet, {parameters:,} parameters, on {where} x {trainer.world}; {scenes} training scenes")
    loss = "VGG-19" if args.perceptual == "vgg" else "FFT"
    batch, precision = trainer.batches.samples_per_step, "bfloat16" if trainer.plan.amp else "float32"
    log.say(f"recipe {args.recipe}: {loss} loss, batch {batch}, {args.augmentation} augmentation, {precision}")
    if args.validate_on == "test":
        log.say(f"best.pth is chosen on the TEST set ({held_out} scenes), as the released code does")
    elif held_out:
        log.say(f"best.pth is chosen on {held_out} held-out training scene(s)")
    else:
        log.say("no scenes to validate on: no best.pth will be written, last.pth is the result")


def announce_end(trainer: Trainer, log: RunLog, finished: bool, again: str) -> None:
    progress = trainer.progress
    if finished and progress.epoch >= trainer.plan.epochs:
        best = f"; best validation score {progress.best:.4f}" if math.isfinite(progress.best) else ""
        log.say(f"finished after epoch {progress.epoch}{best}")
    else:
        log.say(f"stopped: {progress.epoch} epoch(s) and {progress.samples} images done; go on with\n  {again}")

"""Train AFUNet: bracketed scenes in, checkpoints and learning curves out.

python train.py --dataset kalantari --dataset_dir data
torchrun --nproc_per_node=8 train.py --dataset kalantari --dataset_dir data --batch_size 1

The defaults are the paper's recipe; ``--recipe released`` is that of the released code. A run that stops, for whatever
reason, goes on with ``--resume auto`` added to its command.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datasets import brackets
from datasets.scenes import Scene, find_scenes
from models import AFUNet, AFUNetConfig
from models.windows import WINDOW
from utils.checkpoint import load_weights, read_checkpoint
from utils.cli import checked, fraction, pick_device, positive, positive_number, run, whole
from utils.distributed import first_goes_ahead, own_gpu, processes, same_everywhere
from utils.engine import Plan, Trainer, Validation, check_resumable
from utils.inference import predict
from utils.io import InputError
from utils.losses import training_loss
from utils.memory import keep_freed_memory
from utils.metrics import METRICS
from utils.options import add_dataset_options, choose_dataset
from utils.provenance import device_name, git_revision, versions
from utils.tracking import Checkpoints, RunLog

RECIPES: dict[str, dict[str, Any]] = {
    "paper": {"perceptual": "vgg", "batch_size": 6, "augmentation": "paper"},
    "released": {"perceptual": "fft", "batch_size": 4, "augmentation": "released"},
}
NO_SAY = {  # flags without influence on the weights
    *("logdir", "resume", "stop_after", "device", "num_workers", "tensorboard", "cache_choice", "cache_dir"),
    *("val_interval", "save_interval", "save_minutes", "log_interval"),
}


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    device = own_gpu(pick_device(args.device))
    fit_to(device, args)
    with processes(device) as (rank, world):
        train(args, device, rank, world, again=command(argv, world))
    return 0


def train(args: argparse.Namespace, device: torch.device, rank: int, world: int, again: str) -> None:
    """One process's part of the run; ``again`` is the command that resumes it."""
    scenes, held_out = choose_scenes(args)
    checkpoints = Checkpoints(args.logdir / "ckpt")
    refuse_to_overwrite(args, checkpoints)
    with first_goes_ahead():
        criterion = training_loss(args.perceptual, args.vgg_weights).to(device)
    batches = make_batches(args, scenes, device, rank, world)
    model = make_model(args, device, resumed=bool(args.resume and checkpoints.files()))
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
        validation=make_validation(held_out, device),
        facts={"config": asdict(model.config), "recipe": recipe(args, world, len(scenes))},
    )
    resume(args, trainer, checkpoints, log)
    announce(args, trainer, log, len(scenes), len(held_out))
    finished = trainer.fit()
    take_leave(trainer, log, finished, again)
    log.close()


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line, with the recipe's values where no flag gives another."""
    parser = argparse.ArgumentParser(
        description="Train AFUNet; the defaults are the paper's recipe.", allow_abbrev=False
    )
    add_data_flags(parser.add_argument_group("data"))
    add_recipe_flags(parser.add_argument_group("recipe"))
    add_network_flags(parser.add_argument_group("network"))
    add_run_flags(parser.add_argument_group("run"))
    args = parser.parse_args(argv)
    for name, value in RECIPES[args.recipe].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.dataset = choose_dataset(args)[0]
    smallest = 16 if args.perceptual == "vgg" else WINDOW  # VGG-19 halves a crop four times
    if args.train_patch_size < smallest:
        parser.error(f"--train_patch_size has to be at least {smallest} with --perceptual {args.perceptual}")
    args.logdir = args.logdir or Path("runs") / args.dataset
    return args


def add_data_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add_dataset_options(group)
    add("--cache_choice", choices=brackets.CACHE_CHOICES, default="disk", help="where decoded scenes are kept")
    add("--cache_dir", type=Path, default=Path(".cache/scenes"), help="may be deleted whenever no run uses it")
    add("--num_workers", type=whole, help="processes that cut crops (default: 4 for a GPU, 0 for the CPU)")
    add("--val_fraction", type=fraction, default=0.05, help="training scenes held out to choose the best; 0: none")
    add("--validate_on", choices=["train", "test"], default="train", help="test: as released, train on all scenes")


def add_recipe_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--recipe", choices=sorted(RECIPES), default="paper", help="sets what the next three flags don't")
    add("--perceptual", choices=["vgg", "fft"], help="perceptual term of the loss")
    add("--batch_size", type=positive, help="of each process")
    add("--augmentation", choices=sorted(brackets.AUGMENTATIONS))
    add("--vgg_weights", type=Path, help="torchvision's vgg19-dcbb9e9d.pth, where it cannot be downloaded")
    add("--train_patch_size", type=positive, default=128, help="side of the crops, pixels")
    add("--repeat", type=positive, default=100, help="crops of every scene in an epoch")
    add("--epochs", type=positive, default=400, help="length of the cosine schedule")
    add("--lr", type=positive_number, default=5e-4, help="learning rate of the first epoch")
    add("--lr_min", type=positive_number, default=5e-6, help="where the schedule ends")
    add("--seed", type=seed, default=443)
    add("--accumulate", type=positive, default=1, help="batches per step")
    add("--clip_grad", type=positive_number, help="largest norm of the gradient (default: any)")
    add("--amp", action=argparse.BooleanOptionalAction, help="bfloat16 autocast (default: on a GPU that has it)")
    add("--init", type=Path, help="begin with the weights of this checkpoint, ours or official")


def add_network_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--stages", type=int, choices=range(1, 9), default=4, metavar="1..8")
    add("--without", nargs="*", choices=["sam", "cfm", "dcm"], default=[], help="parts left out")
    add("--order", choices=["af", "fa"], default="af", help="fa: fusion, then alignment")
    add("--drop_path", type=fraction, default=0.1, help="stochastic depth of the deepest block")
    add("--checkpointing", action="store_true", help="less memory, more time: recompute in the backward pass")


def add_run_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--logdir", type=Path, help="checkpoints, log.jsonl and TensorBoard curves (default: runs/<dataset>)")
    add("--resume", metavar="auto|FILE", help="go on from the newest checkpoint of --logdir, or from FILE")
    add("--stop_after", type=positive, help="leave off after this epoch, to be resumed")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--compile", action="store_true", help="torch.compile")
    add("--val_interval", type=positive, default=5, help="epochs between validations")
    add("--save_interval", type=positive, default=10, help="epochs between checkpoints that are kept")
    add("--save_minutes", type=positive_number, default=10, help="between savings of last.pth inside an epoch")
    add("--log_interval", type=positive, default=50, help="steps between records")
    add("--tensorboard", action=argparse.BooleanOptionalAction, default=True)


seed = checked(int, lambda value: 0 <= value < 2**63, "a whole number from 0 to below 2^63")


def fit_to(device: torch.device, args: argparse.Namespace) -> None:
    """Fill in the flags whose default depends on the device, and set up cuDNN and the CPU's memory."""
    if args.amp is None:
        args.amp = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if args.num_workers is None:
        args.num_workers = brackets.default_workers(device)
    torch.backends.cudnn.allow_tf32 = False  # without autocast, float32 means float32
    torch.backends.cudnn.benchmark = True  # all crops have one size
    if device.type == "cpu":
        keep_freed_memory()


def choose_scenes(args: argparse.Namespace) -> tuple[list[Scene], list[Scene]]:
    """(scenes to train on, scenes to validate on)."""
    _, layout, root = choose_dataset(args)
    scenes = find_scenes(layout, root, "train")
    if args.validate_on == "test":
        return scenes, find_scenes(layout, root, "test")
    return brackets.split_validation(scenes, args.val_fraction, args.seed)


def refuse_to_overwrite(args: argparse.Namespace, checkpoints: Checkpoints) -> None:
    """A folder that holds a run is written to only by going on with that run."""
    own = args.resume == "auto" or (args.resume and Path(args.resume).resolve().parent == checkpoints.folder.resolve())
    if checkpoints.files() and not own:
        raise InputError(f"{checkpoints.folder} holds a run: go on with --resume auto, or choose another --logdir")


def make_batches(
    args: argparse.Namespace, scenes: Sequence[Scene], device: torch.device, rank: int, world: int
) -> brackets.TrainingBatches:
    readers = brackets.readers(scenes, args.cache_choice, args.cache_dir, progress=rank == 0)
    augmentation = brackets.AUGMENTATIONS[args.augmentation]
    crops = brackets.TrainingCrops(readers, args.train_patch_size, augmentation, args.repeat, args.seed)
    share = brackets.EpochBatches(
        len(crops), args.batch_size, args.seed, accumulate=args.accumulate, rank=rank, world=world
    )
    return brackets.TrainingBatches(crops, share, device, args.num_workers)


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


def make_validation(scenes: Sequence[Scene], device: torch.device) -> Validation | None:
    """Whole images by the protocol of the test script."""
    readers = [partial(brackets.whole_scene, scene.read, device) for scene in scenes]
    return Validation(readers, infer, METRICS) if readers else None


def infer(model: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(model, AFUNet)
    return predict(model, x)[0]


def recipe(args: argparse.Namespace, world: int, scenes: int) -> dict[str, Any]:
    """Every flag that has a say in the weights, as plain values, with the numbers of processes and scenes."""
    kept = {name: value for name, value in sorted(vars(args).items()) if name not in NO_SAY}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in kept.items()}
    return {**plain, "processes": world, "scenes": scenes}


def resume(args: argparse.Namespace, trainer: Trainer, checkpoints: Checkpoints, log: RunLog) -> None:
    """Put the trainer where ``--resume`` says, and say what was found."""
    if trainer.rank == 0:
        checkpoints.clean()
    if args.resume is None:
        return
    found = checkpoints.newest(log) if args.resume == "auto" else (Path(args.resume), read_checkpoint(args.resume))
    if found is None:
        log.say(f"{checkpoints.folder}: no checkpoint yet, beginning anew")
        return
    path, content = found
    check_resumable(content, str(path))
    compare(path, content, trainer.facts, log)
    trainer.restore(content)
    if not same_everywhere(trainer.progress.steps):
        raise InputError(f"{path}: not the same in every process; --logdir has to be on a disk that all of them share")
    progress = trainer.progress
    log.say(f"going on from {path}: {progress.epoch} epoch(s) and {progress.samples} images done")


def compare(path: Path, content: dict[str, Any], facts: dict[str, Any], log: RunLog) -> None:
    """Refuse another architecture, and say which other flags differ from the checkpoint's."""
    if (theirs := content.get("config")) != facts["config"]:
        raise InputError(f"{path}: holds the network {theirs}, asked for is {facts['config']}; give the same options")
    before = content.get("recipe", {})
    for name, value in facts["recipe"].items():
        if name in before and before[name] != value:
            log.say(f"note: {name} is now {value}, {path.name} was made with {before[name]}")


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


def take_leave(trainer: Trainer, log: RunLog, finished: bool, again: str) -> None:
    progress = trainer.progress
    if finished and progress.epoch >= trainer.plan.epochs:
        best = f"; best validation score {progress.best:.4f}" if math.isfinite(progress.best) else ""
        log.say(f"finished after epoch {progress.epoch}{best}")
    else:
        log.say(f"stopped: {progress.epoch} epoch(s) and {progress.samples} images done; go on with\n  {again}")


def command(argv: list[str] | None, world: int) -> str:
    """The command that resumes this run."""
    words = iter(sys.argv[1:] if argv is None else argv)
    kept = []
    for word in words:
        if word in ("--resume", "--stop_after"):
            next(words)
        elif not word.startswith(("--resume=", "--stop_after=")):
            kept.append(word)
    here = os.environ.get("LOCAL_WORLD_SIZE", world)
    start = f"torchrun --nproc_per_node={here} train.py" if world > 1 else "python train.py"
    return f"{start} {shlex.join([*kept, '--resume', 'auto'])}"


if __name__ == "__main__":
    run(main)

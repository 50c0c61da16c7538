"""Train AFUNet: bracketed scenes in, checkpoints and learning curves out.

python train.py --dataset kalantari --dataset_dir data
torchrun --nproc_per_node=8 train.py --dataset kalantari --dataset_dir data --batch_size 1

The defaults are the paper's recipe; ``--recipe released`` is that of the released code. A run that stops, for whatever
reason, goes on with ``--resume auto`` added to its command.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import utils.interrupts  # noqa: F401  (first, so that Ctrl-C is one line)
from datasets.options import add_dataset_options, choose_dataset
from datasets.scenes import Scene, find_scenes, split_validation
from utils.cli import (
    checked,
    existing_file,
    fraction,
    pick_device,
    positive,
    positive_number,
    run,
    seed,
    threads,
    whole,
    within,
)
from utils.files import user_path
from utils.threads import set_threads

if TYPE_CHECKING:
    import torch

    from utils.training.session import Data

RECIPES: dict[str, dict[str, Any]] = {
    "paper": {"perceptual": "vgg", "batch_size": 6, "augmentation": "paper"},
    "released": {"perceptual": "fft", "batch_size": 4, "augmentation": "released"},
}
AUGMENTATIONS = ("paper", "released")  # datasets.crops
CACHE_CHOICES = ("disk", "memory", "none")  # datasets.cache
MOST_WORKERS = 256
SMALLEST = {"vgg": 16, "fft": 8}  # crop: VGG-19 halves it four times, the network needs a window


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    scenes, held_out = choose_scenes(args)

    from utils.distributed import own_gpu, processes  # torch comes in when the options are known to be sound
    from utils.training.session import set_device_defaults, train

    device = own_gpu(pick_device(args.device))
    set_threads(args.threads, device)
    set_device_defaults(device, args)
    with processes(device) as (rank, world):
        data = training_data(args, scenes, held_out, device, rank, world)
        train(args, data, device, rank, world, again=command(argv, world))
    return 0


def choose_scenes(args: argparse.Namespace) -> tuple[list[Scene], list[Scene]]:
    """(scenes to train on, scenes to validate on)."""
    _, layout, root = choose_dataset(args)
    scenes = find_scenes(layout, root, "train")
    if args.validate_on == "test":
        return scenes, find_scenes(layout, root, "test")
    return split_validation(scenes, args.val_fraction, args.seed)


def training_data(
    args: argparse.Namespace,
    scenes: Sequence[Scene],
    held_out: Sequence[Scene],
    device: torch.device,
    rank: int,
    world: int,
) -> Data:
    """Crops of the training scenes, and whole images of the others by the protocol of the test script."""
    from datasets import cache, crops
    from utils.evaluation.metrics import METRICS
    from utils.training.session import Data

    def batches() -> crops.TrainingBatches:
        readers = cache.readers(scenes, args.cache_choice, args.cache_dir, progress=rank == 0)
        augmentation = crops.AUGMENTATIONS[args.augmentation]
        drawn = crops.TrainingCrops(readers, args.train_patch_size, augmentation, args.repeat, args.seed, args.draws)
        share = crops.EpochBatches(
            len(drawn), args.batch_size, args.seed, accumulate=args.accumulate, rank=rank, world=world
        )
        return crops.TrainingBatches(drawn, share, device, args.num_workers)

    return Data(batches, len(scenes), [partial(crops.whole_scene, scene.read, device) for scene in held_out], METRICS)


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
    if args.train_patch_size < (smallest := SMALLEST[args.perceptual]):
        parser.error(f"--train_patch_size has to be at least {smallest} with --perceptual {args.perceptual}")
    if args.init:
        existing_file(args.init, "--init", "give a checkpoint, ours or official")
    args.logdir = args.logdir or Path("runs") / args.dataset
    return args


def add_data_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add_dataset_options(group)
    add("--cache_choice", choices=CACHE_CHOICES, default="disk", help="where decoded scenes are kept")
    add("--cache_dir", type=user_path, default=Path(".cache/scenes"), help="may be deleted whenever no run uses it")
    add(
        "--num_workers",
        type=whole(0, MOST_WORKERS),
        help="processes that cut crops (default: 4 for a GPU, 0 for the CPU)",
    )
    add("--val_fraction", type=fraction, default=0.05, help="training scenes held out to choose the best; 0: none")
    add("--validate_on", choices=["train", "test"], default="train", help="test: as released, train on all scenes")


def add_recipe_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--recipe", choices=sorted(RECIPES), default="paper", help="sets what the next three flags don't")
    add("--perceptual", choices=["vgg", "fft"], help="perceptual term of the loss")
    add("--batch_size", type=whole(1, 4096), help="of each process")
    add("--augmentation", choices=AUGMENTATIONS)
    add("--vgg_weights", type=user_path, help="torchvision's vgg19-dcbb9e9d.pth, where it cannot be downloaded")
    add("--train_patch_size", type=whole(1, 4096), default=128, help="side of the crops, pixels")
    add("--repeat", type=whole(1, 100_000), default=100, help="crops of every scene in an epoch")
    add("--draws", type=whole(1, 64), default=1, help="windows drawn for a crop; that with most clipped pixels is it")
    add("--epochs", type=whole(1, 1_000_000), default=400, help="length of the cosine schedule")
    add("--lr", type=positive_number, default=5e-4, help="learning rate of the first epoch")
    add("--lr_min", type=positive_number, default=5e-6, help="where the schedule ends")
    add("--seed", type=seed, default=443)
    add("--accumulate", type=whole(1, 4096), default=1, help="batches per step")
    add("--clip_grad", type=positive_number, help="largest norm of the gradient (default: any)")
    add(
        "--amp",
        action=argparse.BooleanOptionalAction,
        help="bfloat16 autocast, where the device computes it (default: on a GPU)",
    )
    add("--ema", type=decay, metavar="DECAY", help="keep an average of the weights that changes by 1 - DECAY a step")
    add("--linear_weight", type=weight, default=0.0, help="of a linear L1 term, which heeds what is bright")
    add("--init", type=user_path, help="begin with the weights of this checkpoint, ours or official")


def add_network_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--stages", type=int, choices=range(1, 9), default=4, metavar="1..8")
    add("--without", nargs="*", choices=["sam", "cfm", "dcm"], default=[], help="parts left out")
    add("--order", choices=["af", "fa"], default="af", help="fa: fusion, then alignment")
    add("--drop_path", type=fraction, default=0.1, help="stochastic depth of the deepest block")
    add("--checkpointing", action="store_true", help="less memory, more time: recompute in the backward pass")


def add_run_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--logdir", type=user_path, help="checkpoints, log.jsonl and TensorBoard curves (default: runs/<dataset>)")
    add("--resume", metavar="auto|FILE", help="go on from the newest checkpoint of --logdir, or from FILE")
    add("--stop_after", type=positive, help="leave off after this epoch, to be resumed")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--threads", type=threads, help="threads on a CPU (default: as many as the cores given, if that is fastest)")
    add("--compile", action="store_true", help="torch.compile")
    add("--val_interval", type=positive, default=5, help="epochs between validations")
    add("--save_interval", type=positive, default=10, help="epochs between checkpoints that are kept")
    add("--save_minutes", type=positive_number, default=10, help="between savings of last.pth inside an epoch")
    add("--log_interval", type=positive, default=50, help="steps between records")
    add("--tensorboard", action=argparse.BooleanOptionalAction, default=True)


weight = within(0.0, 1e6)
decay = checked(float, lambda value: 0 < value < 1, "a number between 0 and 1")


if __name__ == "__main__":
    run(main)

"""Test AFUNet: a checkpoint and a data set of bracketed scenes in, the paper's table and HDR images out.

python test.py --dataset kalantari --dataset_dir data --pretrained_model pretrain_model/Kalantari.pth

Without options it runs on the sample scenes. The defaults are the paper's protocol. Under torchrun the scenes are
shared out between the processes.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from tqdm import tqdm

from datasets.options import add_dataset_options, choose_dataset
from datasets.scenes import Layout, Scene, check_scenes, find_scenes
from utils.choices import Way
from utils.cli import existing_file, pick_device, positive, positive_number, run
from utils.files import InputError, writable_folder
from utils.hdrvdp2 import PROTOCOLS, Protocol
from utils.hdrvdp2.settings import RGB_ENCODINGS
from utils.shipped import SHIPPED

if TYPE_CHECKING:
    from models import AFUNet
    from utils.evaluation.evaluator import Evaluation, Outcome

UNTRAINED = "UNTRAINED weights"


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    dataset, layout, root = choose_dataset(args)
    if args.check:
        return check(dataset, layout, root, args.limit)
    scenes = find_scenes(layout, root, "test")[: args.limit]
    if args.pretrained_model:
        existing_file(args.pretrained_model, "--pretrained_model", "give a checkpoint, official or ours")
    vdp = choose_vdp(args)
    facts = {"dataset": {"name": dataset, "dir": str(root), "split": "test", "layout": dataclasses.asdict(layout)}}
    return evaluate(args, dataset, scenes, vdp, facts)


def evaluate(args: argparse.Namespace, dataset: str, scenes: Sequence[Scene], vdp: Protocol | None, facts: dict) -> int:
    """Run the scenes, shared out between the processes, and write what they gave; 1 where one failed."""
    from utils.distributed import gather, own_gpu, processes
    from utils.evaluation import records
    from utils.evaluation.evaluator import Evaluation
    from utils.evaluation.tables import Results, summary, write_tables

    weights = args.pretrained_model or (SHIPPED if SHIPPED.exists() else None)
    name = UNTRAINED if weights is None else weights.name
    device = own_gpu(pick_device(args.device))
    with processes(device) as (rank, world):
        model = load_network(weights).to(device)
        model.use_kernels(args.kernels)
        save_dir = writable_folder(args.save_dir or Path("results") / dataset, "--save_dir")
        save = partial(records.save_scene, save_dir, args.format, name) if args.save_results else records.save_nothing
        evaluation = Evaluation(model, device, args.patch_size, args.inference, vdp, save, tqdm.write)
        outcomes = gather(run_scenes(evaluation, scenes[rank::world], name, quiet=rank > 0))
    if rank > 0:
        return 0
    facts |= records.how_it_was_made(weights, evaluation, outcomes)
    results = Results(dataset, name, *records.by_scene(scenes, outcomes), facts, records.notes(weights, vdp, outcomes))
    write_tables(save_dir, results)
    print(f"\n{summary(results)}\n\nWritten to {save_dir}: metrics.json, metrics.csv, metrics.md")
    return 1 if results.failures else 0


def run_scenes(evaluation: Evaluation, scenes: Sequence[Scene], weights: str, quiet: bool) -> list[Outcome]:
    """Run the scenes with a progress bar and a line for each."""
    from utils.evaluation.tables import format_row
    from utils.provenance import device_name

    if not quiet:
        print(f"AFUNet with {weights} on {device_name(evaluation.device)}: {len(scenes)} scene(s)")
    outcomes = []
    for outcome in tqdm(evaluation.run(scenes), total=len(scenes), unit="scene", disable=quiet or None):
        figures = f"{outcome.scene}  {format_row(outcome.metrics)}"
        tqdm.write(f"FAILED  {outcome.failure}" if outcome.failure else figures)
        outcomes.append(outcome)
    return outcomes


def load_network(weights: Path | None) -> AFUNet:
    """The network of a checkpoint; without one an untrained network, always the same."""
    import torch

    from models import AFUNet
    from utils.checkpoint import load_model

    if weights is not None:
        return load_model(weights)
    torch.manual_seed(0)
    return AFUNet().eval()


def check(dataset: str, layout: Layout, root: Path, limit: int | None) -> int:
    """Read every scene of both splits and print everything that is wrong; 1 where anything is."""
    scenes: dict[Path, Scene] = {}
    missing = []
    for split in ("train", "test"):
        try:
            scenes |= {scene.label_path: scene for scene in find_scenes(layout, root, split)[:limit]}
        except InputError as error:
            missing.append(str(error))
    if not scenes:
        raise InputError(missing[-1])
    problems = check_scenes(tqdm(scenes.values(), "reading", unit="scene", disable=None))
    for line in [*(f"note: {line}" for line in missing), *problems]:
        print(f"- {line}")
    print(f"{dataset}: {len(scenes)} scene(s) read, {len(problems)} problem(s)")
    return 1 if problems else 0


def choose_vdp(args: argparse.Namespace) -> Protocol | None:
    """A named protocol, changed by the single flags; None without HDR-VDP-2."""
    if args.vdp == "none":
        return None
    return PROTOCOLS[args.vdp].changed(
        encoding=args.vdp_encoding, ppd=args.vdp_ppd, peak=args.vdp_peak, rgbe=args.vdp_rgbe
    )


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Test AFUNet on a data set; without options on the sample scenes.")
    add = parser.add_argument
    add_dataset_options(parser)
    add("--pretrained_model", type=Path, help="checkpoint, official or ours (default: the shipped weights)")
    add("--patch_size", type=positive, default=128, help="images are padded to a multiple of it; 1 for no padding")
    add("--inference", choices=get_args(Way), default="auto", help="strips: bounded memory")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--kernels", action=argparse.BooleanOptionalAction, default=True, help="fused kernels on GPUs that take them")
    add("--limit", type=positive, help="only the first N scenes")
    add("--check", action="store_true", help="read every scene, list all that is wrong, and stop")
    add("--save_dir", type=Path, help="default: results/<dataset>")
    add("--save_results", action=argparse.BooleanOptionalAction, default=True, help="write images and pictures")
    add("--format", choices=["hdr", "exr", "both"], default="hdr", help="of the written HDR images")
    vdp = parser.add_argument_group("HDR-VDP-2")
    vdp.add_argument("--vdp", choices=[*PROTOCOLS, "none"], default="safnet", help="whose way of calling it")
    vdp.add_argument("--vdp_encoding", choices=RGB_ENCODINGS, help="what the values mean to the metric")
    vdp.add_argument("--vdp_ppd", type=positive_number, help="pixels per degree")
    vdp.add_argument("--vdp_peak", type=positive_number, help="both images are multiplied by it")
    vdp.add_argument("--vdp_rgbe", action="store_true", help="round both images as a .hdr file does, first")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)

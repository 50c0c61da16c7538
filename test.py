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
from typing import Any

import torch
from tqdm import tqdm

from datasets.scenes import Layout, Scene, check_scenes, find_scenes
from models import AFUNet
from utils.checkpoint import SHIPPED, SHIPPED_FACTS, load_model
from utils.cli import pick_device, positive, positive_number, run
from utils.distributed import own_gpu, processes
from utils.evaluation import Evaluation, Outcome, Reconstruction, gather
from utils.hdrvdp2 import PROTOCOLS, Protocol
from utils.hdrvdp2.display import ENCODINGS
from utils.io import InputError, writable_folder, write_exr, write_hdr
from utils.options import add_dataset_options, choose_dataset
from utils.provenance import device_name, git_revision, sha256, versions
from utils.report import Results, format_row, summary, write_scene_picture, write_tables

UNTRAINED = "UNTRAINED weights"
WAYS = {"whole": "the whole image at once", "strips": "strip by strip, the same numbers in bounded memory"}
COMMON_PPD = 20.0  # published figures are computed at 23.8 to 26.8 pixels per degree
RGB_ENCODINGS = [name for name, (channels, _) in ENCODINGS.items() if channels == 3]


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    dataset, layout, root = choose_dataset(args)
    if args.check:
        return check(dataset, layout, root, args.limit)
    scenes = find_scenes(layout, root, "test")[: args.limit]
    weights = args.pretrained_model or (SHIPPED if SHIPPED.exists() else None)
    device = own_gpu(pick_device(args.device))
    with processes(device) as (rank, world):
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32: TF32 moves the figures
        model = load_network(weights).to(device)
        model.use_kernels(args.kernels)
        save_dir = writable_folder(args.save_dir or Path("results") / dataset, "--save_dir")
        save = partial(save_scene, save_dir, args.format, title(weights)) if args.save_results else no_save
        evaluation = Evaluation(model, device, args.patch_size, args.inference, choose_vdp(args), save)
        outcomes = gather(run_scenes(evaluation, scenes[rank::world], title(weights), quiet=rank > 0), world)
    if rank > 0:
        return 0
    facts = {"dataset": {"name": dataset, "dir": str(root), "split": "test", "layout": dataclasses.asdict(layout)}}
    facts |= protocol(weights, evaluation, outcomes)
    under_table = notes(weights, evaluation.vdp, outcomes)
    results = Results(dataset, title(weights), *by_scene(scenes, outcomes), facts, under_table)
    write_tables(save_dir, results)
    print(f"\n{summary(results)}\n\nWritten to {save_dir}: metrics.json, metrics.csv, metrics.md")
    return 1 if results.failures else 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Test AFUNet on a data set; without options on the sample scenes.")
    add = parser.add_argument
    add_dataset_options(parser)
    add("--pretrained_model", type=Path, help="checkpoint, official or ours (default: the shipped weights)")
    add("--patch_size", type=positive, default=128, help="images are padded to a multiple of it; 1 for no padding")
    add("--inference", choices=["auto", "whole", "strips"], default="auto", help="strips: bounded memory")
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


def load_network(weights: Path | None) -> AFUNet:
    """The network of a checkpoint; without one an untrained network, always the same."""
    if weights is not None:
        return load_model(weights)
    torch.manual_seed(0)
    return AFUNet().eval()


def title(weights: Path | None) -> str:
    return UNTRAINED if weights is None else weights.name


def choose_vdp(args: argparse.Namespace) -> Protocol | None:
    """A named protocol, changed by the single flags."""
    if args.vdp == "none":
        return None
    flags = {"color_encoding": args.vdp_encoding, "viewing": args.vdp_ppd, "peak": args.vdp_peak}
    changes: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    if args.vdp_rgbe:
        changes["rgbe"] = True
    if changes:
        changes["name"] = f"{args.vdp}, changed"
    return dataclasses.replace(PROTOCOLS[args.vdp], **changes)


def run_scenes(evaluation: Evaluation, scenes: Sequence[Scene], weights: str, quiet: bool) -> list[Outcome]:
    """Run the scenes with a progress bar and a line for each."""
    if not quiet:
        print(f"AFUNet with {weights} on {device_name(evaluation.device)}: {len(scenes)} scene(s)")
    outcomes = []
    for outcome in tqdm(evaluation.run(scenes), total=len(scenes), unit="scene", disable=quiet or None):
        figures = f"{outcome.scene}  {format_row(outcome.metrics)}"
        tqdm.write(f"FAILED  {outcome.failure}" if outcome.failure else figures)
        outcomes.append(outcome)
    return outcomes


def save_scene(folder: Path, kind: str, weights: str, made: Reconstruction, metrics: dict[str, float]) -> None:
    """Write the HDR image, as .hdr, .exr or both, and the picture to look at."""
    name, hdr = made.scene.name, made.prediction.permute(1, 2, 0).float().cpu().numpy()
    if kind in ("hdr", "both"):
        write_hdr(folder / f"{name}.hdr", hdr)
    if kind in ("exr", "both"):
        write_exr(folder / f"{name}.exr", hdr)
    picture = folder / f"{name}.png"
    write_scene_picture(
        picture, made.frames, made.ev, hdr, made.label, heading=f"Scene {name}", weights=weights, metrics=metrics
    )


def no_save(made: Reconstruction, metrics: dict[str, float]) -> None:
    """--no-save_results"""


def by_scene(scenes: Sequence[Scene], outcomes: list[Outcome]) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Metrics and failures by scene name, in the order of ``scenes`` whichever process ran them."""
    found = {outcome.scene: outcome for outcome in outcomes}
    ordered = [found[scene.name] for scene in scenes]
    return {o.scene: o.metrics for o in ordered if not o.failure}, {o.scene: o.failure for o in ordered if o.failure}


def protocol(weights: Path | None, evaluation: Evaluation, outcomes: list[Outcome]) -> dict[str, Any]:
    """How the figures were made, for metrics.json."""
    return {
        "checkpoint": None if weights is None else {"path": str(weights), "sha256": sha256(weights)},
        "padding": {"mode": "reflect, bottom and right", "multiple": evaluation.patch_size},
        "inference": sorted({outcome.path for outcome in outcomes if outcome.path}),
        "hdr_vdp_2": evaluation.vdp.describe() if evaluation.vdp else None,
        "hdr_vdp_2_pixels_per_degree": sorted({outcome.ppd for outcome in outcomes if outcome.ppd}),
        "device": device_name(evaluation.device),
        "versions": versions(),
        "git_revision": git_revision(),
    }


def notes(weights: Path | None, vdp: Protocol | None, outcomes: list[Outcome]) -> list[str]:
    """Lines under the table."""
    lines = [str(vdp) if vdp else "HDR-VDP-2 was left out (--vdp none)."]
    ppd = min((outcome.ppd for outcome in outcomes if outcome.ppd), default=COMMON_PPD)
    if ppd < COMMON_PPD:
        lines.append(
            f"HDR-VDP-2 was computed at {ppd:.1f} pixels per degree, because these images are small: it is high "
            "whatever they show, and says nothing beside published figures (24 to 27 pixels per degree)."
        )
    lines += [f"Inference: {WAYS[path]}." for path in sorted({outcome.path for outcome in outcomes if outcome.path})]
    if weights == SHIPPED:
        lines.append(f"The shipped weights were trained on made scenes only ({SHIPPED_FACTS}): not the paper's result.")
    if weights is None:
        lines.append("The weights are UNTRAINED (no --pretrained_model): these figures say nothing about AFUNet.")
    return lines


if __name__ == "__main__":
    run(main)

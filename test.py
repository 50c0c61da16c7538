"""Test AFUNet: a checkpoint and a data set of bracketed scenes in, the paper's table and HDR images out.

python test.py --dataset kalantari --dataset_dir data --pretrained_model pretrain_model/Kalantari.pth
python test.py --dataset kalantari --dataset_dir data --predictions SCTNet=out/sctnet SAFNet=out/safnet

The second compares images that other methods wrote, by the same metrics, and runs no network. Without options the
shipped weights run on the sample scenes. The defaults are the paper's protocol. Under torchrun the scenes are shared
out between the processes.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tqdm import tqdm

import utils.interrupts  # noqa: F401  (first, so that Ctrl-C is one line)
from datasets.options import add_dataset_options, choose_dataset
from datasets.scenes import Layout, Scene, check_scenes, find_scenes
from utils.choices import Way
from utils.cli import INTERRUPTED, existing_file, pick_device, positive, positive_number, run, threads, whole
from utils.evaluation.options import add_metric_options, choose_scoring
from utils.evaluation.predictions import Predictions, find_predictions, named_folder
from utils.files import InputError, user_path, writable_folder
from utils.progress import paced
from utils.shipped import SHIPPED
from utils.threads import set_threads

if TYPE_CHECKING:
    import torch

    from models import AFUNet
    from utils.evaluation.evaluator import Evaluation, Outcome
    from utils.evaluation.methods import Method
    from utils.evaluation.report import View

UNTRAINED = "UNTRAINED weights"


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    dataset, layout, root = choose_dataset(args)
    if args.check:
        return check(dataset, layout, root, args.limit)
    scenes = find_scenes(layout, root, "test")
    if args.pretrained_model:
        existing_file(args.pretrained_model, "--pretrained_model", "give a checkpoint, official or ours")
    if args.scale_to_label and not args.predictions:
        raise InputError("--scale_to_label: it is for images of other methods; name them with --predictions")
    predictions = find_predictions(args.predictions, [scene.name for scene in scenes])
    facts = {"dataset": {"name": dataset, "dir": str(root), "split": "test", "layout": dataclasses.asdict(layout)}}
    return evaluate(args, dataset, scenes[: args.limit], predictions, facts)


def evaluate(
    args: argparse.Namespace,
    dataset: str,
    scenes: Sequence[Scene],
    predictions: Sequence[Predictions],
    facts: dict[str, Any],
) -> int:
    """Run the scenes, shared out between the processes, and write what they gave; 1 where one failed."""
    from utils.distributed import gather_what_is_left, own_gpu, processes
    from utils.evaluation import records
    from utils.evaluation.console import Interrupts, run_scenes
    from utils.evaluation.evaluator import Evaluation
    from utils.evaluation.report import Views, room_for

    device, scoring = own_gpu(pick_device(args.device)), choose_scoring(args, maps=args.vdp_map)
    set_threads(args.threads, device)
    with Interrupts() as interrupts, processes(device) as (rank, world):
        methods = choose_methods(args, predictions, device)
        default = Path("results") / (f"{dataset}_compared" if predictions else dataset)
        save_dir = writable_folder(args.save_dir or default, "--save_dir")
        save = records.Saver(save_dir, args.format, scoring) if args.save_results else records.save_nothing
        views = Views(save_dir, room_for(args.report_size, len(scenes)), args.format if args.save_results else "")
        saves = records.together(save, views.add) if args.report else save
        evaluation = Evaluation(methods, device, scoring, saves, with_frames=args.report)
        outcomes = gather_what_is_left(run_scenes(evaluation, scenes[rank::world], rank > 0, interrupts))
        shown = gather_what_is_left(views.made) if args.report else None
        return write_down(evaluation, dataset, scenes, outcomes, facts, save_dir, shown) if rank == 0 else 0


def write_down(
    evaluation: Evaluation,
    dataset: str,
    scenes: Sequence[Scene],
    outcomes: Sequence[Outcome],
    facts: dict[str, Any],
    save_dir: Path,
    shown: list[View] | None,
) -> int:
    """Tables and report of what was done, marked where it is not all; 1 where a scene failed, 130 after a stop."""
    from utils.evaluation import records
    from utils.evaluation.report import write_report
    from utils.evaluation.tables import Results, summary, write_tables

    undone = records.left_undone(scenes, outcomes)
    done = [scene for scene in scenes if scene.name not in undone]
    facts |= records.how_it_was_made(evaluation, outcomes) | ({"not_done": undone} if undone else {})
    rows = records.table_rows(evaluation, scenes, outcomes)
    notes = records.notes(evaluation, done, outcomes)
    if undone:
        notes.insert(0, f"INCOMPLETE: the run ended early; {len(undone)} of {len(scenes)} scenes were not done.")
    results = Results(dataset, rows, facts, notes)
    write_tables(save_dir, results)
    report = [] if shown is None else [write_report(save_dir, results, shown).name]
    written = ", ".join(["metrics.json", "metrics.csv", "metrics.md", *report])
    print(f"\n{summary(results)}\n\nWritten to {save_dir}: {written}")
    return INTERRUPTED if undone else 1 if results.failures else 0


def choose_methods(args: argparse.Namespace, predictions: Sequence[Predictions], device: torch.device) -> list[Method]:
    """The methods whose images are files; then the network, where one is named or there is nothing else."""
    from utils.evaluation.methods import Files, Network

    methods: list[Method] = [Files(one, device, args.scale_to_label) for one in predictions]
    if predictions and args.pretrained_model is None:
        return methods
    weights = args.pretrained_model or (SHIPPED if SHIPPED.exists() else None)
    model = load_network(weights).to(device)
    model.use_kernels(args.kernels)
    title = UNTRAINED if weights is None else weights.name
    return [*methods, Network(model, device, title, weights, args.patch_size, args.inference, tqdm.write)]


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
    scenes: dict[Scene, None] = {}  # each once, where both splits are one folder
    missing = []
    for split in ("train", "test"):
        try:
            scenes |= dict.fromkeys(find_scenes(layout, root, split)[:limit])
        except InputError as error:
            missing.append(str(error))
    if not scenes:
        raise InputError(missing[-1])
    problems = check_scenes(paced(scenes, "scene", "reading"))
    for line in [*(f"note: {line}" for line in missing), *problems]:
        print(f"- {line}")
    print(f"{dataset}: {len(scenes)} scene(s) read, {len(problems)} problem(s)")
    return 1 if problems else 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Test AFUNet on a data set; without options on the sample scenes.")
    add = parser.add_argument
    add_dataset_options(parser)
    add("--pretrained_model", type=user_path, help="checkpoint, official or ours (default: the shipped weights)")
    add(
        "--patch_size", type=whole(1, 4096), default=128, help="images are padded to a multiple of it; 1 for no padding"
    )
    add("--inference", choices=get_args(Way), default="auto", help="strips: bounded memory")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--threads", type=threads, help="threads on a CPU (default: as many as the cores given, if that is fastest)")
    add("--kernels", action=argparse.BooleanOptionalAction, default=True, help="fused kernels on GPUs that take them")
    add("--limit", type=positive, help="only the first N scenes")
    add("--check", action="store_true", help="read every scene, list all that is wrong, and stop")
    add("--save_dir", type=user_path, help="default: results/<dataset>")
    add("--save_results", action=argparse.BooleanOptionalAction, default=True, help="write images and pictures")
    add("--format", choices=["hdr", "exr", "both"], default="hdr", help="of the written HDR images")
    add("--report", action="store_true", help="write report.html, to look at the results with; needs no network")
    add("--report_size", type=positive_number, default=24.0, help="its size in megabytes at most (default: 24)")
    add_metric_options(parser, ["paper"])
    files = parser.add_argument_group("results of other methods")
    files.add_argument(
        "--predictions",
        type=named_folder,
        nargs="+",
        default=[],
        metavar="NAME=FOLDER",
        help="HDR images (.hdr, .exr, .npy, TIFF), matched with the scenes by name; the network runs only if named too",
    )
    files.add_argument("--scale_to_label", action="store_true", help="fit one factor per image to its label")
    files.add_argument("--vdp_map", action="store_true", help="show where HDR-VDP-2 sees a difference, too")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)

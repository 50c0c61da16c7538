"""Classical baselines, and a network if one is given, on a folder of scenes: ``python -m benchmarks.baselines [DIR]``.

Prints the table that says what a network has to beat, one row a method, averaged over the scenes. Of several folders
(``scenes/val scenes/val_jpeg92 ...``) it prints both PSNRs, a column a folder. HDR-VDP-2 is called
as by SCTNet, at the 23.8 pixels per degree of a 1500x1000 image: following the size of small scenes it would be high
whatever they show.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from datasets.scenes import LAYOUTS, Scene, find_scenes
from utils.baselines import BASELINES, Baseline, registered
from utils.checkpoint import load_model
from utils.cli import pick_device, positive, run
from utils.evaluation.metrics import METRICS
from utils.evaluation.tables import DECIMALS, VDP, markdown_table
from utils.exposure import network_input
from utils.files import user_path
from utils.hdrvdp2 import PROTOCOLS
from utils.inference import predict

FIGURES = {**METRICS, VDP: PROTOCOLS["sctnet"].score}
PSNRS = ("PSNR-mu", "PSNR-l")


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.baselines", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "scenes", type=user_path, nargs="*", metavar="DIR", help="folders of scene folders; default: the samples"
    )
    parser.add_argument("--layout", choices=[*LAYOUTS], default="samples", help="how files in a scene folder are named")
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="of each folder only every Nth scene")
    parser.add_argument("--checkpoint", type=user_path, nargs="+", default=[], help="networks to add to the table")
    parser.add_argument(
        "--registered",
        action="store_true",
        help="a second row for each network: its frames registered, as by predict.py",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda, for the networks")
    return parser


def network(path: Path, device: torch.device) -> Baseline:
    """The network of a checkpoint, in the form of a baseline."""
    model = load_model(path, device)

    def reconstruct(frames: np.ndarray, ev: np.ndarray) -> np.ndarray:
        y, _ = predict(model, network_input(frames, ev)[None].to(device))
        return y[0].permute(1, 2, 0).cpu().numpy()

    return reconstruct


def score(method: Baseline, scenes: list[Scene], name: str, figures: Iterable[str] = DECIMALS) -> list[float]:
    """Some metrics, averaged over the scenes; all by default, in the order of the paper's tables."""
    rows = []
    for scene in tqdm(scenes, desc=name, unit="scene", leave=False):
        frames, ev, label = scene.read()
        pair = [torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1) for x in (method(frames, ev), label)]
        rows.append([FIGURES[key](*pair) for key in figures])
    return np.mean(rows, axis=0).tolist()


def side_by_side(methods: Mapping[str, Baseline], sets: Mapping[str, list[Scene]]) -> str:
    """A Markdown table of PSNR-mu / PSNR-l: a row a method, a column a set."""
    lines = [f"| {' / '.join(PSNRS)} | {' | '.join(sets)} |", "|---" * (len(sets) + 1) + "|"]
    for name, method in methods.items():
        pairs = [score(method, scenes, f"{name}, {folder}", PSNRS) for folder, scenes in sets.items()]
        cells = [
            " / ".join(f"{value:.{DECIMALS[key]}f}" for key, value in zip(PSNRS, pair, strict=True)) for pair in pairs
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Score every baseline and every network, then print the table."""
    options = make_parser().parse_args()
    device = pick_device(options.device)
    networks = {path.stem: network(path, device) for path in options.checkpoint}
    after = {f"{name}, registered": registered(method) for name, method in networks.items()}
    methods = BASELINES | networks | (after if options.registered else {})
    here = replace(LAYOUTS[options.layout], folder="", test_path="")
    sets = [find_scenes(here, folder, "test")[:: options.every] for folder in options.scenes or [None]]
    folders = [scenes[0].ldr_paths[0].parent.parent for scenes in sets]
    if len(sets) == 1:
        print(markdown_table("method", {name: score(method, sets[0], name) for name, method in methods.items()}))
    else:
        print(side_by_side(methods, {folder.name: scenes for folder, scenes in zip(folders, sets, strict=True)}))
    print(f"\n{', '.join(f'{len(scenes)} scenes of {folder}' for folder, scenes in zip(folders, sets, strict=True))}")


if __name__ == "__main__":
    run(main)

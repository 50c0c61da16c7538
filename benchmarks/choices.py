"""What the choices that predict.py makes for the network bring: ``python -m benchmarks.choices``.

First which three of a bracket's frames it is given: sample scenes in five frames of 1 EV, with a sensor's noise and a
disc that goes by (``benchmarks.extra_frames``), as every triple with the darkest frame, without which range is lost.
Then what steps of 1 to 6 EV do to the midtones of still scenes: the median of result over truth there, and PSNR-mu.
With folders of scenes (``scenes/val scenes/val_jpeg92``) instead what filling the rims of clipped areas does
(``utils/photographs/lossy.py``): both PSNRs of each folder, without and with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from benchmarks.baselines import network, side_by_side
from benchmarks.extra_frames import ISO, SEED, STEP, light_of, with_disc
from datasets.scenes import LAYOUTS, find_scenes
from datasets.synthesis.camera import shoot
from models import AFUNet
from utils.baselines import Baseline
from utils.checkpoint import load_model
from utils.cli import run
from utils.evaluation.metrics import METRICS
from utils.files import user_path
from utils.inference import reconstruct
from utils.photographs.bracket import choose_three, clipped_share
from utils.photographs.lossy import fill_nearly_clipped
from utils.shipped import SHIPPED

EVS = (0.0, 1.0, 2.0, 3.0, 4.0)
TRIPLES = [(0, *pair) for pair in combinations(range(1, len(EVS)), 2)]
STEPS = range(1, 7)  # EV
WELL = 0.1, 0.9  # of the reference's range: neither dark nor clipped


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choices", description=__doc__.split("\n\n")[0])
    parser.add_argument("scenes", type=user_path, nargs="*", metavar="DIR", help="folders of scenes to try filling on")
    parser.add_argument("--pretrained_model", type=user_path, default=SHIPPED)
    args = parser.parse_args(argv)
    if args.scenes:
        print(filling(network(args.pretrained_model, torch.device("cpu")), args.scenes))
        return
    model = load_model(args.pretrained_model)
    names = [scene.name for scene in find_scenes(LAYOUTS["samples"], None, "test")]
    by_scene = {name: dict(triples(model, light_of(name))) for name in names}
    print(heading("frames | steps", names))
    for three in TRIPLES:
        figures = [f"{psnr:.2f}{' (chosen)' * chosen}" for psnr, chosen in (by_scene[name][three] for name in names)]
        i, j, k = three
        print(f"| {i}, {j}, {k} | {EVS[j] - EVS[i]:g}, {EVS[k] - EVS[j]:g} | {' | '.join(figures)} |")

    print(f"\n{heading('steps', names)}")
    for step in STEPS:
        figures = [f"{ratio:.2f}, {psnr:.2f} dB" for ratio, psnr in (midtones(model, light_of(n), step) for n in names)]
        print(f"| {step:g}, {step:g} | {' | '.join(figures)} |")


def heading(first: str, names: Sequence[str]) -> str:
    columns = f"| {first} | {' | '.join(names)} |"
    return f"{columns}\n{'|---' * (columns.count('|') - 1)}|"


def midtones(model: AFUNet, light: np.ndarray, step: float) -> tuple[float, float]:
    """Of a still scene in three frames: result over truth where the reference shows it well (median), and PSNR-mu."""
    rng, light = np.random.default_rng(SEED), light / light.max()
    evs = (0.0, step, 2 * step)
    frames = [shoot(rng, light, ev, ISO) for ev in evs]
    found = reconstruct(model, np.stack(frames), np.array(evs, np.float32))
    shown = light.max(axis=2) * 2.0**step
    well = (shown > WELL[0]) & (shown < WELL[1])
    return float(np.median(found[well] / np.maximum(light[well], 1e-6))), psnr_mu(found, light)


def psnr_mu(found: np.ndarray, truth: np.ndarray) -> float:
    """Of images (H, W, 3)."""
    return METRICS["PSNR-mu"](*(torch.from_numpy(np.float32(x)).permute(2, 0, 1) for x in (found, truth)))


def triples(model: AFUNet, light: np.ndarray) -> Iterator[tuple[tuple[int, ...], tuple[float, bool]]]:
    """Of every triple of a scene's frames: PSNR-mu of its result, and whether it is the one that predict.py takes."""
    rng = np.random.default_rng(SEED)
    views = [with_disc(light, (ev - EVS[2]) * STEP, True)[0] for ev in EVS]
    frames = [shoot(rng, view, ev, ISO) for view, ev in zip(views, EVS, strict=True)]
    chosen = choose_three(EVS, [clipped_share(frame) for frame in frames])
    for three in TRIPLES:
        found = reconstruct(model, np.stack([frames[i] for i in three]), np.array([EVS[i] for i in three], np.float32))
        truth = np.minimum(views[three[1]], 1.0)
        yield three, (psnr_mu(found, truth), three == chosen)


def filling(method: Baseline, folders: Sequence[Path]) -> str:
    """The table of a network without and with the reference's rims filled."""

    def filled(frames: np.ndarray, ev: np.ndarray) -> np.ndarray:
        dark, reference, bright = frames
        return method(np.stack([dark, fill_nearly_clipped(reference), bright]), ev)

    here = replace(LAYOUTS["samples"], folder="", test_path="")
    sets = {folder.name: find_scenes(here, folder, "test") for folder in folders}
    return side_by_side({"as they are": method, "rims filled": filled}, sets)


if __name__ == "__main__":
    run(main)

"""Draw a training run: ``python -m benchmarks.learning_curve runs/kalantari --out curve.png``.

Several folders are the parts of one training, in their order: each went on from the one before (--init or --resume).
Left the loss term l1_mu, averaged over the steps between two records and over an epoch; right, for runs that validated,
PSNR-mu on the validation scenes, beside the baselines given by ``--baseline NAME VALUE``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import utils.interrupts  # noqa: F401  (first, so that Ctrl-C is one line)
from utils.cli import run, within
from utils.files import InputError, atomic_path, read_text, reason, user_path

SCORE = "PSNR-mu"
LARGEST_FIGURE = 1e15  # of a log; beyond, it is damaged
Points = list[tuple[float, float]]


@dataclass
class Curves:
    """Points (crops seen, value), and at how many crops each part of the training ended."""

    steps: Points = field(default_factory=list)
    epochs: Points = field(default_factory=list)
    scores: Points = field(default_factory=list)
    ends: list[float] = field(default_factory=list)


def read_curves(folders: list[Path]) -> Curves:
    """The curves of the runs in ``folders``, one after the other. Raises InputError."""
    curves, before = Curves(), 0.0
    for folder in folders:
        records = read_log(folder / "log.jsonl")
        batch, begun = start_of(records, folder)
        for record in records:
            if record["kind"] not in ("train", "epoch"):
                continue
            crops = before + batch * (record["step"] - begun)
            points = curves.steps if record["kind"] == "train" else curves.epochs
            points.append((crops, record["l1_mu"]))
            if SCORE in record:
                curves.scores.append((crops, record[SCORE]))
        if not curves.epochs or curves.epochs[-1][0] <= before:
            raise InputError(f"{folder}/log.jsonl: holds no finished epoch; train on")
        before = curves.epochs[-1][0]
        curves.ends.append(before)
    return curves


def read_log(path: Path) -> list[dict]:
    """The records of a log; a last line that a kill has cut short is left out. Raises InputError."""
    lines = read_text(path, "give the --logdir of a training", "the log of a training").splitlines(keepends=True)
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(checked_record(json.loads(line)))
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not line.endswith("\n"):
                continue
            raise InputError(f"{path}: not the log of a training (line {number}: {reason(error)[:100]})") from None
    return records


def checked_record(record: Any) -> dict:
    """A line of a log, where it is one. Raises ValueError."""
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        raise ValueError("no record of a kind")
    if record["kind"] in ("train", "epoch"):
        figures = [record.get(name) for name in ("step", "l1_mu")] + [record.get(SCORE, 0.0)]
        if not all(isinstance(figure, int | float) and abs(figure) < LARGEST_FIGURE for figure in figures):
            raise ValueError("figures are missing, or no numbers")
    return record


def start_of(records: list[dict], folder: Path) -> tuple[int, int]:
    """Crops of a step, and the steps that were done elsewhere before."""
    starts = [record for record in records if record["kind"] == "start"]
    if not starts:
        raise InputError(f"{folder}/log.jsonl: does not say how the run was started")
    try:
        recipe = starts[-1]["recipe"]
        batch = int(recipe["batch_size"] * recipe["processes"] * recipe["accumulate"])
        begun = int(starts[0].get("step", 0))
        if max(abs(batch), abs(begun)) < LARGEST_FIGURE:
            return batch, begun
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{folder}/log.jsonl: does not say with which batches the run was made")


def draw(curves: Curves, baselines: dict[str, float]) -> Figure:
    drawn = 2 if curves.scores or baselines else 1
    figure = Figure(figsize=(5.5 * drawn, 4), layout="constrained")
    loss, *others = figure.subplots(1, drawn, squeeze=False)[0]
    loss.plot(*zip(*curves.steps, strict=True), color="#b9c4d0", linewidth=0.8, label="between two records")
    loss.plot(*zip(*curves.epochs, strict=True), color="#1f5fa8", linewidth=1.8, label="epoch")
    loss.set_yscale("log")
    loss.set_ylabel("l1_mu, training crops")
    for score in others:
        draw_scores(score, curves.scores, baselines)
    for axes in (loss, *others):
        finish(axes, curves.ends)
    return figure


def draw_scores(axes: Axes, scores: Points, baselines: dict[str, float]) -> None:
    if scores:
        axes.plot(*zip(*scores, strict=True), color="#1f5fa8", marker="o", markersize=3.5, label="AFUNet")
        crops, best = scores[-1]
        axes.annotate(f"{best:.2f} dB", (crops, best), (-4, 7), textcoords="offset points", ha="right")
    for style, (name, value) in zip(("--", ":", "-.", (0, (1, 3))), baselines.items(), strict=False):
        axes.axhline(value, color="#a3473c", linestyle=style, linewidth=1.2, label=f"{name}, {value:.2f} dB")
    axes.set_ylabel(f"{SCORE} (dB), validation scenes")


def finish(axes: Axes, ends: list[float]) -> None:
    """What both halves have: thin lines where a part of the training ended, a grid, the unit below, a legend."""
    for end in ends[:-1]:
        axes.axvline(end, color="#6a7078", linewidth=0.8)
    axes.set_xlabel("training crops seen")
    axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
    axes.locator_params(axis="x", nbins=5)  # more numbers of six digits would run into each other
    axes.grid(alpha=0.3)
    axes.margins(y=0.12)
    axes.set_xlim(left=0)
    axes.legend(framealpha=1, edgecolor="none")


decibels = within(-1000.0, 1000.0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning_curve", description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", type=user_path, nargs="+", help="folders with log.jsonl, in order")
    parser.add_argument("--out", type=user_path, required=True, help="the picture to write (.png)")
    parser.add_argument("--baseline", nargs=2, action="append", default=[], metavar=("NAME", "DB"))
    args = parser.parse_args(argv)
    try:
        baselines = {name: decibels(value) for name, value in args.baseline}
    except argparse.ArgumentTypeError as error:
        parser.error(f"--baseline takes a name and a number: {error}")
    figure = draw(read_curves(args.runs), baselines)
    with atomic_path(args.out) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    print(args.out)
    return 0


if __name__ == "__main__":
    run(main)

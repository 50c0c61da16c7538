"""A run of the evaluation as a terminal shows it: a progress bar, and a line for each scene and method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tqdm import tqdm

from utils.evaluation.evaluator import Evaluation, Outcome
from utils.evaluation.methods import Scene
from utils.evaluation.records import files_of, remark_line
from utils.evaluation.tables import format_row
from utils.provenance import device_name


def run_scenes(evaluation: Evaluation, scenes: Sequence[Scene], quiet: bool) -> list[Outcome]:
    """Every scene's outcomes; nothing is shown where ``quiet``."""
    if not quiet:
        print("\n".join(greeting(evaluation, len(scenes))))
    outcomes: list[Outcome] = []
    for made in tqdm(evaluation.run(scenes), total=len(scenes), unit="scene", disable=quiet or None):
        for line in lines(made):
            tqdm.write(line)
        outcomes += made
    return outcomes


def greeting(evaluation: Evaluation, scenes: int) -> Iterator[str]:
    """What is about to be done, and how files were matched."""
    for one in files_of(evaluation):
        yield from one.predictions.lines()
    names = "; ".join(method.name.replace("AFUNet, ", "AFUNet with ") for method in evaluation.methods)
    yield f"{names} on {device_name(evaluation.device)}: {scenes} scene(s)"


def lines(made: Sequence[Outcome]) -> list[str]:
    """The figures, failures and remarks of one scene; a failure that all methods share is told once."""
    told = [f"{_place(one, len(made))}  {format_row(one.metrics)}" for one in made if not one.failure]
    failed = dict.fromkeys(f"FAILED  {one.failure}" for one in made if one.failure)
    return [*told, *failed, *(f"NOTE  {line}" for one in made if (line := remark_line(one)))]


def _place(outcome: Outcome, methods: int) -> str:
    return outcome.scene if methods == 1 else f"{outcome.scene}  {outcome.method}"

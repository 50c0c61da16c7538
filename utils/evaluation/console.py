"""A run of the evaluation as a terminal shows it: a progress bar, and a line for each scene and method."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType

from tqdm import tqdm

from utils.evaluation.evaluator import Evaluation, Outcome
from utils.evaluation.methods import Scene
from utils.evaluation.records import files_of, remark_line
from utils.evaluation.tables import format_row
from utils.progress import paced
from utils.provenance import device_name


class Interrupts:
    """Within the block a signal to stop ends :func:`run_scenes` early, and nothing else: what was done is written."""

    SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # by name: not all systems have all

    def __init__(self) -> None:
        self.armed = self.made = False

    def __enter__(self) -> Interrupts:
        numbers = [getattr(signal, name) for name in self.SIGNALS if hasattr(signal, name)]
        heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        self.before = {number: signal.signal(number, self._heard) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.made = True
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt


def run_scenes(
    evaluation: Evaluation, scenes: Sequence[Scene], quiet: bool, interrupts: Interrupts | None = None
) -> list[Outcome]:
    """Every scene's outcomes, fewer after an interrupt; nothing is shown where ``quiet``."""
    interrupts = interrupts or Interrupts()
    outcomes: list[Outcome] = []
    try:
        interrupts.armed = not interrupts.made
        if not quiet:
            print("\n".join(greeting(evaluation, len(scenes))))
        work = [] if interrupts.made else evaluation.run(scenes)
        for made in paced(work, "scene", total=len(scenes), quiet=quiet):
            outcomes += made
            for line in lines(made):
                tqdm.write(line)
    except (KeyboardInterrupt, BrokenPipeError):
        interrupts.made = True
    interrupts.armed = False
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

"""From scenes to figures: read, reconstruct, score, save, with the three stages of consecutive scenes side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from utils.evaluation.methods import Method, Reading, Reconstruction, Scene
from utils.evaluation.scoring import Figures, Scoring
from utils.files import InputError

FINISHERS = 3  # scenes that are scored and saved beside the network, on a GPU

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass
class Outcome:
    """The figures of one scene by one method, or the one-line reason why there are none.

    Attributes:
        scene, method: their names.
        metrics: by name; {} where the scene failed.
        ran, source: as in :class:`utils.evaluation.methods.Reconstruction`.
        ppd: pixels per degree of HDR-VDP-2 for this scene; None without it.
        failure: the reason; "" for success.
    """

    scene: str
    method: str
    metrics: dict[str, float] = field(default_factory=dict)
    ran: str = ""
    source: dict[str, Any] = field(default_factory=dict)
    ppd: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Scored:
    """A reconstruction with its figures."""

    method: Method
    made: Reconstruction
    figures: Figures


Made = list[tuple[Method, Reconstruction | Outcome]]


@dataclass(frozen=True)
class Evaluation:
    """What happens to a scene.

    Attributes:
        methods: what has an HDR image of it, each a row of the table.
        device: where figures are computed.
        scoring: which ones.
        save: called with all that was made of a scene.
        with_frames: read the frames even where no method needs them, because ``save`` does.
    """

    methods: Sequence[Method]
    device: torch.device
    scoring: Scoring = field(default_factory=Scoring)
    save: Callable[[Sequence[Scored]], None] = lambda scored: None
    with_frames: bool = False

    def run(self, scenes: Sequence[Scene]) -> Iterator[list[Outcome]]:
        """Per scene, in order, the outcome of every method. What fails does not stop the rest.

        The next scene is read in a thread beside the network. On a GPU scoring and saving go on beside it too; on the
        CPU they would only take its cores.
        """
        made = map(self._reconstruct, scenes, ahead(self._read, scenes))
        for finishing in ahead(self._finish, made, count=FINISHERS if self.device.type == "cuda" else 0):
            yield finishing.result()

    def _read(self, scene: Scene) -> Reading:
        if not (self.with_frames or any(method.needs_frames for method in self.methods)):
            return Reading(scene.read_label())
        bracket = scene.read()
        return Reading(bracket.label, bracket.frames, bracket.ev)

    def _reconstruct(self, scene: Scene, reading: Future[Reading]) -> Made:
        return [(method, self._reconstruct_by(method, scene, reading)) for method in self.methods]

    def _reconstruct_by(self, method: Method, scene: Scene, reading: Future[Reading]) -> Reconstruction | Outcome:
        by = ""
        try:
            found = reading.result()
            by = self._by(method)
            return method.reconstruct(scene, found)
        except Exception as error:
            return Outcome(scene.name, method.name, failure=_reason(scene.name, by, error))

    def _finish(self, made: Made) -> list[Outcome]:
        scored = [self._score(method, one) for method, one in made]
        try:
            self.save([one for one in scored if isinstance(one, Scored)])
        except Exception as error:
            return [one if isinstance(one, Outcome) else _failed(one, "", error) for one in scored]
        return [one if isinstance(one, Outcome) else self._outcome(one) for one in scored]

    def _score(self, method: Method, made: Reconstruction | Outcome) -> Scored | Outcome:
        if isinstance(made, Outcome):
            return made
        try:
            return Scored(method, made, self.scoring.score(made.prediction, self._label(made)))
        except Exception as error:
            return Outcome(made.scene.name, method.name, failure=_reason(made.scene.name, self._by(method), error))

    def _label(self, made: Reconstruction) -> Tensor:
        return torch.from_numpy(made.reading.label).permute(2, 0, 1).to(made.prediction.device)

    def _outcome(self, scored: Scored) -> Outcome:
        made, (h, w) = scored.made, scored.made.reading.label.shape[:2]
        return Outcome(
            made.scene.name,
            scored.method.name,
            scored.figures.metrics,
            made.ran,
            made.source,
            self.scoring.ppd(width=w, height=h),
        )

    def _by(self, method: Method) -> str:
        """The method's name where a reason has to tell it from others."""
        return "" if len(self.methods) == 1 and method.needs_frames else method.name


def ahead(function: Callable[[Item], Value], items: Iterable[Item], count: int = 1) -> Iterator[Future[Value]]:
    """The results of ``function`` as futures, in order, made by threads that run ``count`` items ahead of the asker."""
    with ThreadPoolExecutor(max(count, 1)) as pool:
        waiting: deque[Future[Value]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > count:
                yield waiting.popleft()
        yield from waiting


def _failed(scored: Scored, by: str, error: Exception) -> Outcome:
    name = scored.made.scene.name
    return Outcome(name, scored.method.name, failure=_reason(name, by, error))


def _reason(scene: str, by: str, error: Exception) -> str:
    message = str(error).strip().split("\n")[0]
    if not isinstance(error, InputError):
        message = f"{type(error).__name__}: {message}"
    place = f"scene {scene}, {by}:" if by else f"scene {scene}:"
    return message if message.startswith(f"scene {scene}:") else f"{place} {message}"

"""From scenes to figures: read, reconstruct, score, save, with the three stages of consecutive scenes side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from models import AFUNet
from utils import hdrvdp2
from utils.evaluation.metrics import METRICS
from utils.evaluation.tables import VDP
from utils.exposure import network_input
from utils.files import InputError
from utils.inference import Way, predict

FINISHERS = 3  # scenes that are scored and saved beside the network, on a GPU

Reading = tuple[np.ndarray, np.ndarray, np.ndarray]  # frames, ev, label
Item = TypeVar("Item")
Value = TypeVar("Value")


class Scene(Protocol):
    """What is evaluated: frames (3, H, W, 3) uint16, ev (3,), label (H, W, 3) linear, read when they are needed."""

    @property
    def name(self) -> str: ...

    def read(self) -> Reading: ...


@dataclass(frozen=True)
class Reconstruction:
    """One scene with what the network made of it.

    Attributes:
        scene: its files.
        frames, ev, label: as its ``read`` gives them.
        prediction: (3, H, W) linear HDR, on the network's device.
        ran: how the network ran, see :func:`utils.inference.predict`.
    """

    scene: Scene
    frames: np.ndarray
    ev: np.ndarray
    label: np.ndarray
    prediction: Tensor
    ran: str


@dataclass
class Outcome:
    """The figures of one scene, or the one-line reason why there are none.

    Attributes:
        scene: its name.
        metrics: by name; {} where the scene failed.
        ran: how the network ran.
        ppd: pixels per degree that HDR-VDP-2 was computed with; None without it.
        failure: the reason; "" for success.
    """

    scene: str
    metrics: dict[str, float] = field(default_factory=dict)
    ran: str = ""
    ppd: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What happens to a scene.

    Attributes:
        model, device: the network and where it is.
        patch_size, way: see :func:`utils.inference.predict`.
        vdp: how HDR-VDP-2 is called; None leaves it out.
        save: called with every reconstruction and its metrics.
        say: gets a line where memory makes another way necessary.
    """

    model: AFUNet
    device: torch.device
    patch_size: int = 128
    way: Way = "auto"
    vdp: hdrvdp2.Protocol | None = None
    save: Callable[[Reconstruction, dict[str, float]], None] = lambda reconstruction, metrics: None
    say: Callable[[str], None] = print

    def run(self, scenes: Sequence[Scene]) -> Iterator[Outcome]:
        """The outcome of every scene, in order. A scene that fails does not stop the rest.

        The next scene is read in a thread beside the network. On a GPU scoring and saving go on beside it too; on the
        CPU they would only take its cores.
        """
        made = map(self._reconstruct, scenes, ahead(lambda scene: scene.read(), scenes))
        for finishing in ahead(self._finish, made, count=FINISHERS if self.device.type == "cuda" else 0):
            yield finishing.result()

    def score(self, reconstruction: Reconstruction) -> dict[str, float]:
        """All metrics of the whole image, on the unrounded prediction."""
        prediction = reconstruction.prediction
        label = torch.from_numpy(reconstruction.label).permute(2, 0, 1).to(prediction.device)
        figures = {name: metric(prediction, label) for name, metric in METRICS.items()}
        if self.vdp is not None:
            figures[VDP] = self.vdp.score(prediction, label)
        return figures

    def _reconstruct(self, scene: Scene, reading: Future[Reading]) -> Reconstruction | Outcome:
        try:
            frames, ev, label = reading.result()
            x = network_input(torch.from_numpy(frames).to(self.device), ev)[None]
            prediction, ran = predict(self.model, x, self.patch_size, self.way, say=self.say)
            return Reconstruction(scene, frames, ev, label, prediction[0], ran)
        except Exception as error:
            return Outcome(scene.name, failure=_reason(scene, error))

    def _finish(self, made: Reconstruction | Outcome) -> Outcome:
        if isinstance(made, Outcome):
            return made
        try:
            metrics = self.score(made)
            self.save(made, metrics)
            h, w = made.label.shape[:2]
            ppd = self.vdp.pixels_per_degree(width=w, height=h) if self.vdp else None
            return Outcome(made.scene.name, metrics, made.ran, ppd)
        except Exception as error:
            return Outcome(made.scene.name, failure=_reason(made.scene, error))


def ahead(function: Callable[[Item], Value], items: Iterable[Item], count: int = 1) -> Iterator[Future[Value]]:
    """The results of ``function`` as futures, in order, made by threads that run ``count`` items ahead of the asker."""
    with ThreadPoolExecutor(max(count, 1)) as pool:
        waiting: deque[Future[Value]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > count:
                yield waiting.popleft()
        yield from waiting


def _reason(scene: Scene, error: Exception) -> str:
    message = str(error).strip().split("\n")[0]
    if not isinstance(error, InputError):
        message = f"{type(error).__name__}: {message}"
    return message if message.startswith(f"scene {scene.name}:") else f"scene {scene.name}: {message}"

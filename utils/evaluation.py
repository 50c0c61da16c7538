"""From scenes to figures: read, reconstruct, score, save, with the three stages of consecutive scenes side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from datasets.scenes import Scene
from models import AFUNet
from utils.exposure import network_input
from utils.hdrvdp2 import Protocol
from utils.inference import Path, predict
from utils.io import InputError, ldr_to_float
from utils.metrics import METRICS
from utils.report import VDP

FINISHERS = 3  # scenes that are scored and saved beside the network, on a GPU

Reading = tuple[np.ndarray, np.ndarray, np.ndarray]
Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Reconstruction:
    """One scene with what the network made of it.

    Attributes:
        scene: its files.
        frames, ev, label: as :meth:`Scene.read` gives them.
        prediction: (3, H, W) linear HDR, on the network's device.
        path: how the network ran, "whole" or "strips".
    """

    scene: Scene
    frames: np.ndarray
    ev: np.ndarray
    label: np.ndarray
    prediction: Tensor
    path: str


@dataclass
class Outcome:
    """The figures of one scene, or the one-line reason why there are none.

    Attributes:
        scene: its name.
        metrics: by name; {} where the scene failed.
        path: how the network ran.
        ppd: pixels per degree that HDR-VDP-2 was computed with; None without it.
        failure: the reason; "" for success.
    """

    scene: str
    metrics: dict[str, float] = field(default_factory=dict)
    path: str = ""
    ppd: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What happens to a scene.

    Attributes:
        model, device: the network and where it is.
        patch_size, path: see :func:`utils.inference.predict`.
        vdp: how HDR-VDP-2 is called; None leaves it out.
        save: called with every reconstruction and its metrics.
    """

    model: AFUNet
    device: torch.device
    patch_size: int = 128
    path: Path = "auto"
    vdp: Protocol | None = None
    save: Callable[[Reconstruction, dict[str, float]], None] = lambda reconstruction, metrics: None

    def run(self, scenes: Sequence[Scene]) -> Iterator[Outcome]:
        """The outcome of every scene, in order. A scene that fails does not stop the rest.

        The next scene is read in a thread beside the network. On a GPU scoring and saving go on beside it too; on the
        CPU they would only take its cores.
        """
        made = map(self._reconstruct, scenes, ahead(Scene.read, scenes))
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
            ldr = torch.from_numpy(ldr_to_float(frames)).to(self.device).permute(0, 3, 1, 2)
            x = network_input(ldr, torch.from_numpy(ev).to(self.device))
            prediction, path = predict(self.model, x[None], self.patch_size, self.path)
            return Reconstruction(scene, frames, ev, label, prediction[0], path)
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
            return Outcome(made.scene.name, metrics, made.path, ppd)
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


def gather(outcomes: list[Outcome], world: int) -> list[Outcome]:
    """The outcomes of all processes."""
    if world == 1:
        return outcomes
    shares: list[list[Outcome]] = [[]] * world
    dist.all_gather_object(shares, outcomes)
    return [outcome for share in shares for outcome in share]


def _reason(scene: Scene, error: Exception) -> str:
    message = str(error).strip().split("\n")[0]
    if not isinstance(error, InputError):
        message = f"{type(error).__name__}: {message}"
    return message if message.startswith(f"scene {scene.name}:") else f"scene {scene.name}: {message}"

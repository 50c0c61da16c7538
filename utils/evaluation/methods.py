"""Where a reconstruction comes from: the network, or a file that another method wrote. What follows is the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from models import AFUNet
from utils.evaluation.predictions import Predictions
from utils.evaluation.scale import fit_scale, remark
from utils.exposure import network_input
from utils.inference import Way, predict
from utils.provenance import sha256

FIT = "one factor per image, by least squares on linear values against the label"


class Bracket(Protocol):
    """Frames (3, H, W, 3) uint16, ev (3,), label (H, W, 3) linear."""

    @property
    def frames(self) -> np.ndarray: ...
    @property
    def ev(self) -> np.ndarray: ...
    @property
    def label(self) -> np.ndarray: ...


class Scene(Protocol):
    """What is evaluated; its files are read when they are needed."""

    @property
    def name(self) -> str: ...

    def read(self) -> Bracket: ...

    def read_label(self) -> np.ndarray: ...


class Reading(NamedTuple):
    """What was read of a scene: its label, and its frames with their ev where a method needs them."""

    label: np.ndarray
    frames: np.ndarray | None = None
    ev: np.ndarray | None = None


@dataclass(frozen=True)
class Reconstruction:
    """One scene with what one method made of it.

    Attributes:
        scene: its files.
        reading: what was read of them.
        prediction: (3, H, W) linear HDR, on the device that scores it.
        ran: how the network ran, see :func:`utils.inference.predict`; "" for a file.
        source: for metrics.json, the file, its SHA-256, the factor it was multiplied by, and a remark on what would
            bring it near its label; {} for the network.
    """

    scene: Scene
    reading: Reading
    prediction: Tensor
    ran: str = ""
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def hdr(self) -> np.ndarray:
        """(H, W, 3) float32 on the CPU."""
        return self.prediction.permute(1, 2, 0).float().cpu().numpy()


class Method(Protocol):
    """Anything that has an HDR image for a scene. ``name`` is its row in the table."""

    @property
    def name(self) -> str: ...

    @property
    def needs_frames(self) -> bool: ...

    def reconstruct(self, scene: Scene, reading: Reading) -> Reconstruction: ...

    def describe(self, sources: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """What metrics.json says of it, given ``source`` of every reconstruction by scene name."""


@dataclass(frozen=True)
class Network:
    """The network with its weights.

    Attributes:
        model, device: the network and where it is.
        title: of the weights, for people.
        weights: their file; None for an untrained network.
        patch_size, way: see :func:`utils.inference.predict`.
        say: gets a line where memory makes another way necessary.
    """

    model: AFUNet
    device: torch.device
    title: str
    weights: Path | None = None
    patch_size: int = 128
    way: Way = "auto"
    say: Callable[[str], None] = print
    needs_frames: bool = True

    @property
    def name(self) -> str:
        return f"AFUNet, {self.title}"

    def reconstruct(self, scene: Scene, reading: Reading) -> Reconstruction:
        assert reading.frames is not None and reading.ev is not None
        x = network_input(torch.from_numpy(reading.frames).to(self.device), reading.ev)[None]
        prediction, ran = predict(self.model, x, self.patch_size, self.way, say=self.say)
        return Reconstruction(scene, reading, prediction[0], ran)

    def describe(self, sources: dict[str, dict[str, Any]]) -> dict[str, Any]:
        file = None if self.weights is None else {"path": str(self.weights), "sha256": sha256(self.weights)}
        return {"checkpoint": file, "padding": {"mode": "reflect, bottom and right", "multiple": self.patch_size}}


@dataclass(frozen=True)
class Files:
    """A method of which only the images are known.

    Attributes:
        predictions: its images by scene.
        device: where they are scored.
        scale_to_label: multiply each image by the factor that brings it nearest to its label.
    """

    predictions: Predictions
    device: torch.device
    scale_to_label: bool = False
    needs_frames: bool = False

    @property
    def name(self) -> str:
        return self.predictions.name

    def reconstruct(self, scene: Scene, reading: Reading) -> Reconstruction:
        path, image = self.predictions.file_of(scene.name), self.predictions.read(scene.name, reading.label)
        source: dict[str, Any] = {"file": str(path), "sha256": sha256(path)}
        if self.scale_to_label:
            source["factor"] = fit_scale(image, reading.label)
            image = image * np.float32(source["factor"])
        elif words := remark(image, reading.label):
            source["remark"] = words
        prediction = torch.from_numpy(image).permute(2, 0, 1).contiguous().to(self.device)
        return Reconstruction(scene, reading, prediction, source=source)

    def describe(self, sources: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {
            "found_in": self.predictions.place,
            "matched": self.predictions.matched,
            "scaled_to_label": FIT if self.scale_to_label else None,
            "files": sources,
        }


def network_of(methods: Sequence[Method]) -> Network | None:
    """The network among the methods, if it is one of them."""
    return next((method for method in methods if isinstance(method, Network)), None)

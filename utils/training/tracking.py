"""What a run leaves on disk: checkpoints under ckpt/, log.jsonl, TensorBoard curves."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from utils.checkpoint import read_checkpoint, save_checkpoint
from utils.exposure import tonemap
from utils.files import InputError, remove_leftovers

PICTURE_SIDE = 640  # pixels of the longer side in TensorBoard


class RunLog:
    """Writes a run down: a line per record in ``log.jsonl``, and curves and pictures for TensorBoard.

    Without a folder it is mute, as all processes but the first have to be.
    """

    def __init__(self, folder: Path | None, *, tensorboard: bool = True) -> None:
        self.file = _open_log(folder / "log.jsonl") if folder else None
        self.writer: Any = None
        if folder and tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            self.writer = SummaryWriter(str(folder))

    def say(self, text: str) -> None:
        """A line for people, in the log as well."""
        if self.file:
            tqdm.write(text)
            sys.stdout.flush()  # a log file shows it at once
            self._line("note", {"text": text})

    def facts(self, values: Mapping[str, Any]) -> None:
        """How the run was started."""
        self._line("start", values)

    def record(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Figures of a step; ``kind`` groups the curves."""
        self._line(kind, {"step": step, **values})
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(f"{kind}/{name}", value, step)
            self.writer.flush()

    def picture(self, name: str, step: int, hdr: Tensor) -> None:
        """A linear (3, H, W) image, shown tone-mapped and no larger than 640 pixels."""
        if self.writer:
            scale = min(1.0, PICTURE_SIDE / max(hdr.shape[-2:]))
            size = [max(1, round(scale * side)) for side in hdr.shape[-2:]]
            small = F.interpolate(tonemap(hdr.float())[None], size, mode="area")[0]
            self.writer.add_image(name, small.clamp(0, 1).cpu(), step)

    def close(self) -> None:
        for sink in (self.file, self.writer):
            if sink:
                sink.close()

    def _line(self, kind: str, values: Mapping[str, Any]) -> None:
        if self.file:
            self.file.write(json.dumps({"kind": kind, "time": round(time.time(), 3), **values}) + "\n")
            self.file.flush()


def _open_log(path: Path) -> Any:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another --logdir") from None


class Checkpoints:
    """The folder ``<logdir>/ckpt``: ``last.pth``, ``best.pth`` and ``epoch_N.pth``, each whole or absent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, name: str, content: Mapping[str, Any]) -> None:
        save_checkpoint(self.folder / f"{name}.pth", content)

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.pth") if not path.name.startswith("."))

    def newest(self, log: RunLog) -> tuple[Path, dict[str, Any]] | None:
        """``last.pth``, or where that is damaged or gone the one that got farthest; None when there are none at all.

        Says which files are damaged. Raises InputError when all of them are.
        """
        last = self.folder / "last.pth"
        if not self.files():
            return None
        if last.exists() and (content := self._read(last, log)):
            return last, content
        others = [(path, self._read(path, log)) for path in self.files() if path != last]
        good = [(path, content) for path, content in others if content]
        if not good:
            raise InputError(f"{self.folder}: no checkpoint in it can be read; remove the folder to begin anew")
        path, content = max(good, key=lambda found: found[1].get("epoch", 0))
        log.say(f"{last} is damaged or missing: going on from {path.name}, epoch {content.get('epoch', 0)}")
        return path, content

    def clean(self) -> None:
        """Remove what a process left that was killed while writing."""
        remove_leftovers(self.folder, ".pth")

    @staticmethod
    def _read(path: Path, log: RunLog) -> dict[str, Any] | None:
        try:
            return read_checkpoint(path)
        except InputError as error:
            log.say(str(error))
            return None

"""What a run leaves on disk: checkpoints under ckpt/, log.jsonl, TensorBoard curves."""

from __future__ import annotations

import copy
import errno
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from utils.checkpoint import read_checkpoint, save_checkpoint
from utils.cli import leave_stdout
from utils.exposure import tonemap
from utils.files import FULL_DISK, InputError, reason, remove_leftovers, writable_target

LONGEST_LINE = 2**20  # bytes of a record, by far
MOST_EPOCHS = 10**9  # that a checkpoint may have behind it
PICTURE_SIDE = 640  # pixels of the longer side in TensorBoard


class RunLog:
    """Writes a run down: a line per record in ``log.jsonl``, and curves and pictures for TensorBoard.

    Without a folder it is mute, as all processes but the first have to be. What the disk does not take is lost and said
    once: the run is worth more than its log. Where nobody reads on, the terminal closed or the pipe, the log goes on in
    its file and calls ``on_hangup``.
    """

    def __init__(self, folder: Path | None, *, tensorboard: bool = True) -> None:
        self.file = LineFile(folder / "log.jsonl") if folder else None
        self.on_hangup: Callable[[], None] = lambda: None
        self.writer: Any = None
        if folder and tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            _hush_the_writer()
            with self._losing("TensorBoard's curves"):
                self.writer = SummaryWriter(str(folder))

    def say(self, text: str) -> None:
        """A line for people, in the log as well."""
        if self.file:
            self._line("note", {"text": text})
            self._print(text)

    def facts(self, values: Mapping[str, Any]) -> None:
        """How the run was started."""
        self._line("start", values)

    def record(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Figures of a step; ``kind`` groups the curves."""
        self._line(kind, {"step": step, **values})
        if self.writer:
            with self._losing("TensorBoard's curves"):
                for name, value in values.items():
                    self.writer.add_scalar(f"{kind}/{name}", value, step)
                self.writer.flush()

    def picture(self, name: str, step: int, hdr: Tensor) -> None:
        """A linear (3, H, W) image, shown tone-mapped and no larger than 640 pixels."""
        if self.writer:
            scale = min(1.0, PICTURE_SIDE / max(hdr.shape[-2:]))
            size = [max(1, round(scale * side)) for side in hdr.shape[-2:]]
            small = F.interpolate(tonemap(hdr.float())[None], size, mode="area")[0]
            with self._losing("TensorBoard's curves"):
                self.writer.add_image(name, small.clamp(0, 1).cpu(), step)

    def close(self) -> None:
        for sink in (self.file, self.writer):
            if sink:
                with suppress(OSError):
                    sink.close()

    def _line(self, kind: str, values: Mapping[str, Any]) -> None:
        if self.file and not self.file.write({"kind": kind, "time": round(time.time(), 3), **values}):
            self._print(f"warning: {self.file.path}: {self.file.trouble}; the run goes on, its log has gaps")

    def _print(self, text: str) -> None:
        try:
            tqdm.write(text)
            sys.stdout.flush()  # a log file shows it at once
        except OSError as error:
            if error.errno not in FULL_DISK:  # there, what is printed is lost as lines of the log are
                leave_stdout()
                self.on_hangup()

    @contextmanager
    def _losing(self, what: str) -> Iterator[None]:
        """The block may fail for the disk; then there is no more of ``what``."""
        try:
            yield
        except OSError as error:
            self.writer = None  # its thread is dead: to close it would wait for ever
            self._print(f"warning: {what} cannot be written ({reason(error)}); the run goes on without them")


def _hush_the_writer() -> None:
    """TensorBoard's thread passes a full disk on to its caller; it need not print a traceback too."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not (isinstance(args.exc_value, OSError) and "tensorboard" in type(args.thread).__module__):
            before(args)

    threading.excepthook = hook


class LineFile:
    """A file of JSON lines that grows. A line that the disk does not take whole is taken back.

    ``trouble`` says why the last line that failed did; "" before.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, and end a last line that a kill has cut short. Raises InputError."""
        self.path, self.trouble = writable_target(path), ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("a+b", buffering=0)
            self._mend()
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({reason(error)}); choose another --logdir") from None

    def write(self, values: Mapping[str, Any]) -> bool:
        """Add a line; False where this is the first one that the disk does not take."""
        line = json.dumps(values).encode() + b"\n"
        before = self.file.seek(0, os.SEEK_END)
        try:
            if self.file.write(line) == len(line):
                return True
            error: OSError = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as failed:
            error = failed
        with suppress(OSError):
            self.file.truncate(before)
        first, self.trouble = not self.trouble, reason(error)
        return not first

    def close(self) -> None:
        self.file.close()

    def _mend(self) -> None:
        """Cut off what follows the last whole line."""
        end = self.file.seek(0, os.SEEK_END)
        self.file.seek(max(0, end - LONGEST_LINE))
        tail = self.file.read()
        if tail and not tail.endswith(b"\n"):
            self.file.truncate(end - len(tail) + tail.rfind(b"\n") + 1)


class Checkpoints:
    """The folder ``<logdir>/ckpt``: ``last.pth``, ``best.pth`` and ``epoch_N.pth``, each whole or absent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unsaved: dict[str, Mapping[str, Any]] = {}

    def save(self, name: str, content: Mapping[str, Any]) -> None:
        """Write ``<name>.pth``, and what could not be written before.

        Raises InputError where the disk takes no file: a copy is kept in memory then, until the next call.
        """
        self.unsaved[name] = content
        for waiting in list(self.unsaved):
            try:
                save_checkpoint(self.folder / f"{waiting}.pth", self.unsaved[waiting])
            except InputError:
                self.unsaved[name] = copy.deepcopy(dict(content))
                raise
            del self.unsaved[waiting]

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
        path, content = max(good, key=lambda found: _epoch(found[1]))
        log.say(f"{last} is damaged or missing: going on from {path.name}, epoch {_epoch(content)}")
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


def _epoch(content: Mapping[str, Any]) -> int:
    """The epochs that a checkpoint has behind it; 0 where it does not say so in a number."""
    epoch = content.get("epoch", 0)
    return epoch if type(epoch) is int and 0 <= epoch < MOST_EPOCHS else 0

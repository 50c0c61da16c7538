"""Training data: crops cut from scenes, and batches of them on the training device.

Every crop and augmentation is a function of (seed, epoch, index of the sample) alone. So the samples of a run are the
same for any number of workers or processes, and after any interruption.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datasets.cache import Reader
from datasets.scenes import Sample
from utils.exposure import network_input
from utils.files import InputError

STOP_GRACE = 60  # seconds a loader process outlives a stop signal, in which the training process finishes its step

NEARLY_FULL = 248 * 257  # of 65,535: what JPEG makes of clipped values is seldom below it

Batch = tuple[Tensor, Tensor, Tensor]
Key = tuple[int, int]  # epoch, index of the sample in it


class Augmentation(NamedTuple):
    """Quarter turns counter-clockwise, then a flip of the rows (vertical), then one of the columns (horizontal)."""

    turns: int
    vertical: bool
    horizontal: bool

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(..., H, W, C) -> the image turned and flipped; a view."""
        image = np.rot90(image, self.turns, axes=(-3, -2))
        image = np.flip(image, -3) if self.vertical else image
        return np.flip(image, -2) if self.horizontal else image


def paper_augmentation(rng: np.random.Generator) -> Augmentation:
    """Rotation and flips: the eight symmetries of the square, all equally likely."""
    return Augmentation(int(rng.integers(4)), bool(rng.integers(2)), bool(rng.integers(2)))


def released_augmentation(rng: np.random.Generator) -> Augmentation:
    """As released: with probability 1/2 one flip, vertical or horizontal with probability 1/2 each."""
    flips, vertical = bool(rng.integers(2)), bool(rng.integers(2))
    return Augmentation(0, flips and vertical, flips and not vertical)


AUGMENTATIONS = {"paper": paper_augmentation, "released": released_augmentation}


@dataclass(frozen=True)
class TrainingCrops(Dataset[Sample]):
    """``repeat`` random crops of every scene, each asked for by (epoch, index).

    Attributes:
        readers: from :func:`datasets.cache.readers`.
        patch_size: side of the crop, pixels.
        augmentation: one of ``AUGMENTATIONS``' functions.
        repeat: visits of each scene in an epoch.
        seed: of the run.
        draws: windows drawn for each crop, of which the one is taken where the reference clips most pixels. There lies
            most of the error, and on most of a scene there is nothing left to learn. 1: any window.
    """

    readers: Sequence[Reader]
    patch_size: int
    augmentation: Callable[[np.random.Generator], Augmentation]
    repeat: int
    seed: int
    draws: int = 1

    def __len__(self) -> int:
        return len(self.readers) * self.repeat

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index + 1))  # 0 is the order of the epoch
        frames, ev, label = self.readers[index % len(self.readers)]()
        windows = [self._window(label.shape[:2], rng) for _ in range(self.draws)]
        window = windows[0] if self.draws == 1 else max(windows, key=lambda each: clipped(frames[1][each]))
        change = self.augmentation(rng)
        frames, label = frames[:, *window], label[window]
        return Sample(np.ascontiguousarray(change(frames)), np.array(ev), np.ascontiguousarray(change(label)))

    def _window(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[slice, slice]:
        P = self.patch_size
        if min(size) < P:
            raise InputError(f"a training scene is {size[1]}x{size[0]}, smaller than --train_patch_size {P}")
        top, left = (int(rng.integers(length - P + 1)) for length in size)
        return slice(top, top + P), slice(left, left + P)


def clipped(frame: np.ndarray) -> int:
    """Pixels of an (H, W, 3) uint16 frame of which a channel is full, or so near to it that JPEG may have done it."""
    return int((frame.max(axis=-1) >= NEARLY_FULL).sum())


class EpochBatches(Sampler[list[Key]]):
    """The keys of one process's batches, in an order drawn anew for every epoch.

    Each optimiser step takes the next ``samples_per_step`` samples of that order; they are split into batches, process
    by process. What is left at the end of an epoch and fills no step is left out (others in every epoch).

    Attributes:
        samples_per_step: batch_size x world x accumulate.
        samples_per_epoch: a multiple of it.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int, *, accumulate: int = 1, rank: int = 0, world: int = 1
    ) -> None:
        self.length, self.seed, self.rank, self.world = length, seed, rank, world
        self.batch_size = batch_size
        self.samples_per_step = batch_size * world * accumulate
        self.samples_per_epoch = length - length % self.samples_per_step
        self.epoch, self.start = 1, 0
        if not self.samples_per_epoch:
            raise InputError(
                f"an epoch of {length} samples does not fill one step of {self.samples_per_step}; "
                "raise --repeat or lower --batch_size"
            )

    def go_to(self, epoch: int, samples: int) -> None:
        """The next iteration begins behind the first ``samples`` samples of ``epoch``, counted over all processes."""
        self.epoch, self.start = epoch, samples

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.random.default_rng((self.seed, self.epoch, 0)).permutation(self.length).tolist()
        stride = self.batch_size * self.world
        for start in range(self.start, self.start + self._left(), stride):
            first = start + self.rank * self.batch_size
            yield [(self.epoch, index) for index in order[first : first + self.batch_size]]

    def __len__(self) -> int:
        return self._left() // (self.batch_size * self.world)

    def _left(self) -> int:
        """Samples of the whole steps that are left of the epoch, over all processes."""
        return (self.samples_per_epoch - self.start) // self.samples_per_step * self.samples_per_step


class TrainingBatches:
    """What the engine draws from: ``batches(epoch, samples)`` yields (input, label) from that position to the end.

    input: (B, 18, P, P) float32, label: (B, 3, P, P) float32, both on ``device``. Between the processes travel uint16
    frames; linearising and stacking them happens on the device.
    """

    def __init__(self, crops: TrainingCrops, batches: EpochBatches, device: torch.device, workers: int) -> None:
        self.batches, self.device = batches, device
        self.samples_per_step, self.samples_per_epoch = batches.samples_per_step, batches.samples_per_epoch
        self.loader: DataLoader[Sample] = DataLoader(
            crops,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
            prefetch_factor=4 if workers else None,
            worker_init_fn=prepare_worker,
            generator=torch.Generator(),  # of its own, or starting an epoch would draw from torch's global stream
        )

    def __call__(self, epoch: int, samples: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        self.batches.go_to(epoch, samples)
        iterator = iter(self.loader)
        try:
            for batch in iterator:
                yield on_device(batch, self.device)
        except InputError as error:  # from a worker it arrives with that process's traceback
            raise InputError(error.args[0].strip().splitlines()[-1].rpartition("InputError: ")[2]) from None
        finally:  # the workers go now; left to the garbage collector, they could outlive a failed run
            getattr(iterator, "_shutdown_workers", lambda: None)()


def prepare_worker(_: int) -> None:
    """One thread; and a stop signal sent to a whole job leaves the worker until the training process lets it go."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # not on Windows
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(STOP_GRACE))


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one size, stacked: frames (B, 3, P, P, 3) uint16, ev (B, 3) float32, label (B, P, P, 3) float32."""
    frames, ev, label = (torch.from_numpy(np.stack(part)) for part in zip(*samples, strict=True))
    return frames, ev, label


def on_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """Collated samples -> the input (B, 18, H, W) and the label (B, 3, H, W), float32 on ``device``."""
    frames, ev, label = (part.to(device, non_blocking=True) for part in batch)
    return network_input(frames, ev), label.permute(0, 3, 1, 2).contiguous()


def whole_scene(reader: Reader, device: torch.device) -> tuple[Tensor, Tensor]:
    """A scene's whole image: input (1, 18, H, W) and label (3, H, W) on ``device``."""
    frames, ev, label = (np.array(part) for part in reader())
    x, y = on_device(collate([Sample(frames, ev, label)]), device)
    return x, y[0]

"""The training loop. It is handed everything it works with: network, loss, batches, validation scenes, log and folder.

A run is a function of its plan and seed: batches come by (epoch, position), and torch's generator is seeded anew at
every step. So a run that was stopped anywhere and resumed ends at the weights of one that was not.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from types import FrameType, TracebackType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from utils.distributed import rank_and_world, total
from utils.files import InputError, reason
from utils.progress import Pace

PATIENT_MINUTES = 10.0  # that the end of a run waits for room on a full disk
RETRY_SECONDS = 2.0
MOST_STEPS = 2**63  # that a run may have behind it
PATIENCE = 10  # non-finite steps in a row after which a run is given up


class Batches(Protocol):
    """Training data: ``batches(epoch, samples)`` yields (input, label) from behind that many samples to the end."""

    samples_per_step: int
    samples_per_epoch: int

    def __call__(self, epoch: int, samples: int) -> Generator[tuple[Tensor, Tensor], None, None]: ...


class Log(Protocol):
    """Where a run is written down."""

    def say(self, text: str) -> None: ...

    def record(self, kind: str, step: int, values: Mapping[str, float]) -> None: ...

    def picture(self, name: str, step: int, hdr: Tensor) -> None: ...


@dataclass(frozen=True)
class Plan:
    """What a run does; all but the last five fields decide its weights.

    Attributes:
        epochs: length of the cosine schedule.
        lr, lr_min: learning rate of the first epoch, and where the schedule ends.
        seed: of every random draw.
        accumulate: batches per optimiser step.
        clip_grad: largest norm of the gradient; infinity clips nothing.
        amp: bfloat16 autocast.
        stop_after: leave off after this epoch.
        val_interval, save_interval: epochs between validations, and between kept checkpoints.
        save_minutes: between savings of ``last`` inside an epoch.
        log_interval: steps between records.
    """

    epochs: int
    lr: float
    lr_min: float
    seed: int
    accumulate: int = 1
    clip_grad: float = math.inf
    amp: bool = False
    stop_after: int | None = None
    val_interval: int = 1
    save_interval: int = 10
    save_minutes: float = 10.0
    log_interval: int = 50

    def learning_rate(self, epoch: int) -> float:
        """Cosine annealing by epoch 1 ... epochs: lr_min + (lr - lr_min)(1 + cos(pi (epoch - 1) / epochs)) / 2."""
        return self.lr_min + (self.lr - self.lr_min) * (1 + math.cos(math.pi * (epoch - 1) / self.epochs)) / 2

    @property
    def last_epoch(self) -> int:
        return min(self.epochs, self.stop_after or self.epochs)


@dataclass
class Progress:
    """Where a run is.

    Attributes:
        epoch: epochs finished, validation included.
        samples: samples seen of the epoch under way, over all processes.
        steps: optimiser steps, skipped ones included.
        skipped, in_a_row: steps skipped for a loss that is not finite, and how many of them just now.
        best: highest validation score.
        sums: of the loss terms over the epoch under way; "steps" counts them.
    """

    epoch: int = 0
    samples: int = 0
    steps: int = 0
    skipped: int = 0
    in_a_row: int = 0
    best: float = -math.inf
    sums: dict[str, float] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ValueError unless it is a place a run can be at."""
        counts = (self.epoch, self.samples, self.steps, self.skipped, self.in_a_row)
        numbers = (self.best, *dict(self.sums).values())
        sound = all(type(count) is int and 0 <= count < MOST_STEPS for count in counts)
        if not sound or not all(isinstance(number, float) for number in numbers):
            raise ValueError(f"its progress is {self}")


@dataclass(frozen=True)
class Validation:
    """Whole images to judge a network by.

    Attributes:
        scenes: functions that read input (1, 18, H, W) and label (3, H, W), on the network's device.
        infer: (network, input) -> (1, 3, H, W).
        metrics: figures of (prediction, label), both (3, H, W); the first chooses the best checkpoint, high is good.
    """

    scenes: Sequence[Callable[[], tuple[Tensor, Tensor]]]
    infer: Callable[[nn.Module, Tensor], Tensor]
    metrics: Mapping[str, Callable[[Tensor, Tensor], float]]


class StopRequest:
    """Within the block SIGINT, SIGTERM and SIGHUP only set ``made``, so that a step can be finished and saved.

    A signal that is ignored, as nohup does with SIGHUP, stays so.
    """

    SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # by name: not all systems have all

    def __init__(self) -> None:
        self.made = False

    def __enter__(self) -> StopRequest:
        numbers = [getattr(signal, name) for name in self.SIGNALS if hasattr(signal, name)]
        heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._heard) for number in heard}
        return self

    def ask(self) -> None:
        """Ask to stop, as a signal does."""
        self.made = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.ask()


class Meter:
    """Sums of figures over steps, and the time that went into waiting for data."""

    def __init__(self, sums: dict[str, float] | None = None) -> None:
        self.sums = {} if sums is None else sums
        self.began = time.perf_counter()
        self.waited = 0.0
        self.samples = 0

    def add(self, figures: Mapping[str, float], samples: int) -> None:
        self.samples += samples
        for name, value in {**figures, "steps": 1}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        steps = self.sums.get("steps", 0)
        return {name: value / steps for name, value in self.sums.items() if name != "steps"}

    def speed(self) -> dict[str, float]:
        seconds = max(time.perf_counter() - self.began, 1e-9)
        return {"images_per_s": self.samples / seconds, "waiting": self.waited / seconds}


class Trainer:
    """Trains ``model`` by ``plan``.

    ``network`` is the model as it is called in training, compiled or wrapped for several processes; it shares the
    model's parameters. ``save(name, content)`` writes a checkpoint; ``facts`` are kept in each of them. Where an
    ``average`` of the weights is kept, it is what is validated, and what a checkpoint's ``state_dict`` holds.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Callable[[Tensor, Tensor], dict[str, Tensor]],
        optimizer: torch.optim.Optimizer,
        batches: Batches,
        plan: Plan,
        log: Log,
        save: Callable[[str, dict[str, Any]], None],
        *,
        network: nn.Module | None = None,
        average: AveragedModel | None = None,
        validation: Validation | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.criterion, self.optimizer = model, criterion, optimizer
        self.network = model if network is None else network
        self.average = average
        self.batches, self.plan, self.validation = batches, plan, validation
        self.log, self.save, self.facts = log, save, dict(facts or {})
        self.rank, self.world = rank_and_world()
        self.device = next(model.parameters()).device
        self.progress = Progress()
        self.stop = StopRequest()
        self.saved_at = time.monotonic()
        self.unsaved = False  # whether the last saving failed

    def fit(self) -> bool:
        """Train to the plan's last epoch; False when a signal asked to stop before it. Either way all is saved.

        Raises InputError when the loss stays non-finite, or the disk stays full.
        """
        with self.stop:
            while self.progress.epoch < self.plan.last_epoch:
                if not (self._train_epoch() and self._finish_epoch()):
                    self._save("last")
                    break
            self._save_at_last()
        return self.progress.epoch >= self.plan.last_epoch

    @property
    def result(self) -> nn.Module:
        """What the run is for: the average of the weights where one is kept, else the model."""
        return self.model if self.average is None else self.average.module

    def state(self) -> dict[str, Any]:
        """All that :meth:`restore` needs, in types that ``torch.load(weights_only=True)`` reads.

        ``state_dict`` is the result; the weights under training are in ``training`` where they are others. The
        generator's state is kept for completeness: every step seeds it anew, on each device and in each process.
        """
        return {
            **self.facts,
            "epoch": self.progress.epoch,
            "state_dict": self.result.state_dict(),
            **self._training(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"epochs": self.plan.epochs, "lr": self.plan.lr, "lr_min": self.plan.lr_min},
            "progress": asdict(self.progress),
            "random": {"torch": torch.get_rng_state()},
        }

    def restore(self, state: Mapping[str, Any], name: str = "the checkpoint") -> None:
        """Go on from :meth:`state`, which :func:`check_resumable` has accepted; ``name`` is the file of the message.

        Raises InputError where the state is another network's, or none.
        """
        try:
            self._restore(state)
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
            why = f"its training state does not fit this network ({reason(error)[:200]})"
            raise InputError(f"{name}: {why}; start from it with --init") from None

    def _restore(self, state: Mapping[str, Any]) -> None:
        training = state.get("training", {"state_dict": state["state_dict"], "averaged": 0})
        self.model.load_state_dict(training["state_dict"])
        if self.average is not None:
            self.average.module.load_state_dict(state["state_dict"])
            self.average.n_averaged.fill_(training["averaged"])
        saved, ours = state["optimizer"], self.optimizer.param_groups
        groups = [  # this device's way of stepping, not the file's: it decides where the step counts are kept
            {**group, "fused": own.get("fused")} for group, own in zip(saved["param_groups"], ours, strict=True)
        ]
        self.optimizer.load_state_dict({**saved, "param_groups": groups})
        for parameter, values in self.optimizer.state.items():
            if unlike := [key for key, value in values.items() if value.shape not in (parameter.shape, ())]:
                raise ValueError(
                    f"{unlike[0]} has the shape {tuple(values[unlike[0]].shape)}, not {tuple(parameter.shape)}"
                )
        self.progress = Progress(**state["progress"])
        self.progress.check()
        if not isinstance(generator := state["random"]["torch"], Tensor):
            raise TypeError("the state of the generator is no tensor")
        torch.set_rng_state(generator)

    def _training(self) -> dict[str, Any]:
        if self.average is None:
            return {}
        return {"training": {"state_dict": self.model.state_dict(), "averaged": int(self.average.n_averaged)}}

    def _save(self, name: str) -> bool:
        """Save, or say that the disk does not take it: ``save`` then keeps it for the next time."""
        self.saved_at = time.monotonic()
        try:
            if self.rank == 0:
                self.save(name, self.state())
        except InputError as error:
            if not self.unsaved:
                self.log.say(f"warning: {error}; the run goes on, and saves as soon as it can")
            self.unsaved = True
        else:
            self.unsaved = False
        return not self.unsaved

    def _save_is_due(self) -> bool:
        minutes = min(self.plan.save_minutes, 1.0) if self.unsaved else self.plan.save_minutes
        return time.monotonic() - self.saved_at > 60 * minutes

    def _save_at_last(self) -> None:
        """Wait for room where the last saving has failed. Raises InputError where none comes.

        A signal ends the waiting.
        """
        end = time.monotonic() + 60 * PATIENT_MINUTES
        self.stop.made = False
        while self.unsaved and not self._save("last"):
            if time.monotonic() > end or self.stop.made:
                raise InputError("the run could not be saved; what is saved is from before the warning above")
            time.sleep(RETRY_SECONDS)

    def _train_epoch(self) -> bool:
        """The rest of the epoch under way; False when it was left for a stop request."""
        epoch = self.progress.epoch + 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate(epoch)
        self.network.train()
        self.epoch_meter, self.meter = Meter(self.progress.sums), Meter()
        with closing(self.batches(epoch, self.progress.samples)) as stream, self._pace(epoch) as pace:
            while self.progress.samples + self.batches.samples_per_step <= self.batches.samples_per_epoch:
                stopping = self._step(stream)
                figures = ", ".join(f"{name} {value:.4f}" for name, value in self.meter.means().items())
                pace.update(self.batches.samples_per_step, figures)
                if stopping:
                    return False
                if self._save_is_due():
                    self._save("last")
        return True

    def _pace(self, epoch: int) -> Pace:
        whole, done, last = self.batches.samples_per_epoch, self.progress.samples, self.plan.last_epoch
        after = (last - epoch) * whole
        return Pace(whole, "image", f"epoch {epoch}/{last}", done=done, after=after, quiet=self.rank > 0, leave=False)

    def _step(self, stream: Iterator[tuple[Tensor, Tensor]]) -> bool:
        """One optimiser step; True when some process was asked to stop."""
        progress = self.progress
        torch.manual_seed(mix(self.plan.seed, progress.epoch + 1, progress.samples, self.rank))
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._backward(stream)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip_grad)
        names = [*terms, "gradient_norm"]
        figures = torch.stack([*terms.values(), norm, norm.new_tensor(float(self.stop.made))])
        *values, stopping = (total(figures) / self.world).tolist()  # the same everywhere, so all decide alike
        if all(map(math.isfinite, values)):
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
            progress.in_a_row = 0
            self._measure(dict(zip(names, values, strict=True)))
        else:
            self._skip()
        progress.steps += 1
        progress.samples += self.batches.samples_per_step
        if progress.steps % self.plan.log_interval == 0:
            self._record_steps()
        return stopping > 0

    def _backward(self, stream: Iterator[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Accumulate the step's gradients; returns the means of the loss terms."""
        sums: dict[str, Tensor] = {}
        for count, (x, label) in enumerate(islice(self._timed(stream), self.plan.accumulate), start=1):
            with self._without_sync() if count < self.plan.accumulate else nullcontext():
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.amp):
                    terms = self.criterion(self.network(x), label)
                (terms["total"] / self.plan.accumulate).backward()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.detach() / self.plan.accumulate
        return sums

    def _without_sync(self) -> AbstractContextManager[None]:
        """Gradients of all but a step's last batch stay in the process that computed them."""
        return getattr(self.network, "no_sync", nullcontext)()

    def _timed(self, stream: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            began = time.perf_counter()
            batch = next(stream, None)
            waited = time.perf_counter() - began
            self.meter.waited += waited
            self.epoch_meter.waited += waited
            if batch is None:
                return
            yield batch

    def _measure(self, figures: Mapping[str, float]) -> None:
        for meter in (self.meter, self.epoch_meter):
            meter.add(figures, self.batches.samples_per_step)

    def _skip(self) -> None:
        progress = self.progress
        progress.skipped += 1
        progress.in_a_row += 1
        self.log.say(
            f"epoch {progress.epoch + 1}, step {progress.steps + 1}: loss or gradient not finite, step skipped"
        )
        if progress.in_a_row == PATIENCE:
            raise InputError(
                f"the loss was not finite {PATIENCE} times in a row in epoch {progress.epoch + 1}; what is saved is "
                "from before it: lower --lr, set --clip_grad, or look for broken labels, and resume"
            )

    def _record_steps(self) -> None:
        lr = self.optimizer.param_groups[0]["lr"]
        values = {**self.meter.means(), **self.meter.speed(), "lr": lr, "epoch": self.progress.epoch + 1}
        self.log.record("train", self.progress.steps, values)
        self.meter = Meter()

    def _finish_epoch(self) -> bool:
        """Validate, write down and save; False when validation was left for a stop request."""
        progress, epoch = self.progress, self.progress.epoch + 1
        means, speed = self.epoch_meter.means(), self.epoch_meter.speed()
        due = epoch % self.plan.val_interval == 0 or epoch == self.plan.epochs
        figures = self._validate() if due else {}
        if figures is None:
            return False
        self.log.record("epoch", progress.steps, {"epoch": epoch, **means, **speed, **figures})
        parts = (f"{name} {value:.4f}" for name, value in {**means, **figures}.items())
        self.log.say(f"epoch {epoch}/{self.plan.epochs}: {', '.join(parts)}")
        progress.epoch, progress.samples, progress.sums = epoch, 0, {}
        self._keep(figures)
        return True

    def _keep(self, figures: Mapping[str, float]) -> None:
        """Save what is due after an epoch, ``last`` at the end: a run killed before it does the epoch once more."""
        score = next(iter(figures.values()), -math.inf)
        if score > self.progress.best:
            self.progress.best = score
            self._save("best")
        if self.progress.epoch % self.plan.save_interval == 0:
            self._save(f"epoch_{self.progress.epoch}")
        self._save("last")

    def _validate(self) -> dict[str, float] | None:
        """Mean metrics over the validation scenes, shared out between the processes; None when asked to stop."""
        if self.validation is None:
            return {}
        self.result.eval()
        names, scenes = list(self.validation.metrics), self.validation.scenes
        sums = torch.zeros(len(names), dtype=torch.float64, device=self.device)
        for first in range(0, len(scenes), self.world):
            if total(torch.tensor(float(self.stop.made), device=self.device)) > 0:
                return None
            if first + self.rank < len(scenes):
                sums += self._judge(first + self.rank)
        return dict(zip(names, (total(sums) / len(scenes)).tolist(), strict=True))

    def _judge(self, index: int) -> Tensor:
        assert self.validation is not None
        x, label = self.validation.scenes[index]()
        with torch.inference_mode():
            prediction = self.validation.infer(self.result, x)[0]
        if index == 0:
            self.log.picture("validation", self.progress.steps, prediction)
        figures = [metric(prediction, label) for metric in self.validation.metrics.values()]
        return torch.tensor(figures, dtype=torch.float64, device=self.device)


def check_resumable(state: Mapping[str, Any], name: str) -> None:
    """Raise InputError for a checkpoint that holds no training state; ``name`` is the file the message speaks of."""
    if missing := {"state_dict", "optimizer", "progress", "random"} - state.keys():
        raise InputError(f"{name}: holds no {min(missing)}: it can start a run (--init), not resume one")


def mix(*numbers: int) -> int:
    """A seed of 63 bits from any whole numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))

"""The training loop on a toy: exact resumption, accumulation, skipped steps, several processes, best checkpoints."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tests import golden_figures
from utils.distributed import processes
from utils.files import InputError
from utils.training.engine import Plan, Trainer, Validation, check_resumable, mix

GOLDEN = golden_figures.GOLDEN / "metrics"
EPOCH = 24  # samples


class Toy(nn.Module):
    """Draws from torch's generator in training, as stochastic depth does."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.first, self.second, self.dropout = nn.Conv2d(18, 8, 3, padding=1), nn.Conv2d(8, 3, 1), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.second(self.dropout(torch.relu(self.first(x)))))


class ToyBatches:
    """Sample i of an epoch is noise seeded by (epoch, i); ``hook(epoch, samples)`` runs before every batch."""

    def __init__(self, batch: int, accumulate: int = 1, rank: int = 0, world: int = 1) -> None:
        self.batch, self.rank, self.world = batch, rank, world
        self.samples_per_step, self.samples_per_epoch = batch * accumulate * world, EPOCH
        self.hook: Callable[[int, int], None] = lambda epoch, samples: None
        self.poison: Callable[[int, int], float] = lambda epoch, samples: 0.0  # added to the labels

    def __call__(self, epoch: int, samples: int) -> Generator[tuple[Tensor, Tensor], None, None]:
        for start in range(samples, EPOCH, self.batch * self.world):
            self.hook(epoch, start)
            first = start + self.rank * self.batch
            noise = [self.sample(epoch, i) for i in range(first, first + self.batch)]
            x, label = (torch.stack(part) for part in zip(*noise, strict=True))
            yield x, label + self.poison(epoch, start)

    @staticmethod
    def sample(epoch: int, index: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(mix(epoch, index))
        return torch.rand(18, 8, 8, generator=generator), torch.rand(3, 8, 8, generator=generator)


class Notes:
    """A log and a folder of checkpoints, in memory."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.records: list[tuple[str, int, dict[str, float]]] = []
        self.saved: dict[str, dict[str, Any]] = {}
        self.pictures: list[Tensor] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def record(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        self.records.append((kind, step, dict(values)))

    def picture(self, name: str, step: int, hdr: Tensor) -> None:
        self.pictures.append(hdr)

    def save(self, name: str, content: dict[str, Any]) -> None:
        copy: dict[str, Any] = json.loads(json.dumps(content, default=lambda value: None))  # plain values only
        if "training" in content:
            trained = {key: value.clone() for key, value in content["training"]["state_dict"].items()}
            copy["training"] = content["training"] | {"state_dict": trained}
        self.saved[name] = copy | {
            "state_dict": {key: value.clone() for key, value in content["state_dict"].items()},
            "optimizer": {
                "state": {
                    i: {k: v.clone() for k, v in state.items()} for i, state in content["optimizer"]["state"].items()
                },
                "param_groups": content["optimizer"]["param_groups"],
            },
            "random": content["random"],
            "progress": dict(content["progress"]),
        }


def absolute(prediction: Tensor, label: Tensor) -> dict[str, Tensor]:
    return {"total": 30 * (prediction.float() - label).abs().mean()}


def make(
    notes: Notes,
    batches: ToyBatches,
    *,
    dropout: float = 0.5,
    sgd: bool = False,
    wrap: bool = False,
    compiled: bool = False,
    ema: float | None = None,
    **plan: Any,
) -> Trainer:
    torch.manual_seed(0)
    model = Toy(dropout)
    optimizer = torch.optim.SGD(model.parameters(), 0.1) if sgd else torch.optim.Adam(model.parameters())
    network: Any = nn.parallel.DistributedDataParallel(model) if wrap else None
    network = torch.compile(model, backend="eager") if compiled else network
    settings = Plan(**{"epochs": 3, "lr": 1e-2, "lr_min": 1e-4, "seed": 1, "save_interval": 2, **plan})
    validation = plan_validation() if not wrap else None
    return Trainer(
        model,
        absolute,
        optimizer,
        batches,
        settings,
        notes,
        notes.save,
        network=network,
        average=AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema)) if ema else None,
        validation=validation,
    )


def plan_validation() -> Validation:
    def scene(index: int) -> tuple[Tensor, Tensor]:
        x, label = ToyBatches.sample(99, index)
        return x[None], label

    def score(prediction: Tensor, label: Tensor) -> float:
        return -float((prediction - label).abs().mean())

    return Validation([lambda: scene(0), lambda: scene(1)], lambda model, x: model(x), {"score": score})


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@pytest.fixture(scope="module")
def unbroken() -> Tensor:
    trainer = make(Notes(), ToyBatches(4))
    assert trainer.fit()
    return weights(trainer)


def result(trainer: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.result.parameters()])


def test_the_average_follows_the_weights_step_by_step() -> None:
    """After n steps: w_1 decay^(n-1) + (1 - decay) sum of w_k decay^(n-k), since the first step's weights begin it."""
    notes, batches, seen = Notes(), ToyBatches(4), []
    trainer = make(notes, batches, ema=0.8, epochs=1)
    batches.hook = lambda epoch, samples: seen.append(weights(trainer))  # before each step
    trainer.fit()
    seen = [*seen[1:], weights(trainer)]
    expected = seen[0]
    for value in seen[1:]:
        expected = 0.8 * expected + 0.2 * value
    torch.testing.assert_close(result(trainer), expected)
    assert (result(trainer) - weights(trainer)).abs().max() > 1e-4


def test_averaging_leaves_the_training_alone_and_is_what_counts(unbroken: Tensor) -> None:
    notes = Notes()
    trainer = make(notes, ToyBatches(4), ema=0.9)
    trainer.fit()
    assert torch.equal(weights(trainer), unbroken)
    saved = notes.saved["last"]
    assert torch.equal(saved["state_dict"]["first.weight"], trainer.result.state_dict()["first.weight"])
    assert torch.equal(saved["training"]["state_dict"]["first.weight"], trainer.model.state_dict()["first.weight"])
    trainer.result.eval()
    x = ToyBatches.sample(99, 0)[0]
    torch.testing.assert_close(notes.pictures[-1], trainer.result(x[None])[0])


@pytest.mark.parametrize("stop_at", [1, 4, 6, 11])
def test_an_average_is_resumed_to_the_bit(stop_at: int) -> None:
    whole = make(Notes(), ToyBatches(4), ema=0.9)
    whole.fit()
    notes, batches = Notes(), ToyBatches(4)
    first = make(notes, batches, ema=0.9)
    batches.hook = lambda epoch, samples: (
        os.kill(os.getpid(), signal.SIGTERM) if (epoch - 1) * 6 + samples // 4 == stop_at else None
    )
    assert not first.fit()
    again = make(notes, ToyBatches(4), ema=0.9)
    again.restore(notes.saved["last"])
    assert again.fit()
    assert torch.equal(weights(again), weights(whole)) and torch.equal(result(again), result(whole))


def test_a_run_may_begin_or_end_to_average_when_it_is_resumed() -> None:
    notes = Notes()
    make(notes, ToyBatches(4), stop_after=1).fit()
    averaging = make(notes, ToyBatches(4), ema=0.9, stop_after=2)
    averaging.restore(notes.saved["last"])
    averaging.fit()
    plain = make(Notes(), ToyBatches(4))
    plain.restore(notes.saved["last"])
    assert torch.equal(weights(plain), weights(averaging))


def test_learning_rates() -> None:
    plan = Plan(epochs=400, lr=5e-4, lr_min=5e-6, seed=443)
    for epoch, lr in json.loads((GOLDEN / "lr.json").read_text()).items():
        assert plan.learning_rate(int(epoch)) == pytest.approx(lr, rel=1e-9)


def test_the_optimiser_gets_the_epochs_rate() -> None:
    notes = Notes()
    trainer = make(notes, ToyBatches(4), log_interval=1)
    trainer.fit()
    rates = {values["epoch"]: values["lr"] for kind, _, values in notes.records if kind == "train"}
    assert rates == {epoch: trainer.plan.learning_rate(int(epoch)) for epoch in (1, 2, 3)}


@pytest.fixture
def heeded() -> Iterator[None]:
    """SIGINT as in the foreground: a shell leaves it ignored in what it starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("epoch", "samples"), [(1, 0), (1, 20), (2, 8), (3, 20)])
def test_a_signal_finishes_the_step_and_saves(
    number: int, epoch: int, samples: int, unbroken: Tensor, heeded: None
) -> None:
    notes, batches = Notes(), ToyBatches(4)
    batches.hook = lambda e, s: os.kill(os.getpid(), number) if (e, s) == (epoch, samples) else None
    first = make(notes, batches)
    assert not first.fit()
    assert (first.progress.epoch + 1, first.progress.samples) == (epoch, samples + 4)
    second = make(notes, ToyBatches(4))
    torch.rand(epoch * 7)  # the new process's generator is anywhere
    second.restore(notes.saved["last"])
    assert second.fit()
    assert torch.equal(weights(second), unbroken)


def test_stopping_at_every_step_changes_nothing(unbroken: Tensor) -> None:
    notes, batches = Notes(), ToyBatches(4)
    batches.hook = lambda epoch, samples: os.kill(os.getpid(), signal.SIGTERM)
    stops, finished = 0, False
    while not finished:
        trainer = make(notes, batches)
        if "last" in notes.saved:
            trainer.restore(notes.saved["last"])
        finished = trainer.fit()
        stops += not finished
    assert stops == 3 * EPOCH // 4
    assert torch.equal(weights(trainer), unbroken)


def damage(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    notes = Notes()
    make(notes, ToyBatches(4), epochs=1).fit()
    state = copy.deepcopy(notes.saved["last"])
    change(state)
    return state


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["optimizer"]["state"][0].update(exp_avg=torch.zeros(3)),
        lambda s: s["optimizer"]["state"][0].update(exp_avg=3),
        lambda s: s["optimizer"]["state"].update({0: 5}),
        lambda s: s["optimizer"]["param_groups"][0]["params"].pop(),
        lambda s: s["optimizer"].update(param_groups=[]),
        lambda s: s.update(optimizer=7),
        lambda s: s["state_dict"].popitem(),
        lambda s: s["progress"].update(epoch=-1),
        lambda s: s["progress"].update(epoch=2**70),
        lambda s: s["progress"].update(samples="3"),
        lambda s: s["progress"].update(sums=None),
        lambda s: s["progress"].update(pages=1),
        lambda s: s.update(random={}),
        lambda s: s["random"].update(torch=torch.zeros(3, dtype=torch.uint8)),
        lambda s: s["random"].update(torch=None),
    ],
)
def test_a_state_that_does_not_fit_is_one_line(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(InputError, match=r"^last\.pth: its training state does not fit this network \(.*--init$"):
        make(Notes(), ToyBatches(4)).restore(damage(change), "last.pth")


def test_a_signal_during_validation_leaves_it_for_later(unbroken: Tensor) -> None:
    notes = Notes()
    trainer = make(notes, ToyBatches(4))
    assert trainer.validation is not None
    read = trainer.validation.scenes[0]

    def interrupted() -> tuple[Tensor, Tensor]:
        os.kill(os.getpid(), signal.SIGTERM)
        return read()

    trainer.validation = Validation([interrupted, read], trainer.validation.infer, trainer.validation.metrics)
    assert not trainer.fit()
    assert (trainer.progress.epoch, trainer.progress.samples) == (0, EPOCH)
    second = make(notes, ToyBatches(4))
    second.restore(notes.saved["last"])
    assert second.fit() and torch.equal(weights(second), unbroken)
    assert [values["epoch"] for kind, _, values in notes.records if kind == "epoch"] == [1, 2, 3]


def test_stop_after_is_a_stop_and_not_the_end_of_the_schedule(unbroken: Tensor) -> None:
    notes = Notes()
    first = make(notes, ToyBatches(4), stop_after=2)
    assert first.fit() and first.progress.epoch == 2
    second = make(notes, ToyBatches(4))
    second.restore(notes.saved["last"])
    second.fit()
    assert torch.equal(weights(second), unbroken)


def test_epoch_means_survive_a_stop() -> None:
    def means(notes: Notes) -> list[float]:
        return [values["total"] for kind, _, values in notes.records if kind == "epoch"]

    whole, broken, batches = Notes(), Notes(), ToyBatches(4)
    make(whole, ToyBatches(4)).fit()
    batches.hook = lambda e, s: os.kill(os.getpid(), signal.SIGTERM) if (e, s) == (2, 8) else None
    make(broken, batches).fit()
    second = make(broken, ToyBatches(4))
    second.restore(broken.saved["last"])
    second.fit()
    assert means(broken) == means(whole) and len(means(whole)) == 3


def test_last_is_saved_inside_an_epoch_too(unbroken: Tensor) -> None:
    """As after a power cut in the middle of a long epoch."""

    def cut(epoch: int, samples: int) -> None:
        if (epoch, samples) == (2, 12):
            raise MemoryError

    notes, batches = Notes(), ToyBatches(4)
    batches.hook = cut
    with pytest.raises(MemoryError):
        make(notes, batches, save_minutes=1e-9).fit()
    second = make(notes, ToyBatches(4))
    second.restore(notes.saved["last"])
    assert (second.progress.epoch, second.progress.samples) == (1, 12)
    assert second.fit() and torch.equal(weights(second), unbroken)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    make(Notes(), ToyBatches(4), epochs=1).fit()
    assert signal.getsignal(signal.SIGTERM) is before


def test_checkpoints_best_first_last_always(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes()
    trainer = make(notes, ToyBatches(4), epochs=4)
    scores = iter([0.1, 0.4, 0.3, 0.2])
    monkeypatch.setattr(trainer, "_validate", lambda: {"score": next(scores)})
    trainer.fit()
    assert set(notes.saved) == {"best", "last", "epoch_2", "epoch_4"}
    assert notes.saved["best"]["epoch"] == 2 and notes.saved["last"]["epoch"] == 4
    assert notes.saved["last"]["progress"]["best"] == 0.4


def test_validation_averages_over_scenes_in_eval_mode() -> None:
    notes = Notes()
    trainer = make(notes, ToyBatches(4), val_interval=2)
    trainer.fit()
    validation = plan_validation()
    trainer.model.eval()
    with torch.no_grad():
        wanted = sum(-float((trainer.model(x)[0] - y).abs().mean()) for x, y in (s() for s in validation.scenes)) / 2
    scores = [values.get("score") for kind, _, values in notes.records if kind == "epoch"]
    assert scores[0] is None and scores[1] is not None and scores[2] == pytest.approx(wanted)
    assert len(notes.pictures) == 2 and notes.pictures[0].shape == (3, 8, 8)


def test_accumulation_equals_a_larger_batch() -> None:
    large = make(Notes(), ToyBatches(6), dropout=0.0, sgd=True)
    small = make(Notes(), ToyBatches(3, accumulate=2), dropout=0.0, sgd=True, accumulate=2)
    start = weights(large)
    large.fit()
    small.fit()
    torch.testing.assert_close(weights(small), weights(large), rtol=0, atol=1e-6)
    assert float((weights(large) - start).abs().max()) > 1e-3


def test_clipping_bounds_the_step() -> None:
    clipped = make(Notes(), ToyBatches(4), sgd=True, clip_grad=1e-6, epochs=1)
    start = weights(clipped)
    clipped.fit()
    assert 0 < float((weights(clipped) - start).norm()) <= 6 * 1e-2 * 1e-6 * 1.01  # steps x lr x norm


def test_autocast_is_asked_for_by_the_plan() -> None:
    seen = []
    for amp in (False, True):
        trainer = make(Notes(), ToyBatches(4), epochs=1, amp=amp)
        trainer.model.second.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
        trainer.validation = None
        trainer.fit()
        assert math.isfinite(float(weights(trainer).sum()))
    assert seen == [torch.float32] * 6 + [torch.bfloat16] * 6


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_with_a_loss_that_is_not_finite_is_skipped(value: float) -> None:
    notes, batches = Notes(), ToyBatches(4)
    batches.poison = lambda epoch, samples: value if samples == 8 else 0.0
    trainer = make(notes, batches, epochs=1)
    trainer.fit()
    assert trainer.progress.skipped == 1 and trainer.progress.steps == 6
    assert math.isfinite(float(weights(trainer).sum()))
    assert sum("not finite" in line for line in notes.said) == 1
    (mean,) = [values["total"] for kind, _, values in notes.records if kind == "epoch"]
    assert math.isfinite(mean)


def test_a_skipped_step_leaves_weights_and_optimiser_alone() -> None:
    batches = ToyBatches(EPOCH)
    trainer = make(Notes(), batches, epochs=2)
    seen: list[Tensor] = []
    batches.poison = lambda epoch, samples: math.nan if epoch == 2 else 0.0
    batches.hook = lambda epoch, samples: seen.append(weights(trainer))
    trainer.fit()
    assert torch.equal(seen[1], weights(trainer)) and not torch.equal(seen[0], seen[1])
    assert all(int(state["step"]) == 1 for state in trainer.optimizer.state.values())


def test_ten_such_steps_in_a_row_end_the_run() -> None:
    notes, batches = Notes(), ToyBatches(4)
    batches.poison = lambda epoch, samples: math.nan if (epoch, samples) > (1, 4) else 0.0
    trainer = make(notes, batches)
    with pytest.raises(InputError, match=r"10 times in a row in epoch 2.*--lr"):
        trainer.fit()
    assert trainer.progress.skipped == 10
    assert math.isfinite(float(sum(value.sum() for value in notes.saved["last"]["state_dict"].values())))


def test_weights_alone_cannot_be_resumed() -> None:
    check_resumable(make(Notes(), ToyBatches(4)).state(), "last.pth")
    with pytest.raises(InputError, match=r"official\.pth: holds no optimizer.*--init"):
        check_resumable({"state_dict": {}}, "official.pth")


@pytest.mark.filterwarnings("ignore:for .*meta parameter")
def test_a_run_goes_on_where_steps_are_counted_on_the_device() -> None:
    """Begun on a CPU, resumed where Adam is fused: its step counts have to move to the parameters."""
    begun = make(Notes(), ToyBatches(4), epochs=1)
    begun.fit()
    there = make(Notes(), ToyBatches(4), epochs=1)
    there.model.to("meta")
    there.optimizer = torch.optim.Adam(there.model.parameters())
    there.optimizer.param_groups[0]["fused"] = True  # as on a GPU; the constructor refuses meta tensors
    there.restore(begun.state())
    assert there.optimizer.param_groups[0]["fused"] is True
    kept = [value for state in there.optimizer.state.values() for value in state.values()]
    assert kept and all(value.device.type == "meta" for value in kept)


def test_speed_and_waiting_are_measured() -> None:
    notes, batches = Notes(), ToyBatches(4)
    batches.hook = lambda epoch, samples: time.sleep(0.02)
    make(notes, batches, epochs=1, log_interval=3).fit()
    first, second = (values for kind, _, values in notes.records if kind == "train")
    assert 0 < first["images_per_s"] <= 4 / 0.02 and 0 < second["waiting"] < 1
    assert second["waiting"] >= 3 * 0.02 * second["images_per_s"] / 12 * 0.99


def join(rank: int, port: int, folder: str) -> None:
    """One of two processes, as torchrun would start it."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with processes(torch.device("cpu")):
        share(rank, folder)


def share(rank: int, folder: str) -> None:
    """Two ordinary epochs; in the second, rank 1 meets a NaN and is asked to stop later."""
    notes, batches = Notes(), ToyBatches(3, rank=rank, world=2)
    trainer = make(notes, batches, dropout=0.0, sgd=True, wrap=True, epochs=2)
    trainer.fit()
    found = {"weights": weights(trainer), "saved": sorted(notes.saved)}
    batches.poison = lambda epoch, samples: math.nan if rank == 1 and samples == 6 else 0.0
    batches.hook = lambda epoch, samples: os.kill(os.getpid(), signal.SIGTERM) if rank and samples == 12 else None
    broken = make(Notes(), batches, dropout=0.0, sgd=True, wrap=True, epochs=2)
    found |= {"finished": broken.fit(), "samples": broken.progress.samples, "skipped": broken.progress.skipped}
    torch.save(found | {"broken": weights(broken)}, Path(folder) / f"{rank}.pth")


def test_a_compiled_network_trains_the_model() -> None:
    trainers = [make(Notes(), ToyBatches(4), dropout=0.0, sgd=True, compiled=compiled) for compiled in (False, True)]
    for trainer in trainers:
        assert trainer.fit()
    torch.testing.assert_close(weights(trainers[1]), weights(trainers[0]), rtol=0, atol=1e-6)
    assert list(trainers[1].state()["state_dict"]) == list(trainers[0].state()["state_dict"])


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    port = 20000 + os.getpid() % 20000
    torch.multiprocessing.spawn(join, (port, str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pth") for rank in range(2)]
    alone = make(Notes(), ToyBatches(6), dropout=0.0, sgd=True, epochs=2)
    alone.fit()
    for found in ranks:
        torch.testing.assert_close(found["weights"], weights(alone), rtol=0, atol=1e-6)
        assert not found["finished"] and found["samples"] == 18 and found["skipped"] == 1  # agreed on by both
    assert torch.equal(ranks[0]["broken"], ranks[1]["broken"])
    assert ranks[0]["saved"] and not ranks[1]["saved"]  # rank 0 alone writes

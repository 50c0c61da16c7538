"""The examination of a GPU, on a CPU: whole in tiny form, and where steps fail, time is up, or a process dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import __main__ as script
from benchmarks.gpu import weights
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.page import NOT_MEASURED, text, write_page
from benchmarks.gpu.record import UNFINISHED, Broken, Record, TimeIsUp, forget_failures, note_death, read
from benchmarks.gpu.targets import TARGETS
from utils.checkpoint import load_model
from utils.files import InputError
from utils.shipped import SHIPPED

ROOT = Path(__file__).parents[1]
FACTS = {"card": "NVIDIA H100 80GB HBM3", "torch": "2.11.0", "tiny": False}


@pytest.mark.slow
def test_every_part_runs_on_a_cpu_in_tiny_form(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.gpu",
            "--out",
            str(tmp_path),
            "--device",
            "cpu",
            "--tiny",
            "--minutes",
            "60",
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "gpu.md").read_text()
    assert page in done.stdout and page.endswith("Nothing.\n")  # neither failed nor left
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    steps = {part: content["steps"] for part, content in parts.items()}
    assert set(parts) == set(script.PARTS)
    assert steps["kernels"]["tests"]["result"] == {"passed": 2, "skipped": 0, "failed": {}}
    assert steps["kernels"]["block, float32, shifted"]["result"]["errors"]["kernels"] < 2e-5
    assert steps["inference"]["1024x1536, streaming"]["result"]["error"] < 2e-5
    assert steps["training"]["float32"]["result"]["images_per_s"] > 0
    assert steps["accuracy"]["bf16 against float32"]["result"]["steps"] == {"float32": 4, "bf16": 4}
    assert steps["weights"]["training"]["result"]["epochs"] == 1
    before, after = (load_model(path).out.weight for path in (SHIPPED, tmp_path / "afunet_gpu.pth"))
    assert 0 < (before - after).abs().max() < 0.01  # went on from the shipped weights


# A record


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "part.json", FACTS, time.time() + 60)


def again(record: Record, seconds: float = 60, **changes: Any) -> Record:
    """The same file, opened by the next process."""
    return Record(record.path, {**FACTS, **changes}, time.time() + seconds)


def fail() -> dict[str, Any]:
    raise ValueError("no\nsuch luck")


def test_steps_are_kept_and_not_done_twice(record: Record) -> None:
    assert record.step("a", lambda: {"ms": 1.5}) == {"ms": 1.5}
    assert again(record).step("a", fail) == {"ms": 1.5}


def test_a_failed_step_is_written_down_and_tried_again_by_the_next_call(record: Record) -> None:
    assert record.step("a", fail) is None
    assert record.content["steps"]["a"]["error"] == "ValueError: no such luck"
    assert again(record).step("a", lambda: {"ms": 1}) is None  # another process of the same call
    forget_failures(record.path)
    assert again(record).step("a", lambda: {"ms": 1}) == {"ms": 1}


def test_no_step_begins_without_time(record: Record) -> None:
    with pytest.raises(TimeIsUp):
        record.step("a", lambda: {}, needs=100)
    content = read(record.path)
    assert content and content["left"] == "a" and not content["steps"]
    assert "left" not in again(record).content


def test_an_unfinished_step_is_taken_up_again(record: Record) -> None:
    record.step("a", lambda: {UNFINISHED: True, "n": 1})
    assert again(record).step("a", lambda: {UNFINISHED: False, "n": 2}) == {UNFINISHED: False, "n": 2}


def test_a_broken_gpu_ends_the_process_behind_the_failed_step(tmp_path: Path) -> None:
    record = Record(tmp_path / "part.json", FACTS, time.time() + 60, healthy=lambda: False)
    record.step("a", lambda: {"ms": 1})
    with pytest.raises(Broken):
        record.step("b", fail)
    assert again(record).content["steps"].keys() == {"a", "b"}


def test_the_step_that_a_process_died_in_counts_as_failed(record: Record) -> None:
    assert not note_death(record.path, "too early")
    with pytest.raises(KeyboardInterrupt):
        record.step("a", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert note_death(record.path, "the process ended with -9")
    assert again(record).content["steps"] == {"a": {"error": "the process ended with -9"}}


def test_figures_of_two_cards_are_not_mixed(record: Record) -> None:
    record.step("a", lambda: {})
    with pytest.raises(InputError, match=r"part\.json: measured with card NVIDIA H100 .* now it is cpu; give another"):
        again(record, card="cpu")
    for content in ("[]", "{}", '{"facts": {}}', '{"facts": {}, "steps": []}', '{"facts": {}, "steps": {"a": 1}}'):
        record.path.write_text(content)
        with pytest.raises(InputError, match="not a file of this program"):
            again(record)


def test_weights_without_panoramas_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no panoramas to make scenes of; give --hdri"):
        script.main(["--part", "weights", "--out", str(tmp_path / "out")])
    assert not list(tmp_path.iterdir())


# The process that watches


def worker(tmp_path: Path, code: str) -> list[str]:
    """A process in the place of the one that works; it counts its starts in a file."""
    head = f"from pathlib import Path; n = Path({str(tmp_path / 'starts')!r}); n.write_text(n.read_text() + 'x');"
    (tmp_path / "starts").write_text("")
    return [sys.executable, "-c", head + code]


def supervised(monkeypatch: pytest.MonkeyPatch, command: list[str], files: list[Path], seconds: float = 60) -> int:
    original = script.wait_for
    monkeypatch.setattr(script, "wait_for", lambda _, until: original(command, until))
    return script.supervise([], time.time() + seconds, files)


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX's")
def test_a_stop_reaches_the_training_and_leaves_it_time_to_save(tmp_path: Path) -> None:
    """The command is ended by SIGTERM while its worker waits for a training, which saves for half a second."""
    saves = "import signal, sys, time; from pathlib import Path\n"
    saves += f"def save(*_): time.sleep(0.5); Path({str(tmp_path / 'saved')!r}).touch(); sys.exit()\n"
    saves += f"signal.signal(signal.SIGTERM, save); Path({str(tmp_path / 'begun')!r}).touch(); time.sleep(60)"
    works = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {saves!r}])"
    watch = "import signal, sys, time; from benchmarks.gpu.__main__ import stop_by_exit, wait_for\n"
    watch += f"stop_by_exit(); wait_for([sys.executable, '-c', {works!r}], time.time() + 60)"
    command = subprocess.Popen([sys.executable, "-c", watch], cwd=Path(script.__file__).parents[2])
    until = time.monotonic() + 30
    while not (tmp_path / "begun").exists() and time.monotonic() < until:
        time.sleep(0.05)
    command.terminate()
    assert command.wait(30) == 143 and (tmp_path / "saved").exists()


def test_a_process_that_dies_in_a_step_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    record.content["running"] = "a"
    record.save()
    command = worker(tmp_path, "import os; len(n.read_text()) < 2 and os.kill(os.getpid(), 9)")
    assert supervised(monkeypatch, command, [record.path]) == 0
    assert (tmp_path / "starts").read_text() == "xx"
    assert again(record).content["steps"] == {"a": {"error": "the process ended with -9"}}


def test_a_process_that_dies_before_its_first_step_ends_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    with pytest.raises(InputError, match="the work ended with 1 before its first step"):
        supervised(monkeypatch, worker(tmp_path, "1 / 0"), [record.path])


def test_a_step_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record) -> None:
    record.content["running"] = "a"
    record.save()
    monkeypatch.setattr(script, "GRACE", 0.0)
    assert supervised(monkeypatch, worker(tmp_path, "import time; time.sleep(60)"), [record.path], 0.5) == 1
    assert "took longer than the time given" in again(record).content["steps"]["a"]["error"]


def test_bad_input_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--init .*none\.pth.*; give a checkpoint"):
        script.main(["--out", str(tmp_path), "--init", str(tmp_path / "none.pth")])


def test_weights_run_only_where_they_are_named_or_can() -> None:
    assert "weights" not in script.parse(["--out", "x"]).part
    assert "weights" in script.parse(["--out", "x", "--hdri", "y"]).part


# The training


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(torch.device("cpu"), tiny=False, work=tmp_path, out=tmp_path, scenes=100)


def trained(bench: Bench, monkeypatch: pytest.MonkeyPatch, code: str, seconds: float) -> str:
    """What ends a program that stands for train.py."""
    monkeypatch.setattr(weights, "command", lambda _: [sys.executable, "-c", code])
    record = Record(bench.out / "weights.json", FACTS, time.time() + weights.AFTERWARDS + seconds)
    return weights.call_train(bench, record, 1)


def test_the_clock_asks_the_training_to_save_and_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep(60)"
    assert trained(bench, monkeypatch, code, 5) == "the clock"
    assert trained(bench, monkeypatch, "pass", 60) == ""


def test_a_training_that_fails_shows_the_end_of_its_output(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"train\.py ended with 2: out of luck"):
        trained(bench, monkeypatch, "import sys; print('out of luck'); sys.exit(2)", 60)


def test_the_schedule_fits_the_time_left(bench: Bench) -> None:
    (bench.work / "run").mkdir()
    place = {"step": 1, "l1_mu": 0.01}
    speeds = [{"kind": "train", "images_per_s": speed} | place for speed in (9.0, 100.0, 100.0)]  # the first compiles
    epoch = {"kind": "epoch", "epoch": 1, "images_per_s": 80.0} | place  # 800 crops: in 10 s, else in 8 s
    log = bench.work / "run" / "log.jsonl"
    log.write_text("".join(json.dumps(record) + "\n" for record in [*speeds, epoch]) + '{"kind')
    besides = weights.AFTERWARDS + weights.START
    for seconds, epochs in ((105, 10), (3, 1)):
        record = Record(bench.out / "weights.json", FACTS, time.time() + besides + seconds)
        assert weights.epochs_that_fit(bench, record, 100) == epochs
    log.write_text("".join(json.dumps(record) + "\n" for record in [speeds[0], epoch]))  # few scenes: a record of steps
    record = Record(bench.out / "weights.json", FACTS, time.time() + besides + 125)
    assert weights.epochs_that_fit(bench, record, 100) == 10


# The page


RESULTS: dict[str, dict[str, Any]] = {
    "inference": {
        "1024x1536, plain, masks kept": {"seconds": 0.5, "times_faster": 1.0, "memory": 1e9, "error": 1e-6},
        "1024x1536, plain, masks rebuilt": {"seconds": 12.0, "times_faster": 0.1, "memory": 1e9, "error": None},
        "1024x1536, kernels, fp16": {"seconds": 0.05, "times_faster": 10.0, "memory": 1e9, "error": 1e-3},
        "1024x1536, kernels, tf32": {"seconds": 0.07, "times_faster": 7.0, "memory": 1e9, "error": 1e-3},
        "profile, kernels, fp16": {
            "total_ms": 50.0,
            "operations": [],
            "kernels": [{"name": "mlp_kernel", "ms": 30.0, "calls": 20, "share": 0.6}],
        },
        "padding, float16": {"stays channels-last": False, "ms": {"reflection": 1.0}},
    },
    "training": {
        "plain, masks kept": {"images_per_s": 10.0, "waiting": 0.01, "memory_MiB": 1000},
        "bf16, compiled": {"images_per_s": 45.0, "waiting": 0.06, "memory_MiB": 900},
    },
    "accuracy": {
        "shipped weights": {
            "PSNR-mu": {"float32": {"forest": 36.0}, "fp16": {"forest": 36.004}, "bf16": {"forest": 35.0}},
            "largest change": {"float32": 0.0, "fp16": 0.004, "bf16": -1.0},
        }
    },
}


def contents(**changes: Any) -> dict[str, Any]:
    return {
        part: {"facts": {**FACTS, **changes}, "steps": {name: {"result": result} for name, result in steps.items()}}
        for part, steps in RESULTS.items()
    }


def judged(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Figure and verdict of every target, as the page shows them."""
    section = text(found).split("## Targets\n\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines()[2:]]
    return [(row[2], row[4]) for row in rows]


def test_figures_stand_beside_the_targets() -> None:
    assert judged(contents()) == [
        ("50 ms", "falls short"),
        ("70 ms", "reached"),
        ("10 times", "reached"),
        ("240 times", "reached"),
        ("4.5 times", "reached"),
        ("6 %", "falls short"),
        ("0.004 dB", "reached"),
    ]
    assert {verdict for _, verdict in judged(contents(card="cpu"))} == {"not judged: not an H100 at full size"}
    assert judged({}) == [(NOT_MEASURED, NOT_MEASURED)] * len(TARGETS)


def test_what_falls_short_has_its_profile_and_the_fate_of_channels_last() -> None:
    section = text(contents()).split("## What falls short")[1].split("\n## ")[0]
    assert "**fp16 with kernels, 1024x1536: 50 ms, at most 40 ms" in section
    assert "| `mlp_kernel` | 30 | 20 | 60.0% |" in section
    assert "padded by reflection **leaves channels-last** (reflection 1 ms)" in section
    assert "tf32" not in section


def test_failures_stand_on_the_page(tmp_path: Path) -> None:
    record = Record(tmp_path / "kernels.json", FACTS, time.time() + 60)
    record.step("tests", fail)
    with pytest.raises(TimeIsUp):
        record.step("block, fp16", lambda: {}, needs=100)
    page = write_page(tmp_path, script.PARTS).read_text()
    assert "* kernels, tests: ValueError: no such luck\n* kernels, left for another call: block, fp16" in page

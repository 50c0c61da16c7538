"""What happens to a run from outside: a second run, a full disk, a terminal that closes, a kill at any moment."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import train
from tests.kills import kill_again_and_again
from tests.random_scenes import random_scene
from tests.tiny_runs import (
    ENVIRONMENT,
    LONGEST,
    ROOT,
    Apart,
    lines,
    make_data,
    notes,
    start,
    tiny_arguments,
    wait_for_steps,
    weights,
)
from utils import cli, distributed
from utils.checkpoint import read_checkpoint, save_checkpoint
from utils.exr import write_exr
from utils.files import InputError, atomic_path
from utils.images import read_hdr, read_ldr, write_hdr, write_ldr, write_png
from utils.training.engine import StopRequest
from utils.training.lock import own_folder
from utils.training.tracking import LineFile, RunLog

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in the subprocesses: sums come out the same, bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return tiny_arguments(make_data(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def unbroken(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    logdir = tmp_path_factory.mktemp("unbroken")
    assert train.main([*arguments, "--logdir", str(logdir)]) == 0
    return logdir


def test_of_two_runs_begun_at_once_in_one_folder_one_is_refused(
    arguments: list[str], unbroken: Path, tmp_path: Path
) -> None:
    both = [start(arguments, tmp_path / "run") for _ in "12"]
    ended = {process.pid: (process.communicate(timeout=LONGEST)[0], process.returncode) for process in both}
    (refused,) = [pid for pid, (_, code) in ended.items() if code == 2]
    (other,) = ended.keys() - {refused}
    (line,) = ended[refused][0].strip().splitlines()
    assert "holds a run" in line or f"another run is writing there (process {other} on" in line
    assert ended[other][1] == 0 and torch.equal(weights(tmp_path / "run"), weights(unbroken))
    assert notes(tmp_path / "run").count("finished after epoch 2") == 1


def test_a_run_is_not_resumed_beside_itself(arguments: list[str], unbroken: Path, tmp_path: Path) -> None:
    run = Apart([*arguments, "--repeat", "40"], tmp_path)
    wait_for_steps(tmp_path, 2)
    unfinished = tmp_path / "ckpt" / ".last.1.tmp.pth"  # as a save under way leaves it
    unfinished.parent.mkdir(exist_ok=True)
    unfinished.touch()
    with pytest.raises(InputError, match=rf"another run is writing there \(process {run.process.pid} on"):
        train.main([*arguments, "--logdir", str(tmp_path), "--resume", "auto"])
    assert unfinished.exists()
    run.send(signal.SIGKILL)
    run.end()
    again = [*arguments, "--logdir", str(tmp_path), "--resume", "auto"]
    assert train.main(again) == 0  # the lock went with the process
    assert torch.equal(weights(tmp_path), weights(unbroken)) and not unfinished.exists()


def test_a_folder_that_stays_empty_is_taken_away_and_one_that_was_there_is_not(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for name in ("new", "old"):
        with own_folder(tmp_path / name), pytest.raises(InputError, match="another run"), own_folder(tmp_path / name):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_without_write_permission_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"--logdir .*file/run: cannot be written to"),
        own_folder(tmp_path / "file" / "run"),
    ):
        pass


def test_kills_at_random_moments_and_full_disks_lose_nothing(arguments: list[str], tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")  # shown when the test fails
    assert kill_again_and_again(arguments, tmp_path, 6, seed).total() == 6


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    seen = ""
    while text not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    return seen


@pytest.mark.parametrize("tensorboard", [True, False])
def test_a_full_disk_is_said_once_and_costs_no_step(
    tensorboard: bool, arguments: list[str], unbroken: Path, tmp_path: Path
) -> None:
    run = Apart([*arguments, "--save_minutes", "1e-6", *(["--tensorboard"] if tensorboard else [])], tmp_path)
    wait_for_steps(tmp_path, 2)
    run.fill_the_disk()
    run.hear("TensorBoard's curves cannot" if tensorboard else "its log has gaps")
    run.hear("saves as soon as it can")
    run.fill_the_disk(False)
    said = run.end()
    assert run.process.exitcode == 0
    assert said.count("log.jsonl: File too large; the run goes on, its log has gaps") == 1
    assert said.count("TensorBoard's curves cannot be written") == tensorboard
    assert torch.equal(weights(tmp_path), weights(unbroken))
    assert len(lines(tmp_path, "train")) >= 2  # every line is whole
    assert [path.name for path in (tmp_path / "ckpt").iterdir() if path.name.startswith(".")] == []


def test_a_run_that_ends_on_a_full_disk_waits_for_room(arguments: list[str], unbroken: Path, tmp_path: Path) -> None:
    run = Apart(arguments, tmp_path)
    wait_for_steps(tmp_path, 2)
    run.fill_the_disk()
    run.send(signal.SIGTERM)
    run.hear("saves as soon as it can")
    assert not (tmp_path / "ckpt" / "last.pth").exists()
    run.fill_the_disk(False)
    assert "go on with" in run.end() and run.process.exitcode == 0
    assert train.main([*arguments, "--logdir", str(tmp_path), "--resume", "auto"]) == 0
    assert torch.equal(weights(tmp_path), weights(unbroken))


def test_a_full_disk_to_the_end_is_one_line_and_exit_code_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, content: object) -> None:
        raise InputError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr("utils.training.tracking.save_checkpoint", full)
    monkeypatch.setattr("utils.training.engine.time.sleep", lambda seconds: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: train.main([*arguments, "--repeat", "2", "--logdir", str(tmp_path)]))
    said = capsys.readouterr()
    assert end.value.code == 2 and said.out.count("saves as soon as it can") == 1
    assert said.err.splitlines()[-1].startswith("error: the run could not be saved; what is saved is from before")


def test_what_is_printed_onto_a_full_disk_is_lost_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in train.py > log.txt; a pipe that nobody reads asks the run to stop."""
    source, sink = os.pipe()
    os.close(source)
    asked = []
    with suppress(OSError), Path("/dev/full").open("w") as full, suppress(OSError), os.fdopen(sink, "w") as closed:
        for name, stream in (("full", full), ("closed", closed)):
            monkeypatch.setattr(sys, "stdout", stream)
            log = RunLog(tmp_path, tensorboard=False)
            log.on_hangup = lambda name=name: asked.append(name)
            log.say("a")
            log.say("b")
        monkeypatch.undo()
    assert asked == ["closed"] and notes(tmp_path) == "a\nb\na\nb"


def test_output_onto_a_full_disk_is_one_line() -> None:
    command = [sys.executable, "-c", "from utils import cli; cli.run(lambda: print('a'))"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = "error: what is printed cannot be written (No space left on device); make room\n"
    assert (done.returncode, done.stderr) == (2, said)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process may be larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["a.hdr", "a.exr", "a.tif", "a.png"])
def test_images_are_read_while_the_disk_is_full(name: str, tmp_path: Path) -> None:
    """OpenCV decodes some by way of a temporary file; a run would end at its next validation."""
    image = np.full((24, 32, 3), 1000)
    if hdr := name in ("a.hdr", "a.exr"):
        (write_hdr if name == "a.hdr" else write_exr)(tmp_path / name, image.astype(np.float32))
    else:
        write_ldr(tmp_path / name, image.astype(np.uint16))
    with room_for(0):
        read = (read_hdr if hdr else read_ldr)(tmp_path / name)
    assert np.array_equal(read, image)


def write_by_tifffile(path: Path, image: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, image)


WRITERS: dict[str, Callable[[Path, np.ndarray], object]] = {
    "a.hdr": write_hdr,
    "a.exr": write_exr,
    "a.tif": write_ldr,
    "a.png": write_ldr,
    "b.png": write_png,
    "b.tif": write_by_tifffile,
    "a.pth": lambda path, image: save_checkpoint(path, {"a": torch.from_numpy(image)}),
}


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_finds_room_for_a_part_is_none_at_all(name: str, share: float, tmp_path: Path) -> None:
    """Libraries in C lose the last kilobytes without a word."""
    image = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8 if name == "b.png" else np.uint16)
    WRITERS[name](tmp_path / name, image)
    whole = (tmp_path / name).read_bytes()
    with room_for(int(share * len(whole))), pytest.raises(InputError, match=rf"{name}: cannot be .*; make room"):
        WRITERS[name](tmp_path / name, image)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_bytes() == whole


def test_a_torn_last_line_is_cut_off_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for torn in (b'{"kind": "train", "st', b"\0" * 3_000_000, b"x"):
        path.write_bytes(b'{"kind": "note", "text": "a"}\n' + torn)
        log = LineFile(path)
        assert log.write({"kind": "note", "text": "b"})
        log.close()
        text = path.read_bytes()
        assert text.endswith(b'{"kind": "note", "text": "b"}\n') and b"st{" not in text and b"x{" not in text


def test_a_closed_terminal_saves_and_stops(arguments: list[str], tmp_path: Path) -> None:
    run = Apart([*arguments, "--repeat", "40"], tmp_path)
    wait_for_steps(tmp_path, 2)
    run.send(signal.SIGHUP)
    assert "stopped: 0 epoch(s)" in run.end() and run.process.exitcode == 0
    assert read_checkpoint(tmp_path / "ckpt" / "last.pth")["progress"]["samples"] > 0


def test_a_pipe_that_nobody_reads_saves_and_stops(arguments: list[str], tmp_path: Path) -> None:
    """As in train.py | head -1."""
    more = [*arguments, "--epochs", "40", "--repeat", "2", "--val_interval", "40"]
    process = start(more, tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=LONGEST) == 0
    saved = read_checkpoint(tmp_path / "ckpt" / "last.pth")
    assert saved["epoch"] < 40 and saved["progress"]["steps"] > 0
    assert "stopped:" in notes(tmp_path)


def test_nohup_is_obeyed() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.made
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_test_that_is_stopped_writes_the_tables_of_what_was_done(tmp_path: Path) -> None:
    for i in range(40):
        random_scene(tmp_path / "Kal" / "Test" / "Test-set" / f"{i:02}", seed=i, size=(32, 32))
    options = ["--dataset", "kalantari", "--dataset_dir", str(tmp_path), "--save_dir", str(tmp_path / "out")]
    command = [
        sys.executable,
        str(ROOT / "test.py"),
        *options,
        "--vdp",
        "none",
        "--patch_size",
        "1",
        "--no-save_results",
    ]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    read_until(process, "00  PSNR-mu")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 130 and "Traceback" not in output, output
    made = json.loads((tmp_path / "out" / "metrics.json").read_text())
    undone = made["protocol"]["not_done"]
    assert 0 < len(undone) < 40 and "39" in undone and "00" not in undone
    assert (
        f"INCOMPLETE: the run ended early; {len(undone)} of 40 scenes" in (tmp_path / "out" / "metrics.md").read_text()
    )


def test_a_lost_process_leaves_the_others_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(items: list[int]) -> list[int]:
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(distributed, "gather", lost)
    assert distributed.gather_what_is_left([1, 2]) == [1, 2]

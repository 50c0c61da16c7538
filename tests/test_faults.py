"""What happens to a run from outside: a second run, a full disk, a terminal that closes, a kill at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import train
from tests.tiny_runs import make_data, notes, start, tiny_arguments, wait_for_steps, weights
from utils.files import InputError
from utils.training.lock import own_folder

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
    ended = {process.pid: (process.communicate(timeout=60)[0], process.returncode) for process in both}
    (refused,) = [pid for pid, (_, code) in ended.items() if code == 2]
    (other,) = ended.keys() - {refused}
    (line,) = ended[refused][0].strip().splitlines()
    assert "holds a run" in line or f"another run is writing there (process {other} on" in line
    assert ended[other][1] == 0 and torch.equal(weights(tmp_path / "run"), weights(unbroken))
    assert notes(tmp_path / "run").count("finished after epoch 2") == 1


def test_a_run_is_not_resumed_beside_itself(arguments: list[str], unbroken: Path, tmp_path: Path) -> None:
    process = start([*arguments, "--repeat", "40"], tmp_path)
    wait_for_steps(tmp_path, 2)
    unfinished = tmp_path / "ckpt" / ".last.1.tmp.pth"  # as a save under way leaves it
    unfinished.parent.mkdir(exist_ok=True)
    unfinished.touch()
    with pytest.raises(InputError, match=rf"another run is writing there \(process {process.pid} on"):
        train.main([*arguments, "--logdir", str(tmp_path), "--resume", "auto"])
    assert unfinished.exists()
    process.kill()
    process.communicate(timeout=60)
    assert (
        train.main([*arguments, "--logdir", str(tmp_path), "--resume", "auto"]) == 0
    )  # the lock went with the process
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

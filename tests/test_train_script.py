"""train.py from the command line to the checkpoint: stopped, killed, damaged, resumed, on one process and on two."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import train
from datasets import cache, crops
from models import AFUNet, AFUNetConfig
from models.windows import WINDOW
from tests.tiny_runs import ENVIRONMENT, ROOT, lines, make_data, notes, start, tiny_arguments, wait_for_steps, weights
from utils.checkpoint import load_model, read_checkpoint, save_checkpoint, to_official
from utils.files import InputError
from utils.provenance import VERSION
from utils.training.session import set_device_defaults
from utils.training.tracking import Checkpoints, RunLog


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in the subprocesses: sums come out the same, bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def arguments(data: Path) -> list[str]:
    return tiny_arguments(data)


@pytest.fixture(scope="module")
def unbroken(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    logdir = tmp_path_factory.mktemp("unbroken")
    assert train.main([*arguments, "--logdir", str(logdir)]) == 0
    return logdir


def test_what_a_run_leaves(unbroken: Path) -> None:
    assert sorted(path.name for path in (unbroken / "ckpt").iterdir()) == ["best.pth", "last.pth"]
    content = torch.load(unbroken / "ckpt" / "last.pth", weights_only=True)
    assert content["version"] == VERSION
    assert {"state_dict", "config", "epoch", "optimizer", "schedule", "random", "recipe"} <= content.keys()
    assert content["epoch"] == 2 and content["schedule"] == {"epochs": 2, "lr": 5e-4, "lr_min": 5e-6}
    assert content["recipe"]["perceptual"] == "fft" and content["recipe"]["augmentation"] == "released"
    assert load_model(unbroken / "ckpt" / "best.pth").config == AFUNetConfig(stages=1)
    assert [line["step"] for line in lines(unbroken, "train")] == list(range(1, 21))
    first, second = lines(unbroken, "epoch")
    assert "PSNR-mu" not in first and second["PSNR-mu"] == pytest.approx(content["progress"]["best"])
    assert "held-out" in notes(unbroken) and "FFT loss" in notes(unbroken)


def test_every_released_flag_is_there_with_its_default() -> None:
    args = train.parse_args([])
    assert (args.train_patch_size, args.repeat, args.epochs, args.lr, args.seed) == (128, 100, 400, 5e-4, 443)
    assert (args.recipe, args.perceptual, args.batch_size, args.augmentation) == ("paper", "vgg", 6, "paper")
    released = train.parse_args(["--recipe", "released", "--batch_size", "5"])
    assert (released.perceptual, released.batch_size, released.augmentation) == ("fft", 5, "released")
    assert (args.lr_min, args.stages, args.without, args.order, args.validate_on) == (5e-6, 4, [], "af", "train")


def test_the_parser_knows_the_choices_of_modules_that_import_torch() -> None:
    assert sorted(crops.AUGMENTATIONS) == sorted(train.AUGMENTATIONS)
    assert cache.CACHE_CHOICES == train.CACHE_CHOICES
    assert train.SMALLEST["fft"] == WINDOW


def test_the_command_that_goes_on() -> None:
    words = ["--epochs", "3", "--stop_after=1", "--resume", "old file.pth", "--stop_after", "2", "--logdir", "a b"]
    assert train.command(words, 1) == "python train.py --epochs 3 --logdir 'a b' --resume auto"
    assert train.command(["--resume=auto"], 2) == "torchrun --nproc_per_node=2 train.py --resume auto"


@pytest.mark.slow
def test_ten_sigterms_at_random_moments_lose_nothing(arguments: list[str], tmp_path: Path) -> None:
    longer = [*arguments, "--repeat", "20"]  # 40 steps
    train.main([*longer, "--logdir", str(tmp_path / "whole")])
    moments = [line["time"] for line in lines(tmp_path / "whole", "train")]
    step = sorted(after - before for before, after in pairwise(moments))[len(moments) // 2]
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")  # shown when the test fails
    rng, broken = random.Random(seed), tmp_path / "broken"
    previous = signal.signal(signal.SIGTERM, nothing)  # not SIG_IGN, which the training would leave as it is
    try:
        for _ in range(10):
            killer = threading.Thread(target=kill_in_training, args=(rng.uniform(0, 2 * step),), daemon=True)
            killer.start()
            assert train.main([*longer, "--logdir", str(broken), "--resume", "auto"]) == 0
            killer.join()
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert notes(broken).count("stopped:") == 10
    assert train.main([*longer, "--logdir", str(broken), "--resume", "auto"]) == 0
    assert torch.equal(weights(broken), weights(tmp_path / "whole"))


def nothing(number: int, frame: object) -> None:
    """What SIGTERM does before and after a training of this process."""


def kill_in_training(delay: float) -> None:
    """SIGTERM to this process, ``delay`` seconds after the training has begun to listen for it."""
    while signal.getsignal(signal.SIGTERM) is nothing:
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_a_terminated_process_says_how_to_go_on(arguments: list[str], unbroken: Path, tmp_path: Path) -> None:
    process = start([*arguments, "--num_workers", "1"], tmp_path)
    wait_for_steps(tmp_path, 3)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert 3 <= len(lines(tmp_path, "train")) < 20
    (again,) = [line for line in output.splitlines() if line.strip().startswith("python train.py")]
    words = again.split()[2:]
    assert words[-2:] == ["--resume", "auto"] and words[:-2] == [
        *arguments,
        "--num_workers",
        "1",
        "--logdir",
        str(tmp_path),
    ]
    assert train.main(words) == 0
    assert torch.equal(weights(tmp_path), weights(unbroken))


KILLED_WHILE_WRITING = """
import os, sys
from utils.checkpoint import read_checkpoint, save_checkpoint
path, moment = sys.argv[1:]
setattr(os, moment, lambda *args, **kwargs: os.kill(os.getpid(), 9))
if moment == "rename":
    import pathlib
    pathlib.Path.replace = lambda *args: os.kill(os.getpid(), 9)
save_checkpoint(path, {**read_checkpoint(path), "epoch": 99})
"""


@pytest.mark.parametrize("moment", ["fsync", "rename"])
def test_kill_9_while_writing_leaves_a_loadable_checkpoint(moment: str, unbroken: Path, tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    shutil.copy(unbroken / "ckpt" / "last.pth", path)
    child = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path), moment], env=ENVIRONMENT, timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2  # it died in the middle: the unfinished file lies beside
    folder = Checkpoints(tmp_path)
    found = folder.newest(RunLog(None))
    assert found is not None and found[1]["epoch"] == 2
    folder.clean()
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_last_is_reported_and_the_newest_good_one_used(
    arguments: list[str], unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [*arguments, "--logdir", str(tmp_path), "--save_interval", "1"]
    train.main([*more, "--stop_after", "1"])
    last = tmp_path / "ckpt" / "last.pth"
    last.write_bytes(last.read_bytes()[:-5000])
    assert train.main([*more, "--resume", "auto"]) == 0
    said = capsys.readouterr().out
    assert f"{last}: damaged" in said and "going on from" in said and "epoch_1.pth" in said
    assert torch.equal(weights(tmp_path), weights(unbroken))


def test_odd_values_beside_the_weights_do_not_stop_a_run(
    arguments: list[str], unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = read_checkpoint(unbroken / "ckpt" / "last.pth")
    for name, odd in (("a", {"epoch": "many"}), ("b", {"recipe": 5}), ("c", {"epoch": 10**500})):
        save_checkpoint(tmp_path / "ckpt" / f"{name}.pth", {**state, **odd})
    found = Checkpoints(tmp_path / "ckpt").newest(RunLog(None))
    assert found is not None and found[0].name == "b.pth"
    odd_recipe = {**state["recipe"], "lr": torch.ones(2), "seed": 10**500, "epochs": "\n" * 1000}
    for name, recipe in (("list", [1]), ("values", odd_recipe)):
        save_checkpoint(tmp_path / f"{name}.pth", {**state, "recipe": recipe})
        more = ["--logdir", str(tmp_path / name), "--resume", str(tmp_path / f"{name}.pth")]
        assert train.main([*arguments, *more]) == 0
    said = capsys.readouterr().out
    assert (
        "values.pth was made with tensor([1., 1.])" in said
        and "seed is now 443, values.pth was made with 10000" in said
    )


@pytest.mark.parametrize("option", ["--init", "--resume"])
def test_a_beginning_that_cannot_be_read_is_told_before_the_data_set_is_decoded(
    option: str, arguments: list[str], tmp_path: Path
) -> None:
    bad, run, cached = tmp_path / "bad.pth", tmp_path / "run", tmp_path / "cache"
    bad.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"bad\.pth"):
        train.main([*arguments, "--logdir", str(run), option, str(bad), "--cache_dir", str(cached)])
    assert sorted(tmp_path.iterdir()) == [bad]  # no run, no cache


@pytest.mark.parametrize("option", ["--logdir", "--cache_dir"])
def test_a_folder_name_that_no_disk_takes_is_one_line(option: str, arguments: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{option} .*cannot be written to \(File name too long\)"):
        train.main([*arguments, "--logdir", str(tmp_path / "run"), option, str(tmp_path / ("x" * 300))])


def test_when_every_checkpoint_is_damaged_it_says_so(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "last.pth").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no checkpoint in it can be read"):
        train.main([*arguments, "--logdir", str(tmp_path), "--resume", "auto"])


def test_a_finished_run_stays_finished(arguments: list[str], unbroken: Path, tmp_path: Path) -> None:
    shutil.copytree(unbroken, tmp_path / "run")
    assert train.main([*arguments, "--logdir", str(tmp_path / "run"), "--resume", "auto"]) == 0
    assert len(lines(tmp_path / "run", "train")) == 20 and "finished after epoch 2" in notes(tmp_path / "run")


def test_a_run_is_not_overwritten(arguments: list[str], unbroken: Path, tmp_path: Path) -> None:
    before = weights(unbroken)
    shutil.copy(unbroken / "ckpt" / "last.pth", tmp_path)
    for resume in ([], ["--resume", str(tmp_path / "last.pth")]):
        with pytest.raises(InputError, match="--resume auto"):
            train.main([*arguments, "--logdir", str(unbroken), *resume])
    assert torch.equal(weights(unbroken), before)


def test_another_network_is_refused_and_other_flags_are_named(
    arguments: list[str], unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resume = ["--logdir", str(tmp_path), "--resume", str(unbroken / "ckpt" / "last.pth")]
    with pytest.raises(InputError, match="give the same options"):
        train.main([*arguments, *resume, "--without", "dcm"])
    assert train.main([*arguments, *resume, "--epochs", "3", "--lr", "1e-4"]) == 0
    said = capsys.readouterr().out
    assert "note: lr is now 0.0001, last.pth was made with 0.0005" in said
    assert read_checkpoint(tmp_path / "ckpt" / "last.pth")["epoch"] == 3
    assert lines(tmp_path, "start")[0]["step"] == lines(unbroken, "train")[-1]["step"]


def test_fine_tuning_starts_from_official_weights(arguments: list[str], tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = AFUNet(AFUNetConfig(stages=1))
    official = {f"module.{key}": value for key, value in to_official(model).items()}
    save_checkpoint(tmp_path / "official.pth", {"state_dict": official})
    tiny = ["--lr", "1e-9", "--lr_min", "1e-9", "--epochs", "1", "--init", str(tmp_path / "official.pth")]
    train.main([*arguments, *tiny, "--logdir", str(tmp_path)])
    start = torch.cat([value.flatten() for value in model.state_dict().values()])
    torch.testing.assert_close(weights(tmp_path), start, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "flags", ["--without sam cfm", "--order fa --stages 2", "--accumulate 2 --clip_grad 1 --checkpointing"]
)
def test_variants_train_and_come_back(flags: str, arguments: list[str], tmp_path: Path) -> None:
    train.main([*arguments, *flags.split(), "--epochs", "1", "--repeat", "2", "--logdir", str(tmp_path), "--amp"])
    config = load_model(tmp_path / "ckpt" / "last.pth").config
    args = train.parse_args([*arguments, *flags.split()])
    assert config == AFUNetConfig(args.stages, tuple(args.without), args.order)


@pytest.mark.parametrize("has", [True, False])
def test_bfloat16_is_left_where_the_processor_only_emulates_it(
    has: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capabilities = {"avx2": True, "avx512_bf16": has, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    args = train.parse_args(["--dataset", "kalantari", "--amp"])
    set_device_defaults(torch.device("cpu"), args)
    assert args.amp == has and ("only emulated here" in capsys.readouterr().out) != has


def test_the_average_is_what_others_read(arguments: list[str], tmp_path: Path) -> None:
    """And a run that is resumed in the middle ends at the same average, to the bit."""
    ema = [*arguments, "--ema", "0.9", "--linear_weight", "0.2"]
    train.main([*ema, "--logdir", str(tmp_path / "whole")])
    train.main([*ema, "--logdir", str(tmp_path / "parts"), "--stop_after", "1"])
    train.main([*ema, "--logdir", str(tmp_path / "parts"), "--resume", "auto"])
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    last = tmp_path / "whole" / "ckpt" / "last.pth"
    content = read_checkpoint(last)
    assert content["training"]["averaged"] == content["progress"]["steps"] > 0
    assert content["recipe"]["ema"] == 0.9 and content["recipe"]["linear_weight"] == 0.2
    loaded = torch.cat([value.flatten() for value in load_model(last).state_dict().values()])
    assert torch.equal(loaded, weights(tmp_path / "whole"))
    trained = torch.cat([value.flatten() for value in content["training"]["state_dict"].values()])
    assert not torch.equal(loaded, trained)


def test_the_released_choice_of_the_best_is_announced(arguments: list[str], tmp_path: Path) -> None:
    short = ["--epochs", "1", "--repeat", "1", "--validate_on", "test", "--logdir", str(tmp_path)]
    train.main([*arguments, *short])
    assert "chosen on the TEST set (1 scenes), as the released code does" in notes(tmp_path)
    assert lines(tmp_path, "start")[0]["recipe"]["scenes"] == 3  # none held out


def test_without_vgg_weights_nothing_is_begun(
    arguments: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    paper = ["--recipe", "paper", "--logdir", str(tmp_path / "run"), "--cache_dir", str(tmp_path / "cache")]
    with pytest.raises(InputError, match=r"--vgg_weights FILE.*--recipe released"):
        train.main([*arguments, *paper])
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], tmp_path: Path) -> None:
    process = start([*arguments, "--train_path", "nowhere"], tmp_path)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2 and len(output.strip().splitlines()) == 1 and "--train_path" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_torchrun_matches_one_process(arguments: list[str], tmp_path: Path) -> None:
    """2 processes x batch 3 against 1 x batch 6, without stochastic depth, whose draws are each process's own."""
    common = [*arguments, "--epochs", "1", "--repeat", "6", "--drop_path", "0", "--validate_on", "test"]
    train.main([*common, "--batch_size", "6", "--logdir", str(tmp_path / "one")])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    two = [str(ROOT / "train.py"), *common, "--batch_size", "3", "--logdir", str(tmp_path / "two")]
    done = subprocess.run([*launcher, *two], env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    torch.manual_seed(443)
    start = torch.cat([value.flatten() for value in AFUNet(AFUNetConfig(stages=1, drop_path=0)).state_dict().values()])
    moved, difference = weights(tmp_path / "one") - start, weights(tmp_path / "two") - weights(tmp_path / "one")
    assert float(difference.norm()) < 0.01 * float(moved.norm())
    (one,), (both,) = lines(tmp_path / "one", "epoch"), lines(tmp_path / "two", "epoch")
    assert both["total"] == pytest.approx(one["total"], rel=1e-4)
    assert both["PSNR-mu"] == pytest.approx(one["PSNR-mu"], rel=1e-3)
    assert len(lines(tmp_path / "two", "start")) == 1  # rank 0 alone writes

"""What options and outputs may be: the rest is one line, before anything is computed."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import predict
import train
from datasets import synthesise
from datasets.synthesis.photographs import find_photographs
from tests.handheld import write_bracket
from utils.files import InputError
from utils.images import write_hdr
from utils.photographs.bracket import load_bracket
from utils.photographs.preview import comparison


@pytest.mark.parametrize(
    "options",
    [
        ["--repeat", "1000000000000"],
        ["--num_workers", "99999999999999999999"],
        ["--batch_size", "1000000000"],
        ["--train_patch_size", "1000000000"],
        ["--epochs", "9" * 5000],
    ],
)
def test_train_bounds_what_it_is_asked_for(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        train.parse_args(options)
    assert end.value.code == 2
    assert f"argument {options[0]}" in (said := capsys.readouterr().err) and len(said.splitlines()[-1]) < 250


@pytest.mark.parametrize(
    "options",
    [
        ["--motion", "1e308"],
        ["--size", "32x1000000"],
        ["--size", "1000000000x32"],
        ["--scenes", "1000000000000"],
        ["--iso", "1e308"],
        ["--workers", "1000000000000"],
    ],
)
def test_synthesise_bounds_what_it_is_asked_for(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        synthesise.make_parser().parse_args(options)
    assert end.value.code == 2 and f"argument {options[0]}" in capsys.readouterr().err


PROGRAMS = [
    *("predict", "train", "test", "app", "datasets.synthesise", "datasets.validation", "utils.checkpoint"),
    *("utils.hdrvdp2.__main__", "utils.evaluation.__main__", "benchmarks.all", "benchmarks.baselines"),
    *("benchmarks.extra_frames", "benchmarks.half_storage", "benchmarks.hdrvdp2", "benchmarks.inference"),
    *("benchmarks.learning_curve", "benchmarks.readme_picture", "benchmarks.train_step", "benchmarks.gpu.__main__"),
]


class Made(Exception):
    """A parser, on its way to the test."""


def parser_of(program: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    def caught(parser: argparse.ArgumentParser, *_: object) -> None:
        raise Made(parser)

    main = importlib.import_module(program).main
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", caught)
    monkeypatch.setattr(sys, "argv", [program])
    with pytest.raises(Made) as made:
        main()
    return made.value.args[0]


def takes_numbers(kind: Callable[[str], object]) -> bool:
    for text in ("1", "0.5", "20"):
        with contextlib.suppress(argparse.ArgumentTypeError, ValueError):
            return isinstance(kind(text), int | float)
    return False


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_option_takes_an_absurd_number(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    actions = parser_of(program, monkeypatch)._actions
    kinds = {action.dest: action.type for action in actions if callable(action.type) and not action.choices}
    for name, kind in kinds.items():
        if not takes_numbers(kind):
            continue
        for text in ("nan", "inf", "-inf", "-1000000000000", "1e300", "9" * 400, "9" * 5000):
            with pytest.raises((argparse.ArgumentTypeError, ValueError)):
                print(program, name, kind(text))  # shown when the test fails


@pytest.mark.parametrize("text", ["0", "-1", "nan", "1000000000000"])
@pytest.mark.parametrize(
    ("program", "option"),
    [
        *(("test", option) for option in ("--patch_size", "--threads", "--vdp_ppd", "--vdp_peak", "--pu_peak")),
        *(("utils.hdrvdp2.__main__", option) for option in ("--ppd", "--peak")),
    ],
)
def test_limits_of_what_changes_the_figures(
    program: str, option: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (action,) = (a for a in parser_of(program, monkeypatch)._actions if option in a.option_strings)
    assert callable(action.type)
    with pytest.raises(argparse.ArgumentTypeError, match=r" is not a (whole )?number from "):
        action.type(text)


LONG = "x" * 300


@pytest.mark.parametrize(
    ("program", "options"),
    [
        ("utils.hdrvdp2.__main__", ["a.exr", "b.exr", "--map", f"{LONG}.png"]),
        ("benchmarks.all", ["--out", LONG]),
        ("benchmarks.inference", ["--json", LONG]),
        ("benchmarks.train_step", ["--json", LONG]),
        ("benchmarks.readme_picture", ["--out", f"{LONG}.jpg"]),
    ],
)
def test_a_name_that_no_disk_takes_is_found_out_before_the_computing(
    program: str, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program, *options])
    began = time.process_time()
    with pytest.raises(InputError, match=r"x\.\.\.: a name of 30\d bytes, 255 is the most"):
        importlib.import_module(program).main()
    assert time.process_time() - began < 5


def test_a_time_with_a_huge_exponent_is_refused_at_once() -> None:
    began = time.process_time()
    for text in ("1e999999999", "1e-999999999", "1/1e999999999", "1/0", "1//2", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            predict.seconds_of(text)
    assert time.process_time() - began < 1
    assert predict.seconds_of("1/100") == 0.01 == predict.seconds_of("0.01")


@pytest.mark.parametrize("size", [(16, 2000), (2000, 16)])
def test_pictures_of_any_shape_are_compared(size: tuple[int, int], tmp_path: Path) -> None:
    bracket = load_bracket(write_bracket(tmp_path, size=size))
    assert max(comparison(bracket, np.full((*size, 3), 0.5, np.float32), "narrow").shape) < 6000


def test_a_broken_link_among_the_photographs_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone.hdr").symlink_to(tmp_path / "nowhere.hdr")
    with pytest.raises(InputError, match=r"gone.hdr: cannot be read \(No such file"):
        find_photographs([tmp_path], [], [])
    with pytest.raises(InputError, match="nowhere: cannot be looked into"):
        find_photographs([tmp_path / "nowhere"], [], [])


def test_a_disk_that_takes_no_more_files_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hdr(tmp_path / "in" / "a.hdr", np.random.default_rng(0).random((64, 96, 3), dtype=np.float32))
    recipe = synthesise.Recipe((32, 32), 1, None, None, "a")
    made = Path.mkdir

    def full(path: Path, *args: object, **options: object) -> None:
        if path.suffix == ".partial":
            raise OSError(28, os.strerror(28))
        made(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(InputError, match=r"a_0000: cannot be written \(No space left on device\)"):
        synthesise.synthesise([tmp_path / "in" / "a.hdr"], tmp_path / "out", [0], recipe, 1)
    assert list((tmp_path / "out").iterdir()) == []


INTERRUPTED_WHILE_LOADING = """
import builtins, os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have left ignored
real = builtins.__import__
def load(name, *rest):
    if name == "cv2":
        os.kill(os.getpid(), signal.SIGINT)
    return real(name, *rest)
builtins.__import__ = load
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("script", ["train.py", "test.py", "predict.py"])
def test_ctrl_c_while_modules_load_is_one_line(script: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", INTERRUPTED_WHILE_LOADING, str(root / script), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode in (130, -signal.SIGINT)
    assert done.stderr.strip() == "interrupted"

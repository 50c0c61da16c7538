"""test.py from end to end, on the golden scenes with the golden weights: figures, files, messages, exit codes."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from datasets.options import PATH_FLAGS, choose_dataset
from datasets.scenes import SAMPLES
from models import AFUNet
from tests.golden_figures import GOLDEN, MANIFEST, golden_state_dict
from utils import shipped
from utils.evaluation import records
from utils.evaluation.options import choose_vdp
from utils.files import InputError
from utils.hdrvdp2 import PROTOCOLS
from utils.images import read_hdr

ROOT = Path(__file__).parent.parent
SCENES = GOLDEN / "scenes"
FOLDERS = {"kalantari": "Kal", "tel": "Tel", "hu": "Hu"}


def load_script() -> ModuleType:
    """The script as a module; its name is that of a standard package, so not through import."""
    spec = importlib.util.spec_from_file_location("afunet_test_script", ROOT / "test.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


script = load_script()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden weights as an official file: prefix, epoch, buffers and the unused layer."""
    state = {key: torch.zeros(shape) for key, shape in MANIFEST.items()} | golden_state_dict()
    path = tmp_path_factory.mktemp("weights") / "Kalantari.pth"
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    return path


def run(*options: object) -> int:
    return script.main([str(option) for option in options])


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("dataset", FOLDERS)
def test_golden_figures_in_every_layout(dataset: str, checkpoint: Path, tmp_path: Path) -> None:
    options = ("--dataset", dataset, "--dataset_dir", SCENES, "--pretrained_model", checkpoint, "--device", "cpu")
    assert run(*options, "--save_dir", tmp_path, "--vdp", "none", "--no-save_results") == 0
    wanted = json.loads((GOLDEN / "scenes_metrics.json").read_text())[FOLDERS[dataset]]
    found = metrics(tmp_path)["average"]
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=1e-4 if name.startswith("PSNR") else 1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv", "metrics.json", "metrics.md"]


def test_files_written_for_a_scene(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--dataset", "tel", "--dataset_dir", SCENES / "Tel", "--pretrained_model", checkpoint)
    assert run(*options, "--save_dir", tmp_path, "--format", "both") == 0
    name = "scene_0007_1"
    assert {f"{name}{suffix}" for suffix in (".hdr", ".exr", ".png")} < {path.name for path in tmp_path.iterdir()}
    exact, rounded = read_hdr(tmp_path / f"{name}.exr"), read_hdr(tmp_path / f"{name}.hdr")
    assert exact.shape == (72, 100, 3) and exact.min() > 0 and exact.max() < 1
    assert 0 < np.abs(exact - rounded).max() <= exact.max() / 128  # RGBE has 8 bits
    protocol = metrics(tmp_path)["protocol"]
    assert protocol["checkpoint"]["path"] == str(checkpoint) and len(protocol["checkpoint"]["sha256"]) == 64
    assert protocol["padding"]["multiple"] == 128 and protocol["device"] == "cpu"
    assert protocol["hdr_vdp_2"]["protocol"] == "safnet"
    assert protocol["dataset"]["name"] == "tel" and protocol["versions"]["torch"] == torch.__version__
    assert metrics(tmp_path)["average"]["HDR-VDP-2"] is None  # too small an image for it
    out = capsys.readouterr().out
    assert f"{name}  PSNR-mu 7.48  PSNR-l 7.89  SSIM-mu 0.1689  SSIM-l 0.0320  HDR-VDP-2 -" in out
    assert "| AFUNet, published | 43.31 | 47.83 | 0.9876 | 0.9959 | 71.08 |" in out
    assert "HDR-VDP-2.2.2 (safnet)" in out
    (ppd,) = protocol["hdr_vdp_2_pixels_per_degree"]
    assert f"HDR-VDP-2 was left out: at {ppd:.1f} pixels per degree, which follow from the size" in out
    assert "| 0.1689 | 0.0320 | - |" in (tmp_path / "metrics.md").read_text()


def test_pixels_per_degree_that_are_asked_for_are_used(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--dataset", "tel", "--dataset_dir", SCENES / "Tel", "--pretrained_model", checkpoint)
    options += ("--save_dir", tmp_path, "--patch_size", 8, "--no-save_results", "--vdp_ppd")
    assert run(*options, 25) == 0
    assert 0 < metrics(tmp_path)["average"]["HDR-VDP-2"] < 100
    assert "left out" not in capsys.readouterr().out
    assert run(*options, 10) == 0
    assert 0 < metrics(tmp_path)["average"]["HDR-VDP-2"] < 100
    assert "HDR-VDP-2 was computed at 10.0 pixels per degree, as asked for" in capsys.readouterr().out


def test_a_scene_that_fails_is_reported_and_skipped(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(SCENES / "Kal" / "Training", tmp_path / "Kal" / "Test" / "Test-set")
    (tmp_path / "Kal" / "Test" / "Test-set" / "001" / "exposure.txt").write_text("0\n2\n")
    options = ("--dataset", "kalantari", "--dataset_dir", tmp_path, "--pretrained_model", checkpoint)
    assert run(*options, "--save_dir", tmp_path / "out", "--vdp", "none", "--no-save_results") == 1
    written = metrics(tmp_path / "out")
    assert list(written["scenes"]) == ["002"] and list(written["failed"]) == ["001"]
    assert "FAILED  scene 001: " in (out := capsys.readouterr().out) and "not three rising numbers" in out
    assert "Failed: scene 001:" in (tmp_path / "out" / "metrics.md").read_text()


def test_without_weights_it_says_so_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "SHIPPED", tmp_path / "absent.pth")
    written: list[str] = []
    monkeypatch.setattr(records, "write_scene_picture", lambda *args, weights, **kwargs: written.append(weights))
    options = ("--dataset", "hu", "--dataset_dir", SCENES, "--vdp", "none", "--patch_size", 8, "--save_dir", tmp_path)
    assert run(*options) == 0
    assert "The weights are UNTRAINED" in capsys.readouterr().out
    assert "| **AFUNet, UNTRAINED weights** |" in (tmp_path / "metrics.md").read_text()
    assert "The weights are UNTRAINED" in (tmp_path / "metrics.md").read_text()
    assert metrics(tmp_path)["protocol"]["checkpoint"] is None
    assert written == ["UNTRAINED weights"]
    first = metrics(tmp_path)["average"]
    assert run(*options, "--no-save_results") == 0
    assert metrics(tmp_path)["average"] == first  # the untrained network is always the same


def test_shipped_weights_are_the_default(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "SHIPPED", checkpoint)
    monkeypatch.setattr(shipped, "SHIPPED", checkpoint)
    options = ("--dataset", "hu", "--dataset_dir", SCENES, "--vdp", "none", "--no-save_results", "--patch_size", 8)
    assert run(*options, "--save_dir", tmp_path) == 0
    assert metrics(tmp_path)["protocol"]["checkpoint"]["path"] == str(checkpoint)
    assert "made scenes only (pretrain_model/README.md)" in (tmp_path / "metrics.md").read_text()


def test_limit_and_path_flags(checkpoint: Path, tmp_path: Path) -> None:
    options: tuple[object, ...] = ("--dataset", "kalantari", "--dataset_dir", SCENES, "--test_path", "Training")
    options += ("--limit", 1, "--pretrained_model", checkpoint, "--vdp", "none", "--no-save_results", "--patch_size", 8)
    assert run(*options, "--save_dir", tmp_path) == 0
    written = metrics(tmp_path)
    assert list(written["scenes"]) == ["001"]
    assert written["protocol"]["dataset"]["layout"]["test_path"] == "Training"
    assert written["protocol"]["padding"]["multiple"] == 8


# --check


def test_check_of_a_good_data_set(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "load_network", None)  # a model would be an error
    assert run("--check", "--dataset", "kalantari", "--dataset_dir", SCENES) == 0
    assert capsys.readouterr().out == "kalantari: 3 scene(s) read, 0 problem(s)\n"


def test_check_lists_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(SCENES / "Kal" / "Training", tmp_path / "Training")
    (tmp_path / "Training" / "001" / "HDRImg.hdr").unlink()
    (tmp_path / "Training" / "001" / "exposure.txt").write_text("a\n")
    next((tmp_path / "Training" / "002").glob("*.tif")).unlink()
    assert run("--check", "--dataset", "kalantari", "--dataset_dir", tmp_path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("- note: no test scenes: looked for the folder")
    assert [line[:12] for line in lines[1:4]] == ["- scene 001:", "- scene 001:", "- scene 002:"]
    assert lines[4] == "kalantari: 2 scene(s) read, 3 problem(s)"


# Bad input


def test_bad_options_are_one_clear_line(checkpoint: Path, tmp_path: Path) -> None:
    data = ("--dataset", "hu", "--dataset_dir", SCENES)
    (tmp_path / "file").write_text("")
    cases = {
        (*data, "--pretrained_model", tmp_path / "absent.pth"): "absent.pth: .*[Nn]o such file.*give a checkpoint",
        (*data, "--pretrained_model", tmp_path / "file"): "file: damaged, or not a checkpoint",
        (
            *data,
            "--pretrained_model",
            checkpoint,
            "--save_dir",
            tmp_path / "file",
        ): "--save_dir .*choose another folder",
        (*data, "--pretrained_model", checkpoint, "--save_dir", "/proc"): "--save_dir /proc: cannot be written to",
        ("--dataset", "hu", "--dataset_dir", tmp_path): "no test scenes: looked for the folder .*--dataset_dir",
        ("--check", "--dataset", "hu", "--dataset_dir", tmp_path): "no test scenes: looked for the folder",
        ("--dataset_dir", SCENES): "also name its layout, --dataset",
    }
    for options, message in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            run(*options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", [("--limit", "0"), ("--patch_size", "-8"), ("--vdp_ppd", "0"), ("--dataset", "x")])
def test_bad_values_are_refused_by_the_parser(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*option)
    assert caught.value.code == 2
    assert f"argument {option[0]}: " in capsys.readouterr().err


def test_kernels_can_be_switched_off(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[bool] = []
    monkeypatch.setattr(AFUNet, "use_kernels", lambda model, on: answers.append(on))
    options: list[object] = ["--dataset", "kalantari", "--dataset_dir", SCENES, "--limit", 1, "--patch_size", 8]
    options += ["--vdp", "none", "--no-save_results", "--save_dir", tmp_path, "--pretrained_model"]
    assert run(*options, checkpoint) == 0
    assert run(*options, checkpoint, "--no-kernels") == 0
    assert answers == [True, False]


def test_every_path_flag_is_a_field_of_the_layouts() -> None:
    args = script.parse_args([word for name in PATH_FLAGS for word in (f"--{name}", f"my_{name}")])
    dataset, layout, root = choose_dataset(args)
    assert (dataset, root) == ("samples", SAMPLES)
    assert {name: getattr(layout, name) for name in PATH_FLAGS} == {name: f"my_{name}" for name in PATH_FLAGS}


def test_vdp_flags_change_the_named_protocol() -> None:
    chosen = choose_vdp(script.parse_args(["--vdp", "sctnet"]))
    assert chosen == PROTOCOLS["sctnet"]
    options = ["--vdp_encoding", "rgb-bt.709", "--vdp_ppd", "50", "--vdp_peak", "1000", "--vdp_rgbe"]
    own = choose_vdp(script.parse_args(options))
    assert own is not None
    changed = own.describe()
    assert changed["color_encoding"] == "rgb-bt.709" and changed["pixels_per_degree"] == 50
    assert changed["peak"] == 1000 and changed["rgbe"] is True and changed["protocol"] == "safnet, changed"
    assert changed["source"] == "custom, after safnet"  # what metrics.json says must not cite SAFNet
    assert choose_vdp(script.parse_args(["--vdp", "none"])) is None


# As a process


def start(*command: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_the_user_sees_one_line_and_exit_code_2(tmp_path: Path) -> None:
    result = start("test.py", "--dataset", "kalantari", "--dataset_dir", tmp_path)
    assert result.returncode == 2
    assert result.stdout == "" and result.stderr.startswith("error: no test scenes") and result.stderr.count("\n") == 1


@pytest.mark.slow
def test_two_processes_share_the_scenes_and_write_one_table(checkpoint: Path, tmp_path: Path) -> None:
    options: tuple[object, ...] = (
        "test.py",
        "--dataset",
        "kalantari",
        "--dataset_dir",
        SCENES,
        "--test_path",
        "Training",
    )
    options += ("--pretrained_model", checkpoint, "--vdp", "none", "--no-save_results", "--patch_size", 8)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2)
    result = start(*torchrun, *options, "--save_dir", tmp_path / "two")
    assert result.returncode == 0, result.stderr
    assert run(*options[1:], "--save_dir", tmp_path / "one") == 0
    one, two = metrics(tmp_path / "one")["scenes"], metrics(tmp_path / "two")["scenes"]
    assert list(two) == ["001", "002"]
    for name, row in one.items():
        assert two[name] == pytest.approx(row, abs=1e-5)
    assert result.stdout.count("Written to") == 1

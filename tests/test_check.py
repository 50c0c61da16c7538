"""test.py --check: what training would stumble over later, and data sets as their archives unpack."""

from __future__ import annotations

from pathlib import Path

import pytest

import test as script
from datasets.scenes import LAYOUTS, find_scenes
from tests.scene_files import frame, write_scene
from utils.images import write_ldr


def check(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = script.main(["--check", "--dataset", "kalantari", "--dataset_dir", str(root)])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("exposures", ["0.0025\n0.02\n0.16\n", "1\n8\n64\n", "100\n800\n6400\n"])
def test_exposures_that_no_camera_steps_by(exposures: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scene(tmp_path / "Kal" / "Training" / "a", exposures=exposures)
    code, said = check(tmp_path, capsys)
    assert code == 1 and "exposure.txt: steps no camera takes" in said and "take log2" in said


@pytest.mark.parametrize("exposures", ["0\n2\n4\n", "-3 0 3", "0\n0.5\n1\n"])
def test_exposures_as_cameras_take_them(exposures: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scene(tmp_path / "Kal" / "Training" / "a", exposures=exposures)
    assert check(tmp_path, capsys)[0] == 0


def test_frames_whose_order_contradicts_their_brightness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_scene(tmp_path / "Kal" / "Training" / "a")
    for name, level in zip("abc", (2, 1, 0), strict=True):
        write_ldr(folder / f"{name}.tif", frame(level))
    code, said = check(tmp_path, capsys)
    assert code == 1 and "b.tif is darker than a.tif; frames rise in exposure" in said


def test_the_archive_as_it_unpacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("EXTRA/001", "EXTRA/002", "PAPER/BarbequeDay"):
        write_scene(tmp_path / "Kal" / "Test" / name)
    found = find_scenes(LAYOUTS["kalantari"], tmp_path, "test")
    assert [scene.name for scene in found] == ["EXTRA_001", "EXTRA_002", "PAPER_BarbequeDay"]
    assert all(scene.read() for scene in found)
    assert check(tmp_path, capsys)[0] == 0


def test_a_folder_without_frames_is_still_a_broken_scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scene(tmp_path / "Kal" / "Training" / "a")
    (tmp_path / "Kal" / "Training" / "b" / "raw").mkdir(parents=True)
    code, said = check(tmp_path, capsys)
    assert code == 1 and "scene b:" in said and "0 TIFF frames where three are meant" in said


def test_scenes_that_name_one_label_are_all_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        folder = write_scene(tmp_path / "Kal" / "Training" / name)
    label = (folder / LAYOUTS["kalantari"].label_file_name).rename(tmp_path / "label.hdr")
    words = ["--check", "--dataset", "kalantari", "--dataset_dir", str(tmp_path), "--label_file_name", str(label)]
    assert script.main(words) == 0 and "kalantari: 2 scene(s) read, 0 problem(s)" in capsys.readouterr().out

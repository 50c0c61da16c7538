"""Data sets: what the released loader reads, and a message for everything that can be wrong with a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest

from datasets.scenes import LAYOUTS, Scene, check_scenes, find_scenes
from tests.golden_figures import GOLDEN
from tests.scene_files import frame, write_scene
from utils.exposure import network_input
from utils.exr import write_exr
from utils.files import InputError
from utils.images import write_hdr, write_ldr

FOLDERS = {"kalantari": "Kal", "tel": "Tel", "hu": "Hu"}
KALANTARI = LAYOUTS["kalantari"]


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("inside", [False, True])
def test_reads_what_the_released_loader_reads(name: str, inside: bool) -> None:
    root = GOLDEN / "scenes" / (FOLDERS[name] if inside else "")
    (scene,) = find_scenes(LAYOUTS[name], root, "test")
    frames, ev, label = scene.read()
    x = network_input(frames, ev)
    golden = np.load(GOLDEN / "scenes_loaded.npz")
    np.testing.assert_allclose(x.numpy(), golden[f"{FOLDERS[name]}_inputs"], atol=1e-6)
    np.testing.assert_allclose(label.transpose(2, 0, 1), golden[f"{FOLDERS[name]}_label"], atol=1e-6)


def test_finds_both_splits_in_name_order() -> None:
    assert [scene.name for scene in find_scenes(KALANTARI, GOLDEN / "scenes", "train")] == ["001", "002"]
    assert [scene.name for scene in find_scenes(KALANTARI, GOLDEN / "scenes", "test")] == ["001"]
    assert [scene.name for scene in find_scenes(LAYOUTS["hu"], GOLDEN / "scenes", "test")] == ["086"]


@pytest.fixture
def scene_folder(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "Training" / "007")


def only_scene(root: Path, **changes: str) -> Scene:
    (scene,) = find_scenes(dataclasses.replace(KALANTARI, **cast(Any, changes)), root, "train")
    return scene


def test_stray_files_are_ignored(scene_folder: Path) -> None:
    split = scene_folder.parent
    for stray in (".DS_Store", "Thumbs.db", "readme.txt", "loose.tif", "007/.DS_Store", "007/notes.txt", "007/._a.tif"):
        (split / stray).write_bytes(b"stray")
    (split / "__MACOSX").mkdir()
    (split / ".git").mkdir()
    frames, _, _ = only_scene(split.parent).read()
    assert [int(f[0, 0, 0]) for f in frames] == [10000, 20000, 30000]


def test_frames_are_read_in_rgb_order(scene_folder: Path) -> None:
    coloured = frame(0)
    coloured[..., 0], coloured[..., 2] = 111, 333
    cv2.imwrite(str(scene_folder / "a.tif"), coloured[..., ::-1])  # OpenCV writes BGR
    frames, _, _ = only_scene(scene_folder.parent.parent).read()
    assert frames[0, 0, 0, [0, 2]].tolist() == [111, 333]


def test_the_smallest_exponent_becomes_zero(scene_folder: Path) -> None:
    (scene_folder / "exposure.txt").write_text("-2.0\n0.0\n2.0\n")
    _, ev, label = only_scene(scene_folder.parent.parent).read()
    assert ev.tolist() == [0, 2, 4] and ev.dtype == np.float32
    assert (label == 0.25).all()


def test_path_flags_override_the_layout(tmp_path: Path) -> None:
    names = ("raw/x_1.tif", "raw/x_2.tif", "raw/x_3.tif", "raw/other.tif")
    write_scene(tmp_path / "elsewhere" / "s", names=names, exposure_file="ev.txt", label_file="truth.hdr")
    scene = only_scene(
        tmp_path,
        train_path="elsewhere",
        ldr_prefix="x_",
        ldr_folder_name="raw",
        exposure_file_name="ev.txt",
        label_file_name="truth.hdr",
    )
    assert [path.name for path in scene.ldr_paths] == ["x_1.tif", "x_2.tif", "x_3.tif"]
    assert scene.read()[0].shape == (3, 16, 24, 3)


def test_a_label_may_be_exr(scene_folder: Path) -> None:
    label = np.linspace(1e-3, 1.0, 16 * 24 * 3, dtype=np.float32).reshape(16, 24, 3)
    write_exr(scene_folder / "HDRImg.exr", label)
    assert (only_scene(scene_folder.parent.parent).read().label == 0.25).all()  # the name of the layout goes first
    (scene_folder / "HDRImg.hdr").unlink()
    assert np.array_equal(only_scene(scene_folder.parent.parent).read().label, label)


@pytest.mark.parametrize("name", ["/", "x" * 300])
def test_a_label_name_that_no_file_can_have_is_told(name: str, scene_folder: Path) -> None:
    with pytest.raises(InputError, match="no label; put the ground truth there"):
        only_scene(scene_folder.parent.parent, label_file_name=name).read()


def test_a_folder_name_that_no_disk_takes_is_told() -> None:
    with pytest.raises(InputError, match="no train scenes: looked for the folder"):
        find_scenes(LAYOUTS["kalantari"], "x" * 300, "train")


def test_hu_takes_the_aligned_frames(tmp_path: Path) -> None:
    names = tuple(f"input_{i}{ending}.tif" for i in (1, 2, 3) for ending in ("", "_aligned"))
    write_scene(
        tmp_path / "Hu" / "Training" / "001",
        names=names,
        exposure_file="input_exp.txt",
        label_file="ref_hdr_aligned_linear.hdr",
    )
    (scene,) = find_scenes(LAYOUTS["hu"], tmp_path, "train")
    assert [path.name for path in scene.ldr_paths] == [f"input_{i}_aligned.tif" for i in (1, 2, 3)]
    assert scene.problems() == []


# Challenge123

CHALLENGE = LAYOUTS["challenge123"]
BRACKET = ("ldr_img_1.tif", "ldr_img_2.tif", "ldr_img_3.tif")


def test_challenge123_takes_frame_i_from_moment_i(tmp_path: Path) -> None:
    for i in (1, 2, 3):
        write_scene(tmp_path / "Test" / f"012_{i}", names=BRACKET, label_file="hdr_img.hdr", exposures=f"0\n{i}\n6\n")
    (scene,) = find_scenes(CHALLENGE, tmp_path, "test")
    assert scene.name == "012"
    assert [str(path.relative_to(tmp_path / "Test")) for path in scene.ldr_paths] == [
        "012_1/ldr_img_1.tif",
        "012_2/ldr_img_2.tif",
        "012_3/ldr_img_3.tif",
    ]
    frames, ev, _ = scene.read()
    assert ev.tolist() == [0, 2, 6]
    assert [int(f[0, 0, 0]) for f in frames] == [10000, 20000, 30000]


def test_challenge123_also_reads_plain_scene_folders(tmp_path: Path) -> None:
    for name in ("a", "scene_1"):
        write_scene(tmp_path / "Test" / name, names=BRACKET, label_file="hdr_img.hdr")
    scenes = find_scenes(CHALLENGE, tmp_path, "test")
    assert [scene.name for scene in scenes] == ["a", "scene_1"]
    assert check_scenes(scenes) == []


def test_challenge123_with_a_moment_missing_is_an_error(tmp_path: Path) -> None:
    for i in (1, 2):
        write_scene(tmp_path / "Test" / f"x_{i}", names=(f"ldr_img_{i}.tif",), label_file="hdr_img.hdr")
    (scene,) = find_scenes(CHALLENGE, tmp_path, "test")
    with pytest.raises(InputError, match=r"scene x: .*2 TIFF frames where three are meant"):
        scene.read()


# What can be wrong with a scene: one change to a good one, and what the message says


def eight_bit(folder: Path) -> None:
    cv2.imwrite(str(folder / "b.tif"), np.zeros((16, 24, 3), np.uint8))


def folder_for_exposures(folder: Path) -> None:
    (folder / "exposure.txt").unlink()
    (folder / "exposure.txt").mkdir()


def nan_label(folder: Path) -> None:
    write_exr(folder / "HDRImg.exr", np.full((16, 24, 3), np.nan, np.float32))
    (folder / "HDRImg.exr").replace(folder / "HDRImg.hdr")


def exposures(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "exposure.txt").write_text(text)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "two frames": (lambda f: (f / "b.tif").unlink(), r"2 TIFF frames where three are meant \(found: a.tif, c.tif\)"),
    "four frames": (lambda f: write_ldr(f / "d.tif", frame(3)), "4 TIFF frames where three are meant.*--ldr_prefix"),
    "unequal frames": (lambda f: write_ldr(f / "b.tif", frame(1, (16, 20))), r"unequal size \(24x16, 20x16, 24x16\)"),
    "8-bit frame": (eight_bit, r"b\.tif: uint8 where 16-bit is meant; save the frame with 16 bits"),
    "broken frame": (lambda f: (f / "c.tif").write_bytes(b"II*\0 no"), r"c\.tif: not a readable image"),
    "empty frame": (lambda f: (f / "c.tif").write_bytes(b""), r"c\.tif: not a readable image"),
    "no exposures": (lambda f: (f / "exposure.txt").unlink(), r"no exposure file.*--exposure_file_name"),
    "binary exposures": (lambda f: (f / "exposure.txt").write_bytes(b"\xff\xfe\0\x81"), "not a text file of numbers"),
    "words": (exposures("low\nmid\nhigh\n"), "not a text file of numbers; write one number per line"),
    "two exposures": (exposures("0\n2\n"), r"\[0, 2\] are not three rising numbers; write one number per line"),
    "falling exposures": (exposures("4\n2\n0\n"), r"\[4, 2, 0\] are not three rising numbers"),
    "equal exposures": (exposures("0\n2\n2\n"), "not three rising numbers"),
    "NaN exposure": (exposures("0\nnan\n4\n"), "not three rising numbers"),
    "a folder for exposures": (folder_for_exposures, r"exposure\.txt: cannot be read \(it is a folder\)"),
    "no label": (lambda f: (f / "HDRImg.hdr").unlink(), r"HDRImg\.hdr: no label; .*--label_file_name"),
    "broken label": (lambda f: (f / "HDRImg.hdr").write_bytes(b"#?RADIANCE\n"), r"HDRImg\.hdr: not a readable image"),
    "LDR label": (lambda f: (f / "HDRImg.hdr").write_bytes((f / "a.tif").read_bytes()), "uint16 where a linear HDR"),
    "NaN label": (nan_label, r"HDRImg\.hdr: holds NaN or infinite values"),
    "other label": (
        lambda f: write_hdr(f / "HDRImg.hdr", np.ones((8, 24, 3), np.float32)),
        "the label is 24x8, the frames are 24x16",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_scene_is_named_with_its_mend(scene_folder: Path, damage: str) -> None:
    change, message = DAMAGES[damage]
    change(scene_folder)
    scene = only_scene(scene_folder.parent.parent)
    with pytest.raises(InputError, match=f"^scene 007: .*{message}") as caught:
        scene.read()
    assert "\n" not in str(caught.value)


def test_check_lists_everything_that_is_wrong(scene_folder: Path) -> None:
    write_scene(scene_folder.with_name("008"))
    write_scene(scene_folder.with_name("009"), exposures="1\n")
    eight_bit(scene_folder)
    nan_label(scene_folder)
    problems = check_scenes(find_scenes(KALANTARI, scene_folder.parent.parent, "train"))
    assert [problem[:10] for problem in problems] == ["scene 007:", "scene 007:", "scene 009:"]


def test_no_such_folder_names_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no test scenes: .*Kal/Test/Test-set.*--dataset_dir and --test_path"):
        find_scenes(KALANTARI, tmp_path, "test")


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "Training").mkdir()
    with pytest.raises(InputError, match="no scene folders in it"):
        find_scenes(KALANTARI, tmp_path, "train")

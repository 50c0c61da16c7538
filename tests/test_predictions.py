"""Results of other methods: which file is taken for which scene, and the line that each mistake gets."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from utils.evaluation.predictions import Asked, Predictions, find_predictions, match, misshapen, named_folder
from utils.evaluation.scale import fit_scale, remark
from utils.exr import write_exr
from utils.files import InputError

SCENES = ["001", "002", "010"]


def folder(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    return root


def matched(root: Path, scenes: list[str] = SCENES, place: str = "") -> Predictions:
    return match(Asked("M", str(root / place) if place else str(root)), scenes)


def pairs(found: Predictions, root: Path) -> dict[str, list[str]]:
    return {scene: [path.relative_to(root).as_posix() for path in paths] for scene, paths in found.files.items()}


NAMES = {
    "the scene": ("001.hdr", "002.hdr", "010.hdr"),
    "any case and ending": ("001.EXR", "002.tiff", "010.Npy"),
    "the scene first": ("001_sctnet.exr", "002-out.exr", "010 (1).exr"),
    "a folder": ("001/hdr.exr", "002/hdr.exr", "010/deep/hdr.exr"),
    "a part": ("pred_001_x8.exr", "pred_002_x8.exr", "pred_010_x8.exr"),
}


@pytest.mark.parametrize("how", NAMES)
def test_files_are_matched_by_name(how: str, tmp_path: Path) -> None:
    found = matched(folder(tmp_path, *NAMES[how], "notes.txt", "001.png", ".001.exr", ".cache/001.exr"))
    assert pairs(found, tmp_path) == {scene: [name] for scene, name in zip(SCENES, NAMES[how], strict=True)}
    assert not found.in_order and not found.extra
    assert found.lines() == [f"M: 3 image(s) of {tmp_path} for 3 scene(s), matched by name"]


def test_natural_order_where_names_say_nothing(tmp_path: Path) -> None:
    found = matched(folder(tmp_path, "im10.exr", "im9.exr", "im11.exr"), ["b2", "b10", "a"])
    assert pairs(found, tmp_path) == {"a": ["im9.exr"], "b2": ["im10.exr"], "b10": ["im11.exr"]}
    assert found.in_order
    assert found.lines()[1:] == [
        "M: im9.exr is taken for scene a",
        "M: im10.exr is taken for scene b2",
        "M: im11.exr is taken for scene b10",
    ]


def test_no_order_where_the_count_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"M: 2 image\(s\) of .* for 3 scene\(s\), and no name holds a scene's: a\.exr"
    ):
        matched(folder(tmp_path, "a.exr", "b.exr"))


def test_the_longest_scene_name_counts(tmp_path: Path) -> None:
    scenes = ["scene_1", "scene_1_2", "scene_10"]
    found = matched(folder(tmp_path, "scene_1_2.exr", "scene_1.exr", "scene_10_out.exr"), scenes)
    assert pairs(found, tmp_path) == {
        "scene_1": ["scene_1.exr"],
        "scene_1_2": ["scene_1_2.exr"],
        "scene_10": ["scene_10_out.exr"],
    }


def test_a_missing_image(tmp_path: Path) -> None:
    found = matched(folder(tmp_path, "001.exr", "010.exr"))
    with pytest.raises(InputError, match=r"no image for it in .*; add one whose name begins with 002"):
        found.file_of("002")


def test_an_image_of_no_scene(tmp_path: Path) -> None:
    found = matched(folder(tmp_path, "001.exr", "002.exr", "010.exr", "011.exr", "mean.exr"))
    assert "M: 2 image(s) of no scene, left out: 011.exr, mean.exr" in found.lines()


def test_two_images_for_one_scene(tmp_path: Path) -> None:
    found = matched(folder(tmp_path, "001.exr", "001.hdr", "002.exr", "010.exr"))
    with pytest.raises(
        InputError, match=r"2 images for it: 001\.exr, 001\.hdr; keep one, or name a pattern: .*\*\.exr'"
    ):
        found.file_of("001")
    assert matched(tmp_path, place="*.exr").file_of("001") == tmp_path / "001.exr"


def test_a_pattern_looks_into_folders(tmp_path: Path) -> None:
    folder(tmp_path, *(f"{scene}/{name}.hdr" for scene in SCENES for name in ("label", "ours")))
    found = matched(tmp_path, place="*/ours.hdr")
    assert pairs(found, tmp_path) == {scene: [f"{scene}/ours.hdr"] for scene in SCENES}


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--predictions M: no folder .*absent; give the folder"):
        matched(tmp_path / "absent")
    with pytest.raises(InputError, match=r"--predictions M: no \.hdr, \.exr, \.npy, \.tif, \.tiff in"):
        matched(folder(tmp_path, "001.png"))


def test_every_method_has_a_name_of_its_own(tmp_path: Path) -> None:
    folder(tmp_path, "001.exr")
    with pytest.raises(InputError, match="M is named twice"):
        find_predictions([Asked("M", str(tmp_path))] * 2, ["001"])


def test_how_the_option_is_written() -> None:
    assert named_folder("SCTNet=out/a=b") == Asked("SCTNet", "out/a=b")
    for wrong in ("out/sctnet", "=out", "SCTNet=", "", "AFUNet, own=out", "a|b=out"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not NAME=FOLDER"):
            named_folder(wrong)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((30, 20), "20x30 pixels where the label has 30x20: transposed"),
        ((12, 28), "28x12 pixels where the label has 30x20: cropped, 8 rows and 2 columns are missing"),
        ((20, 29), "29x20 pixels where the label has 30x20: cropped, 0 rows and 1 columns are missing"),
        ((32, 32), "32x32 pixels where the label has 30x20: padded, 12 rows and 2 columns too many"),
        ((40, 60), "60x40 pixels where the label has 30x20: resized"),
        ((10, 15), "15x10 pixels where the label has 30x20: resized"),
        ((10, 45), "45x10 pixels where the label has 30x20: another image"),
    ],
)
def test_a_shape_that_differs_is_explained(size: tuple[int, int], words: str) -> None:
    assert misshapen(size, (20, 30)).startswith(words)


@pytest.mark.parametrize(("size", "words"), [((30, 20), "transposed"), ((19, 30), "cropped"), ((32, 32), "padded")])
def test_reading_an_image_of_another_shape(size: tuple[int, int], words: str, tmp_path: Path) -> None:
    write_exr(tmp_path / "001.exr", np.ones((*size, 3), np.float32))
    with pytest.raises(InputError, match=rf"001\.exr: .*{words}"):
        matched(tmp_path).read("001", np.ones((20, 30, 3), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_reading_an_image_that_holds_no_numbers(value: float, tmp_path: Path) -> None:
    write_exr(tmp_path / "001.exr", np.full((20, 30, 3), value, np.float32))
    with pytest.raises(InputError, match=r"001\.exr: 600 of 600 pixels are NaN or infinite"):
        matched(tmp_path).read("001", np.ones((20, 30, 3), np.float32))


# Scale


def images(noise: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """A result near a label that spans eight stops."""
    rng = np.random.default_rng(0)
    label = np.exp2(rng.uniform(-9, -1, (40, 50, 3))).astype(np.float32)
    return label * (1 + noise * rng.normal(size=label.shape)).astype(np.float32), label


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x / 4, "(2^2: exposures counted from another frame) brings it near the label"),
        (lambda x: x * 65535, "(it holds integers that were not divided by their range)"),
        (lambda x: x / x.max(), "(it was divided by its own maximum)"),
        (lambda x: x * 1.37, "a factor of 0.7"),
        (lambda x: x[..., ::-1], "red and blue exchanged brings it near the label"),
        (lambda x: np.log1p(5000 * x) / np.log(5001), "undoing the mu-law: it is tone-mapped, not linear"),
    ],
)
def test_what_brings_a_result_near_its_label_is_said(change: object, words: str) -> None:
    result, label = images()
    assert callable(change)
    said = remark(change(result), label)
    assert words in said
    assert "brings it near the label, PSNR-mu" in said and "in place of" in said


def test_nothing_is_said_of_good_results_nor_of_bad_ones() -> None:
    result, label = images()
    assert remark(result, label) == "" and remark(label, label) == ""
    assert remark(result * 1.03, label) == ""  # as bright as any method may be
    rng = np.random.default_rng(1)
    assert remark(rng.random(label.shape, np.float32), label) == ""
    assert remark(np.zeros_like(label), label) == "" and remark(label, np.zeros_like(label)) == ""


def test_the_factor_is_the_best_one_on_linear_values() -> None:
    result, label = images()
    factor = fit_scale(result * 8, label)
    assert factor == pytest.approx(1 / 8, rel=0.01)
    errors = [np.square(result * 8 * f - label).mean() for f in (factor * 0.999, factor, factor * 1.001)]
    assert errors[1] == min(errors)
    assert fit_scale(np.zeros_like(label), label) == 1.0

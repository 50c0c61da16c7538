"""test.py --predictions from end to end: the network's own images give its own row, and every mistake its line."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import AFUNet, AFUNetConfig
from tests.test_test_script import GOLDEN, script
from utils.checkpoint import model_content, save_checkpoint
from utils.evaluation import console, pictures, records
from utils.evaluation.scoring import Scoring
from utils.exr import write_exr
from utils.files import InputError
from utils.images import read_hdr, read_linear, write_hdr

SCENES = ["001", "002"]
DATA: tuple[object, ...] = ("--dataset", "kalantari", "--dataset_dir", GOLDEN / "scenes", "--test_path", "Training")
QUICK: tuple[object, ...] = ("--vdp", "none", "--device", "cpu")


def run(*options: object) -> int:
    return script.main([str(option) for option in (*DATA, *options)])


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    save_checkpoint(path, model_content(AFUNet(AFUNetConfig(stages=1)).eval()))
    return path


@pytest.fixture(scope="module")
def own(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What test.py saves of the network: its images and its tables."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "write_scene_picture", lambda *args, **options: None)  # takes seconds
    options = ("--pretrained_model", checkpoint, "--patch_size", 8, "--format", "both", "--save_dir", folder)
    assert run(*options, *QUICK[2:], "--vdp_ppd", 25, "--metrics", "paper", "pu21") == 0
    return folder


def placed(
    own: Path, folder: Path, names: tuple[str, str], change: Callable[[np.ndarray], np.ndarray] = lambda x: x
) -> Path:
    """The network's own images under other names, changed."""
    for scene, name in zip(SCENES, names, strict=True):
        path, image = folder / name, np.ascontiguousarray(change(read_hdr(own / f"{scene}.exr")))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, image)
        else:
            (write_hdr if path.suffix == ".hdr" else write_exr)(path, image)
    return folder


def method_row(folder: Path) -> str:
    """The cells of the run's own row in metrics.md."""
    line = next(line for line in (folder / "metrics.md").read_text().splitlines() if line.startswith("| **"))
    return line.split("** | ")[1]


FIVE_WAYS = {
    "scene": ("001.exr", "002.exr"),
    "prefix": ("001_sctnet.exr", "002-x.exr"),
    "folder": ("001/out.exr", "002/out.exr"),
    "part": ("hdr_001.npy", "hdr_002.npy"),
    "order": ("im9.exr", "im10.exr"),
}


@pytest.mark.parametrize("way", FIVE_WAYS)
def test_saved_images_give_the_networks_own_row(way: str, own: Path, tmp_path: Path) -> None:
    folder, names = tmp_path / "out", FIVE_WAYS[way]
    placed(own, folder, names)
    options = ("--vdp_ppd", 25, "--metrics", "paper", "pu21", "--save_dir", tmp_path, "--no-save_results")
    assert run("--predictions", f"Ours={folder}", *options, "--device", "cpu") == 0
    assert method_row(tmp_path) == method_row(own)
    found, wanted = metrics(tmp_path), metrics(own)
    for scene, row in wanted["scenes"].items():
        assert found["scenes"][scene] == pytest.approx(row, rel=1e-12)
    predictions = found["protocol"]["predictions"]["Ours"]
    for scene, name in zip(SCENES, names, strict=True):
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert predictions["files"][scene] == {"file": str(folder / name), "sha256": digest}
    assert predictions["matched"] == ("in natural order" if way == "order" else "by name")
    assert "checkpoint" not in found["protocol"]


def test_radiance_files_give_what_their_rounding_leaves(own: Path, tmp_path: Path) -> None:
    assert run("--predictions", f"Ours={own}/*.hdr", *QUICK, "--save_dir", tmp_path, "--no-save_results") == 0
    found, wanted = metrics(tmp_path)["scenes"], metrics(own)["scenes"]
    for scene in SCENES:
        label = torch.from_numpy(read_hdr(GOLDEN / "scenes" / "Kal" / "Training" / scene / "HDRImg.hdr")).permute(
            2, 0, 1
        )
        exact = read_hdr(own / f"{scene}.exr")
        rounded = read_hdr(own / f"{scene}.hdr")
        assert np.abs(rounded - exact).max() <= exact.max() / 128  # 8-bit mantissas
        figures = Scoring().score(torch.from_numpy(rounded).permute(2, 0, 1), label).metrics
        assert found[scene] == pytest.approx(figures, rel=1e-12)
        assert found[scene]["PSNR-mu"] == pytest.approx(wanted[scene]["PSNR-mu"], abs=0.05)
        assert found[scene]["PSNR-mu"] != wanted[scene]["PSNR-mu"]


def test_several_methods_and_the_network_in_one_table(
    own: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    darker = placed(own, tmp_path / "dark", ("001.exr", "002.exr"), lambda x: x * np.float32(0.9))
    options = ("--predictions", f"SCTNet={darker}", f"Copy={own}/*.exr", "--pretrained_model", checkpoint)
    monkeypatch.setattr(records, "write_scene_picture", lambda *args, **options: None)  # takes seconds
    assert run(*options, "--patch_size", 8, *QUICK, "--save_dir", tmp_path) == 0
    found = metrics(tmp_path)
    names = ["SCTNet", "Copy", "AFUNet, small.pth"]
    assert list(found["methods"]) == names and "scenes" not in found
    assert found["methods"][names[1]]["average"] == pytest.approx(found["methods"][names[2]]["average"], rel=1e-12)
    assert found["protocol"]["checkpoint"]["path"] == str(checkpoint)
    assert list(found["protocol"]["predictions"]) == names[:2]
    text = (tmp_path / "metrics.md").read_text()
    lines = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")]
    at = lines.index("| AFUNet, published")
    assert lines[at + 1 : at + 4] == [f"| **{name}**" for name in names]
    assert "| SCTNet, published" in lines and "| 001, Copy" in lines
    assert "| AFUNet, small.pth - Copy | +0.00 | +0.00 | +0.0000 | +0.0000 | - |" in text
    assert "No intervals: 2 scene(s) say nothing of others; 3 at least." in text
    rows = list(csv.reader((tmp_path / "metrics.csv").open()))
    assert rows[0][:3] == ["method", "scene", "PSNR-mu"] and len(rows) == 1 + 3 * 3
    out = capsys.readouterr().out
    assert "002  Copy  PSNR-mu " in out and "| SCTNet, published |" in out
    assert "## " not in out
    assert {"001.hdr", "001_methods.png", "002_methods.png"} <= {path.name for path in tmp_path.iterdir()}


# Mistakes


def mistaken(folder: Path, tmp_path: Path, *options: object, code: int = 1) -> None:
    options = ("--predictions", f"M={folder}", *options, *QUICK, "--save_dir", tmp_path, "--no-save_results")
    assert run(*options) == code


def test_a_missing_image_is_named_and_the_rest_goes_on(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = placed(own, tmp_path / "out", ("001.exr", "002.exr"))
    (folder / "001.exr").unlink()
    mistaken(folder, tmp_path, f"Whole={own}/*.exr")
    failure = f"scene 001, M: no image for it in {folder}; add one whose name begins with 001"
    assert f"FAILED  {failure}" in (out := capsys.readouterr().out)
    assert "Means and differences are over the scenes that every method has; left out: 001." in out
    found = metrics(tmp_path)
    assert found["methods"]["M"]["failed"] == {"001": failure}
    assert found["scenes_in_averages"] == ["002"]
    assert found["methods"]["Whole"]["average"] == found["methods"]["Whole"]["scenes"]["002"]
    assert f"Failed: {failure}" in (tmp_path / "metrics.md").read_text()


def test_an_image_too_many_is_named(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = placed(own, tmp_path / "out", ("001.exr", "002.exr"))
    (folder / "mean.exr").write_bytes((folder / "001.exr").read_bytes())
    mistaken(folder, tmp_path, code=0)
    assert "M: 1 image(s) of no scene, left out: mean.exr" in capsys.readouterr().out
    assert "M: 1 image(s) of no scene, left out: mean.exr" in (tmp_path / "metrics.md").read_text()


CHANGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "transposed": (lambda x: x.transpose(1, 0, 2), "72x100 pixels where the label has 100x72: transposed"),
    "cropped": (lambda x: x[4:-4], "100x64 pixels where the label has 100x72: cropped, 8 rows and 0 columns"),
    "padded": (lambda x: np.pad(x, ((0, 56), (0, 28), (0, 0))), "128x128 pixels .*: padded, 56 rows and 28 columns"),
    "not a number": (lambda x: np.where(x > x.mean(), np.nan, x), "of 7200 pixels are NaN or infinite"),
    "infinite": (lambda x: np.where(x > x.mean(), np.inf, x), "of 7200 pixels are NaN or infinite"),
}


@pytest.mark.parametrize("mistake", CHANGES)
def test_an_image_that_cannot_be_compared(
    mistake: str, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = CHANGES[mistake]
    folder = placed(own, tmp_path / "out", ("001.exr", "002.exr"), change)
    (folder / "002.exr").write_bytes((own / "002.exr").read_bytes())
    mistaken(folder, tmp_path)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED  ")]
    assert re.match(f"FAILED  scene 001, M: .*001.exr: .*{words}", line)
    assert list(metrics(tmp_path)["scenes"]) == ["002"]


def test_an_unreadable_image(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = placed(own, tmp_path / "out", ("001.exr", "002.exr"))
    (folder / "001.exr").write_bytes(b"\x76\x2f\x31\x01 cut short")
    mistaken(folder, tmp_path)
    assert f"FAILED  scene 001, M: {folder / '001.exr'}: " in capsys.readouterr().out


def test_two_images_for_one_scene(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = placed(own, tmp_path / "out", ("001.exr", "002.exr"))
    (folder / "001_old.exr").write_bytes((folder / "001.exr").read_bytes())
    mistaken(folder, tmp_path)
    assert "FAILED  scene 001, M: 2 images for it: 001.exr, 001_old.exr; keep one" in capsys.readouterr().out


def near_label(folder: Path, factor: float) -> Path:
    """The labels with a little noise, in another scale."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for scene in SCENES:
        label = read_hdr(GOLDEN / "scenes" / "Kal" / "Training" / scene / "HDRImg.hdr")
        noisy = label * (1 + 0.01 * rng.normal(size=label.shape))
        np.save(folder / f"{scene}.npy", (factor * noisy).astype(np.float32))
    return folder


def test_another_scale_is_said_and_can_be_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = near_label(tmp_path / "out", 4.0)
    mistaken(folder, tmp_path, code=0)
    out = capsys.readouterr().out
    assert "NOTE  M, scene 001: a factor of 0.25 (2^-2: exposures counted from another frame) brings" in out
    assert "The figures are of the values as they are; --scale_to_label fits one factor per image." in out
    before = metrics(tmp_path)["average"]["PSNR-mu"]
    mistaken(folder, tmp_path, "--scale_to_label", code=0)
    found = metrics(tmp_path)
    assert found["average"]["PSNR-mu"] > before + 10
    said = found["protocol"]["predictions"]["M"]
    assert said["files"]["001"]["factor"] == pytest.approx(0.25, rel=0.01)
    assert "one factor per image" in said["scaled_to_label"]
    assert "scaled to the label, one factor per image" in (tmp_path / "metrics.md").read_text()
    assert "NOTE" not in capsys.readouterr().out


def test_mistakes_in_the_options_are_one_line(tmp_path: Path) -> None:
    for option, message in {
        "M=absent": "--predictions M: no folder absent",
        f"M={tmp_path}": r"--predictions M: no \.hdr, \.exr, \.npy, \.tif, \.tiff in",
        "M=~nobody_of_that_name/out": "--predictions M: nobody's home is ~nobody_of_that_name/out",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            run("--predictions", option)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="--scale_to_label: it is for images of other methods"):
        run("--scale_to_label")
    with pytest.raises(InputError, match="--vdp_map: there is no map without HDR-VDP-2"):
        run("--vdp_map", "--vdp", "none")


def test_a_progress_bar_counts_the_scenes(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    real = console.paced

    def recorded(items: Iterable[object], unit: str, **options: Any) -> Iterator[object]:
        for item in real(items, unit, **options):
            yield item
            seen.append((len(seen) + 1, options["total"]))

    monkeypatch.setattr(console, "paced", recorded)
    mistaken(own, tmp_path, code=1)  # both formats of each scene
    assert seen == [(1, 2), (2, 2)]


def test_limit_leaves_the_matching_as_it_is(own: Path, tmp_path: Path) -> None:
    folder = placed(own, tmp_path / "out", ("im9.exr", "im10.exr"))
    mistaken(folder, tmp_path, "--limit", 1, code=0)
    assert list(metrics(tmp_path)["scenes"]) == ["001"]
    files = metrics(tmp_path)["protocol"]["predictions"]["M"]["files"]
    assert files["001"]["file"] == str(folder / "im9.exr")


def test_frames_are_not_needed(own: Path, tmp_path: Path) -> None:
    data = tmp_path / "data" / "Training"
    for scene in SCENES:
        (data / scene).mkdir(parents=True)
        write_hdr(data / scene / "HDRImg.hdr", read_hdr(GOLDEN / "scenes" / "Kal" / "Training" / scene / "HDRImg.hdr"))
    options = ("--dataset_dir", tmp_path / "data", "--predictions", f"M={own}/*.exr", "--save_dir", tmp_path)
    assert run(*options, *QUICK) == 0
    assert metrics(tmp_path)["average"] == pytest.approx(
        {key: metrics(own)["average"][key] for key in metrics(tmp_path)["average"]}, rel=1e-12
    )


def test_only_pu21(own: Path, tmp_path: Path) -> None:
    options = ("--metrics", "pu21", "--pu_peak", 4000, "--save_dir", tmp_path, "--no-save_results")
    assert run("--predictions", f"M={own}/*.exr", *options) == 0
    assert list(metrics(tmp_path)["average"]) == ["PU-PSNR", "PU-PSNRY", "PU-SSIM"]
    text = (tmp_path / "metrics.md").read_text()
    assert "| method | PU-PSNR | PU-PSNRY | PU-SSIM |" in text and "published" not in text
    assert "PU21 (banding_glare): values x 4000 cd/m2" in text and "HDR-VDP-2" not in text
    assert metrics(tmp_path)["protocol"]["pu21"]["peak"] == 4000


def test_the_picture_of_all_methods(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[tuple[list[np.ndarray], list[str], tuple[float, float]]] = []
    real = pictures.panel

    def record(images: list[np.ndarray], titles: list[str], **options: object) -> np.ndarray:
        pages.append((images, titles, options["map_range"]))  # type: ignore[arg-type]
        return real(images, titles, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pictures, "panel", record)
    darker = placed(own, tmp_path / "dark", ("001.exr", "002.exr"), lambda x: x * np.float32(0.5))
    methods = ("--predictions", f"A={own}/*.exr", f"B={darker}", "--limit", 1, "--device", "cpu")
    assert run(*methods, "--vdp_ppd", 25, "--vdp_map", "--save_dir", tmp_path) == 0
    (images, titles, limits), (maps, _, vdp_limits) = pages
    assert [title.split("\n")[0] for title in titles[:3]] == ["Ground truth", "A", "B"]
    truth = read_linear(GOLDEN / "scenes" / "Kal" / "Training" / "001" / "HDRImg.hdr")
    for shown, folder in zip(images[4:], (own, darker), strict=True):
        assert shown == pytest.approx(pictures.error_map(read_hdr(folder / "001.exr"), truth))
        assert np.percentile(shown, 99.5) <= limits[1]
    assert vdp_limits == (0.0, 1.0) and len(maps) == 3
    assert all(one.shape == truth.shape[:2] and 0 <= one.min() <= one.max() <= 1 for one in maps[1:])
    assert [path.name for path in tmp_path.glob("*.png")] == ["001_methods.png"]

"""Classical baselines: right scale on static scenes, ghosts where something moves, and the table of the benchmark."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import baselines
from datasets.scenes import LAYOUTS, find_scenes
from models import AFUNet, AFUNetConfig
from utils.baselines import BASELINES, merge_debevec, merge_mertens, reference_only, registered
from utils.checkpoint import model_content, save_checkpoint
from utils.cli import run
from utils.evaluation.metrics import METRICS
from utils.exposure import to_ldr
from utils.images import float_to_ldr, write_hdr, write_ldr

EV = np.array([0.0, 2.0, 4.0], np.float32)


def smooth_radiance(largest: float = 0.9) -> np.ndarray:
    """(48, 64, 3) radiance from 0.002 to ``largest``, rising by equal ratios from left to right."""
    ramp = np.geomspace(0.002, largest, 64, dtype=np.float32)
    return np.broadcast_to(ramp[None, :, None], (48, 64, 3)) * np.array([1.0, 0.9, 0.8], np.float32)


def shoot(*radiances: np.ndarray) -> np.ndarray:
    """Noise-free frames of three radiances."""
    return np.stack([float_to_ldr(to_ldr(x, float(ev))) for x, ev in zip(radiances, EV, strict=True)])


def mu_psnr(prediction: np.ndarray, label: np.ndarray) -> float:
    pair = [torch.from_numpy(np.ascontiguousarray(x, np.float32)).permute(2, 0, 1) for x in (prediction, label)]
    return METRICS["PSNR-mu"](*pair)


def test_reference_is_exact_below_clipping_and_flat_above() -> None:
    label = smooth_radiance()
    result = reference_only(shoot(label, label, label), EV)
    clips = label >= 0.25
    np.testing.assert_allclose(result[~clips], label[~clips], rtol=2e-3)
    np.testing.assert_allclose(result[clips], 0.25, rtol=1e-4)


def test_debevec_recovers_a_static_scene_in_the_labels_scale() -> None:
    label = smooth_radiance()
    result = merge_debevec(shoot(label, label, label), EV)
    assert result.dtype == np.float32
    assert np.median(np.abs(result / label - 1)) < 0.02
    assert mu_psnr(result, label) > 40 > mu_psnr(reference_only(shoot(label, label, label), EV), label)


def test_debevec_scale_follows_the_exposures() -> None:
    """The same frames said to be one stop brighter exposed show half the radiance."""
    label = smooth_radiance(0.2)
    frames = shoot(label, label, label)
    ratio = merge_debevec(frames, EV + 1) / merge_debevec(frames, EV)
    np.testing.assert_allclose(ratio, 0.5, rtol=1e-4)


def test_debevec_leaves_ghosts_where_something_moves() -> None:
    still, moved = smooth_radiance(0.2).copy(), smooth_radiance(0.2).copy()
    moved[16:32, 8:24] = 0.03
    frames = shoot(still, still, moved)
    result = merge_debevec(frames, EV)
    ghost = np.abs(result - still)[16:32, 8:24].mean()
    assert ghost > 20 * np.abs(result - still)[36:, 8:24].mean()
    assert mu_psnr(reference_only(frames, EV), still) > mu_psnr(result, still)


def test_mertens_has_the_references_scale() -> None:
    label = smooth_radiance()
    frames = shoot(label, label, label)
    result = merge_mertens(frames, EV)
    well_exposed = (frames[1] > 0.1 * 65536) & (frames[1] < 0.9 * 65536)
    assert np.median(result[well_exposed] / label[well_exposed]) == pytest.approx(1.0, abs=0.02)


def test_mertens_without_a_well_exposed_pixel() -> None:
    """Nothing to take the scale from: a finite picture all the same."""
    result = merge_mertens(np.zeros((3, 16, 16, 3), np.uint16), EV)
    assert np.isfinite(result).all() and result.max() == 0


def test_registration_helps_a_shaken_static_scene() -> None:
    rng = np.random.default_rng(3)
    wide = np.kron(rng.uniform(0.01, 0.9, (20, 24, 3)), np.ones((8, 8, 1))).astype(np.float32)
    label = wide[16:-16, 16:-16]
    frames = shoot(wide[16:-16, 10:-22], label, wide[20:-12, 16:-16])
    before = frames.copy()
    gain = mu_psnr(registered(merge_debevec)(frames, EV), label) - mu_psnr(merge_debevec(frames, EV), label)
    assert gain > 3
    np.testing.assert_array_equal(frames, before)  # the caller's frames stay


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one scene: a corner of a sample scene."""
    folder = tmp_path_factory.mktemp("scenes") / "corner"
    source = find_scenes(LAYOUTS["samples"], None, "test")[0]
    frames, ev, label = source.read()
    for path, frame in zip(source.ldr_paths, frames, strict=True):
        write_ldr(folder / path.name, frame[100:196, 200:328])
    write_hdr(folder / source.label_path.name, label[100:196, 200:328])
    (folder / source.exposure_path.name).write_text("\n".join(str(e) for e in ev))
    return folder.parent


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_on_a_sample(name: str, small: Path) -> None:
    frames, ev, label = find_scenes(LAYOUTS["samples"], small, "test")[0].read()
    result = BASELINES[name](frames, ev)
    assert result.shape == label.shape and result.dtype == np.float32
    assert np.isfinite(result).all() and result.min() >= 0
    assert mu_psnr(result, label) > 12


def run_benchmark(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> object:
    """Exit code of ``python -m benchmarks.baselines``."""
    monkeypatch.setattr(sys, "argv", ["baselines", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        run(baselines.main)
    return stopped.value.code


def test_benchmark_prints_a_row_per_method(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "tiny.pth", model_content(AFUNet(AFUNetConfig(stages=1))))
    code = run_benchmark(monkeypatch, small, "--checkpoint", tmp_path / "tiny.pth", "--registered", "--device", "cpu")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert not code and [row.split("|")[1].strip() for row in rows] == [
        "method",
        *BASELINES,
        "tiny",
        "tiny, registered",
    ]
    frames, ev, label = find_scenes(LAYOUTS["samples"], small, "test")[0].read()
    expected = mu_psnr(reference_only(frames, ev), label)
    assert float(rows[1].split("|")[2]) == pytest.approx(expected, abs=0.006)


def test_several_folders_stand_side_by_side(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    darker = tmp_path / "darker"
    shutil.copytree(small, darker)
    (scene,) = find_scenes(LAYOUTS["samples"], darker, "test")
    frames, ev, label = scene.read()
    write_ldr(scene.ldr_paths[1], frames[1] // 2)
    assert not run_benchmark(monkeypatch, small, darker, "--device", "cpu")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert rows[0] == f"| PSNR-mu / PSNR-l | {small.name} | darker |" and len(rows) == 1 + len(BASELINES)
    result = reference_only(np.stack([frames[0], frames[1] // 2, frames[2]]), ev)
    plain, dark = (cell.split("/") for cell in rows[1].split("|")[2:4])
    assert float(dark[0]) == pytest.approx(mu_psnr(result, label), abs=0.006)
    assert float(plain[0]) == pytest.approx(mu_psnr(reference_only(frames, ev), label), abs=0.006)


def test_benchmark_refuses_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_benchmark(monkeypatch, tmp_path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(tmp_path) in error

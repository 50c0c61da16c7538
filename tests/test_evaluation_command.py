"""python -m utils.evaluation: all metrics of one pair of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_pu21 import pair
from utils.evaluation.__main__ import main
from utils.evaluation.metrics import METRICS
from utils.evaluation.pu21 import PU21
from utils.evaluation.tables import rounded
from utils.exr import write_exr
from utils.files import InputError
from utils.hdrvdp2 import PROTOCOLS


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "a.exr", tmp_path / "b.exr"
    for path, image in zip(paths, pair("0_noise"), strict=True):
        write_exr(path, image.permute(1, 2, 0).numpy())
    return paths


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def printed(out: str, name: str) -> str:
    return next(line.split()[1] for line in out.splitlines() if line.split()[:1] == [name])


def test_all_metrics_of_a_pair(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    images = pair("0_noise")
    out = run(capsys, *files, "--vdp_ppd", 30, "--pu_peak", 4000, "--device", "cpu")
    wanted = {name: metric(*images) for name, metric in METRICS.items()} | PU21(4000).score(*images)
    wanted["HDR-VDP-2"] = PROTOCOLS["safnet"].changed(ppd=30).score(*images)
    for name, figure in wanted.items():
        assert printed(out, name) == rounded(name, figure)
    assert "HDR-VDP-2.2.2 (safnet, changed)" in out and "PU21 (banding_glare): values x 4000 cd/m2" in out


def test_a_small_image_has_no_hdr_vdp_2(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, *files)
    assert printed(out, "HDR-VDP-2") == "-"
    assert "HDR-VDP-2 was left out: " in out and "pixels per degree are too few; --vdp_ppd" in out


def test_another_scale_is_said_and_can_be_fitted(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label = pair("0_noise")[1].permute(1, 2, 0).numpy()
    np.save(tmp_path / "eight.npy", 8 * label)
    out = run(capsys, tmp_path / "eight.npy", files[1], "--vdp", "none")
    assert "note: a factor of 0.125 (2^-3: exposures counted from another frame) brings it near the label" in out
    out = run(capsys, tmp_path / "eight.npy", files[1], "--vdp", "none", "--scale_to_label")
    assert "multiplied by 0.125" in out and float(printed(out, "PSNR-mu")) > 100


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_no_numbers(value: float, place: int, files: tuple[Path, Path]) -> None:
    image = torch.full((40, 50, 3), 0.5).numpy()
    image[2, 3] = value
    write_exr(files[place], image)
    with pytest.raises(InputError, match=rf"{files[place].name}: 1 of 2000 pixels are NaN or infinite"):
        main([*map(str, files)])


def test_files_that_cannot_be_compared(files: tuple[Path, Path], tmp_path: Path) -> None:
    write_exr(files[0], np.ones((30, 40, 3), np.float32))
    write_exr(files[1], np.ones((40, 30, 3), np.float32))
    with pytest.raises(InputError, match=r"a\.exr: 40x30 pixels where the label has 30x40: transposed"):
        main([*map(str, files)])
    with pytest.raises(InputError, match=r"absent\.exr: cannot be read"):
        main([str(tmp_path / "absent.exr"), str(files[1])])

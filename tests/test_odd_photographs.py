"""Photographs and folders as nobody should make them: each is one line, and the others go on."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base

from tests.handheld import write_bracket
from utils.files import InputError
from utils.photographs.bracket import check_exposures, find_exposures, load_bracket
from utils.photographs.search import find_brackets
from utils.photographs.shots import read_frame, read_shot, write_preview

PICTURE = np.zeros((32, 48, 3), np.uint8)


def photograph(path: Path, first: dict[int, object] | None = None, **details: object) -> Path:
    """A JPEG with these tags in EXIF's first directory, and those, by name, in its own."""
    exif = Image.Exif()
    exif.update(first or {})
    exif.get_ifd(IFD.Exif).update({int(Base[name]): value for name, value in details.items()})
    Image.fromarray(PICTURE).save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    "details",
    [
        {"ShutterSpeedValue": 2000.0},
        {"ShutterSpeedValue": -2000.0},
        {"ExposureTime": 0.01, "FNumber": 1e200},
        {"ExposureTime": 0.01, "FNumber": 1e-200},
        {"ExposureTime": 1e300, "FNumber": 8.0},
        {"ExposureTime": 0.01, "ApertureValue": 5000.0},
        {"ExposureTime": 0.01, "ISOSpeedRatings": 0},
        {"ExposureTime": 0.01, "DateTimeOriginal": "2024:05:17 12:30:00", "SubsecTimeOriginal": "1e400"},
        {"ExposureTime": 0.01, "DateTimeOriginal": "9999:12:31 23:59:59", "SubsecTimeOriginal": "99"},
        {"ExposureTime": "soon"},
    ],
)
def test_odd_exif_is_read_and_said(details: dict[str, object], tmp_path: Path) -> None:
    paths = [photograph(tmp_path / f"{i}.jpg", **details) for i in range(3)]
    shots = [read_shot(path) for path in paths]
    assert all(shot.describe() for shot in shots)
    with pytest.raises(InputError, match=r"no exposure time in EXIF|exposures are equal"):
        check_exposures(shots, find_exposures(shots)[0])
    write_preview(tmp_path / "preview.jpg", PICTURE, shots[0])
    assert (tmp_path / "preview.jpg").exists()


@pytest.mark.parametrize(
    ("kind", "iso"),
    [
        ({"SensitivityType": 1, "StandardOutputSensitivity": 102400}, 102400),
        ({"SensitivityType": 2, "RecommendedExposureIndex": 80000}, 80000),
        ({"SensitivityType": 3, "ISOSpeed": 204800}, 204800),
        ({"StandardOutputSensitivity": 102400}, 102400),
        ({"SensitivityType": 1, "StandardOutputSensitivity": 80000, "RecommendedExposureIndex": 102400}, 80000),
        ({"SensitivityType": 4, "StandardOutputSensitivity": 80000, "RecommendedExposureIndex": 102400}, 102400),
        ({"SensitivityType": 1, "StandardOutputSensitivity": 0, "ISOSpeed": 102400}, 102400),
        ({"SensitivityType": "x", "ISOSpeed": 102400}, 102400),
        ({}, None),
    ],
)
def test_sensitivities_too_high_for_their_tag_stand_in_longer_ones(
    kind: dict[str, object], iso: float | None, tmp_path: Path
) -> None:
    for given in ({"ISOSpeedRatings": 65535}, {}):
        shot = read_shot(photograph(tmp_path / "a.jpg", ExposureTime=0.01, **given, **kind))
        assert shot.iso == iso
    shot = read_shot(photograph(tmp_path / "a.jpg", ExposureTime=0.01, ISOSpeedRatings=400, **kind))
    assert shot.iso == 400


def test_a_preview_is_written_whatever_type_a_tag_has(tmp_path: Path) -> None:
    shot = read_shot(photograph(tmp_path / "a.jpg", ExposureTime=0.01))
    warnings.simplefilter("ignore")  # Pillow's, of what it is given
    for tag, value in ((Base.Make, 3.5), (Base.DateTime, object()), (Base.Copyright, (1, "a")), (Base.Artist, b"\xff")):
        shot.exif[tag] = value
        write_preview(tmp_path / "preview.jpg", PICTURE, shot)
        assert Image.open(tmp_path / "preview.jpg").size == (48, 32)


def test_only_photographs_are_opened(tmp_path: Path) -> None:
    """Pillow would hand an EPS file to Ghostscript."""
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 32\n%%EndComments\nshowpage\n")
    with pytest.raises(InputError, match="not a photograph"):
        read_shot(tmp_path / "a.jpg")


def test_pipes_links_in_circles_and_odd_names_in_a_folder_are_left_out(tmp_path: Path) -> None:
    write_bracket(tmp_path, size=(32, 48))
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / os.fsdecode(b"\xff.jpg")).write_bytes(b"no photograph")
    (tmp_path / "round").symlink_to(tmp_path)
    found, left_out = find_brackets([tmp_path])
    assert [len(bracket.paths) for bracket in found if bracket.name is None] == [3]
    for name in ("pipe", "zero", "circle", "broken"):
        assert any(f"{name}.jpg: cannot be read (" in line for line in left_out), left_out


def test_a_pipe_given_by_name_is_refused(tmp_path: Path) -> None:
    paths = write_bracket(tmp_path, size=(32, 48))
    os.mkfifo(tmp_path / "pipe.jpg")
    (found,), _ = find_brackets([*paths, tmp_path / "pipe.jpg"])
    with pytest.raises(InputError, match=r"pipe.jpg: cannot be read \(it is a pipe\)"):
        load_bracket(found.paths)


def test_an_endless_exposure_file_is_refused(tmp_path: Path) -> None:
    paths = write_bracket(tmp_path, size=(32, 48))
    (tmp_path / "exposure.txt").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"exposure.txt: cannot be read \(it is a device\)"):
        load_bracket(paths)


def test_a_folder_that_may_not_be_looked_into_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bracket(tmp_path / "a", size=(32, 48))
    (tmp_path / "lost+found").mkdir()
    listed = Path.iterdir

    def iterdir(path: Path):
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found, left_out = find_brackets([tmp_path])
    assert [bracket.name for bracket in found] == ["a"]
    assert [line for line in left_out if "lost+found: cannot be looked into (Permission denied)" in line]


def test_a_bomb_among_photographs_is_left_out(tmp_path: Path) -> None:
    from tests.test_headers import png_of

    (tmp_path / "a.png").write_bytes(png_of(60_000, 60_000))
    with pytest.raises(InputError, match="400 megapixels are the most"):
        read_frame(read_shot(tmp_path / "a.png"))

"""The picture of a training, from its log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.learning_curve import draw, main, read_curves
from utils.files import InputError


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two parts of one training: 2 x 3 crops a step, then 1; the second goes on counting steps from 10."""
    for name, batch, processes, begun in (("first", 3, 2, 0), ("second", 1, 1, 10)):
        recipe = {"batch_size": batch, "processes": processes, "accumulate": 1}
        lines = [
            {"kind": "start", "recipe": recipe, "step": begun},
            {"kind": "note", "text": "a line for people"},
            {"kind": "train", "step": begun + 10, "l1_mu": 0.5},
            {"kind": "epoch", "step": begun + 20, "epoch": 1, "l1_mu": 0.4, "PSNR-mu": 30.0},
            {"kind": "epoch", "step": begun + 40, "epoch": 2, "l1_mu": 0.2},
        ]
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [tmp_path / "first", tmp_path / "second"]


def test_parts_of_a_training_follow_each_other_in_crops(runs: list[Path]) -> None:
    curves = read_curves(runs)
    assert curves.steps == [(60, 0.5), (250, 0.5)]
    assert curves.epochs == [(120, 0.4), (240, 0.2), (260, 0.4), (280, 0.2)]
    assert curves.scores == [(120, 30.0), (260, 30.0)] and curves.ends == [240, 280]


def test_the_picture_shows_both_halves_and_the_baselines(runs: list[Path], tmp_path: Path) -> None:
    labels = [text.get_text() for axes in draw(read_curves(runs), {"a merge": 25.0}).axes for text in axes.texts]
    assert labels == ["30.00 dB"]
    assert main([*map(str, runs), "--out", str(tmp_path / "c.png"), "--baseline", "a merge", "25"]) == 0
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size == (1210, 440)


def test_a_folder_without_a_log_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"log\.jsonl: cannot be read .*--logdir"):
        read_curves([tmp_path])
    (tmp_path / "log.jsonl").write_text('{"kind": "note", "text": "begun"}\n')
    with pytest.raises(InputError, match="does not say how"):
        read_curves([tmp_path])
    (tmp_path / "log.jsonl").write_text("no log\n")
    with pytest.raises(InputError, match="not the log of a training"):
        read_curves([tmp_path])


def test_a_last_line_that_a_kill_has_cut_short_is_left_out(runs: list[Path]) -> None:
    whole = read_curves(runs)
    log = runs[1] / "log.jsonl"
    log.write_text(log.read_text() + '{"kind": "train", "st')
    assert read_curves(runs) == whole
    log.write_text(log.read_text() + "\n")
    with pytest.raises(InputError, match=r"not the log of a training \(line 6"):
        read_curves(runs)


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "3",
        '{"kind": 1}',
        '{"kind": "train", "step": 1}',
        "[" * 100_000,
        f'{{"kind": "train", "step": {"9" * 400}, "l1_mu": 1}}',
    ],
)
def test_lines_that_are_no_records_are_refused(line: str, runs: list[Path]) -> None:
    log = runs[0] / "log.jsonl"
    log.write_text(f"{line}\n{log.read_text()}")
    with pytest.raises(InputError, match=r"line 1"):
        read_curves(runs)

"""Tables: what they hold, in which order and rounding."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import pytest

from utils.evaluation.published import PUBLISHED
from utils.evaluation.tables import DECIMALS, Results, Row, format_row, summary, to_csv, to_json, to_markdown

FIGURES = {"PSNR-mu": 44.906, "PSNR-l": 42.594, "SSIM-mu": 0.992349, "SSIM-l": 0.99056, "HDR-VDP-2": 66.749}
OTHERS = {"PSNR-mu": 40.0, "PSNR-l": 40.0, "SSIM-mu": 0.99, "SSIM-l": 0.98, "HDR-VDP-2": 60.0}


def results(**changes: object) -> Results:
    """Of one network; changes to its row, and to the rest."""
    fields: dict[str, Any] = {"dataset": "kalantari", "notes": ["HDR-VDP-2: safnet"], **changes}
    scenes = fields.pop("scenes", {"001": dict(FIGURES), "002": dict(OTHERS)})
    row = Row("AFUNet, Kalantari.pth", scenes, fields.pop("failures", {}))
    return Results(rows=[row], **fields)


def test_the_average_is_over_scenes() -> None:
    assert results().averages["AFUNet, Kalantari.pth"]["PSNR-mu"] == pytest.approx((44.906 + 40) / 2)
    assert results(scenes={}).averages == {"AFUNet, Kalantari.pth": {}}


def test_json_holds_scenes_average_failures_and_protocol() -> None:
    data = json.loads(to_json(results(failures={"003": "scene 003: no label"}, protocol={"device": "cpu"})))
    assert data["scenes"]["001"] == FIGURES
    assert data["average"]["SSIM-l"] == pytest.approx((0.99056 + 0.98) / 2)
    assert data["failed"] == {"003": "scene 003: no label"}
    assert data["protocol"] == {"device": "cpu"}


def test_json_stays_valid_when_two_images_are_equal() -> None:
    text = to_json(results(scenes={"001": {"PSNR-mu": math.inf}}))
    assert json.loads(text)["scenes"]["001"] == {"PSNR-mu": None}


def test_csv_has_a_line_per_scene_and_the_average() -> None:
    rows = list(csv.reader(io.StringIO(to_csv(results()))))
    assert rows[0] == ["scene", *DECIMALS]
    assert [row[0] for row in rows[1:]] == ["001", "002", "average"]
    assert float(rows[1][1]) == 44.906


def test_markdown_puts_the_run_under_the_published_rows() -> None:
    lines = to_markdown(results(scenes={"001": FIGURES})).splitlines()
    published = next(line for line in lines if line.startswith("| AFUNet, published"))
    assert published == "| AFUNet, published | 44.91 | 42.59 | 0.9923 | 0.9906 | 66.75 |"
    assert (
        lines[lines.index(published) + 1] == "| **AFUNet, Kalantari.pth** | 44.91 | 42.59 | 0.9923 | 0.9906 | 66.75 |"
    )
    assert "| method | PSNR-mu | PSNR-l | SSIM-mu | SSIM-l | HDR-VDP-2 |" in lines
    assert "HDR-VDP-2: safnet" in lines


def test_markdown_shows_a_dash_for_what_was_left_out_and_names_failures() -> None:
    scenes = {"001": {key: value for key, value in FIGURES.items() if key != "HDR-VDP-2"}}
    text = to_markdown(results(dataset="samples", scenes=scenes, failures={"002": "scene 002: no label"}))
    assert "| **AFUNet, Kalantari.pth** | 44.91 | 42.59 | 0.9923 | 0.9906 | - |" in text
    assert "Failed: scene 002: no label" in text
    assert "published" not in text


def test_a_method_without_any_figure_leaves_the_others_in_the_table() -> None:
    rows = [Row("A", {}, {"001": "scene 001, A: no image"}), Row("B", {"001": dict(FIGURES)})]
    both = Results("kalantari", rows)
    assert both.common == [] and both.averages == {"A": {}, "B": {}}
    assert to_csv(both).splitlines()[1] == "A,average"
    assert to_csv(both).splitlines()[2].startswith("B,001,44.906,42.594")
    text = to_markdown(both)
    assert "| **B** | - | - | - | - | - |" in text and "| 001, B | 44.91 | 42.59 |" in text
    assert "1 scene(s) FAILED" in summary(both)
    assert json.loads(to_json(both))["methods"]["B"]["scenes"]["001"] == FIGURES


def test_a_figure_that_was_left_out_is_a_dash_null_and_an_empty_cell() -> None:
    one = results(scenes={"001": {**FIGURES, "HDR-VDP-2": math.nan}})
    assert json.loads(to_json(one))["average"]["HDR-VDP-2"] is None
    assert to_csv(one).splitlines()[1].endswith("0.99056,")
    assert "| 0.9923 | 0.9906 | - |" in to_markdown(one)
    assert format_row(one.rows[0].scenes["001"]).endswith("SSIM-l 0.9906  HDR-VDP-2 -")


def test_several_methods_bear_their_names_and_published_rows_say_so() -> None:
    rows = [Row(name, {"001": dict(FIGURES)}) for name in ("SCTNet", "Mine")]
    text = to_markdown(Results("kalantari", rows))
    assert "| SCTNet, published | 44.43 |" in text and "| **SCTNet** | 44.91 |" in text
    assert "| SAFNet | 44.66 |" in text and "# Methods on kalantari: mean over 1 scene(s)" in text
    shown = summary(Results("kalantari", rows))
    assert "| SCTNet, published | 44.43 |" in shown and "AFUNet" not in shown


def test_published_rows_are_complete() -> None:
    assert {name: len(rows) for name, rows in PUBLISHED.items()} == {"kalantari": 15, "tel": 8, "hu": 11}
    for rows in PUBLISHED.values():
        best = rows["AFUNet"]
        for row in rows.values():
            assert len(row) == len(DECIMALS)
            assert row[0] <= best[0]  # AFUNet has the highest PSNR-mu of every table
            assert all(30 < value < 80 for value in (row[0], row[1], row[4])) and all(0.95 < v < 1 for v in row[2:4])


def test_summary_and_row_are_rounded_as_the_paper_does() -> None:
    assert format_row(FIGURES) == "PSNR-mu 44.91  PSNR-l 42.59  SSIM-mu 0.9923  SSIM-l 0.9906  HDR-VDP-2 66.75"
    text = summary(results(scenes={"001": FIGURES}))
    assert "| AFUNet, Kalantari.pth | 44.91 |" in text and "| AFUNet, published | 44.91 |" in text


def test_the_summary_tells_of_failures() -> None:
    text = summary(results(failures={"b": "scene b: no label"}))
    assert "1 scene(s) FAILED" in text

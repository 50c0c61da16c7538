"""Labelled pictures: what they hold, and where."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from utils.evaluation import pictures
from utils.exposure import tonemap
from utils.pictures import panel, shortened, tone_mapped


def test_tone_mapping_of_black_white_and_too_bright() -> None:
    hdr = np.array([0.0, 1.0, 3.0, -1.0], np.float32).reshape(2, 2, 1).repeat(3, axis=2)
    assert tone_mapped(hdr)[..., 0].tolist() == [[0, 255], [255, 0]]


def test_a_panel_holds_its_images_unchanged_where_they_fit() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (30, 60, 3), dtype=np.uint8) for _ in range(3)]
    picture = panel(images, ["one", "two\nwith a second line", "three"], columns=2, cell_width=60, heading="all")
    assert picture.dtype == np.uint8 and picture.shape[1] == 2 * 24 + 2 * 60 + 18
    for image in images:
        windows = np.lib.stride_tricks.sliding_window_view(picture, (30, 60, 3))[:, :, 0]
        assert (windows == image).all(axis=(2, 3, 4)).any()


def test_no_page_waits_in_memory() -> None:
    """They were 20 MB each, until the garbage collector happened to come by."""
    for _ in range(3):
        panel([np.zeros((30, 60, 3), np.uint8)], ["one"])
    assert not [held for held in gc.get_objects() if type(held) is Figure]


def test_titles_stay_within_their_images() -> None:
    assert shortened("short", 10) == "short"
    assert shortened("PXL_20240517_103012345.COVER.jpg", 13) == "PXL_20…ER.jpg"
    assert len(shortened("x" * 200, 41)) == 41
    image = np.zeros((40, 60, 3), np.uint8)
    page = panel([image, image], ["x" * 300, "$a$_$ 中"], cell_width=300)
    gap = page[:, 24 + 300 : 24 + 300 + 18]
    assert (gap[:40] == 255).all() and (page[:40, -24:] == 255).all()


def test_a_map_is_drawn_in_colours_from_dark_to_light() -> None:
    ramp = np.linspace(0, 0.1, 60)[None].repeat(30, axis=0)
    picture = panel([ramp], ["map"], cell_width=60, map_range=(0.0, 0.1))
    row = picture[60, 24 : 24 + 60].astype(int).sum(axis=1)
    assert row[0] < row[20] < row[40] < row[59]


def test_the_picture_of_a_scene_holds_inputs_result_truth_and_error(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def record(images: list[np.ndarray], titles: list[str], **options: str) -> None:
        given.update(options, images=images, titles=titles)

    monkeypatch.setattr(pictures, "panel", record)
    frames = np.stack([np.full((20, 30, 3), value, np.uint16) for value in (2**14, 2**15, 2**16 - 1)])
    label = np.full((20, 30, 3), 0.5, np.float32)
    metrics = {"PSNR-mu": 44.906, "PSNR-l": 42.594, "SSIM-mu": 0.992349, "HDR-VDP-2": 66.749}
    texts = {"heading": "Scene 001", "weights": "Kalantari.pth"}
    pictures.scene_picture(frames, np.array([0, 2, 4], np.float32), label * 0.5, label, metrics=metrics, **texts)
    *inputs, ours, truth, error = given["images"]
    assert [frame.mean() for frame in inputs] == pytest.approx([0.25, 0.5, 1.0], abs=1e-4)
    assert (ours == tone_mapped(label * 0.5)).all() and (truth == tone_mapped(label)).all()
    assert error == pytest.approx((tonemap(label) - tonemap(label * 0.5))[..., 0])
    assert given["heading"] == "Scene 001"
    assert "EV 4" in given["titles"][2] and "100.0% of the pixels clipped" in given["titles"][2]
    assert given["titles"][3].startswith("AFUNet, Kalantari.pth\nPSNR-mu 44.91   PSNR-l 42.59   SSIM-mu 0.9923")

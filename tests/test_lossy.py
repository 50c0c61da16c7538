"""Nearly clipped values of lossy references: filled beside clipped ones, and nowhere else."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import AFUNet, AFUNetConfig
from tests.handheld import write_bracket
from utils.images import ldr_to_float
from utils.photographs import merging
from utils.photographs.bracket import load_bracket
from utils.photographs.lossy import fill_nearly_clipped
from utils.photographs.settings import Settings
from utils.shipped import SHIPPED


def test_only_nearly_clipped_values_beside_clipped_ones_are_filled():
    ldr = np.full((9, 12, 3), 0.95)
    ldr[:, :4], ldr[0, 4] = 1.0, 0.85
    filled = ldr_to_float(fill_nearly_clipped(np.minimum(ldr * 65536, 65535).astype(np.uint16)))
    assert filled[1:, 4:6] == pytest.approx(1.0, abs=1e-4)  # two pixels beside it
    assert filled[:, 6:] == pytest.approx(0.95, abs=1e-4)  # further off
    assert filled[0, 4] == pytest.approx(0.85, abs=1e-4)  # too dark to be clipped
    one = np.full((9, 9, 3), 0.95)
    one[4, 4, 0] = 1.0  # a channel by itself
    filled = ldr_to_float(fill_nearly_clipped(np.minimum(one * 65536, 65535).astype(np.uint16)))
    assert filled[2:7, 2:7, 0] == pytest.approx(1.0, abs=1e-4)
    assert filled[..., 1:] == pytest.approx(0.95, abs=1e-4)


@pytest.mark.parametrize(
    ("suffix", "wanted", "filled"), [(".JPG", True, True), (".JPG", False, False), (".png", True, False)]
)
def test_it_is_for_lossy_references_and_can_be_switched_off(tmp_path, suffix, wanted, filled):
    paths = write_bracket(tmp_path, size=(64, 96))
    if suffix == ".png":
        for path in paths:
            with Image.open(path) as image:
                image.save(path.with_suffix(suffix), exif=image.getexif())
        paths = [path.with_suffix(suffix) for path in paths]
    bracket = load_bracket(paths, ev=[0, 2, 4], alignment="none")
    frames = merging.frames_for(bracket, wanted)
    expected = fill_nearly_clipped(bracket.frames[1]) if filled else bracket.frames[1]
    assert np.array_equal(frames[1], expected)
    assert (frames[1] != bracket.frames[1]).any() == filled
    assert np.array_equal(frames[::2], bracket.frames[::2])


@pytest.mark.parametrize(
    ("asked", "weights", "filled"),
    [(None, SHIPPED, False), (None, Path("Kalantari.pth"), True), (True, SHIPPED, True), (False, Path("a.pth"), False)],
)
def test_weights_that_know_jpeg_are_left_alone_unless_told(asked, weights, filled):
    assert merging.Job(Settings(fill_jpeg=asked), AFUNet(AFUNetConfig(stages=1)), weights).fill_jpeg == filled

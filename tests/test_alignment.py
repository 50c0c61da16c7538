"""Registration: known camera motions are found and undone; what can't be found is left alone and said so."""

import numpy as np
import pytest

from tests.handheld import draw_scene, expose, hand_motion
from utils.alignment import (
    TOLERATED,
    Motion,
    align,
    common_region,
    displacement,
    estimate,
    reexpose,
    rescaled,
    warp,
)
from utils.exposure import to_linear
from utils.images import ldr_to_float
from utils.photographs.colour import STATED_SRGB, to_frame

EV = (0.0, 2.0, 4.0)
SIZE = (240, 320)
STILL = np.eye(3)


def frames_moved_by(*motions, size=SIZE):
    scene = draw_scene(*size)
    shown = [expose(scene, ev, motion) for ev, motion in zip(EV, motions, strict=True)]
    return np.stack([to_frame(picture, STATED_SRGB) for picture in shown])


def corner_error(found, true, size=SIZE):
    return displacement(found @ np.linalg.inv(true), size)


@pytest.mark.parametrize("index", [0, 2])
def test_ecc_finds_rotation_and_shift_below_a_pixel(index):
    true = hand_motion(0.4, 7.0, -6.0)
    motions = [STILL] * 3
    motions[index] = true
    frames = frames_moved_by(*motions)
    found = estimate(frames[1], frames[index], EV[1], EV[index], "ecc")
    assert found.method == "ecc"
    assert corner_error(found.matrix, true) < 0.8


def test_large_shift_is_found():
    true = hand_motion(0.0, 38.0, -27.0)
    frames = frames_moved_by(STILL, STILL, true)
    assert corner_error(estimate(frames[1], frames[2], 2.0, 4.0, "ecc").matrix, true) < 0.5
    assert corner_error(estimate(frames[1], frames[2], 2.0, 4.0, "mtb").matrix, true) < 1.5


def test_alignment_brings_the_frames_together():
    motions = (hand_motion(0.3, 9.0, -5.0), STILL, hand_motion(-0.3, -6.0, 8.0))
    frames = frames_moved_by(*motions)
    still = frames_moved_by(STILL, STILL, STILL)
    before = [np.abs(ldr_to_float(frames[i]) - ldr_to_float(still[i]))[20:-20, 20:-20].mean() for i in (0, 2)]
    align(frames, EV, "auto")
    after = [np.abs(ldr_to_float(frames[i]) - ldr_to_float(still[i]))[20:-20, 20:-20].mean() for i in (0, 2)]
    assert all(a < b / 4 for a, b in zip(after, before, strict=True))
    assert np.array_equal(frames[1], still[1])


def test_auto_leaves_a_small_shift_to_the_network_and_measures_it():
    frames = frames_moved_by(hand_motion(0.0, 0.7, 0.4), STILL, STILL)
    before = frames.copy()
    motions = align(frames, EV, "auto")
    assert [motion.method for motion in motions] == ["none"] * 3
    assert motions[0].shift == pytest.approx(0.8, abs=0.4)
    assert np.array_equal(frames, before)
    assert align(frames, EV, "ecc")[0].method == "ecc"


def test_auto_registers_beyond_what_is_tolerated():
    frames = frames_moved_by(hand_motion(0.0, 2.0 * TOLERATED, 0.0), STILL, STILL)
    assert align(frames, EV, "auto")[0].method == "ecc"


def test_none_measures_nothing():
    frames = frames_moved_by(hand_motion(0.0, 20.0, 0.0), STILL, STILL)
    before = frames.copy()
    assert all(motion.shift == 0 for motion in align(frames, EV, "none"))
    assert np.array_equal(frames, before)


@pytest.mark.parametrize("mode", ["auto", "ecc", "mtb"])
def test_frames_without_anything_in_common_stay_where_they_are(mode):
    frames = np.random.default_rng(0).integers(0, 65536, (3, 96, 128, 3), np.uint16)
    before = frames.copy()
    motions = align(frames, EV, mode)
    unmoved = [i for i in range(3) if motions[i].method == "none"]
    assert all(np.array_equal(frames[i], before[i]) for i in unmoved)
    assert all(motion.shift < 0.15 * np.hypot(96, 128) for motion in motions)


def test_a_black_frame_is_survived():
    frames = frames_moved_by(STILL, STILL, STILL)
    frames[0] = 0
    motions = align(frames, EV, "auto")
    assert motions[0].method == "none"


def test_warp_undoes_a_whole_shift_exactly():
    frame = np.random.default_rng(1).integers(0, 65536, (32, 40, 3), np.uint16)
    moved, inside = warp(frame, hand_motion(0.0, 5.0, -3.0))
    assert np.array_equal(moved[3:, :-5], frame[:-3, 5:])
    assert inside[3:, :-5].all()
    assert not inside[:3].any()
    assert not inside[:, -5:].any()


def test_empty_regions_are_filled_from_the_reference_at_that_exposure():
    frames = frames_moved_by(STILL, STILL, hand_motion(0.0, 12.0, 0.0))
    motions = align(frames, EV, "ecc")
    _, inside = warp(frames[2], motions[2].matrix)
    assert 11 <= (~inside[100]).sum() <= 13
    assert np.array_equal(frames[2][~inside], reexpose(frames[1], 2.0, 4.0)[~inside])


def test_reexpose_keeps_radiance_until_it_clips():
    frame = np.array([[[6000, 20000, 60000]]], np.uint16)
    brighter = reexpose(frame, 0.0, 2.0)
    radiance = to_linear(ldr_to_float(frame), 0.0)
    expected = np.minimum(radiance, 0.25)
    assert to_linear(ldr_to_float(brighter), 2.0) == pytest.approx(expected, rel=1e-3)
    assert np.array_equal(reexpose(frame, 3.0, 3.0), frame)


def test_common_region_is_covered_by_every_frame():
    size = (50, 60)
    matrices = (hand_motion(0.0, 5.0, -3.0), STILL, hand_motion(2.0, -2.0, 4.0))
    motions = [Motion(matrix, "ecc", 1.0) for matrix in matrices]
    top, bottom, left, right = common_region(motions, size)
    for matrix in matrices:
        assert warp(np.zeros(size, np.uint16), matrix)[1][top:bottom, left:right].all()
    assert common_region([Motion(STILL, "none", 0.0)] * 3, size) == (0, 50, 0, 60)
    assert common_region(motions[:1], size) == (3, 50, 0, 55)


def test_a_shift_scales_with_the_picture():
    full = rescaled(hand_motion(0.0, 2.0, -1.0), (100, 150), (400, 600))
    assert full == pytest.approx(hand_motion(0.0, 8.0, -4.0), abs=1e-9)

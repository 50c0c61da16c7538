"""Large motion: what moved is replaced by what the reference has; what is still stays as it is, to the bit."""

import json
import re

import numpy as np
import pytest

import app
from datasets.synthesis.camera import shoot
from datasets.synthesis.development import Curve, File
from tests.handheld import write_bracket
from tests.test_predict import assert_clear_error, call, weights  # noqa: F401  (fixtures)
from utils.files import InputError
from utils.images import ldr_to_float, read_hdr
from utils.photographs.large_motion import MOST, chosen_scale, describe, spread, without_large_motion

EV = np.array([0.0, 2.0, 4.0], np.float32)
PLACE, ELSEWHERE = (slice(60, 120), slice(30, 80)), (slice(60, 120), slice(150, 200))
CLIP = 0.25  # the light at which the reference clips
SIZE = (160, 240)


def light_of(level, seed=0):
    """A still scene, (160, 240, 3): a level with fine texture and a slope."""
    rng = np.random.default_rng(seed)
    texture = np.exp(0.1 * rng.standard_normal((*SIZE, 3)))
    return (level * texture * np.linspace(0.7, 1.3, SIZE[1])[:, None]).astype(np.float32)


def with_thing(light, place, level):
    view = light.copy()
    view[place] = light_of(level, 1)[place]
    return view


def bracket(views, iso=100.0, curve=Curve(), file=File()):  # noqa: B008  # frozen
    rng = np.random.default_rng(5)
    shots = [
        shoot(rng, view, float(ev), iso, curve, file, i) for i, (view, ev) in enumerate(zip(views, EV, strict=True))
    ]
    return np.stack(shots)


def seen(frame, ev):
    """The light that a frame shows."""
    return ldr_to_float(frame).astype(np.float64) ** 2.2 / 2.0**ev


def inner(place, by=6):
    return tuple(slice(s.start + by, s.stop - by) for s in place)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"iso": 1600.0},
        {"file": File("JPEG", 85, True)},
        {"curve": Curve(contrast=(0.3, 0.28, 0.3))},
        {"curve": Curve(knee=0.8, white=248)},
    ],
    ids=["16 bits", "noise", "JPEG", "contrast", "soft white"],
)
@pytest.mark.parametrize("level", [0.02, 0.12, 0.3])
def test_still_frames_stay_as_they_are(how, level):
    frames = bracket([light_of(level)] * 3, **how)
    before = frames.copy()
    result, shares = without_large_motion(frames, EV, 2)
    assert shares == (0.0, 0.0)
    assert np.array_equal(result, before) and np.array_equal(frames, before)


@pytest.mark.parametrize("scale", [2, 4])
def test_what_moved_shows_the_light_of_the_reference(scale):
    still = light_of(0.03)
    there, gone = with_thing(still, PLACE, 0.1), with_thing(still, ELSEWHERE, 0.1)
    frames = bracket([gone, there, gone])
    result, shares = without_large_motion(frames, EV, scale)
    assert np.array_equal(result[1], frames[1])
    near = np.zeros(SIZE, bool)
    for place in (PLACE, ELSEWHERE):
        near[inner(place, -6 * scale)] = True
    area = 2 * 60 * 50 / (SIZE[0] * SIZE[1])
    for i, share in ((0, shares[0]), (2, shares[1])):
        assert area < share < (1.3 + 0.2 * scale) * area
        assert np.array_equal(result[i][~near], frames[i][~near])
        for place in (PLACE, ELSEWHERE):
            truth = there[inner(place)].clip(max=2.0 ** -EV[i])
            assert seen(result[i], EV[i])[inner(place)] == pytest.approx(truth, rel=0.1)  # the texture, too
            assert np.abs(seen(frames[i], EV[i])[inner(place)] / truth - 1).mean() > 0.5


def test_what_is_clipped_in_the_reference_comes_from_its_surroundings():
    """Something dark goes by in the dark frame, before ground that only this frame could show."""
    still = light_of(0.6)
    frames = bracket([with_thing(still, PLACE, 0.01), still, still])
    result, shares = without_large_motion(frames, EV, 2)
    filled = seen(result[0], 0.0)[inner(PLACE)]
    assert filled.mean(axis=(0, 1)) == pytest.approx(still[inner(PLACE)].mean(axis=(0, 1)), rel=0.08)
    assert shares[1] == 0.0


def test_surroundings_are_bright_things_only():
    """A dark wall beside the clipped ground gives nothing to what is drawn over the thing that moved."""
    still = light_of(0.6)
    still[:, 84:] = light_of(0.01)[:, 84:]
    frames = bracket([with_thing(still, PLACE, 0.01), still, still])
    result, _ = without_large_motion(frames, EV, 2)
    assert seen(result[0], 0.0)[60:120, 40:82].mean() == pytest.approx(still[60:120, 40:82].mean(), rel=0.15)
    assert np.array_equal(result[0][:, 96:], frames[0][:, 96:])


def test_a_pixel_of_which_one_channel_is_clipped_keeps_its_colour():
    still = light_of(0.6)
    still[85:95, :] = (0.28, 0.18, 0.18)  # a seam in the ground: red is clipped in the reference, a little
    frames = bracket([with_thing(still, PLACE, 0.01), still, still])
    result, _ = without_large_motion(frames, EV, 2)
    assert seen(result[0], 0.0)[87:93, 40:70].mean(axis=(0, 1)) == pytest.approx((0.25, 0.18, 0.18), rel=0.05)


def test_never_darker_than_the_reference_shows():
    """Where nothing bright is left around, the level at which the reference clips is what is known."""
    still = light_of(0.01)
    frames = bracket([still, with_thing(still, PLACE, 0.8), still])
    result, _ = without_large_motion(frames, EV, 2)
    assert seen(result[0], 0.0)[inner(PLACE)] == pytest.approx(CLIP, rel=0.01)
    assert ldr_to_float(result[2])[inner(PLACE)] == pytest.approx(1.0, abs=1e-4)


def test_a_thing_that_the_reference_clips_is_white_in_the_bright_frame():
    still = light_of(0.6)
    frames = bracket([still, still, with_thing(still, PLACE, 0.02)])
    result, shares = without_large_motion(frames, EV, 2)
    assert shares[0] == 0.0 and np.array_equal(result[0], frames[0])
    assert ldr_to_float(result[2])[inner(PLACE)] == pytest.approx(1.0, abs=1e-4)


def test_motion_is_told_from_a_curve():
    still = light_of(0.05)
    gone = with_thing(still, ELSEWHERE, 0.01)
    frames = bracket([gone, still, gone], curve=Curve(contrast=(0.3, 0.3, 0.3)))
    _, shares = without_large_motion(frames, EV, 2)
    area = 60 * 50 / (SIZE[0] * SIZE[1])
    assert all(area < share < 1.6 * area for share in shares)


def test_frames_that_disagree_everywhere_are_left_as_they_are():
    frames = bracket([light_of(0.2), light_of(0.05), light_of(0.05)])
    result, shares = without_large_motion(frames, EV, 2)
    assert shares[0] > MOST and shares[1] == 0.0
    assert np.array_equal(result, frames)
    assert "left as it is" in describe(2, shares) and "left as it is" not in describe(2, (0.1, 0.2))


def test_what_is_unknown_is_drawn_from_what_is_near():
    values = np.zeros((40, 60, 3), np.float32)
    values[:, :10], values[:, 50:] = 1.0, 3.0
    known = np.zeros((40, 60), bool)
    known[:, :10] = known[:, 50:] = True
    filled = spread(values, known)
    assert np.array_equal(filled[known], values[known])
    assert filled[20, 12] == pytest.approx(1.0, abs=0.3) and filled[20, 47] == pytest.approx(3.0, abs=0.3)
    assert (np.diff(filled[20, :, 0]) >= -1e-5).all()
    assert not spread(values, np.zeros_like(known)).any()


@pytest.mark.parametrize(
    ("size", "scale"), [((256, 384), 1), ((1024, 1536), 1), ((1025, 1537), 2), ((2000, 3000), 2), ((6000, 4000), 4)]
)
def test_auto_goes_by_the_longer_side(size, scale):
    assert chosen_scale(None, *size) == scale
    assert chosen_scale(3, *size) == 3


def test_a_scale_that_leaves_nothing_is_refused():
    assert chosen_scale(3, 96, 128) == 3
    with pytest.raises(InputError, match="--scale 4: too small for photographs of 128x96; give at most 3"):
        chosen_scale(4, 96, 128)


# From the command line


def moving_bracket(folder, size=(96, 144)):
    """The bracket of test_predict, with a dark square in its bright frame alone."""
    from PIL import Image

    paths = write_bracket(folder, size=size)
    with Image.open(paths[2]) as image:
        data, pixels = image.getexif(), np.array(image)
    pixels[30:70, 30:80] = 10
    Image.fromarray(pixels).save(paths[2], quality=95, exif=data)
    return paths


def test_the_line_of_the_run_tells_the_scale(call, tmp_path):  # noqa: F811
    paths = moving_bracket(tmp_path / "in")
    code, out, err, folder = call(*paths, "--scale", "2", "--align", "none")
    assert (code, err) == (0, "")
    told = re.search(r"scale 2: what moved far is replaced .* in 0\.0% of the dark frame and (.*)% of the bright", out)
    assert told and 100 * 40 * 50 / (96 * 144) < float(told[1]) < 25
    facts = json.loads((folder / "IMG_0002.json").read_text())
    assert facts["settings"]["scale"] == 2
    assert any(note.startswith("scale 2") for note in facts["notes"])


def test_small_photographs_are_left_to_the_network(call, tmp_path):  # noqa: F811
    paths = moving_bracket(tmp_path / "in")
    results = {}
    for scale in ("auto", "1", "2"):
        code, out, _, folder = call(*paths, "--scale", scale, "--align", "none", "--overwrite")
        assert code == 0 and ("scale" in out) == (scale == "2")
        results[scale] = read_hdr(folder / "IMG_0002.exr")
    assert np.array_equal(results["auto"], results["1"])
    assert not np.array_equal(results["1"], results["2"])


@pytest.mark.parametrize("scale", ["0", "-2", "1.5", "all"])
def test_a_wrong_scale_is_refused(call, tmp_path, scale, capsys):  # noqa: F811
    paths = write_bracket(tmp_path / "in", size=(64, 96))
    code, _, err, _ = call(*paths, "--scale", scale)
    assert code == 2 and "auto, 1, or a larger whole number" in err


def test_a_scale_too_large_is_one_line(call, tmp_path):  # noqa: F811
    assert_clear_error(call(*write_bracket(tmp_path / "in", size=(64, 96)), "--scale", "4"), "--scale 4", "at most 2")


def test_the_page_has_it():
    values = {"gamma": "", "reference": 0, "format": ["exr"], "scale": 0}
    assert app.chosen(values)["scale"] is None
    assert app.chosen({**values, "scale": 3.0})["scale"] == 3

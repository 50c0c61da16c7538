"""Frames beside the best three: they add range and quiet shadows where they agree, and nothing where they don't."""

import cv2
import numpy as np
import pytest
import torch

from benchmarks.extra_frames import SETS, compared, figures_of, most
from datasets.synthesis.camera import expose
from models import AFUNet, AFUNetConfig
from tests.handheld import hand_motion, write_bracket
from utils.alignment import Motion
from utils.exposure import to_ldr
from utils.images import float_to_ldr
from utils.photographs.bracket import Extra, load_bracket
from utils.photographs.extra_frames import add_frames, covered
from utils.photographs.shots import Shot

STILL = Motion(np.eye(3), "none", 0.0)
EV = np.array([0.0, 2.0, 4.0], np.float32)


@pytest.fixture
def light():
    """From deep shadow to four times what the darkest of the three frames can show."""
    y, x = np.mgrid[0:96, 0:128] / np.array([95.0, 127.0])[:, None, None]
    texture = 1.0 + 0.2 * np.sin(x * 40) * np.cos(y * 30)
    return (4.0 * 2.0 ** (-12 + 12 * x) * texture / 1.2)[..., None].repeat(3, axis=2).astype(np.float32)


def frame(light, ev, seed):
    return float_to_ldr(to_ldr(expose(np.random.default_rng(seed), light * np.float32(2.0**ev), 400.0), 0.0))


def extra(light, ev, seed=9, motion=STILL):
    return Extra(Shot(__import__("pathlib").Path("x.jpg"), 96, 128), frame(light, ev, seed), ev, motion)


@pytest.fixture
def three(light):
    return np.stack([frame(light, ev, i) for i, ev in enumerate(EV)])


def network_like(light, seed=5):
    """What a network makes of the three: clipped at 1, dimmer than it is where it clips, with the reference's noise."""
    noisy = light.clip(0, 1) * np.where(light > 0.9, 0.8, 1.0)
    deviation = np.sqrt(light.clip(0, 1) * 4 / 2500 + (10 / 2500) ** 2) / 4
    return (noisy + deviation * np.random.default_rng(seed).standard_normal(light.shape)).clip(0, 1).astype(np.float32)


def test_a_darker_frame_gives_what_the_three_clip(light, three):
    hdr = network_like(light)
    result, extended, _ = add_frames(hdr, three, EV, [extra(light, -2.0)])
    bright = light.min(axis=2) > 1.2
    assert np.abs(np.log2(hdr[bright] / light[bright])).mean() > 0.7
    assert np.abs(np.log2(result[bright] / light[bright])).mean() < 0.02
    assert 0.05 < extended < 0.3
    assert np.array_equal(result[light < 0.5], hdr[light < 0.5])


def test_two_darker_frames_go_on_from_each_other(light, three):
    brighter = light * 4
    frames = np.stack([frame(brighter, ev, i) for i, ev in enumerate(EV)])
    result, *_ = add_frames(network_like(brighter), frames, EV, [extra(brighter, -4.0), extra(brighter, -2.0, 8)])
    bright = (brighter.min(axis=2) > 1.2) & (brighter.max(axis=2) < 14)
    assert np.abs(np.log2(result[bright] / brighter[bright])).mean() < 0.03


def test_a_brighter_frame_lowers_the_noise_of_shadows(light, three):
    hdr = network_like(light)
    result, _, quieter = add_frames(hdr, three, EV, [extra(light, 6.0)])
    dark = light.max(axis=2) < 0.005
    assert (result - light)[dark].std() < 0.35 * (hdr - light)[dark].std()
    assert quieter > 0.2
    assert np.array_equal(result[light > 0.1], hdr[light > 0.1])  # clipped in the brighter frame


def test_shadows_beside_what_a_brighter_frame_clips_get_quieter_too(light):
    """Bars of 12 pixels: clipping is no disagreement, so that it keeps a frame out where it clips and no further."""
    y = np.arange(96)[:, None, None]
    bars = np.broadcast_to(np.where(y // 12 % 2, 0.3, 0.003), light.shape).astype(np.float32)
    hdr = network_like(bars)
    frames = np.stack([frame(bars, ev, i) for i, ev in enumerate(EV)])
    result, *_ = add_frames(hdr, frames, EV, [extra(bars, 6.0)])
    middle = np.isin(np.arange(96) % 24, range(4, 8))  # of the dark bars
    assert (result - bars)[middle].std() < 0.5 * (hdr - bars)[middle].std()
    assert np.array_equal(result[bars > 0.1], hdr[bars > 0.1])


@pytest.mark.parametrize("ev", [-2.0, 1.0, 3.0, 6.0])
def test_what_moved_stays_out(light, three, ev):
    """A thing in the further frame alone, brighter or darker than what is there, leaves no trace."""
    hdr = network_like(light)
    without, *_ = add_frames(hdr, three, EV, [extra(light, ev)])
    for factor in (0.3, 3.0):
        moved = light.copy()
        moved[30:60, 10:-10] *= factor
        result, *_ = add_frames(hdr, three, EV, [extra(moved, ev)])
        inside = (slice(30, 60), slice(10, -10))
        worse = np.abs(result - light)[inside] - np.abs(hdr - light)[inside]
        relative = worse / (light[inside] + 0.02)
        told = light[inside] < 0.9  # above, the three cannot tell one light from another
        assert np.percentile(relative[told], 99.5) < 0.12
    assert np.isfinite(without).all()


@pytest.mark.parametrize("blur", [0.0, 1.0, 3.0, 6.0])
def test_a_bright_thing_that_clips_and_its_soft_rim_stay_out(light, blur):
    """Of a lamp carried through the dark the brighter frame shows a clipped place and, blurred, what is around it."""
    dark = np.full_like(light, 0.003)
    hdr = network_like(dark)
    frames = np.stack([frame(dark, ev, i) for i, ev in enumerate(EV)])
    moved = dark.copy()
    moved[30:60, 40:80] = 0.5
    moved = cv2.GaussianBlur(moved, (0, 0), blur) if blur else moved
    still, *_ = add_frames(hdr, frames, EV, [extra(dark, 6.0)])
    result, *_ = add_frames(hdr, frames, EV, [extra(moved, 6.0)])
    near = (slice(5, 85), slice(15, 105))
    worst = np.abs(cv2.GaussianBlur(result - dark, (0, 0), 2.0))[near].max() / 0.003
    assert worst < np.abs(cv2.GaussianBlur(hdr - dark, (0, 0), 2.0))[near].max() / 0.003 + 0.05
    assert np.abs(still - dark).mean() < 0.5 * np.abs(hdr - dark).mean()


def test_beyond_its_border_a_moved_frame_says_nothing(light, three):
    shifted = Motion(hand_motion(0.0, 20.0, 0.0), "mtb", 20.0)
    weight = covered(extra(light, 6.0, motion=shifted))
    assert weight[:, -18:].max() == 0.0 and weight[40, 40] == pytest.approx(1.0)


def test_no_further_frames_change_nothing(light, three):
    hdr = network_like(light)
    assert np.array_equal(add_frames(hdr, three, EV, [])[0], hdr)


def test_a_bracket_of_five_has_two_further_frames(tmp_path):
    paths = write_bracket(tmp_path, evs=(0, 2, 4, 6, 8), size=(64, 96))
    found = load_bracket(paths, alignment="none", every_frame=True, reference=3)
    assert [shot.path.name for shot in found.shots] == ["IMG_0002.JPG", "IMG_0003.JPG", "IMG_0004.JPG"]
    assert [(one.shot.path.name, round(one.ev)) for one in found.extra] == [("IMG_0001.JPG", -2), ("IMG_0005.JPG", 6)]
    assert load_bracket(paths, alignment="none", reference=3).extra == ()


def test_further_frames_are_registered_too(tmp_path):
    motions = [None, None, None, None, hand_motion(0.0, 7.0, 0.0)]
    paths = write_bracket(tmp_path, evs=(0, 1, 2, 3, 4), size=(160, 200), motions=motions)
    found = load_bracket(paths, every_frame=True, reference=2)
    moved = [one for one in found.extra if one.shot.path.name == "IMG_0005.JPG"]
    shots = [shot.path.name for shot in found.shots]
    motion = moved[0].motion if moved else found.motions[shots.index("IMG_0005.JPG")]
    assert motion.method == "ecc" and motion.shift == pytest.approx(7.0, abs=0.7)


def test_the_place_of_a_zoom_holds_most_of_what_is_asked_for():
    where = np.zeros((50, 100), bool)
    where[31:38, 70:85] = True
    where[5, 5] = True
    rows, columns = most(where)
    assert rows.stop - rows.start == 10 and columns.stop - columns.start == 20
    assert where[rows, columns].sum() == 7 * 15


def test_the_benchmark_of_further_frames_measures_range_noise_and_ghosts(light):
    torch.manual_seed(0)
    model = AFUNet(AFUNetConfig(stages=1)).eval()
    images, truth, moves = compared(model, light, SETS[5], True)
    assert list(images) == ["the three", "every frame", "plain mean"] and 0.02 < moves.mean() < 0.5
    assert figures_of(truth * np.float32(1.00001), truth, moves)[:2] == ["0.000", "0.00"]
    stops = [float(figures_of(image, truth, moves)[0]) for image in images.values()]
    assert stops[2] < 0.1 < stops[0]
    assert float(figures_of(images["plain mean"], truth, moves)[3]) < 30.0  # it doubles what moves

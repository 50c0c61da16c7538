"""What made scenes may vary in: each part by its values, alone, and drawn from a stream of its own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets import synthesise, validation
from datasets.statistics import VARIED, drawn, measure, table
from datasets.synthesis import MadeScene, Photograph, camera, find_photographs, make_scene
from datasets.synthesis import motion as motions
from datasets.synthesis.camera import Exposures
from datasets.synthesis.colours import BALANCED, DARKEST, Colours, Light
from datasets.synthesis.development import EIGHT, JPEG, SIXTEEN, Curve, Curves, File, Files, through_jpeg
from datasets.synthesis.motion import Movements, contrasted
from datasets.synthesis.photographs import luminance
from datasets.synthesis.variety import ALL, PARTS, PLAIN, Drawn, Variety, variety
from tests.test_synthesise import SIZE, panorama, square
from utils.exposure import to_ldr
from utils.files import InputError
from utils.images import float_to_ldr, ldr_to_float, write_hdr

DRAWS = 400


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def share(values: list[bool]) -> float:
    return sum(values) / len(values)


@pytest.fixture(scope="module")
def rooms() -> list[Photograph]:
    return [panorama(1, "room"), panorama(2, "hall")]


def scene(rooms: list[Photograph], seed: int = 3, **parts: Any) -> MadeScene:
    return make_scene(rng(seed), rooms, SIZE, variety=Variety(**parts))


# Colours


def test_saturation_spreads_the_channels_around_their_luminance() -> None:
    image = rng().uniform(0.4, 0.6, (8, 8, 3)).astype(np.float32)
    doubled = Light(saturation=2.0)(image)
    np.testing.assert_allclose(luminance(doubled), luminance(image), rtol=1e-5)
    grey = luminance(image)[..., None]
    np.testing.assert_allclose(doubled - grey, 2 * (image - grey), atol=1e-6)


def test_no_channel_falls_below_its_share_of_the_light() -> None:
    red = np.array([[[1.0, 0.01, 0.01]]], np.float32)
    strong = Light(saturation=3.0)(red)
    assert strong.min() == pytest.approx(DARKEST * float(luminance(red)[0, 0]))


def test_channels_are_swapped_and_then_gain() -> None:
    image = np.array([[[0.1, 0.2, 0.4]]], np.float32)
    np.testing.assert_allclose(Light(order=(2, 0, 1), gains=(1.0, 2.0, 0.5))(image), [[[0.4, 0.2, 0.1]]], rtol=1e-6)


def test_plain_light_hands_back_what_it_got() -> None:
    image = np.zeros((2, 2, 4), np.float32)
    assert Light()(image) is image and Light().on_sprite(image) is image


def test_sprites_stay_within_their_coverage() -> None:
    sprite = rng().uniform(0.0, 0.5, (8, 8, 4)).astype(np.float32)
    sprite[..., 3] = 0.5
    lit = Light(saturation=3.0, gains=(4.0, 4.0, 4.0)).on_sprite(sprite)
    np.testing.assert_array_equal(lit[..., 3], sprite[..., 3])
    assert lit[..., :3].max() == 0.5 and np.abs(lit - sprite).max() > 0.1


def test_lights_are_drawn_by_their_shares_and_ranges() -> None:
    lights = [Colours().light(rng(seed)) for seed in range(DRAWS)]
    other = [light for light in lights if light != Light()]
    assert share([light != Light() for light in lights]) == pytest.approx(Colours().share, abs=0.07)
    assert {light.order for light in other} >= {(0, 1, 2), (1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1)}
    saturations = [light.saturation for light in other]
    assert 0.7 <= min(saturations) < 0.8 and 2.7 < max(saturations) <= 3.0
    gains = np.log2([light.gains for light in other])
    assert 0.9 < np.abs(gains).max() <= 1.0 and (gains == 0).all(axis=1).mean() == pytest.approx(0.5, abs=0.1)


def test_white_balance_drifts_in_a_few_scenes_and_never_in_the_reference() -> None:
    balances = [Colours().balance(rng(seed)) for seed in range(DRAWS)]
    drifting = [np.log2(balance) for balance in balances if balance != BALANCED]
    assert len(drifting) / DRAWS == pytest.approx(0.1, abs=0.05)
    assert all((stops[1] == 0).all() for stops in drifting)
    assert np.std([stops[[0, 2]] for stops in drifting]) == pytest.approx(0.05, rel=0.2)


# Curves and files


def test_the_plain_curve_is_that_of_the_data_sets() -> None:
    value = np.linspace(0, 1, 500, dtype=np.float32)
    np.testing.assert_array_equal(Curve().encode(value, 0), to_ldr(value, 0.0))
    assert Curve().shoulder(value) is value


def test_srgb_has_its_published_values() -> None:
    value = np.array([0.0, 0.001, 0.2140411, 0.5, 1.0], np.float32)
    np.testing.assert_allclose(Curve(srgb=True).encode(value, 0), [0, 0.01292, 0.5, 0.7353570, 1.0], atol=1e-5)


@pytest.mark.parametrize("contrast", [-0.1, 0.3])
def test_the_s_curve_keeps_black_grey_and_white_and_rises(contrast: float) -> None:
    encoded = np.linspace(0, 1, 1001, dtype=np.float32)
    bent = Curve(contrast=(0.0, contrast, 0.0)).encode(encoded**2.2, 1)
    np.testing.assert_allclose(bent[[0, 500, 1000]], [0, 0.5, 1], atol=1e-5)
    slope = np.diff(bent) * 1000
    assert slope.min() > 0 and slope[500] == pytest.approx(1 + contrast, abs=0.01)
    assert slope[1] == pytest.approx(1 - contrast, abs=0.02)
    plain = Curve(contrast=(0.0, contrast, 0.0)).encode(encoded**2.2, 0)
    np.testing.assert_allclose(plain, encoded, atol=1e-5)  # of another frame


def test_white_stays_below_the_largest_value() -> None:
    encoded = Curve(white=250).encode(np.linspace(0, 1, 100, dtype=np.float32), 1)
    assert encoded.max() == np.float32(250 / 255) and (encoded == encoded.max()).sum() > 3


def test_a_shoulder_bends_without_a_kink_and_never_saturates() -> None:
    exposure = np.linspace(0, 2, 2001, dtype=np.float32)
    soft = Curve(knee=0.8).shoulder(exposure)
    np.testing.assert_array_equal(soft[:800], exposure[:800])
    assert soft[1000] == pytest.approx(0.8 + 0.2 * (1 - np.exp(-1)), abs=1e-4)
    slope = np.diff(soft) * 1000
    assert slope[798] == pytest.approx(slope[804], abs=0.05) and slope.min() >= 0 and soft.max() < 1


def test_curves_are_drawn_by_their_shares_and_ranges() -> None:
    curves, ranges = [Curves().curve(rng(seed)) for seed in range(DRAWS)], Curves()
    bent = [np.array(curve.contrast) for curve in curves if any(curve.contrast)]
    assert len(bent) / DRAWS == pytest.approx(ranges.bent, abs=0.07)
    assert share([curve.srgb for curve in curves]) == pytest.approx(ranges.srgb, abs=0.07)
    assert share([curve.knee < 1 for curve in curves]) == pytest.approx(ranges.soft, abs=0.07)
    assert share([curve.white < 255 for curve in curves]) == pytest.approx(ranges.below, abs=0.07)
    assert {curve.white for curve in curves} == {*range(247, 256)}
    means, spreads = [contrast.mean() for contrast in bent], [contrast.std() for contrast in bent]
    assert -0.15 < min(means) < 0 and 0.2 < max(means) < 0.35
    assert 0 < float(np.mean(spreads)) < 0.03  # the three frames are nearly the same


def test_a_file_of_8_bits_rounds_to_256_levels() -> None:
    encoded = rng().uniform(0, 1, (32, 32, 3)).astype(np.float32)
    stored = File(EIGHT).stored(encoded)
    assert len(np.unique(stored)) <= 256 and stored.dtype == np.uint16
    np.testing.assert_allclose(ldr_to_float(stored), np.rint(encoded * 255) / 255, atol=2e-5)
    np.testing.assert_array_equal(File().stored(encoded), float_to_ldr(encoded))


def test_jpeg_loses_more_the_lower_its_quality_and_colour_when_subsampled() -> None:
    levels = (60 * rng().random((64, 64, 3)) + 80).astype(np.uint8)

    def loss(quality: int, subsampled: bool) -> float:
        return float(np.abs(through_jpeg(levels, quality, subsampled).astype(float) - levels).mean())

    assert 0 < loss(98, False) < loss(92, False) < loss(75, False)
    assert loss(98, True) > 2 * loss(98, False)
    grey = np.repeat(levels[..., :1], 3, axis=-1)
    assert np.abs(through_jpeg(grey, 98, True).astype(float) - grey).mean() < 2


def test_jpeg_takes_the_exact_maximum_from_clipped_places() -> None:
    encoded = np.full((32, 32, 3), 0.3, np.float32)
    encoded[:, 13:] = 1.0
    exact = (File().stored(encoded) == 65535).mean()
    assert (File(JPEG, 90).stored(encoded) == 65535).mean() < 0.95 * exact


def test_files_are_drawn_by_their_shares_and_mostly_alike() -> None:
    drawn_files, ranges = [Files().files(rng(seed)) for seed in range(DRAWS)], Files()
    for kind, expected in zip((SIXTEEN, EIGHT, JPEG), ranges.shares, strict=True):
        assert share([files[1].kind == kind for files in drawn_files]) == pytest.approx(expected, abs=0.07)
    assert 0.7 < share([len({file.kind for file in files}) == 1 for files in drawn_files]) < 0.9
    references = [files[1] for files in drawn_files if files[1].kind == JPEG]
    assert {file.quality for file in references} == {*range(75, 99)}
    assert 0.4 < share([file.subsampled for file in references]) < 0.6


# Exposures


def test_steps_are_thirds_from_1_to_4_and_errors_small() -> None:
    timings, ranges = [Exposures().timing(rng(seed)) for seed in range(DRAWS)], Exposures()
    steps = [timing.steps for timing in timings if timing.steps]
    assert len(steps) / DRAWS == pytest.approx(ranges.share, abs=0.07)
    assert {step for pair in steps for step in pair} == {1.0, 1.33, 1.67, 2.0, 2.33, 2.67, 3.0, 3.33, 3.67, 4.0}
    assert 0.25 < share([first != second for first, second in steps]) < 0.5
    errors = np.array([timing.errors for timing in timings])
    assert (errors[:, 1] == 0).all() and 0.14 < np.abs(errors).max() <= 0.15
    assert (errors != 0).any(axis=1).mean() == pytest.approx(ranges.erring, abs=0.07)


def test_steps_become_the_exposures_of_the_scene(rooms: list[Photograph]) -> None:
    made = scene(rooms, exposures=Exposures(1.0, (1.0, 4.0), unequal=1.0))
    assert (made.ev[1], made.ev[2] - made.ev[1]) == pytest.approx(tuple(made.facts["timing"]["steps"]))  # type: ignore[index]


def test_true_exposures_miss_what_the_file_says(rooms: list[Photograph]) -> None:
    exact, missing = (
        scene(rooms, exposures=Exposures(0.0, erring=share, error=0.15), motion=Movements(1.0, shaken=0.0))
        for share in (0.0, 1.0)
    )
    np.testing.assert_array_equal(exact.ev, missing.ev)
    np.testing.assert_array_equal(exact.frames[1], missing.frames[1])
    errors = missing.facts["timing"]["errors"]  # type: ignore[index]
    for i in (0, 2):
        before, after = (ldr_to_float(made.frames[i]) ** 2.2 for made in (exact, missing))
        inside = (before > 0.2) & (before < 0.8) & (after < 0.9)
        assert np.median(np.log2(after[inside] / before[inside])) == pytest.approx(errors[i], abs=0.02)


# Motion


def test_movements_are_drawn_by_their_shares_and_ranges() -> None:
    drawn_movements, ranges = [Movements().movement(rng(seed)) for seed in range(DRAWS)], Movements()
    assert share([m.still for m in drawn_movements]) == pytest.approx(ranges.still, abs=0.05)
    reaches = [m.reach for m in drawn_movements if m.reach]
    assert len(reaches) / DRAWS == pytest.approx(ranges.fast, abs=0.07)
    assert 78 < 384 * max(reaches) <= 81
    assert share([m.contrasted > 0 for m in drawn_movements]) == pytest.approx(ranges.contrast, abs=0.07)
    shakes = [m.shake for m in drawn_movements if m.shake != 1]
    assert len(shakes) / DRAWS == pytest.approx(ranges.shaken, abs=0.07) and 2.8 < max(shakes) <= 3.0


def test_nothing_moves_in_a_still_scene(rooms: list[Photograph]) -> None:
    still = scene(rooms, motion=Movements(1.0, shaken=0.0))
    assert still.facts["objects"] == [] and scene(rooms).facts["objects"] != []


def test_objects_go_as_far_as_their_scene_allows(rooms: list[Photograph]) -> None:
    reach = Movements(0.0, fast=1.0, reach=(0.5, 0.5), contrast=0.0)
    speeds = [
        [thing["pixels_per_frame"] for thing in scene(rooms, seed, motion=reach).facts["objects"]]  # type: ignore[index, attr-defined]
        for seed in range(20)
    ]
    usual = [[t["pixels_per_frame"] for t in scene(rooms, seed).facts["objects"]] for seed in range(20)]  # type: ignore[index, attr-defined]
    assert 0.3 * SIZE[1] < max(map(max, speeds)) <= 0.5 * SIZE[1] and max(map(max, usual)) <= 0.1 * SIZE[1]


def test_more_shake_is_the_same_shake_by_a_factor() -> None:
    looks = camera.Camera(0.0, 0.0, 0.0, 400.0)
    usual, strong = (camera.shake(rng(), looks, 384, strength) for strength in (1.0, 2.0))
    shift = [np.array([h[0, 2], h[1, 2]]) for h in (usual, strong)]
    np.testing.assert_allclose(shift[1], 2 * shift[0], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("seed", range(6))
def test_contrasted_objects_are_clipped_before_dark_or_dark_before_clipped_grounds(seed: int) -> None:
    view = np.full((2 * 56, 2 * 72, 3), 0.01, np.float32)
    view[:, 72:] = 4.0
    mover = contrasted(rng(seed), square((1.0, 0.0)), view, SIZE, clips=1.0)
    clipped = motions.GREY_CLOTH * luminance(mover.light) > 1.0
    assert clipped == bool(rng(seed).integers(2))
    assert (mover.position[0] < 32) == clipped  # the dark half is on the left
    assert clipped or motions.GREY_CLOTH * luminance(mover.light) < 0.5


def test_contrasted_people_stay_on_the_ground() -> None:
    person = dataclasses.replace(square((1.0, 0.0)), kind="walker")
    moved = contrasted(rng(), person, np.ones((112, 144, 3), np.float32), SIZE, clips=1.0)
    assert moved.position[1] == person.position[1] and moved.position[0] != person.position[0]


# Scenes


def test_every_part_leaves_the_rest_of_the_scene_alone(rooms: list[Photograph]) -> None:
    plain = scene(rooms)
    for name in ("files", "curves", "jpeg92"):
        made = make_scene(rng(3), rooms, SIZE, variety=variety([name]))
        np.testing.assert_array_equal(made.label, plain.label)
        assert made.ev.tolist() == plain.ev.tolist()
    near, far = (make_scene(rng(3), rooms, SIZE, variety=variety([name])) for name in ("1ev", "4ev"))
    assert near.ev.tolist() == [0, 1, 2] and far.ev.tolist() == [0, 4, 8]
    both = (near.label < 0.99) & (near.label > 0.01)
    ratio = (near.label / far.label)[both]  # one radiance, scaled by 2^-1 and 2^-4; moving edges are blurred otherwise
    assert np.median(ratio) == pytest.approx(8, rel=1e-3) and (abs(ratio - 8) < 0.1).mean() > 0.9
    for made in (near, far, make_scene(rng(3), rooms, SIZE, variety=variety(["strong"]))):
        assert [thing["kind"] for thing in made.facts["objects"]] == [t["kind"] for t in plain.facts["objects"]]  # type: ignore[index, attr-defined]


def test_parts_with_nothing_to_draw_are_the_plain_scene(rooms: list[Photograph]) -> None:
    """And so are none: the streams of the parts take nothing from the scene's own."""
    nothing = Variety(
        Colours(share=0.0, drifting=0.0),
        Files((1.0, 0.0, 0.0)),
        Curves(bent=0.0, srgb=0.0, soft=0.0, below=0.0),
        Exposures(share=0.0, erring=0.0),
        Movements(still=0.0, fast=0.0, contrast=0.0, shaken=0.0),
    )
    generators = rng(5), rng(5)
    plain, varied = (make_scene(g, rooms, SIZE, variety=v) for g, v in zip(generators, (PLAIN, nothing), strict=True))
    np.testing.assert_array_equal(plain.frames, varied.frames)
    np.testing.assert_array_equal(plain.label, varied.label)
    assert generators[0].random() == generators[1].random()


def test_a_part_draws_the_same_whichever_others_are_on() -> None:
    everything = variety(ALL)
    for name in ALL:
        alone, among = variety([name]).draw(rng(8)), everything.draw(rng(8))
        for field in alone.facts:
            assert getattr(alone, field) == getattr(among, field)


def test_what_was_drawn_is_told(rooms: list[Photograph]) -> None:
    made = make_scene(rng(3), rooms, SIZE, variety=variety(ALL))
    assert made.facts.keys() >= {"light", "balance", "files", "curve", "timing", "movement"}
    json.dumps(made.facts)
    assert not scene(rooms).facts.keys() & {"light", "balance", "files", "curve", "timing", "movement"}


def test_drifting_white_balance_shows_in_the_frames(rooms: list[Photograph]) -> None:
    parts = {"motion": Movements(1.0, shaken=0.0)}
    steady = scene(rooms, **parts, colours=Colours(0.0, drifting=0.0))
    drifting = scene(rooms, **parts, colours=Colours(0.0, drifting=1.0, drift=0.3))
    before, after = (ldr_to_float(made.frames[0]) ** 2.2 for made in (steady, drifting))
    for channel in range(3):
        inside = (before[..., channel] > 0.1) & (before[..., channel] < 0.7)
        ratio = np.median(after[inside, channel] / before[inside, channel])
        assert ratio == pytest.approx(drifting.facts["balance"][0][channel], rel=0.02)  # type: ignore[index]
    np.testing.assert_array_equal(steady.frames[1], drifting.frames[1])


def test_the_label_stays_linear_whatever_the_curve(rooms: list[Photograph]) -> None:
    srgb = scene(rooms, curves=Curves(0.0, srgb=1.0, soft=0.0, below=0.0))
    plain = scene(rooms)
    np.testing.assert_array_equal(plain.label, srgb.label)
    assert np.abs(ldr_to_float(plain.frames[1]) - ldr_to_float(srgb.frames[1])).max() > 0.005


# Command line and statistics


@pytest.fixture
def hdri(tmp_path: Path) -> Path:
    for i, name in enumerate(validation.HELD_OUT):
        write_hdr(tmp_path / "hdri" / f"{name}.hdr", panorama(i).image)
    return tmp_path / "hdri"


def make(hdri: Path, out: Path, vary: tuple[str, ...], workers: int = 1) -> list[Path]:
    paths = find_photographs([hdri], [], [])
    recipe = synthesise.Recipe(SIZE, 7, None, None, synthesise.digest(paths), vary)
    return synthesise.synthesise(paths, out, range(3), recipe, workers)


def contents(folders: list[Path]) -> dict[str, bytes]:
    return {f"{folder.name}/{path.name}": path.read_bytes() for folder in folders for path in folder.iterdir()}


def test_varied_scenes_are_the_same_bytes_from_any_number_of_workers(hdri: Path, tmp_path: Path) -> None:
    one, two = contents(make(hdri, tmp_path / "one", ALL)), contents(make(hdri, tmp_path / "two", ALL, workers=2))
    assert one == two and len(one) == 3 * 6
    assert json.loads(one["chinese_garden_1k_0000/scene.json"])["vary"] == list(ALL)


def test_a_set_does_not_mix_varied_and_plain_scenes(hdri: Path, tmp_path: Path) -> None:
    make(hdri, tmp_path / "plain", ())
    make(hdri, tmp_path / "varied", ("files",))
    assert "vary" not in json.loads((tmp_path / "plain" / "chinese_garden_1k_0000" / "scene.json").read_text())
    with pytest.raises(InputError, match=r"there already, with vary None, not \['files'\]"):
        make(hdri, tmp_path / "plain", ("files",))
    with pytest.raises(InputError, match=r"there already, with vary \['files'\], not None"):
        make(hdri, tmp_path / "varied", ())


def test_all_is_every_part_by_its_usual_ranges() -> None:
    assert set(ALL) <= PARTS.keys() and variety(ALL) == Variety(Colours(), Files(), Curves(), Exposures(), Movements())
    options = synthesise.make_parser().parse_args(["--vary", "all", "4ev"])
    assert variety(synthesise.parts(options.vary)).exposures == PARTS["4ev"][1]


def test_one_command_makes_the_validation_sets(
    hdri: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(validation, "SIZE", SIZE)
    monkeypatch.setattr(validation, "SCENES", 2)
    out = tmp_path / "scenes"
    monkeypatch.setattr("sys.argv", ["validation", "--hdri", str(hdri), "--out", str(out), "--workers", "1"])
    validation.main()
    assert {path.name for path in out.iterdir()} == {"val", "val_jpeg92", "val_strong", "val_1ev", "val_4ev"}
    assert all(len(list(path.iterdir())) == 2 for path in out.iterdir())
    assert capsys.readouterr().out == f"5 sets of 2 scenes in {out}\n"
    names = {path.name: [varied_names(folder) for folder in sorted(path.iterdir())] for path in out.iterdir()}
    assert names["val"] == [set(), set()] and names["val_jpeg92"] == [{"JPEG reference"}] * 2
    assert names["val_strong"] == [{"other colours"}] * 2 and names["val_1ev"] == [{"other steps"}] * 2


def varied_names(folder: Path) -> set[str]:
    return {name for name, does in drawn(folder / "scene.json").items() if does}


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", '{"movement": 3}', '{"files": [1]}', '{"timing": {"errors": 5}}', "[" * 100_000]
)
def test_facts_that_no_scene_was_made_with_are_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "scene.json").write_text(text)
    with pytest.raises(InputError, match=r"scene\.json: not the facts of a made scene.*; remove it, or make the scene"):
        drawn(tmp_path / "scene.json")


def test_facts_without_an_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "scene.json").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="it is a device"):
        drawn(tmp_path / "scene.json")
    assert drawn(tmp_path / "none.json") == {}


def test_statistics_know_8_bits_white_steps_and_colour() -> None:
    grey = np.broadcast_to(np.linspace(0.01, 0.2, 64, dtype=np.float32)[None, :, None], (48, 64, 3))
    label = grey * np.array([1.0, 0.5, 0.75], np.float32)
    ev = np.array([0.0, 1.0, 4.0], np.float32)
    curve = Curve(white=250)
    frames = np.stack([File(EIGHT).stored(curve.encode((label * 2.0**e).clip(0, 1), 0)) for e in ev])
    seen = measure(frames, ev, label)
    assert seen.eight_bit and seen.steps == (1.0, 3.0) and seen.colour == pytest.approx(0.5)
    assert seen.white == pytest.approx(255 * ldr_to_float(frames[1]).max())
    lines = table({"one": [dataclasses.replace(seen, drawn=dict.fromkeys(VARIED, True)), seen]}).splitlines()
    assert "| steps of 1 / 2 / 3 / 4 EV, unequal (% of scenes) | 100 / 0 / 0 / 0, 100 |" in lines
    assert "| reference of 8 bits (% of scenes) | 100 |" in lines and "| more shake (% of scenes made) | 100 |" in lines
    assert "| more shake (% of scenes made) | - |" in table({"real": [seen]}).splitlines()


def test_nothing_drawn_is_a_plain_scene() -> None:
    assert PLAIN.draw(rng()) == Drawn()

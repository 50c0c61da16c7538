"""Made scenes: geometry, exposure, noise, motion, and files that do not depend on how the work was divided."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets import synthesise
from datasets.scenes import LAYOUTS, check_scenes, find_scenes
from datasets.statistics import immerkaer, measure, measure_folder, table
from datasets.synthesis import Photograph, camera, find_photographs, make_scene, motion, photographs, shapes
from datasets.synthesis.photographs import Camera, perspective, read_photograph, take_view
from datasets.synthesis.scene import populated
from datasets.synthesis.variety import variety
from utils.cli import run
from utils.exposure import to_ldr, to_linear, tonemap
from utils.exr import write_exr
from utils.files import InputError
from utils.images import ldr_to_float, read_hdr, rgbe_round, write_hdr

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "datasets" / "samples"
SIZE = (48, 64)


def panorama(seed: int, name: str = "room") -> Photograph:
    """128x256 panorama: coarse random blocks of 10 stops, and a lamp."""
    rng = np.random.default_rng(seed)
    blocks = 2.0 ** rng.uniform(-6, 4, (16, 32, 1)) * rng.uniform(0.5, 1.0, (16, 32, 3))
    image = np.kron(blocks, np.ones((8, 8, 1))).astype(np.float32)
    image[40:44, 100:104] = 500.0
    return Photograph(name, image)


@pytest.fixture(scope="module")
def rooms() -> list[Photograph]:
    return [panorama(1, "room"), panorama(2, "hall")]


@pytest.fixture
def hdri(tmp_path: Path) -> Path:
    for i, name in enumerate(("hall", "room", "street")):
        write_hdr(tmp_path / "hdri" / f"{name}.hdr", panorama(i).image)
    return tmp_path / "hdri"


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# Views


def spot(longitude: float, latitude: float) -> np.ndarray:
    """A dim 256x512 panorama with one bright spot there (radians)."""
    image = np.full((256, 512, 3), 0.1, np.float32)
    row, column = int((0.5 - latitude / math.pi) * 256), int((longitude / (2 * math.pi) + 0.5) * 512)
    image[row - 1 : row + 2, column - 1 : column + 2] = 50.0
    return image


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (0.4, 0.0), (-2.0, 0.2), (3.1, -0.2)])
def test_what_the_camera_points_at_is_in_the_middle(yaw: float, pitch: float) -> None:
    view = perspective(spot(yaw, pitch), Camera(yaw, pitch, 0.0, 60.0), (80, 120), 1.0)
    row, column = np.unravel_index(view.mean(axis=-1).argmax(), (80, 120))
    assert abs(row - 40) <= 2 and abs(column - 60) <= 2


def test_projection_is_perspective() -> None:
    """A point 0.3 rad to the right and 0.2 rad up of the axis lands at f tan(0.3) and f tan(0.2) / cos(0.3)."""
    focal = 100.0
    view = perspective(spot(0.3, 0.2), Camera(0.0, 0.0, 0.0, focal), (160, 160), 1.0).mean(axis=-1)
    row, column = np.unravel_index(view.argmax(), view.shape)
    assert column - 80 == pytest.approx(focal * math.tan(0.3), abs=2)
    assert 80 - row == pytest.approx(focal * math.tan(0.2) / math.cos(0.3), abs=2)


def test_horizon_lies_where_the_camera_says() -> None:
    sky_and_ground = np.ones((256, 512, 3), np.float32)
    sky_and_ground[128:] = 0.01
    tilted = Camera(1.0, 0.15, 0.0, 90.0)
    view = perspective(sky_and_ground, tilted, (100, 100), 1.0).mean(axis=-1)
    assert np.argmax(view[:, 50] < 0.1) == pytest.approx(tilted.horizon(100), abs=1.5)


def test_fine_panoramas_are_averaged_not_aliased() -> None:
    stripes = np.ones((512, 1024, 3), np.float32)
    stripes[:, ::2] = 0.01
    view = perspective(stripes, Camera(0.0, 0.0, 0.0, 20.0), (16, 32), 1.0)
    np.testing.assert_allclose(view, 0.505, rtol=0.1)


def test_interpolation_stays_positive_beside_a_lamp(rooms: list[Photograph]) -> None:
    canvas, _ = take_view(np.random.default_rng(0), rooms[0], SIZE, 4)
    assert canvas.min() >= 0 and np.isfinite(canvas).all()
    assert canvas.shape == (2 * (48 + 8), 2 * (64 + 8), 3)


def test_plain_photographs_are_cropped() -> None:
    photograph = Photograph("plain", panorama(3).image[:, :200])
    assert not photograph.is_panorama
    canvas, _ = take_view(np.random.default_rng(0), photograph, SIZE, 4)
    assert canvas.shape == (112, 144, 3)
    assert np.isin(np.round(canvas[60, 60], 3), np.round(photograph.image, 3)).all()


def test_reading_fills_dips_of_lossy_files(tmp_path: Path) -> None:
    image = np.full((16, 32, 3), 4.0, np.float32)
    image[5, 7], image[9, 9], image[2, 2] = -0.5, np.nan, 90.0
    write_exr(tmp_path / "a.exr", image)
    read = read_photograph(tmp_path / "a.exr").image
    assert read[5, 7].min() >= 2.0 and read[9, 9].min() >= 2.0
    assert read[2, 2].max() == 90.0


# Exposure, noise, shake


def test_reference_is_well_exposed() -> None:
    rng = np.random.default_rng(0)
    for factor in (1e-3, 1.0, 1e4):
        view = factor * panorama(5).image
        exposed = camera.reference_exposure(rng, view) * view
        assert 0.02 < photographs.log_average(exposed) < 0.5
        assert (photographs.luminance(exposed) > 1).mean() <= camera.CLIPPED_AT_MOST + 0.01


def test_wide_brackets_for_bright_highlights() -> None:
    rng = np.random.default_rng(0)
    dull = np.full((10, 10, 3), 0.2)
    glaring = dull.copy()
    glaring[0] = 6.0
    assert {float(camera.bracket(rng, dull)[2]) for _ in range(20)} == {4.0, 6.0}
    assert {float(camera.bracket(rng, glaring)[2]) for _ in range(20)} == {6.0}


@pytest.mark.parametrize("iso", [100, 1600])
@pytest.mark.parametrize("level", [0.02, 0.5])
def test_noise_has_the_variance_of_the_model(iso: float, level: float) -> None:
    electrons, read = camera.sensor_noise(iso)
    value = camera.expose(np.random.default_rng(1), np.full((300, 300), level), iso)
    assert value.mean() == pytest.approx(level, rel=0.01)
    assert value.std() == pytest.approx(math.sqrt(level * electrons + read**2) / electrons, rel=0.02)


def test_noise_grows_with_iso_and_saturation_is_clean() -> None:
    noises = [camera.expose(np.random.default_rng(1), np.full((99, 99), 0.1), iso).std() for iso in camera.ISO]
    assert noises == sorted(noises)
    assert (camera.expose(np.random.default_rng(1), np.full((9, 9), 1.5), 1600) == 1).all()


def test_looking_straight_is_averaging(rooms: list[Photograph]) -> None:
    canvas, _ = take_view(np.random.default_rng(0), rooms[0], SIZE, 4)
    straight = camera.look(canvas, np.eye(3), SIZE)
    expected = canvas[8:-8, 8:-8].reshape(48, 2, 64, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(straight, expected, rtol=1e-4)


def test_shake_moves_the_picture_by_its_homography(rooms: list[Photograph]) -> None:
    canvas, _ = take_view(np.random.default_rng(0), rooms[0], SIZE, 6)
    shifted = np.array([[1.0, 0, 3], [0, 1, -2], [0, 0, 1]])
    straight, moved = (camera.look(canvas, h, SIZE) for h in (np.eye(3), shifted))
    np.testing.assert_allclose(moved[10:30, 10:30], straight[8:28, 13:33], rtol=1e-3, atol=1e-4)


def test_shake_is_a_rotation_of_some_pixels() -> None:
    rng = np.random.default_rng(0)
    shakes = [camera.shake(rng, Camera(0, 0, 0, 800.0), 1500) for _ in range(200)]
    shift = np.array([h[:2, 2] / h[2, 2] for h in shakes])
    assert shift.std() == pytest.approx(camera.SHAKE, rel=0.15)
    inner = np.diag([1 / 800, 1 / 800, 1]) @ shakes[0] @ np.diag([800, 800, 1])
    np.testing.assert_allclose(inner @ inner.T, np.eye(3), atol=1e-12)


# Objects


def test_trail_is_a_centred_line_as_long_as_the_motion() -> None:
    kernel = motion.trail(np.array([30.0, 0.0]), 0.5)
    x = np.arange(kernel.shape[1]) - kernel.shape[1] // 2
    weights = kernel.sum(axis=0)
    assert kernel.sum() == pytest.approx(1) and (weights * x).sum() == pytest.approx(0, abs=1e-4)
    spread = math.sqrt((weights * x**2).sum())  # of a uniform line: length / sqrt(12)
    assert spread == pytest.approx(0.5 * 30 * photographs.SUPERSAMPLING / math.sqrt(12), rel=0.05)
    assert np.count_nonzero(kernel.sum(axis=1) > 1e-6) <= 2


def square(velocity: tuple[float, float]) -> motion.Mover:
    """A white 8x8 pixel square in the middle of ``SIZE``."""
    sprite = np.ones((16, 16, 4), np.float32)
    position = np.array([SIZE[1] / 2, SIZE[0] / 2])
    return motion.Mover("square", lambda _: sprite, np.ones(3), position, np.array(velocity), (0.5, 0.5), 2, 0, 0, 0)


def centre_of(picture: np.ndarray) -> tuple[float, float]:
    weight = picture.mean(axis=-1)
    rows, columns = np.mgrid[0 : weight.shape[0], 0 : weight.shape[1]] + 0.5
    return (columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()


def test_objects_move_blur_and_stay_put_in_the_reference() -> None:
    ev = np.array([0.0, 2.0, 4.0])
    black = np.zeros((2 * (48 + 8), 2 * (64 + 8), 3), np.float32)
    canvases = [populated(black, [square((12.0, -5.0))], ev, i, 0.4, 4) for i in range(3)]
    frames = [camera.look(canvas, np.eye(3), SIZE) for canvas in canvases]
    for i, frame in enumerate(frames):
        assert centre_of(frame) == pytest.approx((32 + 12 * (i - 1), 24 - 5 * (i - 1)), abs=0.3)
    softness = [(frame > 0.02).sum() / (frame > 0.98).sum() for frame in frames]
    assert softness[0] <= softness[1] < softness[2]  # the longest exposure blurs most
    assert frames[2].sum() == pytest.approx(frames[0].sum(), rel=1e-3)  # blur spreads light, it makes none


def test_near_objects_cover_far_ones() -> None:
    black = np.zeros((112, 144, 3), np.float32)
    far, near = square((0.0, 0.0)), dataclasses.replace(square((0.0, 0.0)), light=np.array([0.2, 0.2, 0.2]))
    canvas = populated(black, [far, near], np.array([0.0, 2.0, 4.0]), 1, 0.0, 4)
    assert canvas[56, 72].max() == pytest.approx(0.2, abs=1e-3)


def test_sprites_are_premultiplied_and_change_with_their_phase() -> None:
    rng = np.random.default_rng(0)
    patches = [photographs.texture(rng, panorama(4), 40) for _ in range(3)]
    light = shapes.random_light(rng)
    person = shapes.walker(shapes.random_walker(rng, patches), 80, light, 1.0)
    for draw in (shapes.ball(patches[0], light), person):
        first, later = draw(0.0), draw(1.0)
        assert first.dtype == np.float32 and first.min() >= 0 and first.max() <= 1 + 1e-6
        assert (first[..., :3] <= first[..., 3:] + 1e-6).all()
        assert np.abs(first - later).max() > 0.1
    flat = shapes.cut_out(rng, patches[0])
    np.testing.assert_array_equal(flat(0.0), flat(1.0))
    assert 0.2 < flat(0.0)[..., 3].mean() < 0.9


def test_people_stand_on_the_ground(rooms: list[Photograph]) -> None:
    """Whatever their size, the horizon passes at the height of their eyes."""
    rng, level = np.random.default_rng(0), Camera(0.0, 0.1, 0.0, 60.0)
    view, _ = take_view(rng, rooms[0], (200, 300), 4)
    crowd = [m for _ in range(10) for m in motion.random_movers(rng, view, level, (200, 300), rooms, 30.0)]
    people = [m for m in crowd if m.kind == "walker"]
    assert len(people) > 5
    for person in people:
        tall = person.draw(0.0).shape[0] / 1.1 / person.sample
        assert (person.position[1] - level.horizon(200)) / tall == pytest.approx(motion.EYE_LEVEL, abs=0.02)


# Scenes


def test_scene_is_what_the_loaders_expect(rooms: list[Photograph]) -> None:
    frames, ev, label = make_scene(np.random.default_rng(0), rooms, SIZE)
    assert frames.shape == (3, *SIZE, 3) and frames.dtype == np.uint16
    assert ev.dtype == np.float32 and ev.tolist() in ([0, 2, 4], [0, 3, 6])
    assert label.shape == (*SIZE, 3) and label.dtype == np.float32
    assert label.min() >= 0 and label.max() <= 1


def test_reference_agrees_with_the_label(rooms: list[Photograph]) -> None:
    for seed in range(4):
        frames, ev, label = make_scene(np.random.default_rng(seed), rooms, SIZE, iso=100)
        seen = to_linear(ldr_to_float(frames[1]), float(ev[1]))
        clipped = label * 2.0 ** ev[1] > 1.02
        assert (frames[1][clipped] >= 65000).all()
        inside = label * 2.0 ** ev[1] < 0.95
        assert np.abs(seen - label)[inside].mean() * 2.0 ** ev[1] < 0.01
        assert frames[0].mean() < frames[1].mean() < frames[2].mean()


def test_same_generator_same_scene_another_seed_another(rooms: list[Photograph]) -> None:
    first, again, other = (make_scene(np.random.default_rng(seed), rooms, SIZE) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.label, again.label)
    assert (first.frames != other.frames).mean() > 0.5


def test_numbers_use_all_photographs_alike(rooms: list[Photograph]) -> None:
    made = [make_scene(np.random.default_rng(i), rooms, SIZE, number=i).facts["photograph"] for i in range(4)]
    assert made == ["room", "hall", "room", "hall"]


def test_a_given_iso_changes_noise_alone(rooms: list[Photograph]) -> None:
    clean, noisy = (make_scene(np.random.default_rng(3), rooms, SIZE, iso=iso) for iso in (100, 1600))
    np.testing.assert_array_equal(clean.label, noisy.label)
    difference = ldr_to_float(clean.frames[0]) - ldr_to_float(noisy.frames[0])
    assert 0 < np.abs(difference).mean() < 0.1


# Command line


def make(hdri: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "datasets.synthesise", "--hdri", str(hdri), "--out", str(out)]
    return subprocess.run([*command, "--size", "48x64", *more], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_same_bytes_from_any_number_of_workers_and_after_a_break(hdri: Path, tmp_path: Path) -> None:
    paths = find_photographs([hdri], [], [])
    recipe = synthesise.Recipe(SIZE, 7, None, None, synthesise.digest(paths))
    synthesise.synthesise(paths, tmp_path / "one", range(4), recipe, 1)
    done = make(hdri, tmp_path / "two", "--scenes", "4", "--seed", "7", "--workers", "2")
    assert done.returncode == 0, done.stderr
    whole = digests(tmp_path / "one")
    assert whole == digests(tmp_path / "two") and len(whole) == 4 * 6

    broken = tmp_path / "one" / "room_0001"
    kept = (tmp_path / "one" / "hall_0000" / "HDRImg.exr").stat().st_mtime_ns
    leftover = broken.rename(broken.with_name(".room_0001.partial"))  # as a run leaves it that was killed
    (leftover / "input_3.tif").unlink()
    synthesise.synthesise(paths, tmp_path / "one", range(4), recipe, 1)
    assert digests(tmp_path / "one") == whole
    assert (tmp_path / "one" / "hall_0000" / "HDRImg.exr").stat().st_mtime_ns == kept


def test_the_label_keeps_the_weak_channels_of_strong_colours(hdri: Path, tmp_path: Path) -> None:
    paths = find_photographs([hdri], [], [])
    recipe = synthesise.Recipe(SIZE, 7, None, None, synthesise.digest(paths), ("strong",))
    synthesise.synthesise(paths, tmp_path / "out", [0], recipe, 1)
    wanted = make_scene(
        np.random.default_rng([7, 0]),
        [read_photograph(path) for path in paths],
        SIZE,
        number=0,
        variety=variety(("strong",)),
    ).label
    (scene,) = find_scenes(LAYOUTS["samples"], tmp_path / "out", "train")
    error = np.abs(tonemap(scene.read_label()) - tonemap(wanted)).max()
    assert error < 1e-4 < 0.02 < np.abs(tonemap(rgbe_round(wanted)) - tonemap(wanted)).max()  # a Radiance file's error


def test_scene_folders_are_kalantaris(hdri: Path, tmp_path: Path) -> None:
    recipe = synthesise.Recipe(SIZE, 7, 5.0, 200.0, "street")
    (folder,) = synthesise.synthesise(find_photographs([hdri], ["street"], []), tmp_path / "out", [3], recipe, 1)
    assert sorted(path.name for path in folder.iterdir()) == [
        "HDRImg.exr",
        "exposure.txt",
        "input_1.tif",
        "input_2.tif",
        "input_3.tif",
        "scene.json",
    ]
    scenes = find_scenes(LAYOUTS["samples"], tmp_path / "out", "train")
    assert [scene.name for scene in scenes] == ["street_0003"] and check_scenes(scenes) == []
    with pytest.raises(InputError, match=r"street_0003: there already, with seed 7, not 8"):
        other = dataclasses.replace(recipe, seed=8)
        synthesise.synthesise(find_photographs([hdri], ["street"], []), tmp_path / "out", [3], other, 1)
    (folder / "scene.json").write_text('{"seed": ')
    with pytest.raises(InputError, match=r"scene\.json: not the facts of a made scene; remove the folder"):
        synthesise.synthesise(find_photographs([hdri], ["street"], []), tmp_path / "out", [3], recipe, 1)


@pytest.mark.slow
def test_another_set_of_photographs_is_another_set_of_scenes(hdri: Path, tmp_path: Path) -> None:
    assert make(hdri, tmp_path / "out", "--scenes", "2", "--only", "hall", "room").returncode == 0
    more = make(hdri, tmp_path / "out", "--scenes", "2", "--only", "hall", "room", "street")
    assert more.returncode == 2 and "hall_0000: there already, with photographs" in more.stderr
    other = make(hdri, tmp_path / "out", "--scenes", "2", "--only", "street")
    assert other.returncode == 2 and "of other photographs is there already" in other.stderr
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_damaged_photograph_ends_the_workers(hdri: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "cut.hdr").write_bytes(next(hdri.glob("*.hdr")).read_bytes()[:400])
    done = make(tmp_path / "cut", tmp_path / "out", "--scenes", "4", "--workers", "2")
    assert done.returncode == 2 and "cut.hdr" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "option",
    [("--iso", "-100"), ("--iso", "0"), ("--motion", "nan"), ("--scenes", "0"), ("--seed", "-1"), ("--numbers", "-1")],
)
def test_impossible_figures_are_refused(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        synthesise.make_parser().parse_args(option)
    assert caught.value.code == 2 and f"argument {option[0]}: '{option[1]}' is not" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to(hdri: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = make(hdri, tmp_path / "file", "--scenes", "1")
    assert done.returncode == 2 and done.stderr.startswith("error: --out")


def test_only_and_exclude(hdri: Path) -> None:
    def names(only: list[str], exclude: list[str]) -> list[str]:
        return [path.stem for path in find_photographs([hdri], only, exclude)]

    assert names([], []) == ["hall", "room", "street"]
    assert names(["r*", "hall"], []) == ["hall", "room"]
    assert names([], ["room"]) == ["hall", "street"]
    with pytest.raises(InputError, match=r"^lobby: no photograph of that name; there are hall, room, street$"):
        names([], ["lobby"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--only", "lobby"], "lobby: no photograph of that name"),
        (["--exclude", "*"], "no .hdr or .exr photograph here"),
        (["--size", "8x8"], "sides of 32 to 8192 pixels"),
        (["--size", "wide"], "invalid parse_size value: 'wide'"),
    ],
)
def test_bad_input_is_one_clear_line(
    hdri: Path,
    tmp_path: Path,
    more: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["synthesise", "--hdri", str(hdri), "--out", str(tmp_path / "out"), *more])
    with pytest.raises(SystemExit) as stopped:
        run(synthesise.main)
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Statistics


def test_statistics_see_what_was_put_in() -> None:
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.uniform(0.0, 0.12, (140, 160, 3)).astype(np.float32), (0, 0), 2.0)
    wide = np.clip(3 * (wide - wide.min()), 0.01, 0.2)
    label, ev = wide[20:-20, 20:-20].copy(), np.array([0.0, 2.0, 4.0], np.float32)
    label[:10] = 1.0
    moved = wide[20:-20, 14:-26].copy()  # the picture 6 pixels to the right
    frames = np.stack([camera.shoot(rng, x, float(e), 400) for x, e in zip((moved, label, label), ev, strict=True)])
    seen = measure(frames, ev, label)
    assert seen.clipped[1] == pytest.approx(0.1, abs=0.005) and seen.clipped[0] < 0.01
    assert seen.steps == (2, 2) and not seen.eight_bit and seen.saturated_label == pytest.approx(0.1, abs=0.005)
    assert seen.camera_motion == pytest.approx(6.0, abs=0.3)
    expected = to_ldr(label, 2.0)
    truth = 255 * (ldr_to_float(frames[1]) - expected)[(expected > 0.1) & (expected < 0.9)].std()
    assert seen.reference_noise == pytest.approx(truth, rel=0.2)


def test_immerkaer_measures_white_noise() -> None:
    noise = np.random.default_rng(0).normal(0.5, 0.02, (200, 200)).astype(np.float32)
    assert immerkaer(noise) == pytest.approx(0.02, rel=0.03)


def test_table_has_a_column_per_set() -> None:
    lines = table({"one": measure_folder(SAMPLES), "two": measure_folder(SAMPLES)}).splitlines()
    assert lines[0] == "| | one | two |" and lines[2] == "| scenes | 3 | 3 |"
    assert all(line.count("|") == 4 for line in lines[:-2])


# What is shipped


def test_samples_are_small_clip_and_move() -> None:
    scenes = find_scenes(LAYOUTS["samples"], None, "test")
    assert len(scenes) == 3 and check_scenes(scenes) == []
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) < 6_000_000
    for scene in scenes:
        figures = measure(*scene.read())
        assert figures.clipped[1] > 0.03 > 0.5 * figures.clipped[0]
        assert figures.moving > 0.03
        assert read_hdr(scene.label_path).shape == (256, 384, 3)

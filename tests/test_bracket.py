"""From files to a bracket: exposures, the choice of three frames, brackets in folders, and the reconstruction."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from PIL.ExifTags import IFD, Base

from models import AFUNet, AFUNetConfig
from tests.handheld import START, draw_scene, exif, hand_motion, write_bracket
from utils import inference
from utils.exposure import network_input
from utils.files import InputError
from utils.images import ldr_to_float
from utils.inference import estimate_seconds, reconstruct
from utils.memory import available_bytes, bytes_needed
from utils.photographs.bracket import (
    choose_three,
    clipped_share,
    find_exposures,
    load_bracket,
)
from utils.photographs.search import find_brackets, group_shots
from utils.photographs.shots import Shot, read_frame, read_shot

torch.set_num_threads(1)


def shot(name="a.jpg", seconds=0.01, f_number=8.0, iso=100.0, at=0.0, size=(40, 60)):
    captured = None if at is None else START + timedelta(seconds=at)
    return Shot(Path(name), *size, seconds=seconds, f_number=f_number, iso=iso, captured=captured)


# Exposures


def test_exposure_is_time_times_iso_over_aperture_squared():
    shots = [shot(), shot(seconds=0.04), shot(iso=400.0), shot(f_number=4.0)]
    values, source = find_exposures(shots)
    assert source == "EXIF"
    assert np.subtract(values, values[0]) == pytest.approx([0.0, 2.0, 2.0, 2.0])


def test_apex_values_stand_in_for_times(tmp_path):
    data = exif(None, None)
    data.get_ifd(IFD.Exif).update({int(Base.ShutterSpeedValue): 5.0, int(Base.ApertureValue): 6.0})
    Image.new("RGB", (32, 32)).save(tmp_path / "a.jpg", exif=data)
    found = read_shot(tmp_path / "a.jpg")
    assert (found.seconds, found.f_number) == (1 / 32, 8.0)


def test_a_manual_lens_has_no_aperture():
    values, _ = find_exposures([shot(seconds=t, f_number=None) for t in (0.01, 0.04, 0.16)])
    assert np.diff(values) == pytest.approx([2.0, 2.0])
    with pytest.raises(InputError, match="some files only"):
        find_exposures([shot(), shot(f_number=None), shot(seconds=0.04)])


def test_exposures_by_hand_come_first():
    shots = [shot(), shot(), shot()]
    assert find_exposures(shots, ev=[0, 2, 4]) == ([0.0, 2.0, 4.0], "--ev")
    assert np.diff(find_exposures(shots, times=[0.01, 0.04, 0.16])[0]) == pytest.approx([2.0, 2.0])
    with pytest.raises(InputError, match="2 exposures for 3"):
        find_exposures(shots, ev=[0, 2])


def test_exposure_file_counts_photographs_in_name_order(tmp_path):
    paths = write_bracket(tmp_path, evs=(4, 0, 2))
    (tmp_path / "exposure.txt").write_text("8\n1\n4\n")
    shots = [read_shot(path) for path in reversed(paths)]
    assert find_exposures(shots) == ([4.0, 1.0, 8.0], "exposure.txt")
    (tmp_path / "exposure.txt").write_text("8\n1\n")
    with pytest.raises(InputError, match="2 exposures for 3"):
        find_exposures(shots)
    (tmp_path / "exposure.txt").write_text("eight")
    with pytest.raises(InputError, match="not a text file of numbers"):
        find_exposures(shots)


# Choosing three


@pytest.mark.parametrize(
    ("ev", "clipped", "expected"),
    [
        ([0, 1, 2, 3, 4], [0.5, 0.3, 0.1, 0.3, 0.5], (0, 2, 4)),
        ([0, 2, 4, 6, 8], [0.9, 0.5, 0.2, 0.1, 0.9], (2, 3, 4)),
        ([0, 1, 2, 3, 4, 5, 6], [0.9, 0.5, 0.4, 0.1, 0.2, 0.5, 0.9], (0, 3, 6)),  # 3 EV as near as 2 EV, and wider
        ([0, 1, 3, 6, 7], [0.0, 0.3, 0.2, 0.3, 0.0], (0, 2, 3)),  # the ends can't be the reference
        ([0, 1, 2, 3, 4], [0.9, 0.05, 0.06, 0.3, 0.5], (0, 2, 4)),  # hardly more clipped, and two steps on each side
        ([0, 1, 2, 3, 4], [0.9, 0.1, 0.4, 0.6, 0.9], (0, 2, 4)),  # steps come before clipped pixels
        ([0, 1, 2, 3, 4], [0.9, 0.6, 0.4, 0.1, 0.9], (0, 2, 4)),
        ([0, 1, 2, 3, 4, 5, 6], [0.9, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9], (0, 2, 4)),
        ([0, 1, 2, 3, 4, 5, 6], [0.9, 0.8, 0.7, 0.3, 0.2, 0.1, 0.9], (2, 4, 6)),
        (range(9), [0.9, 0.1, 0.2, 0.25, 0.35, 0.5, 0.7, 0.8, 0.9], (0, 2, 4)),
        (range(9), [0.9, 0.8, 0.7, 0.5, 0.31, 0.3, 0.32, 0.4, 0.9], (2, 5, 8)),  # of references as good, wider steps
        ([0.0, 0.67, 1.33, 2.0, 2.67, 3.33, 4.0], [0.1] * 7, (0, 3, 6)),
        ([0.0, 1.94, 2.0, 4.0, 4.06], [0.5, 0.1, 0.2, 0.3, 0.5], (0, 1, 4)),  # times are rounded
    ],
)
def test_the_three_that_serve_best(ev, clipped, expected):
    assert choose_three(ev, clipped) == expected


def test_reference_by_hand():
    assert choose_three([0, 2, 4, 6], [0.0, 0.1, 0.9, 0.0], reference=2) == (1, 2, 3)


def test_of_five_frames_the_least_clipped_is_the_reference(tmp_path):
    paths = write_bracket(tmp_path, evs=(6, 0, 4, 2, 8))
    found = load_bracket(paths, alignment="none")
    assert "of 5 frames took" in found.notes[0]
    assert found.ev.tolist() == [0.0, 2.0, 4.0]
    inner = [path for path, ev in zip(paths, (6, 0, 4, 2, 8), strict=True) if ev not in (0, 8)]
    assert found.shots[1].path == min(inner, key=lambda path: clipped_share(read_frame(read_shot(path))))
    told = load_bracket(paths, alignment="none", reference=4)
    assert told.shots[1].path == paths[0]


def test_unusual_steps_are_said(tmp_path):
    assert load_bracket(write_bracket(tmp_path / "a"), alignment="none").notes == ()
    notes = load_bracket(write_bracket(tmp_path / "b", evs=(0, 1, 2)), alignment="none").notes
    assert "steps of 1.0 and 1.0 EV" in notes[0]


# A whole bracket


def test_names_and_order_of_the_files_do_not_matter(tmp_path):
    motions = (hand_motion(0.2, 5.0, -4.0), None, hand_motion(-0.2, -6.0, 3.0))
    tidy = write_bracket(tmp_path / "a", size=(160, 200), motions=motions)
    order = (2, 0, 1)
    mixed = write_bracket(
        tmp_path / "b",
        evs=[(0, 2, 4)[i] for i in order],
        names=("a.jpg", "z.jpg", "k.jpg"),
        size=(160, 200),
        motions=[motions[i] for i in order],
    )
    one, other = load_bracket(tidy), load_bracket(mixed)
    assert np.array_equal(one.frames, other.frames)
    assert one.ev.tolist() == other.ev.tolist() == [0.0, 2.0, 4.0]
    assert [motion.method for motion in one.motions] == ["ecc", "none", "ecc"]
    top, bottom, left, right = one.region
    assert 0 < top < 10 and 150 < bottom < 160 and 0 < left < 12 and 185 < right < 200


def test_frames_hold_the_scene_they_were_made_from(tmp_path):
    scene = draw_scene(96, 128)[64:-64, 64:-64]
    found = load_bracket(write_bracket(tmp_path), alignment="none")
    for frame, ev in zip(ldr_to_float(found.frames), found.ev, strict=True):
        seen = (scene * 2.0**ev < 0.9) & (scene * 2.0**ev > 0.1)
        radiance = frame**2.2 / 2.0**ev
        assert np.median(radiance[seen] / scene[seen]) == pytest.approx(1.0, abs=0.03)


def save(path, light, alpha=None, turn=1):
    """Linear light as a 16-bit TIFF on the sRGB curve, stored under an orientation."""
    values = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clip(1e-9) ** (1 / 2.4) - 0.055)
    pixels = np.rint(values.clip(0, 1) * 65535).astype(np.uint16)
    extra = {}
    if alpha is not None:
        pixels = np.dstack([pixels, np.where(alpha, 65535, 0).astype(np.uint16)])
        pixels[~alpha] = 0
        extra = {"extrasamples": ["unassalpha"]}
    tifffile.imwrite(path, pixels, photometric="rgb", extratags=[(274, 3, 1, turn, True)], **extra)


@pytest.fixture
def light():
    return draw_scene(64, 96)[64:-64, 64:-64].astype(np.float64)


@pytest.mark.parametrize("kind", ["16 bits", "8 bits"])
def test_what_is_transparent_shows_what_the_reference_has(tmp_path, light, kind):
    covered = np.ones((64, 96), bool)
    covered[10:30, :40] = False
    for i, ev in enumerate((0, 2, 4)):
        save(tmp_path / f"{i}.tif", light * 2.0**ev, covered if i == 0 else None)
    if kind == "8 bits":
        pixels = tifffile.imread(tmp_path / "0.tif")
        Image.fromarray((pixels >> 8).astype(np.uint8)).save(tmp_path / "0.tif")
    found = load_bracket([tmp_path / f"{i}.tif" for i in range(3)], ev=[0, 2, 4], alignment="none")
    assert "0.tif: 13.0% is transparent; the reference fills in" in found.notes
    seen = ldr_to_float(found.frames[0])[10:30, :40] ** 2.2
    assert seen == pytest.approx(light[10:30, :40].clip(0, 0.25), rel=0.02, abs=1e-5)


def test_what_is_transparent_in_the_reference_shows_another_frame(tmp_path, light):
    covered = np.ones((64, 96), bool)
    covered[10:30, :40] = False
    for i, ev in enumerate((0, 2, 4)):
        save(tmp_path / f"{i}.tif", light * 2.0**ev, covered if i == 1 else None)
    found = load_bracket([tmp_path / f"{i}.tif" for i in range(3)], ev=[0, 2, 4], alignment="none")
    assert "1.tif: 13.0% is transparent; another frame fills in" in found.notes
    assert ldr_to_float(found.frames[1])[10:30, :40] ** 2.2 / 4 == pytest.approx(
        light[10:30, :40].clip(0, 0.25), rel=0.02
    )


def test_an_alpha_channel_of_nothing_but_zeros_means_nothing(tmp_path, light):
    for i, ev in enumerate((0, 2, 4)):
        save(tmp_path / f"{i}.tif", light * 2.0**ev)
        pixels = tifffile.imread(tmp_path / f"{i}.tif")
        pixels = np.dstack([pixels, np.zeros((64, 96), np.uint16)])
        tifffile.imwrite(tmp_path / f"{i}.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    found = load_bracket([tmp_path / f"{i}.tif" for i in range(3)], ev=[0, 2, 4], alignment="none")
    assert ldr_to_float(found.frames[0]) ** 2.2 == pytest.approx(light, rel=0.03, abs=1e-5)
    assert not found.notes


@pytest.mark.parametrize("turns", [(1, 6, 1), (6, 8, 6), (1, 3, 1), (6, 1, 1), (5, 7, 2)])
def test_of_orientations_that_differ_the_references_counts(tmp_path, light, turns):
    for i, (ev, turn) in enumerate(zip((0, 2, 4), turns, strict=True)):
        save(tmp_path / f"{i}.tif", light * 2.0**ev, turn=turn)
    found = load_bracket([tmp_path / f"{i}.tif" for i in range(3)], ev=[0, 2, 4], alignment="none")
    assert found.notes[0] == "orientation tags differ; that of 1.tif, the reference, counts"
    assert {(shot.height, shot.width) for shot in found.shots} == {found.frames.shape[1:3]}
    reference = ldr_to_float(read_frame(found.shots[1]))
    assert np.array_equal(ldr_to_float(found.frames[1]), reference)
    dark = ldr_to_float(found.frames[0]) ** 2.2
    unclipped = reference.max(axis=2) < 0.9
    assert dark[unclipped] == pytest.approx((reference**2.2 / 4)[unclipped], rel=0.05, abs=1e-4)


def test_pictures_turned_by_the_computer_and_by_a_tag_go_together(tmp_path, light):
    save(tmp_path / "0.tif", light)
    save(tmp_path / "1.tif", np.rot90(light * 4), turn=6)
    save(tmp_path / "2.tif", light * 16)
    found = load_bracket([tmp_path / f"{i}.tif" for i in range(3)], ev=[0, 2, 4], alignment="none")
    assert not found.notes
    assert ldr_to_float(found.frames[1])[light.max(axis=2) < 0.2] ** 2.2 / 4 == pytest.approx(
        light[light.max(axis=2) < 0.2], rel=0.02, abs=1e-5
    )


@pytest.mark.parametrize("evs", [(4, 2, 0), (0, 4, 2), (2, 0, 4), (4, 3, 2, 1, 0)])
def test_exposures_that_the_pixels_contradict_are_refused(tmp_path, light, evs):
    paths = [tmp_path / f"{i}.tif" for i in range(len(evs))]
    for path, ev in zip(paths, evs, strict=True):
        save(path, light * 2.0**ev)
    with pytest.raises(InputError, match=r"is darker than .* though its exposure is said to be longer"):
        load_bracket(paths, ev=sorted(evs))
    load_bracket(paths, ev=evs, alignment="none")


# Brackets in folders


def test_brackets_are_split_by_pauses_and_repeated_exposures():
    bursts = [shot("a", 0.01, at=0), shot("b", 0.04, at=0.4), shot("c", 0.16, at=0.8)]
    again = [shot("d", 0.01, at=1.2), shot("e", 0.04, at=1.6), shot("f", 0.16, at=2.0)]
    later = [shot("g", 0.64, at=30), shot("h", 0.02, at=31), shot("i", 0.08, at=32)]
    groups = group_shots([*later, *again, *bursts])
    assert ["".join(s.path.name for s in group.shots) for group in groups] == ["abc", "def", "ghi"]
    assert [group.ended for group in groups] == ["a and d: two frames of equal exposure", "f and g are 28 s apart", ""]


def test_a_long_exposure_is_no_pause():
    slow = [shot("a", 1.0, at=0), shot("b", 8.0, at=2), shot("c", 30.0, at=11), shot("d", 120.0, at=42)]
    assert len(group_shots(slow)) == 1


def test_another_size_begins_another_bracket():
    assert len(group_shots([shot("a", 0.1), shot("b", 0.2), shot("c", 0.4, size=(60, 40))])) == 2


def test_photographs_without_a_time_stand_together():
    groups = group_shots([shot("b", None, at=None), shot("a", None, at=None), shot("c", 0.1, at=0)])
    assert [[s.path.name for s in group.shots] for group in groups] == [["c"], ["a", "b"]]


def test_a_folder_of_everything(tmp_path):
    write_bracket(tmp_path / "house", size=(32, 48))
    write_bracket(tmp_path, size=(32, 48), names=("1.jpg", "2.jpg", "3.jpg"))
    write_bracket(tmp_path, size=(32, 48), names=("4.jpg", "5.jpg", "6.jpg"), start=60.0)
    write_bracket(tmp_path, evs=(1,), size=(32, 48), names=("alone.jpg",), start=120.0)
    (tmp_path / "broken.jpg").write_text("hello")
    (tmp_path / "._1.jpg").write_text("macOS")
    (tmp_path / "notes.txt").write_text("not a photograph")
    found, left_out = find_brackets([tmp_path])
    assert [(item.name, [path.name for path in item.paths]) for item in found] == [
        (None, ["1.jpg", "2.jpg", "3.jpg"]),
        (None, ["4.jpg", "5.jpg", "6.jpg"]),
        ("house", ["IMG_0001.JPG", "IMG_0002.JPG", "IMG_0003.JPG"]),
    ]
    assert any("broken.jpg" in line for line in left_out)
    assert any("alone.jpg: 1/200 s" in line for line in left_out)


def test_a_dark_frame_after_a_long_exposure_is_no_pause():
    noise_reduced = [shot("a", 2.0, at=0), shot("b", 8.0, at=4), shot("c", 30.0, at=20)]
    assert len(group_shots(noise_reduced)) == 1


def names_of(found):
    return [[path.name for path in item.paths] for item in found]


def test_one_run_of_differing_exposures_is_one_bracket_however_slow(tmp_path):
    for i, ev in enumerate((0, 2, 4, 6)):
        write_bracket(tmp_path, evs=(ev,), size=(32, 48), names=(f"{i}.jpg",), start=14.0 * i)
    found, lines = find_brackets([tmp_path])
    assert names_of(found) == [["0.jpg", "1.jpg", "2.jpg", "3.jpg"]]
    assert "taken for one bracket, as all exposures differ (0.jpg and 1.jpg are 14 s apart; " in lines[0]


def test_a_run_over_hours_is_none_and_says_so(tmp_path):
    for i, ev in enumerate((0, 2, 4)):
        write_bracket(tmp_path, evs=(ev,), size=(32, 48), names=(f"{i}.jpg",), start=7300.0 * i)
    with pytest.raises(InputError, match=r"0\.jpg and 1\.jpg are 2 hours apart"):
        find_brackets([tmp_path])


def test_every_group_left_out_says_why(tmp_path):
    write_bracket(tmp_path, size=(32, 48), names=("1.jpg", "2.jpg", "3.jpg"))
    write_bracket(tmp_path, evs=(0, 2), size=(32, 48), names=("4.jpg", "5.jpg"), start=30.0)
    write_bracket(tmp_path, evs=(4,), size=(30, 47), names=("6.jpg",), start=31.0)
    _, lines = find_brackets([tmp_path])
    assert len(lines) == 2
    assert "4.jpg: 1/400 s" in lines[0] and "3.jpg and 4.jpg are 29 s apart" in lines[0]
    assert "6.jpg and 5.jpg: 47x30 against 48x32" in lines[0] and "47x30 against 48x32" in lines[1]


def test_of_two_frames_of_equal_exposure_in_a_row_one_is_dropped(tmp_path):
    write_bracket(tmp_path / "set", evs=(0, 1, 2, 3, 3, 4, 5), size=(32, 48))
    found, lines = find_brackets([tmp_path])
    assert names_of(found) == [[f"IMG_000{i}.JPG" for i in (1, 2, 3, 4, 6, 7)]]
    assert lines == [
        "left out: IMG_0005.JPG: 1/50 s f/8 ISO 100 (IMG_0004.JPG and IMG_0005.JPG: two frames of equal exposure)"
    ]


def test_a_bracket_that_runs_back_is_another_one(tmp_path):
    write_bracket(tmp_path, evs=(0, 2, 4, 4, 2, 0), size=(32, 48))
    found, lines = find_brackets([tmp_path])
    assert [len(item.paths) for item in found] == [3, 3]
    assert not lines


def test_photographs_of_equal_exposure_are_no_bracket_and_say_so(tmp_path):
    write_bracket(tmp_path, evs=(2, 2, 2), size=(32, 48))
    with pytest.raises(InputError, match="two frames of equal exposure"):
        find_brackets([tmp_path])


@pytest.mark.parametrize("suffixes", [("heic", "JPG"), ("tif", "JPG"), ("HIF", "jpg")])
def test_of_one_photograph_in_two_kinds_of_file_the_better_is_taken(tmp_path, suffixes, monkeypatch):
    for path in write_bracket(tmp_path / "a", size=(32, 48)):
        data = path.read_bytes()
        path.unlink()
        for suffix in suffixes:
            path.with_suffix(f".{suffix}").write_bytes(data)
    taken = find_brackets([tmp_path])[0][0].paths
    assert {path.suffix for path in taken} == {f".{suffixes[0]}"} and len(taken) == 3
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pillow_heif" else name)
    better = suffixes[0] if suffixes[0] == "tif" else suffixes[1]
    assert {path.suffix for path in find_brackets([tmp_path])[0][0].paths} == {f".{better}"}


def test_patterns_and_the_home_folder(tmp_path, monkeypatch):
    write_bracket(tmp_path / "in", names=("a9.jpg", "a10.jpg", "b.jpg"), size=(32, 48))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    expected = ["a9.jpg", "a10.jpg", "b.jpg"]
    assert names_of(find_brackets([tmp_path / "in" / "*.jpg"])[0]) == [expected]
    assert names_of(find_brackets(["~/in/*.jpg"])[0]) == [expected]
    assert names_of(find_brackets(["~/in"])[0]) == [expected]
    assert names_of(find_brackets(["~/i?/a9.jpg", "~/in/a10.jpg", "~/in/b.jpg"])[0]) == [expected]
    (tmp_path / "in" / "a9.json").write_text("{}")
    (tmp_path / "in" / "a9_preview.jpg").write_bytes(b"x")
    found, lines = find_brackets(["~/in/*.jpg"])
    assert names_of(found) == [expected]
    assert lines == ["left out: a9_preview.jpg: a result, no photograph"]
    with pytest.raises(InputError, match=r"in/\*\.png: no such file"):
        find_brackets(["~/in/*.png"])


def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path):
    paths = write_bracket(tmp_path, names=("a[1].jpg", "a[2].jpg", "a1.jpg"), size=(32, 48))
    assert find_brackets(paths)[0][0].paths == tuple(paths)


def test_a_folder_with_exposures_by_hand_is_cut_by_their_number(tmp_path):
    write_bracket(tmp_path, evs=(2, 2, 2, 2, 2, 2), size=(32, 48))
    assert [len(item.paths) for item in find_brackets([tmp_path], count=3)[0]] == [3, 3]
    with pytest.raises(InputError, match="no bracket of three"):
        find_brackets([tmp_path])


def test_of_raw_and_jpeg_pairs_one_kind_is_taken(tmp_path, monkeypatch):
    paths = write_bracket(tmp_path / "a", size=(32, 48))
    for path in paths:
        path.with_suffix(".dng").write_bytes(b"raw")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert [path.suffix for path in find_brackets([tmp_path])[0][0].paths] == [".JPG"] * 3
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert [path.suffix for path in find_brackets([tmp_path])[0][0].paths] == [".dng"] * 3


# Reconstruction


def test_a_sub_folder_may_hold_several_brackets(tmp_path):
    write_bracket(tmp_path / "DCIM" / "100CANON", names=("a.jpg", "b.jpg", "c.jpg"), size=(32, 48))
    write_bracket(tmp_path / "DCIM" / "100CANON", names=("d.jpg", "e.jpg", "f.jpg"), size=(32, 48), start=60.0)
    found, left_out = find_brackets([tmp_path / "DCIM"])
    names = [[path.name for path in item.paths] for item in found]
    assert names == [["a.jpg", "b.jpg", "c.jpg"], ["d.jpg", "e.jpg", "f.jpg"]]
    assert not left_out


def test_an_exposure_file_that_does_not_know_a_file(tmp_path):
    paths = write_bracket(tmp_path, size=(32, 48))
    (tmp_path / "exposure.txt").write_text("0 2 4")
    other = tmp_path / "d.webp"
    other.write_bytes(paths[0].read_bytes())
    with pytest.raises(InputError, match=r"says nothing of d\.webp"):
        load_bracket([*paths[1:], other])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return AFUNet(AFUNetConfig(stages=1)).eval()


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 2**16, (3, 24, 40, 3), np.uint16)


@pytest.mark.parametrize("way", ["auto", "whole", "strips"])
def test_reconstruct_is_the_network_on_these_frames(model, frames, way):
    with torch.inference_mode():
        expected = model(network_input(frames, [0, 2, 4])[None])[0].permute(1, 2, 0).numpy()
    hdr = reconstruct(model, frames, [0, 2, 4], way=way)
    assert hdr.shape == (24, 40, 3)
    assert hdr.dtype == np.float32
    assert hdr == pytest.approx(expected, abs=2e-6)
    assert reconstruct(model, ldr_to_float(frames), [0, 2, 4]) == pytest.approx(expected, abs=2e-6)


def test_a_full_gpu_falls_back_to_strips_and_says_so(model, frames, monkeypatch):
    def full(x):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    expected = reconstruct(model, frames, [0, 2, 4])
    monkeypatch.setattr(inference, "choose_way", lambda device, way: "whole")
    monkeypatch.setattr(model, "forward", full)
    lines = []
    assert np.array_equal(reconstruct(model, frames, [0, 2, 4], say=lines.append), expected)
    assert len(lines) == 1
    assert "strips" in lines[0]


def test_little_memory_means_half_precision_and_none_a_clear_error(model, frames, monkeypatch):
    expected = reconstruct(model, frames, [0, 2, 4])
    free = bytes_needed(24 * 40, torch.float16)
    monkeypatch.setattr("utils.memory.available_bytes", lambda device: free)
    lines = []
    hdr = reconstruct(model, frames, [0, 2, 4], say=lines.append)
    assert "half precision" in lines[0]
    assert 0 < np.abs(hdr - expected).max() < 2e-3
    monkeypatch.setattr("utils.memory.available_bytes", lambda device: free - 1)
    with pytest.raises(InputError, match="GB of memory"):
        reconstruct(model, frames, [0, 2, 4])


def test_memory_of_this_machine_is_known_or_not_asked():
    available = available_bytes(torch.device("cpu"))
    assert available is None or 10**7 < available < 10**14


def test_the_estimate_grows_with_the_picture(model, frames):
    small = estimate_seconds(model, np.tile(frames, (1, 11, 7, 1)), [0, 2, 4])  # 264 x 280
    large = estimate_seconds(model, np.tile(frames, (1, 44, 28, 1)), [0, 2, 4])  # 16 times as many pixels
    assert 4 < large / small < 64


def test_steps_that_the_weights_cannot_take_are_avoided_or_said(tmp_path):
    assert choose_three([0, 2, 4, 6, 8], [0.5, 0.3, 0.1, 0.3, 0.5]) == (1, 2, 3)
    for step, said in ((4, "trained on steps of 1 to 4 EV"), (5, "wider than the shipped weights were trained on")):
        photographs = write_bracket(tmp_path / str(step), evs=(0, step, 2 * step))
        assert said in load_bracket(photographs, alignment="none").notes[0]

"""predict.py from the command line's end: real brackets go through, and bad ones end in one clear line."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.ExifTags import IFD, Base

import predict
from models import AFUNet, AFUNetConfig
from tests.handheld import draw_scene, exif, expose, hand_motion, write_bracket
from utils.alignment import estimate
from utils.checkpoint import load_model, save_checkpoint
from utils.choices import Operator
from utils.cli import pick_device, run
from utils.exposure import network_input
from utils.images import read_hdr
from utils.photographs import merging
from utils.photographs.bracket import load_bracket
from utils.photographs.merging import frames_for
from utils.photographs.preview import comparison, disagreeing_places, tone_mapped
from utils.photographs.search import find_brackets
from utils.photographs.settings import Settings
from utils.photographs.shots import read_frame, read_shot

torch.set_num_threads(1)
REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    model = AFUNet(AFUNetConfig(stages=1))
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    save_checkpoint(path, {"state_dict": model.state_dict(), "config": asdict(model.config)})
    return path


@pytest.fixture
def call(weights, tmp_path, capsys):
    """Run predict.py in this process: (exit code, stdout, stderr, the folder of results)."""

    def call_predict(*arguments):
        argv = [*map(str, arguments), "--pretrained_model", str(weights), "--save_dir", str(tmp_path / "out")]
        with pytest.raises(SystemExit) as end:
            run(partial(predict.main, argv))
        out, err = capsys.readouterr()
        return end.value.code, out, err, tmp_path / "out"

    return call_predict


def assert_clear_error(result, *words):
    """Exit code 2, one line on stderr that holds the words, and nothing written."""
    code, _, err, folder = result
    assert code == 2
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    for word in words:
        assert word in err
    assert not folder.exists() or not list(folder.iterdir())


# What works


def test_a_handheld_jpeg_bracket_goes_through_with_no_option(call, tmp_path, weights):
    motions = (hand_motion(0.3, 6.0, -4.0), None, hand_motion(-0.3, -5.0, 7.0))
    order = (1, 2, 0)  # the names lie about the exposures
    write_bracket(
        tmp_path / "in",
        evs=[(0, 2, 4)[i] for i in order],
        names=("b.jpg", "a.jpg", "c.jpg"),
        size=(150, 210),
        motions=[motions[i] for i in order],
    )
    code, out, err, folder = call(*sorted((tmp_path / "in").iterdir()))
    assert (code, err) == (0, "")
    assert "b.jpg: 1/100 s f/8 ISO 100, EV +2.0 (reference)" in out
    assert out.count("moved by") == 2
    assert "all frames cover rows" in out
    assert sorted(path.name for path in folder.iterdir()) == ["b.exr", "b.json", "b_preview.jpg"]

    bracket = load_bracket([tmp_path / "in" / name for name in ("a.jpg", "b.jpg", "c.jpg")])
    with torch.inference_mode():
        expected = load_model(weights)(network_input(frames_for(bracket, True), bracket.ev)[None])
    assert read_hdr(folder / "b.exr") == pytest.approx(expected[0].permute(1, 2, 0).numpy(), abs=2e-6)

    facts = json.loads((folder / "b.json").read_text())
    assert [Path(frame["file"]).name for frame in facts["frames"]] == ["c.jpg", "b.jpg", "a.jpg"]
    assert [frame["ev"] for frame in facts["frames"]] == pytest.approx([0.0, 2.0, 4.0], abs=0.01)
    assert facts["scale"]["reference_clips_at"] == pytest.approx(0.25, rel=0.01)
    assert facts["scale"]["log2_exposure_of_1"] == pytest.approx(np.log2(100 / 400 / 64), abs=0.01)
    with Image.open(folder / "b_preview.jpg") as preview:
        assert preview.size == (210, 150)
        assert preview.getexif()[Base.Model] == "Camera"
        assert float(preview.getexif().get_ifd(IFD.Exif)[Base.ExposureTime]) == pytest.approx(0.01)


def test_a_folder_of_brackets_one_of_them_bad(call, tmp_path):
    write_bracket(tmp_path / "in" / "good", size=(32, 48))
    write_bracket(tmp_path / "in" / "bad", evs=(0, 2), size=(32, 48))
    code, _, err, folder = call(tmp_path / "in")
    assert code == 2
    assert err.count("error: ") == 1
    assert "2 photograph(s)" in err
    assert (folder / "good.exr").is_file()
    assert not list(folder.glob("bad*"))


def test_brackets_of_one_name_do_not_overwrite_each_other(call, tmp_path):
    for folder in ("a/x", "b/x"):
        write_bracket(tmp_path / folder, size=(32, 48))
    _, _, _, folder = call(tmp_path / "a", tmp_path / "b")
    assert sorted(path.name for path in folder.glob("*.exr")) == ["x.exr", "x_2.exr"]


@pytest.mark.parametrize("given", [("--ev", "4", "0", "2"), ("--times", "1/6", "1/100", "1/25")])
def test_exposures_by_hand(call, tmp_path, given):
    paths = write_bracket(tmp_path / "in", evs=(4, 0, 2), names=("a.png", "b.png", "c.png"), size=(32, 48))
    for path in paths:
        with Image.open(path) as image:
            Image.fromarray(np.asarray(image)).save(path)  # without EXIF
    code, out, _, folder = call(*paths, *given, "--align", "none")
    assert code == 0
    assert f"exposures from {given[0]}" in out
    assert (folder / "c.exr").is_file()


def test_all_the_outputs(call, tmp_path):
    paths = write_bracket(tmp_path / "in", size=(64, 80))
    code, _, _, folder = call(*paths, "--format", "exr", "hdr", "--half", "--preview", "png", "--compare")
    assert code == 0
    names = {path.name for path in folder.iterdir()}
    stem = "IMG_0002"
    assert names == {f"{stem}.exr", f"{stem}.hdr", f"{stem}.json", f"{stem}_preview.png", f"{stem}_compare.png"}
    exr, hdr = read_hdr(folder / f"{stem}.exr"), read_hdr(folder / f"{stem}.hdr")
    assert np.array_equal(exr, exr.astype(np.float16))
    assert hdr == pytest.approx(exr, rel=0.02, abs=5e-3)


def test_kernels_can_be_switched_off(call, tmp_path, monkeypatch):
    answers = []
    monkeypatch.setattr(AFUNet, "use_kernels", lambda model, on: answers.append(on))
    paths = write_bracket(tmp_path / "in", size=(32, 48))
    assert call(*paths, "--align", "none")[0] == 0
    assert call(*paths, "--align", "none", "--no-kernels")[0] == 0
    assert answers == [True, False]


@pytest.mark.parametrize("operator", get_args(Operator))
def test_every_tone_mapping_gives_a_picture(operator):
    hdr = np.linspace(1e-4, 1.0, 32 * 48 * 3, dtype=np.float32).reshape(32, 48, 3)
    picture = tone_mapped(hdr, operator)
    assert picture.dtype == np.uint8
    assert picture.max() > 200
    assert (np.diff(picture[..., 1].ravel().astype(int)) >= -2).all()  # brighter stays brighter


def test_the_photographic_curve_sets_black_and_white():
    """A night with one lamp: Drago's curve gives the lamp all of the white, and the dark a grey veil."""
    y, x = np.mgrid[0:64, 0:96] / np.array([63.0, 95.0])[:, None, None]
    night = (2.0 ** (-12 + 7 * x) * (0.8 + 0.2 * y))[..., None].repeat(3, axis=2).astype(np.float32)
    night[:2, :2] = 1.0
    plain, set_ = tone_mapped(night, "drago"), tone_mapped(night, "photo")
    assert np.percentile(plain, 1) > 10 > np.percentile(set_, 1)
    assert np.percentile(set_, 99) > np.percentile(plain, 99) + 20


@pytest.mark.parametrize("operator", get_args(Operator))
def test_every_tone_mapping_takes_what_is_all_black(operator):
    assert not tone_mapped(np.zeros((32, 48, 3), np.float32), operator).any()


def test_the_comparison_zooms_in_where_frames_disagree(tmp_path):
    bracket = load_bracket(write_bracket(tmp_path, size=(180, 240)), alignment="none")
    bracket.frames[2, 100:120, 30:56] = 0  # something dark went by in the over-exposed frame
    rows, columns = disagreeing_places(bracket)[0]
    assert rows.start < 112 < rows.stop
    assert columns.start < 43 < columns.stop
    picture = comparison(bracket, np.full((180, 240, 3), 0.1, np.float32), "heading")
    assert picture.shape[1] > 6 * 300
    assert picture.std() > 10


# Many brackets


def test_finished_brackets_are_skipped(call, tmp_path):
    for name in ("a", "b", "c"):
        write_bracket(tmp_path / "in" / name, size=(32, 48))
    _, out, _, folder = call(tmp_path / "in")
    assert [line.split(":")[0] for line in out.splitlines()] == ["[1/3] a", "[2/3] b", "[3/3] c"]
    assert out.count("about") == 2 and "seconds left" in out
    (folder / "b_preview.jpg").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    code, out, _, _ = call(tmp_path / "in")
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert code == 0
    assert "2 of 3 brackets are finished already" in out
    assert {name for name in after if after[name] != before.get(name)} == {"b.exr", "b.json", "b_preview.jpg"}
    assert "finished" not in call(tmp_path / "in", "--half")[1]  # other results are asked for
    assert "finished" not in call(tmp_path / "in", "--half", "--overwrite")[1]
    assert "3 of 3" in call(tmp_path / "in", "--half")[1]


def test_results_of_other_photographs_are_not_overwritten(call, tmp_path):
    for name in ("monday", "tuesday"):
        assert call(*write_bracket(tmp_path / name, size=(32, 48)))[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.exr")) == ["IMG_0002.exr", "IMG_0002_2.exr"]


def test_processes_share_the_brackets(call, tmp_path, monkeypatch):
    for name in ("x/a", "y/a", "y/b"):
        write_bracket(tmp_path / name, size=(32, 48))
    monkeypatch.setattr("utils.photographs.merging.rank_and_world", lambda: (1, 2))
    _, _, _, folder = call(tmp_path / "x", tmp_path / "y")
    assert {path.name for path in folder.glob("*.exr")} == {"a_2.exr"}
    monkeypatch.setattr("utils.photographs.merging.rank_and_world", lambda: (0, 2))
    call(tmp_path / "x", tmp_path / "y")
    assert {path.name for path in folder.glob("*.exr")} == {"a.exr", "a_2.exr", "b.exr"}


def test_memory_is_given_back_after_every_bracket(call, tmp_path, monkeypatch):
    """Without it a process grows over hundreds of them: tests/test_memory.py."""
    given = []
    monkeypatch.setattr(merging, "give_back_freed_memory", lambda: given.append(len(list(tmp_path.glob("out/*.exr")))))
    for name in ("a", "b"):
        write_bracket(tmp_path / "in" / name, size=(32, 48))
    assert call(tmp_path / "in")[0] == 0
    assert given == [1, 2]


def test_facts_that_do_not_fit_are_made_anew(weights, tmp_path):
    write_bracket(tmp_path / "in" / "a", size=(32, 48))
    (item,), _ = find_brackets([tmp_path / "in"])
    job = merging.Job(Settings(save_dir=tmp_path / "out"), load_model(weights), weights)
    merging.merge(job, item)
    file = tmp_path / "out" / "a.json"
    facts = json.loads(file.read_text())
    assert merging.finished(job, item)
    for change in ({"checkpoint": ["x"]}, {"files": 5}, {"files": [7]}, {"files": ["\0"]}, {"files": ["a" * 5000]}):
        file.write_text(json.dumps({**facts, **change}))
        assert not merging.finished(job, item)
    for text in ("[" * 100_000, "[]", "{", '"\\ud800"'):
        file.write_text(text)
        assert not merging.finished(job, item)


def test_ctrl_c_between_two_brackets_leaves_whole_files(call, tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_bracket(tmp_path / "in" / name, size=(32, 48))
    true = merging.load_bracket

    def interrupted(paths, **options):
        if paths[0].parent.name == "b":
            raise KeyboardInterrupt
        return true(paths, **options)

    monkeypatch.setattr(merging, "load_bracket", interrupted)
    code, out, err, folder = call(tmp_path / "in")
    assert (code, err) == (130, "interrupted\n")
    assert "1 of 2 brackets were finished" in out
    assert sorted(path.name for path in folder.iterdir()) == ["a.exr", "a.json", "a_preview.jpg"]
    monkeypatch.setattr(merging, "load_bracket", true)
    assert "1 of 2 brackets are finished already" in call(tmp_path / "in")[1]


# What does not work, and says so


def test_two_frames(call, tmp_path):
    paths = write_bracket(tmp_path / "in", evs=(0, 2), size=(32, 48))
    assert_clear_error(call(*paths), "2 photograph(s)", "IMG_0001.JPG: 1/400 s")


def test_mixed_sizes(call, tmp_path):
    paths = write_bracket(tmp_path / "in", size=(32, 48))
    with Image.open(paths[1]) as image:
        image.resize((40, 32)).save(paths[1], exif=image.getexif())
    assert_clear_error(call(*paths), "unequal size", "IMG_0001.JPG: 48x32", "IMG_0002.JPG: 40x32")


def test_no_exif(call, tmp_path):
    paths = write_bracket(tmp_path / "in", size=(32, 48))
    with Image.open(paths[1]) as image:
        image.copy().save(paths[1], exif=b"")
    assert_clear_error(
        call(*paths), "IMG_0002.JPG: no exposure", "IMG_0001.JPG: 1/400 s f/8 ISO 100", "--ev", "--times"
    )


def test_equal_exposures(call, tmp_path):
    paths = write_bracket(tmp_path / "in", evs=(0, 2, 2), size=(32, 48))
    assert_clear_error(call(*paths), "equal", "IMG_0003.JPG: 1/100 s f/8 ISO 100 = EV", "--ev")


@pytest.mark.parametrize("content", [b"These are my notes, not a photograph.\n", b""])
def test_a_text_file_with_a_jpg_name(call, tmp_path, content):
    paths = write_bracket(tmp_path / "in", size=(32, 48))
    paths[2].write_bytes(content)
    assert_clear_error(call(*paths), "IMG_0003.JPG", "not a photograph")


@pytest.mark.parametrize("suffix", [".JPG", ".png", ".tif"])
def test_truncated_files(call, tmp_path, suffix):
    names = [f"{i}{suffix}" for i in range(3)]
    paths = write_bracket(tmp_path / "in", names=names, size=(64, 96))
    paths[1].write_bytes(paths[1].read_bytes()[:-2000])
    assert_clear_error(call(*paths, "--ev", 0, 2, 4), f"1{suffix}")


def test_a_cmyk_jpeg(call, tmp_path):
    paths = write_bracket(tmp_path / "in", size=(32, 48))
    with Image.open(paths[0]) as image:
        image.convert("CMYK").save(paths[0], exif=image.getexif())
    assert_clear_error(call(*paths), "IMG_0001.JPG", "CMYK", "export the photograph as RGB")


def test_a_16_bit_grey_png_gives_a_result(call, tmp_path):
    scene = draw_scene(64, 80)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, ev in zip(paths, (0, 2, 4), strict=True):
        Image.fromarray(expose(scene, ev).mean(axis=2).astype(np.uint16) * 257).save(path)
    code, _, _, folder = call(*paths, "--ev", 0, 2, 4)
    assert code == 0
    assert read_hdr(folder / "1.exr").shape == (64, 80, 3)


def test_a_40_megapixel_frame_is_read_and_registered(tmp_path):
    path = tmp_path / "large.jpg"
    drawn = cv2.resize(expose(draw_scene(200, 300), 2), (7728, 5152), interpolation=cv2.INTER_LINEAR)
    Image.fromarray(drawn).save(path, quality=80, exif=exif())
    frame = read_frame(read_shot(path))
    assert frame.shape == (5152, 7728, 3)
    motion = estimate(frame[:, :-24], frame[:, 24:], 2.0, 2.0, "auto")
    assert motion.method == "ecc"
    assert motion.shift == pytest.approx(24.0, abs=1.5)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("nowhere",), "no such file"),
        ((".",), "no bracket"),
        (("--reference", "1"), "needs a darker and a brighter frame"),
        (("--ev", "0", "2"), "2 exposures; give at least three"),
        (("--ev", "0", "2", "4", "6"), "4 exposures for 3"),
        (("--ev", "0", "2", "40"), "more than 30 EV apart"),
    ],
)
def test_other_bad_input(call, tmp_path, arguments, word, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    paths = write_bracket(tmp_path / "in", size=(32, 48)) if arguments[0].startswith("--") else []
    assert_clear_error(call(*paths, *arguments), word)


@pytest.mark.parametrize(
    ("option", "word"),
    [
        (("--times", "1/0", "1/2", "1"), "'1/0' is not a time in seconds"),
        (("--times", "1e400", "1/2", "1"), "'1e400' is not a time in seconds"),
        (("--ev", "0", "nan", "4"), "'nan' is not an exposure to base 2"),
        (("--ev", "0", "2", "4", "a.jpg"), "photographs come before --ev"),
        (("--gamma", "rec709"), "'rec709' is not srgb, linear, or an exponent"),
        (("--format", "hdr", "--half"), "--half is for EXR"),
    ],
)
def test_the_parser_says_what_an_option_wants(capsys, option, word):
    with pytest.raises(SystemExit) as end:
        predict.parse_args(["a.jpg", *option])
    assert end.value.code == 2
    assert word in capsys.readouterr().err


def test_one_photograph_given_twice(call, tmp_path):
    a, b, _ = write_bracket(tmp_path / "in", size=(32, 48))
    assert_clear_error(call(a, b, a, "--ev", "0", "2", "4"), "given twice")


def test_a_name_that_looks_like_mathematics(call, tmp_path):
    paths = [path.rename(path.with_name(f"a$_$ {i}.jpg")) for i, path in enumerate(write_bracket(tmp_path / "in"))]
    code, _, _, made = call(*paths, "--compare")
    assert code == 0
    assert (made / "a$_$ 1_compare.png").exists()


def test_results_beside_the_photographs_are_not_taken_for_photographs(call, tmp_path):
    folder = write_bracket(tmp_path / "out", size=(32, 48))[0].parent
    assert call(folder, "--compare")[0] == 0
    assert call(folder, "--compare")[0] == 0


def test_a_folder_that_cannot_be_written_to(call, tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    code, _, err, _ = call(*write_bracket(tmp_path / "in", size=(32, 48)))
    assert code == 2
    assert err.startswith("error: --save_dir")
    assert len(err.strip().splitlines()) == 1


def test_no_weights(tmp_path, capsys):
    paths = write_bracket(tmp_path, size=(32, 48))
    paths += ["--pretrained_model", tmp_path / "afunet_synthetic.pth"]
    with pytest.raises(SystemExit) as end:
        run(partial(predict.main, [*map(str, paths), "--save_dir", str(tmp_path / "out")]))
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert "--pretrained_model" in err and "https://github.com/eezkni/AFUNet" in err


def test_the_command_itself(tmp_path):
    command = [sys.executable, str(REPOSITORY / "predict.py"), "nowhere.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: nowhere.jpg: no such file or folder"


NO_TORCH = """
import sys
sys.modules["torch"] = None  # importing it would be an error
sys.argv = sys.argv[1:]
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    "command",
    [
        ("predict.py", "nowhere.jpg"),
        ("predict.py", "{here}", "--pretrained_model", "nowhere.pth"),
        ("test.py", "--dataset", "hu", "--dataset_dir", "nowhere"),
        ("test.py", "--pretrained_model", "nowhere.pth"),
        ("train.py", "--dataset", "hu", "--dataset_dir", "nowhere"),
        ("train.py", "--init", "nowhere.pth"),
    ],
)
def test_mistakes_are_answered_without_torch(command, tmp_path):
    script, *words = (word.format(here=tmp_path) for word in command)
    line = [sys.executable, "-c", NO_TORCH, str(REPOSITORY / script), *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and "nowhere" in done.stderr and done.stderr.count("\n") == 1


def test_float32_convolutions_stay_float32_on_a_gpu():
    torch.backends.cudnn.allow_tf32 = True
    pick_device("cpu")
    assert not torch.backends.cudnn.allow_tf32


HUB = """
import sys
sys.modules["cv2"] = sys.modules["imageio"] = None  # reading weights needs neither
sys.path.insert(0, "")
import models, models.part
import torch
network = torch.hub.load(sys.argv[1], "afunet", source="local", weights=sys.argv[2])
with torch.inference_mode():
    assert network(torch.rand(1, 18, 16, 24)).shape == (1, 3, 16, 24)
import models.other
assert models.name == models.part.name == models.other.name == "the caller's"
assert "utils" not in sys.modules or sys.modules["utils"].__file__.startswith(sys.argv[1])
"""


def test_torch_hub_leaves_the_callers_packages_alone(weights, tmp_path):
    (tmp_path / "models").mkdir()
    for file in ("__init__", "part", "other"):
        (tmp_path / "models" / f"{file}.py").write_text('name = "the caller\'s"\n')
    line = [sys.executable, "-c", HUB, str(REPOSITORY), str(weights)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


def test_torch_hub_loads_the_network(weights):
    model = torch.hub.load(str(REPOSITORY), "afunet", source="local", weights=weights)
    assert not model.training
    assert model.config.stages == 1
    assert torch.equal(model.out.weight, load_model(weights).out.weight)
    assert torch.hub.load(str(REPOSITORY), "afunet", source="local", stages=2).config.stages == 2

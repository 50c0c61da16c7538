"""report.html: what it holds, how large it gets, and that a browser can do with it what it promises."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.browser import Watched
from tests.gain_map import light_of
from tests.test_test_script import script
from utils.evaluation.report import View, room_for, scene_view, write_report
from utils.evaluation.tables import Results, Row
from utils.exposure import to_ldr, tonemap
from utils.exr import write_exr
from utils.images import write_hdr, write_ldr

FIGURES = {"PSNR-mu": 44.9, "PSNR-l": 42.6, "SSIM-mu": 0.99, "SSIM-l": 0.98, "HDR-VDP-2": 66.0}
EV = np.array([0.0, 2.0, 4.0], np.float32)
NASTY = 'a</script><b>"1" & 2'


def draw(height: int = 64, width: int = 96, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Frames and label of a scene: a ramp of light with some texture."""
    rng = np.random.default_rng(seed)
    label = np.geomspace(0.002, 1.0, width, dtype=np.float32)[None, :, None] * rng.uniform(0.7, 1.0, (height, 1, 3))
    label = label.astype(np.float32)
    frames = np.stack([(to_ldr(label, float(ev)) * 65535).astype(np.uint16) for ev in EV])
    return frames, label


def view(name: str = "001", room: float = 1e6, **changes: Any) -> View:
    frames, label = draw()
    methods = {"AFUNet": label * 0.9, "other": label * 0.5}
    given: dict[str, Any] = {"metrics": {"AFUNet": FIGURES, "other": FIGURES}, "files": ["001.hdr"], "room": room}
    return scene_view(name, frames, EV, label, methods, **{**given, **changes})


def results(row: str = "AFUNet, afunet.pth", scenes: Any = None, failures: Any = None, **changes: Any) -> Results:
    three = {"001": dict(FIGURES), "002": {**FIGURES, "PSNR-mu": 50.0}, "003": {**FIGURES, "PSNR-mu": math.inf}}
    rows = [Row(row, scenes or three, failures or {})]
    return Results(**{"dataset": "kalantari", "rows": rows, "notes": ["a note"], **changes})


def pixels(uri: str) -> np.ndarray:
    kind, data = uri.split(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(float)


def test_pictures_show_the_light_they_say() -> None:
    _, label = draw()
    shown = {look.name: look for look in view().looks}
    names = ["Input 1", "Input 2", "Input 3", "AFUNet", "other", "Ground truth", "Error of AFUNet", "Error of other"]
    assert list(shown) == names
    truth = shown["Ground truth"].pictures
    assert len(truth) == 6
    assert pixels(truth[0]) == pytest.approx(tonemap(label) * 255, abs=24)
    assert np.abs(pixels(truth[0]) - tonemap(label) * 255).mean() < 3
    for uri, exposure in zip(truth[1:], np.linspace(0, 4, 5), strict=True):
        small = to_ldr(label.reshape(32, 2, 48, 2, 3).mean((1, 3)), exposure) * 255
        assert np.abs(pixels(uri) - small).mean() < 4


def test_inputs_lie_on_the_scale_of_the_results() -> None:
    shown = {look.name: look for look in view().looks}
    for name in ("Input 1", "Input 2"):  # the dark halves: not clipped in either
        difference = pixels(shown[name].pictures[0]) - pixels(shown["Ground truth"].pictures[0])
        assert np.abs(difference[:, :60]).mean() < 4


def test_error_maps_share_one_scale_and_maps_have_no_exposures() -> None:
    maps = [look for look in view(seen={"AFUNet": np.zeros((64, 96))}).looks if look.kind == "map"]
    assert [look.name for look in maps] == ["Error of AFUNet", "Error of other", "Visible in AFUNet"]
    assert all(len(look.pictures) == 1 for look in maps)
    assert maps[0].ends == maps[1].ends == "0 to 0.1"
    assert pixels(maps[0].pictures[0]).mean() < pixels(maps[1].pictures[0]).mean()
    assert maps[2].ends == "0 to 1"


def test_exposures_are_named_after_the_frames() -> None:
    names = ["tone-mapped", "EV 0 (dark)", "EV 1", "EV 2 (reference)", "EV 3", "EV 4 (bright)"]
    assert view().exposures == names


@pytest.mark.parametrize("room", [15_000, 40_000])
def test_pictures_shrink_until_they_fit(room: float) -> None:
    rng = np.random.default_rng(0)
    label = rng.random((256, 384, 3), np.float32)  # noise: the hardest to compress
    made = scene_view("x", np.zeros((3, 256, 384, 3), np.uint16), EV, label, {"a": label}, metrics={}, room=room)
    assert sum(len(uri) for look in made.looks for uri in look.pictures) <= room
    assert 96 <= made.shown < 384
    assert made.width == 384


def test_hdr_pictures_hold_the_light_above_white() -> None:
    pytest.importorskip("imagecodecs")
    _, label = draw()
    made = view(hdr=True)
    assert made.exposures[:3] == ["tone-mapped", "HDR", "EV 0 (dark)"]
    shown = {look.name: look for look in made.looks}
    assert [len(look.pictures) for look in made.looks] == [7] * 6 + [1] * 2
    for name, image in (("Ground truth", label), ("other", label * 0.5)):
        kind, data = shown[name].pictures[1].split(",")
        assert kind == "data:image/jpeg;base64"
        light = light_of(base64.b64decode(data)) / 4  # the reference clips at 1/4
        height, width = light.shape[:2]
        assert (height, width) == (44, 68)  # 0.7 of the size, even
        cells = light.reshape(11, 4, 17, 4, 3).mean((1, 3))  # noise of single pixels is not what JPEG keeps
        wanted = cv2.resize(image, (17, 11), interpolation=cv2.INTER_AREA)
        assert abs(np.log2(cells.max() / wanted.max())) < 0.1
        assert np.abs(np.log2(cells[wanted > 0.02] / wanted[wanted > 0.02])).max() < 0.2
    assert view().exposures[1] == "EV 0 (dark)"


def test_hdr_pictures_shrink_with_the_others() -> None:
    pytest.importorskip("imagecodecs")
    rng = np.random.default_rng(0)
    label = rng.random((257, 383, 3), np.float32)
    frames = np.zeros((3, 257, 383, 3), np.uint16)
    made = scene_view("x", frames, EV, label, {"a": label}, metrics={}, room=60_000, hdr=True)
    assert sum(len(uri) for look in made.looks for uri in look.pictures) <= 60_000
    assert 96 <= made.shown < 383


def test_fifteen_scenes_share_the_size_asked_for() -> None:
    assert 15 * room_for(24.0, 15) + 15 * 3000 + 60_000 == pytest.approx(24e6)


class Structure(HTMLParser):
    """Open elements, to see that the page is well nested, and every address in it."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def test_the_page_holds_figures_words_and_links_only_to_its_neighbours(tmp_path: Path) -> None:
    protocol = {"device": "cpu", "hdr_vdp_2": None}
    path = write_report(tmp_path, results(protocol=protocol, failures={"4": "scene 4: no label"}), [view("001")])
    text = path.read_text()
    page = Structure()
    page.feed(text)
    assert set(page.addresses) == {"data:,", "#scenes", "#scene-1", "001.hdr"}
    assert len(page.ids) == len(set(page.ids))
    for words in ("44.90", "AFUNet, published", "a note", "scene 4: no label", "Peak signal-to-noise", "MIT License"):
        assert words in text
    assert "&#34;device&#34;: &#34;cpu&#34;" in text
    assert "sourceMappingURL" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    made = results(scenes={NASTY: FIGURES}, notes=[NASTY], row=NASTY)
    text = write_report(tmp_path, made, [view(NASTY, metrics={NASTY: FIGURES}, files=["a b%.hdr"])]).read_text()
    assert NASTY not in text
    assert "<b>&#34;" not in text
    assert 'href="a%20b%25.hdr"' in text
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert data and len(json.loads(data[1])[0]["looks"]) == 8


def test_several_methods_have_rows_scenes_and_differences(tmp_path: Path) -> None:
    scenes = {name: {"PSNR-mu": value} for name, value in (("a", 40.0), ("b", 41.0), ("c", 43.0))}
    others = {name: {"PSNR-mu": value["PSNR-mu"] + 1.0} for name, value in scenes.items()}
    made = Results("samples", [Row("one", scenes), Row("two", others)])
    text = write_report(tmp_path, made, [view("a")]).read_text()
    for words in ("Methods on samples", "a, one", "c, two", "Which differences mean something", "+1.00"):
        assert words in text


def test_views_come_in_the_order_of_the_scenes(tmp_path: Path) -> None:
    text = write_report(tmp_path, results(), [view("002"), view("of another run"), view("001")]).read_text()
    assert re.findall(r'<h3 id="name-\d">(.*?)</h3>', text) == ["001", "002"]


@pytest.mark.parametrize("encoder", [True, False])
def test_predictions_get_a_report_with_the_inputs(
    tmp_path: Path, encoder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if encoder:
        pytest.importorskip("imagecodecs")
    else:
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
    frames, label = draw()
    for name in ("001", "002"):
        folder = tmp_path / "data" / "Kal" / "Test" / "Test-set" / name
        folder.mkdir(parents=True)
        for i, frame in enumerate(frames):
            write_ldr(folder / f"{i}.tif", frame)
        (folder / "exposure.txt").write_text("0\n2\n4\n")
        write_hdr(folder / "HDRImg.hdr", label)
        write_exr(tmp_path / "their results" / f"{name}.exr", label * 0.9)
    options = ["--dataset", "kalantari", "--dataset_dir", str(tmp_path / "data"), "--vdp", "none", "--report"]
    options += ["--predictions", f"theirs={tmp_path / 'their results'}", "--save_dir", str(tmp_path / "out")]
    assert script.main([*options, "--report_size", "0.25"]) == 0
    page = tmp_path / "out" / "report.html"
    assert page.stat().st_size < 0.25e6
    for words in ("../their%20results/001.exr", '"Input 2"', "Error of theirs"):
        assert words in page.read_text()
    assert ("data:image/jpeg" in page.read_text()) == ("a screen with HDR" in page.read_text()) == encoder


def column(page: Any, table: int, number: int) -> list[str]:
    return page.locator("table").nth(table).locator(f"tbody tr > :nth-child({number})").all_inner_texts()


@pytest.mark.slow
def test_in_a_browser(tmp_path: Path, watched: Watched) -> None:
    path = write_report(tmp_path, results(), [view("001"), view("002")])
    page = watched.page
    page.goto(path.as_uri())

    head = page.locator("table").nth(1).locator("th button").nth(1)
    head.click()
    assert column(page, 1, 2) == ["inf", "50.00", "44.90"]
    assert page.locator("table").nth(1).locator("th").nth(1).get_attribute("aria-sort") == "descending"
    head.press("Enter")  # the keyboard does as well
    assert column(page, 1, 1) == ["001", "002", "003"]

    scene = page.locator(".scene").first
    scene.scroll_into_view_if_needed()
    slider = scene.locator("img-comparison-slider")
    box = slider.bounding_box()
    assert box["width"] / box["height"] == pytest.approx(1.5, rel=0.02)
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.8 * box["height"])
    assert slider.evaluate("e => e.value") == pytest.approx(25, abs=1)
    assert slider.get_attribute("aria-valuenow") == "25"
    slider.press("End")
    assert slider.get_attribute("aria-valuenow") == "100"
    slider.press("ArrowLeft", delay=150)
    assert 20 < slider.evaluate("e => e.value") < 100

    check_choices(page, scene)
    check_zoom(page, scene, slider)
    watched.check()


def check_choices(page: Any, scene: Any) -> None:
    """Either side takes any picture, and every exposure another one; a map has its legend."""
    left = scene.locator("img").first
    seen = {left.get_attribute("src")}
    for name in ("Input 3", "Ground truth", "Error of AFUNet"):
        scene.locator("select.left").select_option(label=name)
        assert left.get_attribute("alt") == name
        seen.add(left.get_attribute("src"))
    assert len(seen) == 4
    assert scene.locator(".ends").inner_text() == "0 to 0.1"
    scene.locator(".swap").click()
    assert scene.locator("img").nth(1).get_attribute("alt") == "Error of AFUNet"
    radios = scene.locator(".exposures input")
    assert radios.count() == 6
    radios.first.focus()
    shown = {left.get_attribute("src")}
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        shown.add(left.get_attribute("src"))
    assert len(shown) == 6


def check_zoom(page: Any, scene: Any, slider: Any) -> None:
    """Both pictures are moved and scaled alike, by buttons, keys and pointer."""

    def places() -> list[list[float]]:
        script = "e => [...e.querySelectorAll('img')].map(i => { const b = i.getBoundingClientRect(); "
        script += "return [b.x, b.y, b.width] })"
        return slider.evaluate(script)

    start = places()[0]
    scene.locator("[data-zoom=in]").click()
    slider.press("+")
    first, second = places()
    assert first == second
    assert first[2] == pytest.approx(4 * start[2])
    assert scene.locator("output").inner_text() == "4×"
    slider.press("Shift+ArrowRight")
    assert places()[0][0] == pytest.approx(first[0] - 40)
    value = slider.evaluate("e => e.value")
    slider.scroll_into_view_if_needed()
    box, before = slider.bounding_box(), places()[0]
    x, y = box["x"] + 0.1 * box["width"], box["y"] + 0.2 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y + 20)
    page.mouse.up()
    after = places()
    assert after[0] == after[1]
    assert after[0][:2] == pytest.approx([before[0] + 30, before[1] + 20], abs=1)
    assert slider.evaluate("e => e.value") == value
    slider.press("0")
    assert places()[0][2] == pytest.approx(start[2])


@pytest.mark.slow
def test_hdr_is_there_on_a_plain_screen_too(tmp_path: Path, watched: Watched) -> None:
    pytest.importorskip("imagecodecs")
    look_at_hdr(tmp_path, watched, begins="data:image/webp")


@pytest.mark.slow
def test_a_screen_with_hdr_begins_with_it(tmp_path: Path, watched_in_hdr: Watched) -> None:
    pytest.importorskip("imagecodecs")
    look_at_hdr(tmp_path, watched_in_hdr, begins="data:image/jpeg")


def look_at_hdr(folder: Path, watched: Watched, *, begins: str) -> None:
    page = watched.page
    page.goto(write_report(folder, results(), [view("001", hdr=True), view("002", hdr=True)]).as_uri())
    scene = page.locator(".scene").first
    scene.scroll_into_view_if_needed()
    left, right = scene.locator("img").first, scene.locator("img").nth(1)
    assert left.get_attribute("src").startswith(begins)
    scene.locator("[data-hdr]").focus()
    page.keyboard.press("Space")
    assert scene.locator("[data-hdr]").is_checked()
    for image in (left, right):
        assert image.get_attribute("src").startswith("data:image/jpeg")
        assert image.evaluate("e => e.decode().then(() => [e.naturalWidth, e.naturalHeight])") == [68, 44]
    page.keyboard.press("ArrowRight")
    assert left.get_attribute("src").startswith("data:image/webp")
    page.keyboard.press("ArrowLeft")
    scene.locator("select.left").select_option(label="Error of AFUNet")  # a map has no exposures
    assert left.get_attribute("src").startswith("data:image/webp")
    assert right.get_attribute("src").startswith("data:image/jpeg")
    watched.check()

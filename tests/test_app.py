"""app.py: what it takes in, what it refuses, and that its page in a browser gives what predict.py gives."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import app
import predict
from models import AFUNet, AFUNetConfig
from tests.browser import Watched
from tests.handheld import write_bracket
from utils.checkpoint import load_model, save_checkpoint
from utils.cli import run
from utils.files import InputError
from utils.images import read_hdr
from utils.photographs.settings import Settings
from utils.photographs.web import Limits, Service, Shelf, safe_name, take_in, typed_exposures

SIZE = (64, 96)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    torch.manual_seed(0)
    model = AFUNet(AFUNetConfig(stages=1))
    weights = tmp_path_factory.mktemp("weights") / "tiny.pth"
    save_checkpoint(weights, {"state_dict": model.state_dict(), "config": asdict(model.config)})
    shelf = Shelf(3600)
    yield Service(load_model(weights), weights, Limits(photographs=4, megapixels=0.02, megabytes=1.0), shelf)
    shelf.close()


def bracket(folder: Path, **how: Any) -> list[Path]:
    return write_bracket(folder, size=SIZE, **how)


def without_exif(paths: list[Path]) -> list[Path]:
    bare = [path.with_suffix(".png") for path in paths]
    for path, new in zip(paths, bare, strict=True):
        with Image.open(path) as image:
            Image.fromarray(np.asarray(image)).save(new)
    return bare


# Files that arrive


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("IMG_1.JPG", "IMG_1.JPG"),
        ("../../etc/passwd.jpg", "passwd.jpg"),
        ("..\\x\\<b>évil\n.jpg", "b_vil_.jpg"),
        (".hidden.png", "hidden.png"),
        ("..", "photograph"),
        ("a" * 500 + ".tif", "a" * 60 + ".tif"),
        ("-rf.jpg", "rf.jpg"),
    ],
)
def test_names_are_made_harmless(name: str, safe: str) -> None:
    assert safe_name(name, set()) == safe


def test_equal_names_are_numbered() -> None:
    assert safe_name("b/IMG.jpg", {"img.jpg", "IMG_2.jpg"}) == "IMG_3.jpg"


def test_a_zip_counts_as_its_photographs(tmp_path: Path) -> None:
    paths = bracket(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in paths:
            archive.write(path, f"../../{path.name}")
        archive.writestr("__MACOSX/._IMG.JPG", b"x")
        archive.writestr("exposure.txt", "0 2 4")
    (tmp_path / "out").mkdir()
    taken = take_in([tmp_path / "all.zip"], tmp_path / "out", Limits())
    assert [path.name for path in taken] == [path.name for path in paths]
    assert all(new.read_bytes() == old.read_bytes() for new, old in zip(taken, paths, strict=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.zip", "in", "out"]
    assert (tmp_path / "out" / "exposure.txt").read_text() == "0 2 4"


def refusal(service: Service, uploads: list[Path]) -> str:
    """The one line, without the server's folders and options of a command line; the first look says the same."""
    with pytest.raises(InputError) as refused:
        service.merge(uploads, Settings(), lambda done, whole: None)
    message = str(refused.value)
    assert not any(word in message for word in ("\n", "--", str(service.shelf.root)))
    with pytest.raises(InputError) as first:
        service.look_at(uploads)
    assert str(first.value) == message
    return message


def test_what_is_no_bracket_is_refused_in_one_line(service: Service, tmp_path: Path) -> None:
    paths = bracket(tmp_path / "in", evs=(0, 1, 2, 3, 4))
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "broken.jpg").write_bytes(b"no photograph")
    (tmp_path / "broken.zip").write_bytes(b"no archive")
    assert "notes.txt: no photograph by its name" in refusal(service, [tmp_path / "notes.txt"])
    assert "broken.jpg: not a photograph that can be read" in refusal(service, [tmp_path / "broken.jpg"])
    assert "zip archive is damaged" in refusal(service, [tmp_path / "broken.zip"])
    assert "more than 4 photographs" in refusal(service, paths)
    assert "2 photograph(s) where at least three are meant" in refusal(service, paths[:2])


def test_limits_hold_whatever_a_file_promises(service: Service, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", bytes(5_000_000))
    assert (tmp_path / "bomb.zip").stat().st_size < 10_000
    assert "too large together" in refusal(service, [tmp_path / "bomb.zip"])
    large = [tmp_path / f"{i}.png" for i in range(3)]
    for path in large:
        Image.new("RGB", (400, 100)).save(path)
    assert "0.png: 400x100 pixels; 0.02 megapixels are the most here" in refusal(service, large)


@pytest.mark.parametrize(
    ("text", "kind", "settings"),
    [
        ("", "EV", {}),
        ("0, 2; 4", "EV", {"ev": (0.0, 2.0, 4.0)}),
        ("1/100 1/25 0.5", "seconds", {"times": (0.01, 0.04, 0.5)}),
    ],
)
def test_typed_exposures(text: str, kind: str, settings: dict[str, Any]) -> None:
    assert typed_exposures(text, kind) == settings


@pytest.mark.parametrize(("text", "kind"), [("0 2 x", "EV"), ("1/0", "seconds"), ("0 1 2", "seconds"), ("nan", "EV")])
def test_exposures_that_are_none(text: str, kind: str) -> None:
    with pytest.raises(InputError, match="write"):
        typed_exposures(text, kind)


# Folders that go


def test_old_folders_are_removed_and_young_ones_stay(tmp_path: Path) -> None:
    shelf = Shelf(60.0)
    old, young = shelf.folder(), shelf.folder()
    (old / "a.jpg").write_text("x")
    os.utime(old, (time.time() - 61,) * 2)
    shelf.sweep()
    assert not old.exists() and young.exists()
    shelf.close()
    assert not shelf.root.exists()


def test_requests_do_not_mix(service: Service, tmp_path: Path) -> None:
    """Two brackets whose files bear the same names."""
    answers = [
        service.merge(bracket(tmp_path / str(seed), seed=seed), Settings(), lambda done, whole: None) for seed in (1, 2)
    ]
    files = [answer.files[0] for answer in answers]
    assert files[0].name == files[1].name and files[0].parent != files[1].parent
    assert not np.array_equal(read_hdr(files[0]), read_hdr(files[1]))
    for answer in answers:
        assert [picture.shape for picture in answer.pictures] == [(*SIZE, 3)] * 2
        assert answer.explained.is_file()


# The script


def test_a_missing_package_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as end:
        run(lambda: app.main([]))
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {app.NEEDED}\n"


def test_it_answers_to_this_machine_only_unless_told_otherwise() -> None:
    args = app.parse_args([])
    assert (args.host, args.share) == ("127.0.0.1", False)


class Page:
    """The running page, and every address outside this machine that anything here connected to."""

    def __init__(self, address: str) -> None:
        self.address, self.abroad = address, list[Any]()


@pytest.fixture(scope="module")
def running(service: Service) -> Iterator[Page]:
    pytest.importorskip("gradio", reason="needs gradio (requirements-app.txt)")
    connect, page = socket.socket.connect, Page("")

    def watch(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX and not ipaddress.ip_address(socket.gethostbyname(address[0])).is_loopback:
            page.abroad.append(address)
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", watch)
        args = SimpleNamespace(host="127.0.0.1", port=None, share=False, max_megabytes=1.0)
        blocks = app.page(service, 8)
        page.address = app.serve(blocks, args, prevent_thread_lock=True, quiet=True)[1]
        yield page
        blocks.close()


def wait_for_words(page: Any, selector: str, before: str) -> None:
    """Until a field holds others than before."""
    script = "([s, b]) => { const v = document.querySelector(s).value; return v && v !== b }"
    page.wait_for_function(script, arg=[selector, before])


def upload(page: Any, paths: list[Path]) -> str:
    """Drop files on the page; what it says of them."""
    before = page.locator("#found textarea").input_value()
    page.set_input_files("#uploads input[type=file]", list(map(str, paths)))
    wait_for_words(page, "#found textarea", before)
    return page.locator("#found textarea").input_value()


def clear(page: Any) -> None:
    page.locator("#uploads button[aria-label='Clear']").click()
    page.wait_for_function("() => !document.querySelector('#found textarea').value")


@pytest.mark.slow
def test_in_a_browser(service: Service, running: Page, watched: Watched, tmp_path: Path) -> None:
    paths = bracket(tmp_path / "in", names=("a.jpg", "b.jpg", "c.jpg"))
    page = watched.page
    page.goto(running.address)
    page.wait_for_selector("#merge")

    (tmp_path / "notes.txt").write_text("x")
    assert "notes.txt: no photograph by its name" in upload(page, [tmp_path / "notes.txt"])
    clear(page)

    assert "Exposures from EXIF: EV +0.0, +2.0, +4.0" in upload(page, paths)
    assert not page.locator("#exposures").is_visible()
    exr = merged(page, tmp_path / "first.exr")
    predict.main([*map(str, paths), "--pretrained_model", str(service.weights), "--save_dir", str(tmp_path / "out")])
    assert np.array_equal(exr, read_hdr(tmp_path / "out" / "b.exr"))
    clear(page)

    assert "No exposures for all of them" in upload(page, without_exif(paths))
    page.locator("#exposures input[type=text], #exposures textarea").last.fill("0 2 4")
    merged(page, tmp_path / "second.exr")
    watched.check()
    assert not running.abroad


def merged(page: Any, path: Path) -> np.ndarray:
    """Press the button; the EXR that the page offers."""
    before = page.locator("#told textarea").input_value()
    page.click("#merge")
    wait_for_words(page, "#told textarea", before)
    assert page.locator("#result img").count() >= 2
    with page.expect_download() as download:
        page.locator("#files a", has_text="").first.click()
    download.value.save_as(path)
    return read_hdr(path)

"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from utils.files import (
    InputError,
    atomic_path,
    entries,
    read_exposures,
    regular_file,
    remove_leftovers,
    shortened_stem,
    user_path,
    write_text,
)


def test_a_tilde_is_home_where_somebody_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/results") == tmp_path / "results"
    assert user_path("~") == tmp_path
    for name in ("~copy.jpg", "~nobody_of_that_name/results", "a/~", "results"):
        assert user_path(name) == Path(name)


def test_a_write_that_fails_leaves_the_old_file_and_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "made" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(InputError, match=r"a\.txt: cannot be written \(No space left on device\); make room"),
        atomic_path(target) as temporary,
    ):
        temporary.write_text("new")
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]
    assert target.read_text() == "old"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"b\.txt: cannot be written"), atomic_path(tmp_path / "file" / "b.txt"):
        pass


def test_pipes_and_devices_are_refused_as_input(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, kind in {
        "pipe": "a pipe",
        "zero": "a device",
        ".": "a folder",
        "loop": "symbolic link",
        "no": "No such",
    }.items():
        with pytest.raises(InputError, match=rf"{name}.*cannot be read \(.*{kind}.*; give a file"):
            regular_file(tmp_path / name)
    with pytest.raises(InputError, match="null"):
        regular_file("a\0b")


def test_an_endless_exposure_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "exposure.txt").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="a device"):
        read_exposures(tmp_path / "exposure.txt")
    (tmp_path / "long.txt").write_text("1\n" * 100_000)
    with pytest.raises(InputError, match="not a text file of numbers"):
        read_exposures(tmp_path / "long.txt")


@pytest.mark.parametrize("name", ["", ".", "x" * 256, "pipe", "null"])
def test_targets_that_are_no_files_are_refused_and_stay(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("null").symlink_to("/dev/null")
    with pytest.raises(InputError) as error, atomic_path(name) as temporary:
        temporary.write_text("new")
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["null", "pipe"] and Path("null").is_char_device()


def test_names_of_any_length_the_disk_takes_are_written(tmp_path: Path) -> None:
    for name in ("é" * 125 + ".txt", "a" * 251 + ".txt", os.fsdecode(b"\xff\xfe.txt")):
        write_text(tmp_path / name, f"{name}\n")
        assert (tmp_path / name).is_file()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_message_is_one_line_whatever_the_file_is_called() -> None:
    assert str(InputError("a\nb\x1b[31m\udcff ö: damaged")) == r"a\nb\x1b[31m\udcff ö: damaged"


def test_a_long_name_leaves_room_for_endings() -> None:
    assert shortened_stem("scene") == "scene"
    assert shortened_stem("ö" * 120) == "ö" * 100


def test_a_folder_that_cannot_be_looked_into_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be looked into"):
        entries(tmp_path / "nowhere")


def test_leftovers_go_when_they_are_old_enough(tmp_path: Path) -> None:
    for name in (".a.1-0.tmp.npy", ".b.1-1.tmp.npy", "c.npy"):
        (tmp_path / name).touch()
    os.utime(tmp_path / ".a.1-0.tmp.npy", (0, 0))
    remove_leftovers(tmp_path, ".npy", age=3600)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.1-1.tmp.npy", "c.npy"]

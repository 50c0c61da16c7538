"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from utils.files import InputError, atomic_path


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

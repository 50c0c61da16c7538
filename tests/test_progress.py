"""What long work says of itself where no terminal shows a bar."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from utils import progress
from utils.progress import Pace, duration, heard_by, paced, per_second


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that goes on only when told to."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def go_on(seconds: float) -> None:
        now[0] += seconds

    return go_on


def test_a_line_a_minute_with_rate_and_what_is_left(
    wait: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with Pace(100, "image", "epoch 2/3", after=100) as pace:
        for _ in range(5):
            wait(25.0)
            pace.update(10, "total 0.5000")
    assert capsys.readouterr().err.splitlines() == [  # after 75 seconds; the next would be due at 135
        "epoch 2/3: 30 of 100 images, 2.5 s/image, about 3 minutes left, 7 minutes of the whole run, total 0.5000"
    ]


def test_what_was_done_before_counts_for_nothing(wait: Callable[[float], None]) -> None:
    pace = Pace(100, "image", done=80)
    wait(2.0)
    pace.update(10)
    assert pace.line() == "90 of 100 images, 5.0 images/s, about 2 seconds left"


def test_quiet_work_and_short_work_say_nothing(
    wait: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in paced(range(3), "scene", quiet=True):
        wait(1000.0)
    for _ in paced(range(3), "scene"):
        wait(10.0)
    assert capsys.readouterr() == ("", "")


def test_items_are_counted_when_they_are_done(
    wait: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert [wait(61.0) or item for item in paced(iter("ab"), "scene", total=2)] == ["a", "b"]
    assert capsys.readouterr().err == "1 of 2 scenes, 61.0 s/scene, about 61 seconds left\n"  # none when all is done


def test_a_total_that_becomes_known_later(wait: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    pace = Pace(0, "", "strips")
    wait(61.0)
    pace.reach(122, 244)
    assert capsys.readouterr().err == "strips: 122 of 244, 2.0 steps/s, about 61 seconds left\n"


def test_a_terminal_shows_a_bar_and_no_lines(wait: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", terminal)
    with Pace(10, "image", "epoch 1") as pace:
        wait(120.0)
        pace.update(5)
    assert not pace.in_lines
    assert "epoch 1" in terminal.getvalue()
    assert "images/s, about" not in terminal.getvalue()


def test_a_listener_hears_of_the_work_in_its_block_only() -> None:
    heard: list[tuple[int, int]] = []
    with heard_by(lambda done, total: heard.append((done, total))):
        list(paced("ab", "scene"))
    list(paced("ab", "scene"))
    assert heard == [(1, 2), (2, 2)]


def test_units() -> None:
    assert (per_second(12.34, "image"), per_second(0.25, "scene")) == ("12.3 images/s", "4.0 s/scene")
    assert [duration(s) for s in (5, 99, 600, 7200)] == ["5 seconds", "99 seconds", "10 minutes", "2.0 hours"]

"""How fast long work goes and what is left of it: a bar on a terminal, elsewhere a line a minute on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

INTERVAL = 60.0  # seconds between two lines
Listener = Callable[[int, int], None]  # gets how much is done, and of how much
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
Item = TypeVar("Item")


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Work that this thread does within the block also tells ``listener``, e.g. a bar on a web page."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


class Pace:
    """Counts work. The bar goes where its output is a terminal; a log file gets a line a minute in its place.

    Args:
        total: how much there is to do; 0 where that is not known yet.
        unit: what is counted, e.g. "image".
        name: what the line or the bar begins with.
        done: how much was done before.
        after: how much of the same kind comes after ``total``, for a second estimate.
        quiet: neither bar nor lines, as in all processes of a group but one.
        leave: the bar stays on the terminal when the work is done.
    """

    def __init__(
        self,
        total: int,
        unit: str,
        name: str = "",
        *,
        done: int = 0,
        after: int = 0,
        quiet: bool = False,
        leave: bool = True,
    ) -> None:
        self.total, self.unit, self.name, self.after = total, unit, name, after
        self.first = self.done = done
        self.began = self.told = time.monotonic()
        hidden = True if quiet else None  # None: shown where somebody is looking
        self.bar = tqdm(total=total or None, initial=done, desc=name or None, unit=unit, leave=leave, disable=hidden)
        self.in_lines = self.bar.disable and not quiet

    def __enter__(self) -> Pace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def update(self, count: int = 1, note: str = "") -> None:
        """Count what was done; ``note`` stands at the end of the bar or the line."""
        self.done += count
        if note:
            self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(count)
        if listener := _listener.get():
            listener(self.done, self.total)
        if self.in_lines and self.done < self.total and time.monotonic() - self.told >= INTERVAL:
            self.told = time.monotonic()
            with suppress(OSError, ValueError):  # a closed terminal costs no step
                print(self.line(note), file=sys.stderr, flush=True)

    def reach(self, done: int, total: int) -> None:
        """The same by what is done of how much, for work that tells its total as it goes."""
        self.total = self.bar.total = total
        self.update(done - self.done)

    def line(self, note: str = "") -> str:
        """``epoch 3/400: 1200 of 7400 images, 12.3 images/s, about 8 minutes left``."""
        counted = f"{self.done} of {self.total} {self.unit}s" if self.unit else f"{self.done} of {self.total}"
        parts = [f"{self.name}: {counted}" if self.name else counted]
        seconds = time.monotonic() - self.began
        if self.done > self.first and seconds > 0:
            rate = (self.done - self.first) / seconds
            left, later = (self.total - self.done) / rate, (self.total - self.done + self.after) / rate
            parts += [per_second(rate, self.unit or "step"), f"about {duration(left)} left"]
            parts += [f"{duration(later)} of the whole run"] if self.after else []
        return ", ".join([*parts, note] if note else parts)


def paced(
    items: Iterable[Item], unit: str, name: str = "", *, total: int | None = None, done: int = 0, quiet: bool = False
) -> Iterator[Item]:
    """The items, counted as the caller is done with them; the other arguments are those of :class:`Pace`."""
    count = total if total is not None else len(items) if isinstance(items, Sized) else 0
    with Pace(count, unit, name, done=done, quiet=quiet) as pace:
        for item in items:
            yield item
            pace.update()


def per_second(rate: float, unit: str) -> str:
    """``12.3 images/s``, or ``4.5 s an image`` where that is the larger number."""
    return f"{rate:.1f} {unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"


def duration(seconds: float) -> str:
    """``45 seconds``, ``12 minutes``, ``5.5 hours``."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 100 * 60 else f"{seconds / 3600:.1f} hours"

"""Ctrl-C while modules load is one line, as it is later (utils.cli). Scripts import this before all that takes time."""

from __future__ import annotations

import sys
from types import TracebackType

_before = sys.excepthook


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")  # the interpreter then ends as one that the signal has ended
    else:
        _before(kind, error, trace)


sys.excepthook = _hook

"""What a part has measured, kept in a file that is written anew after every step. Standard library only.

A step is done, or failed and says why, or is not there yet. Whoever runs a part again comes to the missing steps at
once; the name of a step under way stands in the file, so that a process that dies leaves word of what it died in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from utils.files import InputError, atomic_path

SAME = ("card", "torch", "tiny")  # facts that the figures of one folder have in common
UNFINISHED = "unfinished"  # in a result: the step is to be taken up again


class TimeIsUp(Exception):
    """The time given does not do for the next step."""


class Broken(Exception):
    """The GPU answers no more in this process; another one can go on."""


class Record:
    """The file of one part.

    ``deadline`` is a time of ``time.time()`` after which no step begins; ``healthy`` says after a failed step whether
    this process can go on.
    """

    def __init__(
        self, path: Path, facts: Mapping[str, Any], deadline: float, healthy: Callable[[], bool] = lambda: True
    ) -> None:
        self.path, self.deadline, self.healthy = path, deadline, healthy
        self.content = read(path) or {"facts": dict(facts), "steps": {}}
        refuse_others(path, self.content["facts"], facts)
        self.content.pop("left", None)

    def step(self, name: str, measure: Callable[[], dict[str, Any]], needs: float = 0.0) -> dict[str, Any] | None:
        """The result of a step, measured now unless it is there; None where it failed, now or before.

        Raises TimeIsUp where fewer than ``needs`` seconds are left, and Broken where no further step can run.
        """
        if name in self.content["steps"] and not self._result(name).get(UNFINISHED):
            return self.content["steps"][name].get("result")
        if self.left() <= needs:
            self.content["left"] = name
            self.save()
            raise TimeIsUp(name)
        print(f"  {name}", flush=True)
        self.content["running"] = name
        self.save()
        began = time.monotonic()
        try:
            found: dict[str, Any] = {"result": measure()}
        except TimeIsUp:
            del self.content["running"]
            self.content["left"] = name
            self.save()
            raise
        except Exception as error:  # whatever a step may raise: it is written down, and the others run
            found = {"error": reason(error)}
            print(f"    failed: {found['error']}", flush=True)
        self.content["steps"][name] = {**found, "took": round(time.monotonic() - began, 2)}
        del self.content["running"]
        self.save()
        if "error" in found and not self.healthy():
            raise Broken(name)
        return found.get("result")

    def fail(self, error: BaseException) -> None:
        """Write down what went wrong outside the steps."""
        self.content["steps"]["the part"] = {"error": reason(error)}
        self.save()

    def forget(self, *names: str) -> None:
        """Take steps out, so that they are done again."""
        for name in names:
            self.content["steps"].pop(name, None)

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.time()

    def save(self) -> None:
        write(self.path, self.content)

    def _result(self, name: str) -> dict[str, Any]:
        return self.content["steps"][name].get("result") or {}


def reason(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:400]}"


def refuse_others(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise InputError where a file holds the figures of another card or form."""
    for fact in SAME:
        if before.get(fact) != now.get(fact):
            raise InputError(
                f"{path}: measured with {fact} {before.get(fact)}, now it is {now.get(fact)}; give another --out, or "
                "--again"
            )


def forget_failures(path: Path) -> None:
    """Take what failed out of a part's file, so that it is tried again."""
    if content := read(path):
        content["steps"] = {name: step for name, step in content["steps"].items() if "error" not in step}
        write(path, content)


def note_death(path: Path, how: str) -> bool:
    """Turn the step under way into a failed one, for a process that died; False where none was under way."""
    content = read(path)
    if not content or "running" not in content:
        return False
    content["steps"][content.pop("running")] = {"error": how}
    write(path, content)
    return True


def read(path: Path) -> dict[str, Any] | None:
    """A part's file; None where there is none. Raises InputError where it is damaged."""
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        if not all(isinstance(part, dict) for part in (content["facts"], content["steps"], *content["steps"].values())):
            raise ValueError
        return content
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{path}: not a file of this program; remove it, or give another --out") from None


def write(path: Path, content: Mapping[str, Any]) -> None:
    """The file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")

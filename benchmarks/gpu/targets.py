"""What we aim at on an H100, and how far the figures are from it. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

CARD = "H100"  # the card that the targets speak of
Results = Mapping[str, Mapping[str, Any]]  # part -> step -> result
LARGE_IMAGE = "1024x1536, "
KEPT, REBUILT = f"{LARGE_IMAGE}plain, masks kept", f"{LARGE_IMAGE}plain, masks rebuilt"


@dataclass(frozen=True)
class Target:
    """A figure to reach.

    Attributes:
        name, goal: for people.
        measured: the figure of some results and a word on where it is from; None where it was not measured.
        limit: the figure has to be at most this, or at least, where ``at_least`` is set.
        unit: printed behind the figure.
        profile: (part, step) of the profile that says where the time goes.
        next_step: what to look at where the target is missed.
    """

    name: str
    goal: str
    measured: Callable[[Results], tuple[float, str] | None]
    limit: float
    unit: str = ""
    at_least: bool = False
    profile: tuple[str, str] | None = None
    next_step: str = ""

    def met(self, figure: float) -> bool:
        return figure >= self.limit if self.at_least else figure <= self.limit


def ways(results: Results) -> dict[str, float]:
    """Seconds of the ways to run the network at 1024x1536, the plain ones apart."""
    steps = results.get("inference", {}).items()
    prefix = f"{LARGE_IMAGE}plain"
    return {
        name.removeprefix(LARGE_IMAGE): step["seconds"]
        for name, step in steps
        if name.startswith(LARGE_IMAGE) and not name.startswith(prefix)
    }


def fastest(results: Results, words: str = "") -> tuple[str, float] | None:
    """The way whose name has ``words`` in it that takes the least time."""
    fitting = [(name, seconds) for name, seconds in ways(results).items() if words in name]
    return min(fitting, key=lambda each: each[1], default=None)


def milliseconds(words: str) -> Callable[[Results], tuple[float, str] | None]:
    def measured(results: Results) -> tuple[float, str] | None:
        found = fastest(results, words)
        return (1000 * found[1], found[0]) if found else None

    return measured


def times_faster(baseline: str) -> Callable[[Results], tuple[float, str] | None]:
    """How many times faster the fastest way is than a plain one."""

    def measured(results: Results) -> tuple[float, str] | None:
        found, base = fastest(results), results.get("inference", {}).get(baseline)
        return (base["seconds"] / found[1], found[0]) if found and base else None

    return measured


def training_speed(results: Results) -> tuple[float, str] | None:
    steps = results.get("training", {})
    if "bf16, compiled" not in steps or "plain, masks kept" not in steps:
        return None
    return steps["bf16, compiled"]["images_per_s"] / steps["plain, masks kept"]["images_per_s"], "bf16, compiled"


def waiting(results: Results) -> tuple[float, str] | None:
    """The largest share, over the ways to train."""
    shares = {name: step["waiting"] for name, step in results.get("training", {}).items() if "waiting" in step}
    worst = max(shares, key=shares.__getitem__, default=None)
    return (100 * shares[worst], worst) if worst else None


def change(results: Results) -> tuple[float, str] | None:
    """The largest change of PSNR-mu by fp16, in plain torch or by the kernels."""
    changes = results.get("accuracy", {}).get("shipped weights", {}).get("largest change", {})
    halves = {name: abs(value) for name, value in changes.items() if name.startswith("fp16")}
    worst = max(halves, key=halves.__getitem__, default=None)
    return (halves[worst], worst) if worst else None


TARGETS = (
    Target(
        "fp16 with kernels, 1024x1536",
        "at most 40 ms (aim: 20)",
        milliseconds("kernels, fp16"),
        40.0,
        " ms",
        profile=("inference", "profile, kernels, fp16"),
        next_step="what stands above the two kernels in the profile: copies around convolutions where padding loses "
        "channels-last, the MLPs outside the Swin blocks, SAM's attention",
    ),
    Target(
        "tf32, 1024x1536",
        "at most 80 ms",
        milliseconds("tf32"),
        80.0,
        " ms",
        profile=("inference", "profile, kernels, tf32"),
        next_step="as for fp16; in the part kernels, whether a block in tf32 is slower than its share",
    ),
    Target(
        "the fastest way, against the oracle with masks kept",
        "at least 6 times",
        times_faster(KEPT),
        6.0,
        " times",
        at_least=True,
        profile=("inference", "profile, kernels, fp16"),
        next_step="the longest kernels of the profile",
    ),
    Target(
        "the fastest way, against the released way (masks rebuilt)",
        "at least 20 times",
        times_faster(REBUILT),
        20.0,
        " times",
        at_least=True,
        profile=("inference", "profile, kernels, fp16"),
        next_step="the longest kernels of the profile",
    ),
    Target(
        "training with bf16 and compile, against the oracle in float32",
        "at least 4 times",
        training_speed,
        4.0,
        " times",
        at_least=True,
        profile=("training", "profile, bf16"),
        next_step="CUDA graphs where short kernels fill the profile, else the window attention's backward pass",
    ),
    Target(
        "waiting for the loader in training, the most of any way",
        "less than 5 %",
        waiting,
        5.0,
        " %",
        next_step="more loader processes (train.py has an option), or loaders that outlive an epoch",
    ),
    Target(
        "change of PSNR-mu by fp16, shipped weights, the most of any scene",
        "less than 0.01 dB",
        change,
        0.01,
        " dB",
        next_step="which part loses it: keep the first and last convolutions, then the norms, in float32",
    ),
)

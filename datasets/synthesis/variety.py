"""What scenes may vary in beyond the plain ones, part by part. Each part draws from a stream of its own.

So a set of scenes with one part more shows the same views, objects and noise, but for what that part changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from datasets.synthesis.camera import Exposures, Timing
from datasets.synthesis.colours import BALANCED, Colours, Light
from datasets.synthesis.development import Curve, Curves, File, Files
from datasets.synthesis.motion import Movement, Movements


@dataclass(frozen=True)
class Drawn:
    """What one scene varies in; the defaults are a plain scene."""

    light: Light = field(default_factory=Light)
    balance: tuple[tuple[float, ...], ...] = BALANCED  # gains per frame and channel
    files: tuple[File, ...] = field(default_factory=lambda: (File(),) * 3)
    curve: Curve = field(default_factory=Curve)
    timing: Timing = field(default_factory=Timing)
    movement: Movement = field(default_factory=Movement)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variety:
    """The parts that are switched on, each with its ranges; with none of them scenes are plain."""

    colours: Colours | None = None
    files: Files | None = None
    curves: Curves | None = None
    exposures: Exposures | None = None
    motion: Movements | None = None

    def draw(self, rng: np.random.Generator) -> Drawn:
        """What one scene varies in."""
        colours, files, curves, exposures, motion = rng.spawn(5)
        drawn: dict[str, Any] = {}
        if self.colours:
            drawn |= {"light": self.colours.light(colours), "balance": self.colours.balance(colours)}
        if self.files:
            drawn["files"] = self.files.files(files)
        if self.curves:
            drawn["curve"] = self.curves.curve(curves)
        if self.exposures:
            drawn["timing"] = self.exposures.timing(exposures)
        if self.motion:
            drawn["movement"] = self.motion.movement(motion)
        told = asdict(Drawn(**drawn))
        return Drawn(**drawn, facts={name: rounded(told[name]) for name in drawn})


def rounded(value: Any) -> Any:
    """Numbers to four digits after the point, for reading."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return [rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


PLAIN = Variety()
PLAIN_FACTS: dict[str, Any] = {name: rounded(value) for name, value in asdict(Drawn()).items()}
PARTS: dict[str, tuple[str, Any]] = {  # what --vary takes: a part by its usual ranges, or one thing in every scene
    "colours": ("colours", Colours()),
    "files": ("files", Files()),
    "curves": ("curves", Curves()),
    "exposures": ("exposures", Exposures()),
    "motion": ("motion", Movements()),
    "jpeg92": ("files", Files((0.0, 0.0, 1.0), (92, 92), subsampled=1.0, alike=1.0)),
    "strong": ("colours", Colours(1.0, (1.5, 2.5), 1.0, 1.0, gain=0.7, drifting=0.0)),
    "1ev": ("exposures", Exposures(1.0, (1.0, 1.0), erring=0.0)),
    "4ev": ("exposures", Exposures(1.0, (4.0, 4.0), erring=0.0)),
}
ALL = tuple(part.name for part in fields(Variety))


def variety(names: Sequence[str]) -> Variety:
    """The variety of some names out of ``PARTS``; the last one counts where two are about the same."""
    return Variety(**dict(PARTS[name] for name in names))

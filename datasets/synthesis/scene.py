"""One scene: a view, what moves through it, and three frames of a hand-held camera."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from datasets.synthesis import camera as cameras
from datasets.synthesis.colours import Light
from datasets.synthesis.motion import SHUTTER, Mover, contrasted, cover, random_movers
from datasets.synthesis.photographs import Photograph, take_view
from datasets.synthesis.shapes import Draw
from datasets.synthesis.variety import PLAIN, Drawn, Variety

FASTEST = 60.0  # pixels between two frames, about the largest motion people make in the real sets at 1500x1000 ...
FASTEST_SHARE = 0.1  # ... and at most this share of the width, for small scenes
REFERENCE = 1  # the middle frame


@dataclass(frozen=True)
class MadeScene:
    """A scene in memory. Unpacks as ``frames, ev, label = scene``.

    frames (3, H, W, 3) uint16; ev (3,) float32, rising from 0; label (H, W, 3) float32 linear RGB in [0, 1]: what the
    middle frame's exposure saw, without noise, up to where the darkest frame saturates. ``facts``: how it was made.
    """

    frames: np.ndarray
    ev: np.ndarray
    label: np.ndarray
    facts: dict[str, object] = field(default_factory=dict)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.frames, self.ev, self.label))


def make_scene(
    rng: np.random.Generator,
    photographs: list[Photograph],
    size: tuple[int, int],
    *,
    fastest: float | None = None,
    iso: float | None = None,
    number: int | None = None,
    variety: Variety = PLAIN,
) -> MadeScene:
    """Make one scene; the same generator state gives the same scene.

    Args:
        rng: source of all randomness.
        photographs: backgrounds come from one of them, textures of objects from the others.
        size: (height, width) in pixels.
        fastest: largest displacement of an object between two frames, pixels; by default 60, or a tenth of the width.
        iso: sensitivity; by default drawn from ``camera.ISO``.
        number: takes photograph ``number`` modulo their count as background, so that a set uses all alike; else random.
        variety: what scenes may vary in; drawn from streams of its own, so that all else stays the same.
    """
    index = number % len(photographs) if number is not None else int(rng.integers(len(photographs)))
    background = photographs[index]
    others = [p for p in photographs if p is not background] or [background]
    drawn, placing = variety.draw(rng.spawn(1)[0]), rng.spawn(1)[0]
    margin = round(max(6, 3 * drawn.movement.shake) * cameras.SHAKE_SHARE * size[1]) + 2
    view, camera = take_view(rng, background, size, margin)
    view = drawn.light(view)
    view = view * cameras.reference_exposure(rng, view)
    ev = cameras.bracket(rng, view, drawn.timing.steps)
    view = view / 2.0 ** ev[REFERENCE]  # the label's scale: 1 saturates the darkest frame
    movers = random_movers(rng, view, camera, size, others, fastest_of(drawn, fastest, size[1]))
    movers = varied_movers(placing, movers, drawn, view, size, float(2.0 ** -ev[REFERENCE]))
    drawn_iso = float(rng.choice(cameras.ISO))  # drawn even where it is given, so that all else stays the same
    iso = iso if iso is not None else drawn_iso
    homographies = random_shakes(rng, camera, size[1], drawn.movement.shake)
    shutter = float(rng.uniform(0.0, SHUTTER))
    radiances = [
        cameras.look(populated(view, movers, ev, i, shutter, margin), homographies[i], size) for i in range(len(ev))
    ]
    frames = np.stack([develop(rng, radiance, ev, i, iso, drawn) for i, radiance in enumerate(radiances)])
    label = np.clip(radiances[REFERENCE], 0.0, 1.0).astype(np.float32)
    return MadeScene(frames, ev, label, facts(background, movers, homographies, iso, shutter) | drawn.facts)


def fastest_of(drawn: Drawn, given: float | None, width: int) -> float:
    """The fastest object's displacement between two frames, pixels."""
    if given is not None:
        return given
    reach = drawn.movement.reach
    return min(FASTEST, FASTEST_SHARE * width) if reach is None else reach * width


def varied_movers(
    rng: np.random.Generator, movers: list[Mover], drawn: Drawn, view: np.ndarray, size: tuple[int, int], clips: float
) -> list[Mover]:
    """The objects in the scene's light, some of them against their ground; none in a scene that stands still."""
    if drawn.movement.still:
        return []
    chosen = [
        contrasted(rng, mover, view, size, clips) if rng.random() < drawn.movement.contrasted else mover
        for mover in movers
    ]
    return [replace(mover, draw=partial(_lit, drawn.light, mover.draw)) for mover in chosen]


def _lit(light: Light, draw: Draw, phase: float) -> np.ndarray:
    return light.on_sprite(draw(phase))


def develop(
    rng: np.random.Generator, radiance: np.ndarray, ev: np.ndarray, i: int, iso: float, drawn: Drawn
) -> np.ndarray:
    """Frame ``i`` (H, W, 3) uint16 as the camera exposes, balances and stores it."""
    balanced = radiance * np.array(drawn.balance[i], np.float32)
    exposure = ev[i] + np.float32(drawn.timing.errors[i])
    return cameras.shoot(rng, balanced, exposure, iso, drawn.curve, drawn.files[i], i)


def random_shakes(
    rng: np.random.Generator, camera: cameras.Camera, width: int, strength: float = 1.0
) -> list[np.ndarray]:
    """A homography per frame; none for the reference, and none at all on a tripod."""
    if rng.random() < cameras.TRIPOD:
        return [np.eye(3)] * 3
    return [np.eye(3) if i == REFERENCE else cameras.shake(rng, camera, width, strength) for i in range(3)]


def populated(
    view: np.ndarray, movers: list[Mover], ev: np.ndarray, frame: int, shutter: float, margin: int
) -> np.ndarray:
    """The view with all objects as the sensor integrates them during one frame's exposure.

    Exposure time doubles with each EV; ``shutter`` is the longest one's share of the time between two frames.
    """
    share = shutter * 2.0 ** float(ev[frame] - ev.max())
    canvas = view
    for mover in movers:
        canvas = cover(canvas, mover, float(frame - REFERENCE), share, margin)
    return canvas


def facts(
    background: Photograph, movers: list[Mover], homographies: list[np.ndarray], iso: float, shutter: float
) -> dict[str, object]:
    """What a scene was made of, for its scene.json."""
    return {
        "photograph": background.name,
        "iso": iso,
        "shutter": round(shutter, 4),
        "objects": [{"kind": m.kind, "pixels_per_frame": round(float(np.hypot(*m.velocity)), 2)} for m in movers],
        "shake_pixels": [round(float(np.hypot(h[0, 2], h[1, 2])), 2) for h in homographies],
    }

"""Objects on their way through the three frames: where they are, how large, how blurred, what they cover."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from datasets.synthesis import shapes
from datasets.synthesis.photographs import SUPERSAMPLING, Camera, Photograph, log_average, luminance, texture

OBJECTS = (1, 4)  # how many move, at least and at most
KINDS = ("walker", "ball", "cut-out")
SHARES = (0.5, 0.2, 0.3)
WALKER_HEIGHT = (0.35, 0.85)  # of the height of the scene
EYE_LEVEL = 0.94  # feet to horizon, of a person's height: the camera is held at eye level
OBJECT_SIDE = (0.12, 0.4)  # of the height of the scene: balls and cut-outs
SLOWEST = 0.15  # of the fastest motion
SPIN = 0.4  # radians between two frames, standard deviation, cut-outs
GROWTH = 0.04  # change of size between two frames, standard deviation
SHUTTER = 0.35  # the longest exposure lasts at most this share of the time between two frames
BRISK = 0.35  # of their height is as far as people walk between two frames: 0.6 m
GREY_CLOTH = 0.25  # reflectance that looks as bright as its surroundings
BRIGHTNESS = 0.7  # stops around the light of its surroundings, standard deviation
PLACES = 8  # looked at before an object is put before the darkest or brightest of them
LENS = 0.6  # standard deviation in pixels of the blur that makes edges as soft as the view's


@dataclass(frozen=True)
class Movement:
    """How one scene moves.

    Attributes:
        still: no object at all.
        reach: fastest object between two frames, of the width; None for the usual one.
        contrasted: share of the objects that are clipped before dark grounds, or dark before clipped ones.
        shake: strength of the camera's shake; 1 is usual.
    """

    still: bool = False
    reach: float | None = None
    contrasted: float = 0.0
    shake: float = 1.0


@dataclass(frozen=True)
class Movements:
    """How scenes move; shares are of scenes."""

    still: float = 0.08
    fast: float = 0.3  # with faster objects than usual ...
    reach: tuple[float, float] = (0.1, 0.21)  # ... of the width: up to 80 pixels of 384
    contrast: float = 0.5  # with objects of the other extreme than their ground ...
    contrasted: float = 0.6  # ... which then is this share of them
    shaken: float = 0.5  # shaken more than usual ...
    shake: tuple[float, float] = (1.0, 3.0)  # ... by such a factor: 3 to 9 pixels at 384, 0.25 to 0.75 degrees of roll

    def movement(self, rng: np.random.Generator) -> Movement:
        """How one scene moves."""
        still, fast, contrast, shaken = rng.random(4) < (self.still, self.fast, self.contrast, self.shaken)
        reach, shake = float(rng.uniform(*self.reach)), float(rng.uniform(*self.shake))
        contrasted = self.contrasted if contrast else 0.0
        return Movement(bool(still), reach if fast else None, contrasted, shake if shaken else 1.0)


@dataclass(frozen=True)
class Mover:
    """An object: drawn by ``draw(phase)``, it stands at ``position`` at time 0 (the reference frame) and moves.

    Lengths in scene pixels. ``anchor`` is the point of the sprite, as shares of its size, that ``position`` tells of;
    ``sample`` is how many sprite pixels a scene pixel has at time 0.
    """

    kind: str
    draw: shapes.Draw
    light: np.ndarray  # (3,) radiance of a white, fully lit surface
    position: np.ndarray  # (2,) x, y
    velocity: np.ndarray  # (2,) between two frames
    anchor: tuple[float, float]
    sample: float
    spin: float  # rotation between two frames, radians
    growth: float  # log of the change in size between two frames
    turn: float  # phase that passes between two frames

    def place(self, time: float, shape: tuple[int, int]) -> np.ndarray:
        """2x3 affine map from sprite pixels to scene pixels."""
        size = math.exp(self.growth * time) / self.sample
        cosine, sine = size * math.cos(self.spin * time), size * math.sin(self.spin * time)
        linear = np.array([[cosine, -sine], [sine, cosine]])
        anchor = np.array([self.anchor[0] * shape[1], self.anchor[1] * shape[0]])
        return np.column_stack([linear, self.position + self.velocity * time - linear @ anchor])


@dataclass(frozen=True)
class Setting:
    """What objects are put into."""

    view: np.ndarray  # the supersampled canvas, linear
    camera: Camera
    size: tuple[int, int]  # (height, width) of the scene in pixels
    textures: list[Photograph]  # to cut textures from
    sun: np.ndarray  # (3,) unit vector to the light

    def patches(self, rng: np.random.Generator, side: float, count: int) -> list[np.ndarray]:
        """Textures (n, n, 3) of ``side`` scene pixels."""
        samples = max(round(side * SUPERSAMPLING), 8)
        return [texture(rng, self.textures[rng.integers(len(self.textures))], samples) for _ in range(count)]

    def light(self, rng: np.random.Generator, centre: np.ndarray, reach: float) -> np.ndarray:
        """(3,) radiance of a white surface there: grey cloth would be about as bright as the view, here and everywhere.

        The view's colour tints it by half: light bounces around, but objects keep colours of their own.
        """
        limits = np.array(self.view.shape[1::-1])
        column, row = np.clip(centre * SUPERSAMPLING, 0, limits - 1).astype(int)
        span = max(int(reach * SUPERSAMPLING), 4)
        near = self.view[max(row - span, 0) : row + span, max(column - span, 0) : column + span]
        grey = math.sqrt(log_average(near) * log_average(self.view)) * 2.0 ** rng.normal(0.0, BRIGHTNESS)
        tint = np.sqrt(self.view.mean(axis=(0, 1)) / (luminance(self.view).mean() + 1e-9) + 1e-3)
        return grey / GREY_CLOTH * tint / luminance(tint)


def random_movers(
    rng: np.random.Generator,
    view: np.ndarray,
    camera: Camera,
    size: tuple[int, int],
    textures: list[Photograph],
    fastest: float,
) -> list[Mover]:
    """Objects for a view, farthest first. ``fastest``: largest displacement between two frames, in pixels."""
    count = int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))
    setting = Setting(view, camera, size, textures, shapes.random_light(rng))
    movers = []
    for nearness in sorted(rng.uniform(0.0, 1.0, count)):
        kind = str(rng.choice(KINDS, p=SHARES))
        speed = fastest * float(rng.uniform(SLOWEST, 1.0))
        if kind == "walker":
            movers.append(random_person(rng, setting, float(nearness), speed))
        else:
            movers.append(random_thing(rng, setting, kind, float(nearness), speed))
    return movers


def random_person(rng: np.random.Generator, setting: Setting, nearness: float, speed: float) -> Mover:
    """A person who stands on the ground: the horizon passes at the eyes, however far away."""
    height, width = setting.size
    tall = height * (WALKER_HEIGHT[0] + nearness * (WALKER_HEIGHT[1] - WALKER_HEIGHT[0]))
    position = np.array([rng.uniform(0.05, 0.95) * width, setting.camera.horizon(height) + EYE_LEVEL * tall])
    speed = min(speed, BRISK * tall)
    facing = float(rng.choice([-1.0, 1.0]))
    drawn = round(tall * SUPERSAMPLING)
    person = shapes.random_walker(rng, setting.patches(rng, drawn // 3 / SUPERSAMPLING, 3))
    start = rng.uniform(0, 2 * math.pi)
    draw = shapes.walker(person, drawn, setting.sun, facing)
    return Mover(
        kind="walker",
        draw=lambda phase: draw(start + phase),
        light=setting.light(rng, position - (0, tall / 2), tall / 2),
        position=position,
        velocity=np.array([facing * speed, 0.0]),
        anchor=(0.5, 1.04 / 1.1),
        sample=SUPERSAMPLING,
        spin=0.0,
        growth=float(rng.normal(0.0, GROWTH / 2)),
        turn=2 * math.pi * speed / (shapes.STRIDE * tall),
    )


def random_thing(rng: np.random.Generator, setting: Setting, kind: str, nearness: float, speed: float) -> Mover:
    """A ball or a cut-out anywhere in the picture, flying in any direction."""
    height, width = setting.size
    share = OBJECT_SIDE[0] + nearness * (OBJECT_SIDE[1] - OBJECT_SIDE[0])
    side = height * (0.5 * share if kind == "ball" else share)
    patch = setting.patches(rng, side, 1)[0]
    position = rng.uniform(0.1, 0.9, 2) * (width, height)
    angle = rng.uniform(0, 2 * math.pi)
    rolls = float(rng.normal(0.0, 2 * SPIN))
    return Mover(
        kind=kind,
        draw=shapes.ball(patch, setting.sun) if kind == "ball" else shapes.cut_out(rng, patch),
        light=setting.light(rng, position, side),
        position=position,
        velocity=speed * np.array([math.cos(angle), math.sin(angle)]),
        anchor=(0.5, 0.5),
        sample=SUPERSAMPLING,
        spin=0.0 if kind == "ball" else float(rng.normal(0.0, SPIN)),
        growth=float(rng.normal(0.0, GROWTH)),
        turn=rolls,
    )


def contrasted(rng: np.random.Generator, mover: Mover, view: np.ndarray, size: tuple[int, int], clips: float) -> Mover:
    """The object clipped before the darkest of some grounds, or dark before the brightest of them.

    ``view`` is the canvas, ``size`` the scene's, ``clips`` the radiance at which the reference clips. People only go
    sideways to their place, since they stand on the ground.
    """
    bright = bool(rng.integers(2))
    stops = float(rng.uniform(0.3, 2.5))
    places = rng.uniform(0.05, 0.95, (PLACES, 2)) * size[::-1]
    if mover.kind == "walker":
        places[:, 1] = mover.position[1]
    ground = np.array([_light_at(view, size, place) for place in places])
    position = places[ground.argmin() if bright else ground.argmax()]
    level = clips * 2.0**stops if bright else min(log_average(view), clips) * 2.0**-stops
    tint = mover.light / luminance(mover.light)
    return replace(mover, position=position, light=level / GREY_CLOTH * tint)


def _light_at(view: np.ndarray, size: tuple[int, int], place: np.ndarray) -> float:
    """The view's log-average around a place, within an eighth of the scene's height, in scene pixels."""
    inner = np.array(view.shape[1::-1]) / SUPERSAMPLING - size[::-1]  # both margins
    column, row = ((place.clip(0, size[::-1]) + inner / 2) * SUPERSAMPLING).astype(int)
    span = max(size[0] * SUPERSAMPLING // 8, 1)
    return log_average(view[max(row - span, 0) : row + span, max(column - span, 0) : column + span])


def trail(velocity: np.ndarray, share: float) -> np.ndarray:
    """Blur kernel of motion during ``share`` of the time between two frames: a line, centred, summing to 1."""
    half = velocity * share * SUPERSAMPLING / 2
    reach = math.ceil(np.abs(half).max()) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for step in np.linspace(-1.0, 1.0, 4 * reach + 1):  # each moment spread over its four nearest samples
        x, y = half * step + reach
        column, row = int(x), int(y)
        right, low = x - column, y - row
        kernel[row : row + 2, column : column + 2] += np.outer((1 - low, low), (1 - right, right))
    return kernel / kernel.sum()


def cover(canvas: np.ndarray, mover: Mover, time: float, share: float, margin: int) -> np.ndarray:
    """The canvas with the object in front, at ``time``, blurred by its motion during ``share`` of a frame interval."""
    sprite = mover.draw(mover.turn * time)
    affine = SUPERSAMPLING * mover.place(time, sprite.shape[:2])
    affine[:, 2] += SUPERSAMPLING * margin
    layer = cv2.warpAffine(sprite, affine, canvas.shape[1::-1], flags=cv2.INTER_LINEAR)
    layer = cv2.GaussianBlur(layer, (0, 0), LENS * SUPERSAMPLING)
    layer = cv2.filter2D(layer, -1, trail(mover.velocity, share)).clip(
        0.0, 1.0
    )  # long kernels go through a rounding FFT
    return layer[..., :3] * mover.light.astype(np.float32) + canvas * (1.0 - layer[..., 3:])

"""What moves through a scene, drawn as reflectance with shading: balls, cut-outs and people who walk.

A sprite is (h, w, 4) float32: premultiplied RGB in [0, 1] (reflectance times shading) and coverage. Drawing takes a
phase, so that a ball rolls and a walker's legs swing between two frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

AMBIENT = 0.45  # share of the light that comes from everywhere; the rest falls from one side
SHADOW = 0.55  # how much light a shadow on the ground takes away where it is deepest
STRIDE = 0.85  # length of two steps, of a person's height
SWING = 0.45  # radians, hip and shoulder at the widest step
CLOTH = (  # reflectance, RGB: navy, grey, black, brown, denim; tops also white, red, green, ochre, sky blue
    (0.05, 0.08, 0.20),
    (0.25, 0.25, 0.26),
    (0.04, 0.04, 0.045),
    (0.22, 0.13, 0.08),
    (0.14, 0.19, 0.30),
    (0.80, 0.80, 0.78),
    (0.45, 0.05, 0.05),
    (0.08, 0.22, 0.12),
    (0.55, 0.38, 0.08),
    (0.25, 0.42, 0.62),
)
TROUSERS = CLOTH[:5]
SKIN = ((0.62, 0.42, 0.32), (0.45, 0.28, 0.19), (0.20, 0.12, 0.08))
HAIR = ((0.03, 0.025, 0.02), (0.10, 0.06, 0.03), (0.38, 0.28, 0.15), (0.35, 0.34, 0.33))

Draw = Callable[[float], np.ndarray]


def shading(normal_x: np.ndarray, normal_y: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Lambert's cosine law plus ambient light, for the normals of a round thing facing the camera (z towards it)."""
    normal_z = np.sqrt(np.clip(1.0 - normal_x**2 - normal_y**2, 0.0, 1.0))
    lambert = normal_x * light[0] + normal_y * light[1] + normal_z * light[2]
    return AMBIENT + (1.0 - AMBIENT) * lambert.clip(min=0.0)


def random_light(rng: np.random.Generator) -> np.ndarray:
    """A unit vector to the light (x right, y down, z to the camera): above, in front, to the left or right."""
    vector = np.array([rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.0), rng.uniform(-1.0, -0.3), rng.uniform(0.3, 0.9)])
    return vector / np.linalg.norm(vector)


def premultiplied(colour: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """(h, w, 3) and (h, w) -> a sprite (h, w, 4)."""
    return np.dstack([colour * coverage[..., None], coverage]).astype(np.float32)


def over(top: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Porter and Duff's "over" for premultiplied sprites."""
    return top + below * (1.0 - top[..., 3:])


def grid(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres (x, y) of a sprite, float32."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) + 0.5
    return x, y


def ball(patch: np.ndarray, light: np.ndarray) -> Draw:
    """A sphere wrapped in a square texture, as large as that; the phase is how far it has rolled, in radians."""
    side = patch.shape[0]
    x, y = (2.0 * axis / side - 1.0 for axis in grid(side, side))
    radius = np.hypot(x, y)
    z = np.sqrt(np.clip(1.0 - radius**2, 0.0, 1.0))
    coverage = np.clip((1.0 - radius) * side / 2 + 0.5, 0.0, 1.0)
    shade = shading(x, y, light)[..., None]

    def draw(phase: float) -> np.ndarray:
        longitude = np.arctan2(x, z) / math.pi + phase / (2 * math.pi)  # half a turn shows the texture once
        latitude = np.arcsin(y.clip(-1.0, 1.0)) / math.pi + 0.5
        wrapped = cv2.remap(
            patch, longitude * side % side, latitude * (side - 1), cv2.INTER_LINEAR, None, cv2.BORDER_WRAP
        )
        return premultiplied(wrapped * shade, coverage)

    return draw


def outline(rng: np.random.Generator, side: int, corners: int) -> np.ndarray:
    """Coverage (side, side) of a random shape: a polygon of so many corners, or a smooth irregular outline for 0."""
    angle = (
        np.sort(rng.uniform(0, 2 * math.pi, corners)) if corners else np.linspace(0, 2 * math.pi, 96, endpoint=False)
    )
    radius = rng.uniform(0.65, 1.0, corners) if corners else _wobbly(rng, angle)
    points = 0.5 * side * (1.0 + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1))
    coverage = np.zeros((side, side), np.uint8)
    cv2.fillPoly(coverage, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return coverage.astype(np.float32) / 255.0


def _wobbly(rng: np.random.Generator, angle: np.ndarray) -> np.ndarray:
    orders = np.arange(1, 8)
    waves = np.cos(orders[:, None] * angle + rng.uniform(0, 2 * math.pi, (7, 1)))
    radius = np.exp((rng.normal(0.0, 0.35, 7) / orders) @ waves)
    return 0.95 * radius / radius.max()


def cut_out(rng: np.random.Generator, patch: np.ndarray) -> Draw:
    """A flat piece of a photograph with an irregular outline; its light falls off along one direction."""
    side = patch.shape[0]
    corners = int(rng.choice([0, 0, 4, 5]))
    coverage = outline(rng, side, corners)
    x, y = (axis / side - 0.5 for axis in grid(side, side))
    turn = rng.uniform(0, 2 * math.pi)
    sprite = premultiplied(patch * (1.0 + 0.5 * (x * math.cos(turn) + y * math.sin(turn)))[..., None], coverage)
    return lambda phase: sprite


@dataclass(frozen=True)
class Walker:
    """Clothes and build of a person; textures are (n, n, 3) reflectance."""

    top: np.ndarray
    trousers: np.ndarray
    skin: np.ndarray
    hair: np.ndarray
    shoes: np.ndarray
    bag: np.ndarray | None
    long_hair: bool
    coat: float  # how far below the hip the coat reaches, of the height; 0 for a jacket
    width: float  # build: 1 is average


def cloth(rng: np.random.Generator, patch: np.ndarray, colours: tuple[tuple[float, ...], ...] = CLOTH) -> np.ndarray:
    """A plain colour with the light and dark of a photograph's patch on it: folds, print and weave."""
    colour = np.array(colours[rng.integers(len(colours))]) * rng.uniform(0.85, 1.15, 3)
    detail = patch.mean(axis=-1, keepdims=True)
    strength = rng.uniform(0.3, 0.9)
    return np.clip(colour * (detail / detail.mean()) ** strength, 0.03, 0.9).astype(np.float32)


def random_walker(rng: np.random.Generator, patches: list[np.ndarray]) -> Walker:
    """Dress a person in cloth made of three patches; one top in three is the photograph itself, as a print."""

    def plain(colours: tuple[tuple[float, ...], ...]) -> np.ndarray:
        return np.full((1, 1, 3), colours[rng.integers(len(colours))], np.float32)

    top = patches[0] if rng.random() < 0.33 else cloth(rng, patches[0])
    bag = cloth(rng, patches[2]) if rng.random() < 0.4 else None
    skin, hair, shoes = plain(SKIN), plain(HAIR), plain(HAIR)
    coat = float(rng.uniform(0.05, 0.2)) if rng.random() < 0.4 else 0.0
    trousers = cloth(rng, patches[1], TROUSERS)
    long_hair = bool(rng.random() < 0.5)
    return Walker(top, trousers, skin, hair, shoes, bag, long_hair, coat, width=float(rng.uniform(0.9, 1.15)))


def walker(person: Walker, height: int, light: np.ndarray, facing: float) -> Draw:
    """A person seen from the side who walks to the right (``facing`` 1) or left (-1), drawn ``height`` pixels tall.

    The sprite is (1.1 height, 0.9 height); the feet stand 1.04 heights from its top. Phase: 2 pi is two steps.
    """
    sideways = light * np.array([facing, 1.0, 1.0])  # drawn to the right, mirrored after

    def draw(phase: float) -> np.ndarray:
        sprite = _ground_shadow(height)
        for start, end, radii, skin in body(person, phase):
            capsule(sprite, start, end, radii, skin, height, sideways)
        return sprite if facing > 0 else np.ascontiguousarray(sprite[:, ::-1])

    return draw


Part = tuple[np.ndarray, np.ndarray, tuple[float, float], np.ndarray]


def body(person: Walker, phase: float) -> list[Part]:
    """Capsules (start, end, radii, texture) in units of the height, x ahead, y up from the ground; far side first.

    Proportions of an adult of seven and a half heads; hips and shoulders swing against each other.
    """
    swing = SWING * math.sin(phase)
    bob = 0.012 * math.cos(2 * phase)
    hip, neck = np.array([0.0, 0.52 + bob]), np.array([0.025, 0.835 + bob])
    shoulder, head = _shifted(neck, -0.005, -0.035), _shifted(neck, 0.012, 0.1)
    wide = person.width
    far = [*_arm(person, shoulder, swing), *_leg(person, hip, -swing, math.cos(phase))]
    near = [*_leg(person, hip, swing, -math.cos(phase))]
    torso: list[Part] = [
        (neck, _shifted(head, -0.01, -0.02), (0.032, 0.032), person.skin),
        (_shifted(shoulder, 0, -0.045), _shifted(hip, 0, 0.01), (0.085 * wide, 0.078 * wide), person.top),
    ]
    if person.coat:
        torso.append((hip, _shifted(hip, -0.01, -person.coat), (0.08 * wide, 0.095 * wide), person.top))
    if person.long_hair:
        face_back = (_shifted(head, -0.028, 0.0), _shifted(shoulder, -0.04, -0.01), (0.038, 0.03), person.hair)
        torso.append(face_back)
    if person.bag is not None:
        torso.insert(0, (_shifted(shoulder, -0.09, -0.03), _shifted(hip, -0.1, 0.1), (0.055, 0.065), person.bag))
    face: list[Part] = [
        (_shifted(head, 0.004, 0.014), _shifted(head, 0.012, -0.02), (0.052, 0.042), person.skin),
        (_shifted(head, -0.018, -0.004), _shifted(head, -0.012, 0.02), (0.04, 0.046), person.hair),
        (_shifted(head, -0.012, 0.026), _shifted(head, 0.018, 0.034), (0.044, 0.034), person.hair),
    ]
    return [*far, *near, *torso, *face, *_arm(person, shoulder, -swing)]


def _leg(person: Walker, hip: np.ndarray, swing: float, lift: float) -> list[Part]:
    """Thigh, shin and foot. ``lift`` > 0 while the leg comes forward: the knee bends."""
    knee = hip + 0.245 * _down(swing + 0.15 * max(lift, 0.0))
    ankle = knee + 0.235 * _down(swing - 0.12 - 0.75 * max(lift, 0.0))
    toe = ankle + 0.085 * _down(swing * 0.6 + 1.45 - 0.6 * max(lift, 0.0))
    return [
        (_shifted(ankle, -0.012, -0.008), toe, (0.027, 0.019), person.shoes),
        (knee, ankle, (0.046 * person.width, 0.03), person.trousers),
        (hip, knee, (0.072 * person.width, 0.048 * person.width), person.trousers),
    ]


def _arm(person: Walker, shoulder: np.ndarray, swing: float) -> list[Part]:
    elbow = _shifted(shoulder, 0, -0.01) + 0.165 * _down(0.9 * swing)
    wrist = elbow + 0.14 * _down(0.9 * swing + 0.35)
    hand = wrist + 0.045 * _down(0.9 * swing + 0.4)
    return [
        (wrist, hand, (0.02, 0.021), person.skin),
        (_shifted(shoulder, 0, -0.01), elbow, (0.042 * person.width, 0.034), person.top),
        (elbow, wrist, (0.034, 0.025), person.top),
    ]


def _shifted(point: np.ndarray, ahead: float, up: float) -> np.ndarray:
    return point + np.array([ahead, up])


def _down(angle: float) -> np.ndarray:
    """Unit vector that hangs straight down at 0 and points ahead at pi/2."""
    return np.array([math.sin(angle), -math.cos(angle)])


def capsule(
    sprite: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    radii: tuple[float, float],
    skin: np.ndarray,
    height: int,
    light: np.ndarray,
) -> None:
    """Draw one rounded, tapered limb over a sprite, in place. Positions and radii in units of the height."""
    foot = np.array([sprite.shape[1] / 2, 1.04 * height])
    (ax, ay), (bx, by) = (foot + height * np.array([p[0], -p[1]]) for p in (start, end))
    reach = max(radii) * height + 2
    top, bottom = int(max(min(ay, by) - reach, 0)), int(min(max(ay, by) + reach, sprite.shape[0]))
    left, right = int(max(min(ax, bx) - reach, 0)), int(min(max(ax, bx) + reach, sprite.shape[1]))
    x, y = grid(bottom - top, right - left)
    x, y = x + left - ax, y + top - ay
    along = np.clip((x * (bx - ax) + y * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2 + 1e-6), 0.0, 1.0)
    radius = height * (radii[0] + (radii[1] - radii[0]) * along)
    off_x, off_y = x - along * (bx - ax), y - along * (by - ay)
    coverage = np.clip(radius - np.hypot(off_x, off_y) + 0.5, 0.0, 1.0)
    shade = shading((off_x / radius).clip(-1, 1), (off_y / radius).clip(-1, 1), light)
    colour = skin[mirrored(y, skin.shape[0]), mirrored(x, skin.shape[1])] * shade[..., None]
    part = sprite[top:bottom, left:right]
    part[:] = over(premultiplied(colour, coverage), part)


def mirrored(position: np.ndarray, length: int) -> np.ndarray:
    """Indices into a texture that repeats back and forth, without seams."""
    index = np.floor(position).astype(int) % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)


def _ground_shadow(height: int) -> np.ndarray:
    """An empty sprite with a soft dark ellipse where the feet are."""
    rows, columns = round(1.1 * height), round(0.9 * height)
    x, y = grid(rows, columns)
    distance = ((x - columns / 2) / (0.2 * height)) ** 2 + ((y - 1.045 * height) / (0.022 * height)) ** 2
    coverage = SHADOW * np.exp(-0.5 * distance)
    coverage[coverage < 0.01] = 0.0
    return premultiplied(np.zeros((rows, columns, 3), np.float32), coverage)

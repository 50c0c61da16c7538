"""The colour of the light: panoramas are mild, while stages, shop windows and sunsets are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.synthesis.photographs import luminance

DARKEST = 0.02  # of its luminance is left to a channel: even a laser's light scatters some of every colour


@dataclass(frozen=True)
class Light:
    """What the colours of one scene become: saturation around the luminance, then order, then gain of the channels.

    Gains of the channels are von Kries' model of another light (1902); luminance is that of ITU-R BT.709.
    """

    saturation: float = 1.0
    order: tuple[int, ...] = (0, 1, 2)
    gains: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Linear RGB (..., 3), at least 0, in the new light; the same array where nothing changes."""
        if self == Light():
            return image
        grey = luminance(image)[..., None]
        coloured = np.maximum(grey + self.saturation * (image - grey), DARKEST * grey)
        return (coloured[..., list(self.order)] * np.array(self.gains, np.float32)).astype(np.float32)

    def on_sprite(self, sprite: np.ndarray) -> np.ndarray:
        """A premultiplied sprite (h, w, 4) with colours as strong; its light has the gains of its surroundings."""
        if self == Light():
            return sprite
        colours = Light(self.saturation, self.order)(sprite[..., :3])
        return np.dstack([np.minimum(colours, sprite[..., 3:]), sprite[..., 3:]])


@dataclass(frozen=True)
class Colours:
    """How scenes are coloured; shares are of scenes.

    The ranges reach from an overcast day to a concert: there one channel can hold four times the light of another.
    """

    share: float = 0.6  # with a light of their own
    saturation: tuple[float, float] = (0.7, 3.0)  # log-uniform
    swapped: float = 0.5  # of those: channels in random order, so that no hue is rare
    tinted: float = 0.5  # of those: with gains
    gain: float = 1.0  # stops a channel gains or loses at most
    drifting: float = 0.1  # white balance differs from frame to frame ...
    drift: float = 0.05  # ... by so many stops, standard deviation

    def light(self, rng: np.random.Generator) -> Light:
        """The light of one scene."""
        coloured, swapped, tinted = rng.random(3) < (self.share, self.swapped, self.tinted)
        saturation = float(np.exp(rng.uniform(*np.log(self.saturation))))
        order = tuple(rng.permutation(3).tolist())
        gains = tuple((2.0 ** rng.uniform(-self.gain, self.gain, 3)).tolist())
        if not coloured:
            return Light()
        return Light(saturation, order if swapped else (0, 1, 2), gains if tinted else (1.0, 1.0, 1.0))

    def balance(self, rng: np.random.Generator) -> tuple[tuple[float, ...], ...]:
        """Gains of each channel in each frame; 1 in the reference."""
        drifting = rng.random() < self.drifting
        gains = 2.0 ** rng.normal(0.0, self.drift, (3, 3))
        gains[1] = 1.0
        return tuple(map(tuple, gains.tolist())) if drifting else BALANCED


BALANCED = ((1.0, 1.0, 1.0),) * 3  # the same white in all frames

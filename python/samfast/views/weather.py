"""Weather and light: fog, rain and glare, painted with numpy and Pillow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFilter

from samfast.views.recipe import Image

WHITE = np.array([255.0, 255.0, 255.0], np.float32)
CLOUD_CELLS = 5
"""Patches of fog along each side."""


@dataclass(frozen=True)
class Fog:
    """Light scattered into the view (Koschmieder's law): thicker towards the top, as far things are, and in patches.

    Attributes:
        density: the largest share of an image's contrast that it takes at the top; uniform from none.
        probability: that there is any.
    """

    density: float = 0.8
    probability: float = 0.3

    name: ClassVar[str] = "fog"
    version: ClassVar[int] = 1

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """``(H, W, 3)`` uint8 RGB to the same."""
        height, width = image.shape[:2]
        chance, share, grey = rng.random(3)
        patches = rng.random((CLOUD_CELLS, CLOUD_CELLS), np.float32)
        if chance >= self.probability:
            return image
        clouds = np.asarray(Pillow.fromarray(patches).resize((width, height), Pillow.Resampling.BICUBIC))
        depth = np.linspace(1, 0.35, height, dtype=np.float32)[:, None] * (0.6 + 0.4 * clouds)
        return _blend(image, WHITE * np.float32(0.75 + 0.2 * grey), np.clip(self.density * share * depth, 0, 1))


@dataclass(frozen=True)
class Rain:
    """Streaks of falling drops before a view with less contrast.

    Attributes:
        streaks: the most, on a square of the image's longest side; uniform from none.
        probability: that there are any.
    """

    streaks: int = 1200
    probability: float = 0.3

    name: ClassVar[str] = "rain"
    version: ClassVar[int] = 1

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """``(H, W, 3)`` uint8 RGB to the same."""
        height, width = image.shape[:2]
        side = max(height, width)
        chance, share, slant, length = rng.random(4)
        drops = rng.random((int(self.streaks * share), 3))
        if chance >= self.probability:
            return image
        canvas = Pillow.new("L", (width, height))
        pen = ImageDraw.Draw(canvas)
        fall = np.array([0.35 * (2 * slant - 1), 1.0]) * side * (0.02 + 0.04 * length)
        for x, y, near in drops.tolist():
            start = np.array([(1.4 * x - 0.2) * side, (1.2 * y - 0.1) * side])
            end = start + fall * (0.5 + near)
            pen.line(
                (*start.tolist(), *end.tolist()), fill=int(70 + 110 * near), width=max(1, round(side * near / 500))
            )
        soft = np.asarray(canvas.filter(ImageFilter.GaussianBlur(side / 2000)), np.float32) / 255
        veiled = _blend(image, WHITE * np.float32(0.55), np.full((height, width), 0.25 * share, np.float32))
        return _blend(veiled, WHITE * np.float32(0.85), soft)


@dataclass(frozen=True)
class Glare:
    """A light that shines into the lens, or off wet ground: a bright spot and its veil.

    Attributes:
        strength: the largest share of the image that is white at the centre of the spot; uniform from none.
        probability: that there is any.
    """

    strength: float = 0.9
    probability: float = 0.3

    name: ClassVar[str] = "glare"
    version: ClassVar[int] = 1

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """``(H, W, 3)`` uint8 RGB to the same."""
        height, width = image.shape[:2]
        chance, share, x, y, spread, warmth = rng.random(6)
        if chance >= self.probability:
            return image
        across = np.arange(width, dtype=np.float32) - np.float32(x * width)
        down = np.arange(height, dtype=np.float32) - np.float32(y * height)
        reach = np.float32(max(height, width) * (0.1 + 0.2 * spread))
        square = (across[None] ** 2 + down[:, None] ** 2) / reach**2
        light = 0.7 * np.exp(-4 * square) + 0.3 / (1 + square)
        tint = np.array([255, 255 - 10 * warmth, 255 - 45 * warmth], np.float32)
        return _blend(image, tint, np.clip(self.strength * share * light, 0, 1))


def _blend(image: Image, colour: NDArray[np.float32], share: NDArray[np.floating]) -> Image:
    """``image`` with a share in [0, 1] of each pixel, ``(H, W)``, taken by a colour."""
    weight = share.astype(np.float32)[..., None]
    return (image * (1 - weight) + colour * weight + 0.5).astype(np.uint8)

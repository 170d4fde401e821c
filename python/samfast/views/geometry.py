"""Where a view shows an image: a random affine map, drawn as flips, turns, zoom and shear, kept as one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from samfast.errors import ConfigError
from samfast.frames import PreprocessSpec

Matrix = NDArray[np.float64]

_QUARTER_TURNS = 4


@dataclass(frozen=True)
class Placement:
    """An image in the frame of one of its views: what the original frame is to the plain image.

    Attributes:
        matrix: ``(3, 3)`` float64, original frame to view frame, homogeneous (x, y, 1); pixel (0, 0) is the square
            from 0 to 1.
        height: of the view frame, in pixels: the image's own size, turned if the image is.
        width: of the view frame, in pixels.
    """

    matrix: Matrix
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the view frame."""
        return self.height, self.width

    def to_model(self, spec: PreprocessSpec) -> Matrix:
        """``(3, 3)`` float64, original frame to model frame: what a cache keeps with each row."""
        height, width = spec.resized(*self.size)
        return np.diag([width / self.width, height / self.height, 1.0]) @ self.matrix

    @classmethod
    def from_model(cls, matrix: Matrix, size: Sequence[int], spec: PreprocessSpec) -> Placement:
        """The placement whose :meth:`to_model` is ``matrix``, in a view frame of ``size`` (height, width)."""
        height, width = (int(side) for side in size)
        resized_height, resized_width = spec.resized(height, width)
        scale = np.diag([width / resized_width, height / resized_height, 1.0])
        return cls(scale @ matrix, height, width)


@dataclass(frozen=True)
class Geometry:
    """What may happen to the place of an image; the default is nothing.

    In this order: a window of 1 / zoom of the image's sides is laid at a random place and fills the frame (below 1, the
    image lies at a random place within it); it is sheared and turned about the centre, mirrored, turned by quarters.

    Attributes:
        flip_horizontal: the probability of left for right.
        flip_vertical: the probability of top for bottom.
        quarter_turns: whether it is turned by 0, 90, 180 or 270 degrees, each as likely.
        rotate_deg: the largest turn besides, to either side, uniform.
        zoom: the smallest and the largest, log-uniform.
        shear_deg: the largest shear along x, to either side, uniform.

    Raises:
        ConfigError: a number that cannot be.
    """

    flip_horizontal: float = 0.0
    flip_vertical: float = 0.0
    quarter_turns: bool = False
    rotate_deg: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    shear_deg: float = 0.0

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "zoom", tuple(float(value) for value in self.zoom))
        possible = {
            "flip_horizontal": 0 <= self.flip_horizontal <= 1,
            "flip_vertical": 0 <= self.flip_vertical <= 1,
            "rotate_deg": 0 <= self.rotate_deg <= 180,
            "zoom": len(self.zoom) == 2 and 0 < self.zoom[0] <= self.zoom[1] < np.inf,
            "shear_deg": 0 <= self.shear_deg < 90,
        }
        for field in fields(self):
            if not possible.get(field.name, True):
                raise ConfigError(f"{field.name}={getattr(self, field.name)!r} is no such geometry", where=field.name)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Placement:
        """A random placement of an image of ``height x width`` pixels."""
        unit = rng.random(8).tolist()  # always as many, so that no option moves what another draws
        low, high = np.log(self.zoom)
        matrix = _zoom(float(np.exp(low + unit[0] * (high - low))), unit[1], unit[2], height, width)
        shear, turn = ((2 * u - 1) * np.deg2rad(most) for u, most in zip(unit[3:5], self._turns, strict=True))
        about = _shift(width / 2, height / 2) @ _rotation(turn) @ _shear(shear) @ _shift(-width / 2, -height / 2)
        matrix = about @ matrix
        if unit[5] < self.flip_horizontal:
            matrix = np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]]) @ matrix
        if unit[6] < self.flip_vertical:
            matrix = np.array([[1.0, 0, 0], [0, -1, height], [0, 0, 1]]) @ matrix
        for _ in range(int(unit[7] * _QUARTER_TURNS) if self.quarter_turns else 0):
            matrix = np.array([[0.0, -1, height], [1, 0, 0], [0, 0, 1]]) @ matrix
            height, width = width, height
        return Placement(matrix, height, width)

    @property
    def _turns(self) -> tuple[float, float]:
        return self.shear_deg, self.rotate_deg


def _zoom(zoom: float, u: float, v: float, height: int, width: int) -> Matrix:
    """A window of 1 / zoom of the sides, at the place (u, v) in [0, 1) among those there are, fills the frame."""
    left, top = u * (width - width / zoom), v * (height - height / zoom)
    return np.array([[zoom, 0, -zoom * left], [0, zoom, -zoom * top], [0, 0, 1]])


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])


def _rotation(angle: float) -> Matrix:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def _shear(angle: float) -> Matrix:
    return np.array([[1, np.tan(angle), 0], [0, 1, 0], [0, 0, 1]])

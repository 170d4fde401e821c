"""Recipes: how views are made, and what such a view is called in a cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from samfast.errors import ConfigError
from samfast.views.geometry import Geometry

Image = NDArray[np.uint8]


class Photometric(Protocol):
    """A change of an image that moves nothing in it.

    Any callable with a ``name`` and a ``version`` is one: these two, and its fields if it is a dataclass, are what the
    views it makes are named by. What it draws at random comes from ``rng`` alone.
    """

    @property
    def name(self) -> str:
        """In the field's terms."""
        ...

    @property
    def version(self) -> int | str:
        """Another one as soon as the same draws would give other pixels."""
        ...

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """``(H, W, 3)`` uint8 RGB, resized for the model, to the same."""
        ...


@dataclass(frozen=True)
class Step:
    """A function of your own as a step of a recipe.

    >>> invert = Step("invert", 1, lambda image, rng: 255 - image)
    >>> Recipe("inverted", photometric=(invert,)).to_dict()["photometric"]
    [{'name': 'invert', 'version': 1, 'options': {}}]

    Attributes:
        name: of the step.
        version: of the function: another one as soon as the same draws would give other pixels.
        function: ``(H, W, 3)`` uint8 RGB and a random generator to the same shape and dtype.
    """

    name: str
    version: int | str
    function: Callable[[Image, np.random.Generator], Image]

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Call the function."""
        return self.function(image, rng)


@dataclass(frozen=True)
class Recipe:
    """How the views of an image are made: placed, then changed step by step.

    Attributes:
        name: for people; no part of what the views are called.
        geometry: where the image may come to lie.
        photometric: what else happens to it, in this order.

    Raises:
        ConfigError: a step without a name and a version, or one whose options no JSON can say.
    """

    name: str
    geometry: Geometry = field(default_factory=Geometry)
    photometric: tuple[Photometric, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "photometric", tuple(self.photometric))
        for step in self.photometric:
            is_named = all(getattr(step, each, None) not in (None, "") for each in ("name", "version"))
            if not callable(step) or not is_named:
                raise ConfigError(
                    f"{step!r} has no name and version, so that no one could tell what its views show",
                    where="photometric",
                    fix='Step("name", 1, function)',
                )
        try:
            json.dumps(self.to_dict())
        except TypeError as error:
            raise ConfigError(f"a step's options cannot be written as JSON: {error}", where="photometric") from None

    def to_dict(self) -> dict[str, Any]:
        """Everything that the pixels of a view depend on besides the image and the draws, JSON-ready."""
        return {
            "geometry": {"version": Geometry.version, "options": _options(self.geometry)},
            "photometric": [
                {"name": step.name, "version": step.version, "options": _options(step)} for step in self.photometric
            ],
        }

    @property
    def identity(self) -> str:
        """Hex SHA-256 that tells this recipe from every other."""
        return recipe_identity(self.to_dict())


def recipe_identity(fields: Mapping[str, Any]) -> str:
    """Hex SHA-256 of what :meth:`Recipe.to_dict` says, as JSON with sorted keys, no spaces, ASCII only."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def view_key(image_key: str, recipe: str, view: int) -> str:
    """The row key of a view: hex SHA-256 of the image's row key, the recipe and the view's number.

    >>> view_key("00" * 32, "11" * 32, 0) == "00" * 32
    True

    Args:
        image_key: hex row key of the plain image, which is view 0.
        recipe: hex identity of the recipe.
        view: from 0; at most 2^32 - 1.
    """
    if view == 0:
        return image_key
    parts = bytes.fromhex(image_key) + bytes.fromhex(recipe) + view.to_bytes(4, "little")
    return hashlib.sha256(parts).hexdigest()


def _options(value: Any) -> dict[str, Any]:
    """A dataclass's fields; nothing of other values, whose name and version say it all."""
    if not is_dataclass(value) or isinstance(value, Step):
        return {}
    return {each.name: getattr(value, each.name) for each in fields(value)}

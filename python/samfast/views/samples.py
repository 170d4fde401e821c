"""Samples of which a view is meant: to be encoded by a job, and to be trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from samfast.data.types import Sample
from samfast.errors import ConfigError
from samfast.frames import PreprocessSpec
from samfast.views.geometry import Placement
from samfast.views.image import draw_placement, view_image
from samfast.views.recipe import Image, Recipe, view_key

MOST_VIEWS = 1000


@dataclass(frozen=True, slots=True)
class ViewSample(Sample):
    """A view of a sample that is to be made; ``key`` is the view's row key, all else is the image's.

    Attributes:
        image_key: row key of the plain image.
        view: number of the view.
    """

    image_key: str
    view: int


@dataclass(frozen=True, slots=True)
class PlacedSample(Sample):
    """A view of a sample that was made; ``key`` is the view's row key, all else is the image's.

    Attributes:
        image_key: row key of the plain image.
        placement: where the view shows the image.
    """

    image_key: str
    placement: Placement


@dataclass(frozen=True)
class Views:
    """The views that an encoding job makes of every image.

    Attributes:
        recipe: how they are made.
        count: of each image, the plain one included.
        seed: of the draws. It is no part of what a view is called: whoever draws first has drawn it.

    Raises:
        ConfigError: a count that cannot be.
    """

    recipe: Recipe
    count: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_VIEWS:
            raise ConfigError(f"views={self.count} is not within 1 and {MOST_VIEWS}", where="views")

    def samples(self, samples: Iterable[Sample]) -> list[ViewSample]:
        """Every view of every sample: the views of an image one after the other, the plain one first."""
        recipe = self.recipe.identity
        return [
            ViewSample(**_fields(one, view_key(one.key, recipe, view)), image_key=one.key, view=view)
            for one in samples
            for view in range(self.count)
        ]

    def placement(self, sample: ViewSample) -> Placement:
        """Where a view shows its image."""
        if sample.view == 0:
            return Placement(np.eye(3), *sample.size)
        return draw_placement(self.recipe, sample.size, seed=self.seed, image_key=sample.image_key, view=sample.view)

    def image(self, image: Image, sample: ViewSample, spec: PreprocessSpec) -> Image:
        """What a view shows: ``(H, W, 3)`` uint8 RGB, original frame, to what ``spec.preprocess`` takes."""
        if sample.view == 0:
            return image
        draw: dict[str, Any] = {"seed": self.seed, "image_key": sample.image_key, "view": sample.view}
        return view_image(image, self.recipe, self.placement(sample), spec, **draw)

    def to_dict(self) -> dict[str, Any]:
        """What a cache keeps on record, JSON-ready."""
        return {"name": self.recipe.name, "recipe": self.recipe.to_dict(), "views": self.count, "seed": self.seed}


def placed_sample(sample: Sample, key: str, placement: Placement) -> PlacedSample:
    """A sample as the view in row ``key`` shows it."""
    return PlacedSample(**_fields(sample, key), image_key=sample.key, placement=placement)


def _fields(sample: Sample, key: str) -> dict[str, Any]:
    return {**{name: getattr(sample, name) for name in Sample.__dataclass_fields__}, "key": key}

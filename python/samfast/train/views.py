"""Which of its encoded views an image is trained on in each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samfast.cache import EmbeddingCache
from samfast.data.types import Sample
from samfast.prompts import draw_keys
from samfast.views import PRESETS, Recipe, get_recipe, placed_sample, view_key
from samfast.views.recipe import Photometric


@dataclass(frozen=True)
class EpochViews:
    """The views of the train set, by epoch.

    Attributes:
        cache: that holds them.
        recipe: identity of the recipe that they were made by.
        count: of each image, the plain one included.
        seed: of the run.
    """

    cache: EmbeddingCache
    recipe: str
    count: int
    seed: int

    def rows(self, samples: Sequence[Sample]) -> list[str]:
        """Row keys of every view of every sample."""
        return [view_key(sample.key, self.recipe, view) for sample in samples for view in range(self.count)]

    def shown(self, samples: Sequence[Sample], *, epoch: int) -> list[Sample]:
        """The samples as an epoch shows them: each image in one of its views, in as many epochs in all of them."""
        if self.count == 1:
            return list(samples)
        views = [view_of(sample.key, seed=self.seed, epoch=epoch, count=self.count) for sample in samples]
        keys = [view_key(sample.key, self.recipe, view) for sample, view in zip(samples, views, strict=True)]
        places = self.cache.placements(keys)
        return [
            sample if view == 0 else placed_sample(sample, key, place)
            for sample, view, key, place in zip(samples, views, keys, places, strict=True)
        ]


def view_of(image_key: str, *, seed: int, epoch: int, count: int) -> int:
    """The view of an image in an epoch: the next one of a permutation of its own, over and over."""
    order = np.argsort(draw_keys(seed, image_key, [f"view {view}" for view in range(count)]), kind="stable")
    return int(order[epoch % count])


def recipe_name(augment: str | Recipe | Photometric | None) -> str | None:
    """What a run's settings call a recipe."""
    return augment if augment is None or isinstance(augment, str) else get_recipe(augment).name


def recipe_in(cache: EmbeddingCache, augment: str | Recipe | Photometric) -> str:
    """Identity of a recipe, of the preset of that name, or else of the one of that name by which views here were made.

    Raises:
        CacheError: it is neither a preset nor in the cache.
    """
    if isinstance(augment, str) and augment not in PRESETS:
        return cache.recipe(augment)
    return get_recipe(augment).identity

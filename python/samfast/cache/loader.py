"""What training reads next: the order of an epoch, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from samfast.data.types import Sample
from samfast.errors import ConfigError
from samfast.prompts import draw_keys

T = TypeVar("T")
Image = TypeVar("Image", str, Sample)

AHEAD = 2
"""Batches ready while one is trained on, each made by a thread: one to take next, one in case that takes longer."""


def key_of(image: str | Sample) -> str:
    """The hex key of a sample, or of what is one already."""
    return image.key if isinstance(image, Sample) else image


def epoch_order(images: Sequence[Image], *, seed: int, epoch: int) -> list[Image]:
    """The images in the order of an epoch: by a hash of (seed, epoch, key), in whatever order they come.

    So it depends neither on how they are spread over shards nor on the platform.

    >>> epoch_order(["cc", "bb", "aa"], seed=0, epoch=1) == epoch_order(["aa", "bb", "cc"], seed=0, epoch=1)
    True
    """

    def place(image: str | Sample) -> tuple[int, str]:
        # Files of the same bytes have the same key, and different names.
        name = image.name if isinstance(image, Sample) else ""
        return int(draw_keys(seed, key_of(image), [""], epoch=epoch)[0]), name

    return sorted(images, key=place)


def in_batches(items: Sequence[T], size: int) -> list[list[T]]:
    """Consecutive ``items``, ``size`` in each list; the last may be shorter.

    Raises:
        ConfigError: no list could hold that many.
    """
    if size < 1:
        raise ConfigError(f"batch_size={size} reads nothing", where="batch_size", fix="use 1 or more")
    return [list(items[start : start + size]) for start in range(0, len(items), size)]

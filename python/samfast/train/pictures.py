"""What a decoder answers on a few images of the val set, as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from samfast.data import Dataset
from samfast.data.types import Sample
from samfast.inference.classes import segment_classes
from samfast.inference.contract import NO_PROMPT
from samfast.inference.pictures import shrink_image, small_overlay
from samfast.inference.prompt_kinds import prompt_kind
from samfast.inference.prompt_sets import evaluation_prompts
from samfast.inference.segmenter import Embedding, Segmenter, segment
from samfast.train.batches import Read
from samfast.train.targets import visible

LONGEST_PX = 320
"""Of one pane."""
MOST_OBJECTS = 16
"""Objects of an image that are asked for: more cannot be told apart."""
GAP_PX = 4


def pictured(samples: Sequence[Sample], count: int) -> list[Sample]:
    """``count`` samples, or all of fewer, evenly spread over ``samples``.

    >>> pictured(["a", "b", "c", "d"], 2)
    ['a', 'c']
    """
    count = min(count, len(samples))
    return [samples[index * len(samples) // count] for index in range(count)]


def validation_pictures(
    segmenter: Segmenter, dataset: Dataset, samples: Sequence[Sample], read: Read, kinds: Sequence[str], *, seed: int
) -> dict[str, NDArray[np.uint8]]:
    """A picture an image: the image, its annotation, and for each prompt kind the prompts and the answers to them.

    The prompts are those that :func:`~samfast.train.validation.validate` asks with, of the first objects.

    Args:
        segmenter, dataset, samples, read, kinds, seed: as :func:`~samfast.train.validation.validate` takes them.

    Returns:
        image name to ``(H, W, 3)`` uint8 RGB, panes from left to right.
    """
    found = {}
    for sample in samples:
        target = visible(dataset.target(sample))
        image = shrink_image(dataset.image(sample), LONGEST_PX)
        embedding = Embedding(read([sample]), (segmenter.spec.frame(*sample.size),))
        panes = [image, small_overlay(image, target.masks[:MOST_OBJECTS])]
        for kind in kinds:
            if kind == NO_PROMPT:
                panes.append(small_overlay(image, segment_classes(segmenter, embedding).masks))
                continue
            asked = prompt_kind(kind).askable(target, sample)
            asked = asked.select(np.arange(min(len(asked.masks), MOST_OBJECTS)))
            if len(asked.masks) == 0:
                panes.append(image)
                continue
            prompts = evaluation_prompts(kind, asked, sample, segmenter.spec, seed=seed)
            panes.append(small_overlay(image, segment(segmenter, embedding, prompts).masks, prompts))
        gap = np.full((image.shape[0], GAP_PX, 3), 255, np.uint8)
        found[sample.name] = np.concatenate([part for pane in panes for part in (gap, pane)][1:], axis=1)
    return found

"""Answers without prompts: a mask for each class, from the image alone, and what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from samfast.data.types import Target
from samfast.errors import ConfigError
from samfast.frames import Frame
from samfast.inference.contract import shortened
from samfast.inference.segmenter import Embedding, Prediction, Segmenter, require_one_image
from samfast.inference.tokens import NOT_A_POINT, Tokens
from samfast.masks import Masks, from_labels
from samfast.metrics import scores
from samfast.prompts import point_prompts


def class_tokens(images: int) -> Tokens:
    """What a decoder is asked, once of each image, where there are no prompts: SAM's pad token alone, and no mask."""
    return Tokens(
        image_index=np.arange(images),
        coords=np.zeros((images, 1, 2), np.float32),
        labels=np.full((images, 1), NOT_A_POINT, np.int64),
        mask=None,
        has_mask=np.zeros(images, np.float32),
    )


def segment_classes(segmenter: Segmenter, embedding: Embedding) -> Prediction:
    """A mask for each class of a model that is asked without prompts.

    Args:
        segmenter: the model.
        embedding: of exactly one image.

    Returns:
        a mask for each of the contract's classes, in their order, original frame; no two of them overlap unless the
        contract says ``multilabel``.

    Raises:
        ConfigError: the model answers prompts.
    """
    segmenter.contract.require_classes(segmenter.name)
    frame = require_one_image(embedding)
    logits, ious = segmenter.decode(embedding, class_tokens(1))
    low_res = logits[0]
    masks = Masks.from_logits(low_res, frame) if segmenter.contract.multilabel else best_classes(low_res, frame)
    nothing = point_prompts(np.zeros((0, 0, 2)))
    return Prediction(masks, ious[0], low_res, np.arange(len(low_res)), nothing)


def best_classes(logits: NDArray[np.float32], frame: Frame) -> Masks:
    """Each pixel to the class of the highest logit, if that is above the model's threshold: masks without overlaps.

    Args:
        logits: ``(K, low_res, low_res)`` float32, low-res frame.
        frame: of the image they are about.

    Returns:
        ``K`` masks, original frame; of several classes whose logits are equal, the first takes the pixel.
    """
    if len(logits) == 1:
        return Masks.from_logits(logits, frame)
    best = np.full((frame.height, frame.width), frame.spec.mask_threshold, np.float32)
    labels = np.zeros(best.shape, np.int32)
    for index in range(len(logits)):  # one at a time: an image may be large, and its classes many
        found = frame.logits_to_original(logits[index : index + 1])[0]
        labels[found > best] = index + 1
        np.maximum(best, found, out=best)
    masks, values = from_labels(labels)
    nothing = Masks.from_numpy(np.zeros((1, frame.height, frame.width), bool))
    places = np.full(len(logits), len(masks))
    places[values - 1] = np.arange(len(masks))
    return Masks.concatenate([masks, nothing])[places]


def class_order(answered: Sequence[str], annotated: Sequence[str], *, model: str) -> NDArray[np.int64]:
    """``(K,)`` int64: for each class that a model answers, its index among the classes of a data set.

    Raises:
        ConfigError: one has classes that the other has not.
    """
    if set(answered) != set(annotated):
        parts = [
            f"{who} {shortened(sorted(names))}"
            for who, names in (
                ("the model alone has", set(answered) - set(annotated)),
                ("the data alone has", set(annotated) - set(answered)),
            )
            if names
        ]
        raise ConfigError(
            f"{model} answers other classes than the data holds: {'; '.join(parts)}",
            where="classes",
            fix="open the data with the classes of the training: load_dataset(..., classes=[...], merge={...})"
            " (--classes, --merge)",
        )
    places = {name: index for index, name in enumerate(annotated)}
    return np.array([places[name] for name in answered], np.int64)


def class_masks(target: Target, order: NDArray[np.integer]) -> Masks:
    """All of each class: one mask for each class index in ``order``, empty where the image holds none of it."""
    return Masks.concatenate([target.masks[np.flatnonzero(target.classes == index)].union() for index in order])


def class_scores(counts: NDArray[np.int64]) -> dict[str, float]:
    """An image's ``iou``, ``dice``, ``precision`` and ``recall``: the mean over the classes that are there or answered.

    What is 0 of 0, such as the precision of a class that is there and was not answered, counts as 0. An image without
    any class, in which none was answered, is answered as it ought to be: all figures are 1.

    >>> class_scores(np.array([[3, 1, 0, 0], [0, 0, 0, 4]]))["iou"]
    0.75

    Args:
        counts: ``(K, 4)`` [tp, fp, fn, tn] of each class.
    """
    found = counts[counts[:, :3].any(axis=1)]
    values = scores(found if len(found) else np.array([[1, 0, 0, 0]]), empty=0.0)
    return {name: float(values[name].mean()) for name in ("iou", "dice", "precision", "recall")}

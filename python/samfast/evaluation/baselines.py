"""What no training is needed for: floors that a useful model beats, and the ceiling of answers in one piece."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from samfast.data.types import Target
from samfast.masks import Masks
from samfast.metrics import overlap_counts

ALL_FOREGROUND = "all-foreground"
ALL_CLASSES = "all-foreground classes"
FILL_BOX = "fill-box"
SINGLE_COMPONENT = "single-component ceiling"

EXPLANATIONS = {
    ALL_FOREGROUND: "every pixel of the image is answered to every prompt",
    ALL_CLASSES: "every pixel of the image is answered for every class that it holds",
    FILL_BOX: "the object's tight box, filled: all that a box prompt says by itself",
    SINGLE_COMPONENT: "the largest connected piece of each object, known exactly: about the best that one piece can do",
}


def baseline_counts(target: Target) -> dict[str, NDArray[np.int64]]:
    """``(N, 4)`` int64 [tp, fp, fn, tn] of each baseline against ``N`` objects, ignored pixels left out."""
    masks = target.masks
    answers = {
        ALL_FOREGROUND: whole_images(masks),
        FILL_BOX: fill_boxes(masks.boxes(), masks.height, masks.width),
        SINGLE_COMPONENT: largest_components(masks, target.ignore),
    }
    return {name: overlap_counts(answer, masks, target.ignore) for name, answer in answers.items()}


def class_baseline_counts(classes: Masks, ignore: Masks) -> NDArray[np.int64]:
    """``(K, 4)`` int64 [tp, fp, fn, tn] of :data:`ALL_CLASSES` against all of each class, ignored pixels left out."""
    everywhere = whole_images(classes)
    is_there = (classes.subtract(ignore) if len(ignore) else classes).area() > 0
    answers = [everywhere[k] if there else classes[k] for k, there in enumerate(is_there)]
    return overlap_counts(Masks.concatenate(answers), classes, ignore)


def whole_images(masks: Masks) -> Masks:
    """As many masks of the same size, each of which holds every pixel."""
    boxes = np.tile([0, 0, masks.width - 1, masks.height - 1], (len(masks), 1))
    return fill_boxes(boxes, masks.height, masks.width)


def fill_boxes(boxes: NDArray, height: int, width: int) -> Masks:
    """``(N, 4)`` inclusive [xmin, ymin, xmax, ymax] boxes within the image, as ``N`` filled masks, original frame."""
    counts: list[NDArray[np.int64]] = []
    for xmin, ymin, xmax, ymax in np.asarray(boxes).astype(np.int64):
        rows, columns = ymax - ymin + 1, xmax - xmin + 1
        if rows <= 0 or columns <= 0:
            counts.append(np.array([height * width]))
            continue
        if rows == height:  # its columns touch: one run
            inside = np.array([rows * columns])
        else:
            inside = np.full(2 * columns - 1, height - rows)
            inside[::2] = rows
        before = xmin * height + ymin
        after = height * width - before - inside.sum()
        counts.append(np.concatenate([[before], inside, [after] if after else []]))
    offsets = np.cumsum([0, *(len(runs) for runs in counts)])
    flat = np.concatenate(counts) if counts else np.zeros(0)
    return Masks(height, width, flat.astype(np.uint32), offsets.astype(np.int64))


def largest_components(masks: Masks, ignore: Masks) -> Masks:
    """The 8-connected component of each of ``N`` masks that holds the most pixels outside ``ignore``.

    An empty mask stays empty.
    """
    pieces, parents = masks.components()
    areas = (pieces.subtract(ignore) if len(ignore) else pieces).area()
    order = np.lexsort((-areas, parents))
    found, first = np.unique(parents[order], return_index=True)
    largest = order[first]
    if len(found) == len(masks):
        return pieces[largest]
    whole = Masks.concatenate([pieces, masks])  # an empty mask has no piece: it stands for itself
    index = len(pieces) + np.arange(len(masks))
    index[found] = largest
    return whole[index]

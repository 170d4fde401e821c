"""Overlap of predictions and targets: integer counts first, scores from them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from samfast import _rust
from samfast.errors import ConfigError
from samfast.masks import Masks


def overlap_counts(prediction: Masks, target: Masks, ignore: Masks | None = None) -> NDArray[np.int64]:
    """``(N, 4)`` int64 [tp, fp, fn, tn] pixels of ``prediction[i]`` against ``target[i]``.

    Pixels of ``ignore``, one mask for all or one each, are not counted at all.

    >>> square = Masks.from_numpy(np.ones((1, 2, 2), bool))
    >>> overlap_counts(square, square).tolist()
    [[4, 0, 0, 0]]

    Raises:
        ConfigError: sizes or numbers of masks that do not fit.
    """
    height, width = prediction.height, prediction.width
    ignore = Masks.empty(height, width) if ignore is None else ignore
    for name, masks, allowed in (("target", target, {len(prediction)}), ("ignore", ignore, {0, 1, len(prediction)})):
        if (masks.height, masks.width) != (height, width) or len(masks) not in allowed:
            raise ConfigError(
                f"{name} has {len(masks)} masks of {masks.height} x {masks.width}, the prediction has "
                f"{len(prediction)} of {height} x {width} (height x width)",
                where=name,
            )
    arrays = (prediction.counts, prediction.offsets, target.counts, target.offsets, ignore.counts, ignore.offsets)
    return _rust.rle_overlap(*arrays, height, width)


def scores(counts: NDArray[np.int64], empty: float = math.nan) -> dict[str, NDArray[np.float64]]:
    """``iou``, ``dice``, ``precision`` and ``recall``, each ``(N,)`` float64, of ``(N, 4)`` [tp, fp, fn, tn].

    ``empty`` is the score where nothing is there to judge: no pixel in either mask (IoU, Dice), none predicted
    (precision), none in the target (recall). By default NaN, which belongs in no mean; pycocotools takes 0, MedPy 1.

    >>> scores(np.array([[1, 1, 2, 0]]))["iou"].item()
    0.25
    """
    tp, fp, fn, _ = np.asarray(counts, np.float64).reshape(-1, 4).T
    ratios: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {
        "iou": (tp, tp + fp + fn),
        "dice": (2 * tp, 2 * tp + fp + fn),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
    }
    return {name: _ratio(part, whole, empty) for name, (part, whole) in ratios.items()}


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64], empty: float) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full_like(part, empty), where=whole > 0)

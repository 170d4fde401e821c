"""Label maps: one whole number a pixel, for instances or classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast import _rust
from samfast.errors import ConfigError, DataError
from samfast.masks.batch import Masks


def from_labels(labels: NDArray[np.integer], *, background: int = 0) -> tuple[Masks, NDArray[np.int32]]:
    """One mask for every value of a label map, in rising order, and ``(N,)`` int32: the value of each.

    An instance map gives the instances; a class map gives a mask a class, whose :meth:`Masks.components` are the
    instances that do not touch.

    >>> masks, values = from_labels(np.array([[0, 7], [3, 7]]))
    >>> values.tolist(), masks.area().tolist()
    ([3, 7], [1, 2])

    Args:
        labels: ``(H, W)`` whole numbers that fit int32, original frame.
        background: the value no mask is made of.

    Raises:
        DataError: another dtype or shape, values beyond int32, or a map without pixels.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or not _fits(labels):
        span = f" from {labels.min()} to {labels.max()}" if labels.size else ""
        raise DataError(
            f"labels are {labels.dtype} of shape {labels.shape}{span}",
            where="labels",
            fix="(H, W) whole numbers that fit int32",
        )
    try:
        counts, offsets, values = _rust.labels_to_rle(np.ascontiguousarray(labels, np.int32), background)
    except (OverflowError, ValueError) as error:
        raise DataError(str(error), where="labels") from None
    return Masks(labels.shape[0], labels.shape[1], counts, offsets), values


def to_labels(
    masks: Masks,
    values: ArrayLike | None = None,
    *,
    background: int = 0,
    out: NDArray[np.int32] | None = None,
) -> NDArray[np.int32]:
    """``(H, W)`` int32, original frame: ``values[i]`` wherever mask ``i`` is, later masks over earlier ones.

    >>> to_labels(Masks.from_numpy(np.eye(2, dtype=bool)), [5]).tolist()
    [[5, 0], [0, 5]]

    Args:
        masks: ``N`` masks.
        values: ``(N,)`` whole numbers; 1 to ``N`` if left out.
        background: the value where no mask is.
        out: C-contiguous int32 ``(H, W)``, written to and returned.

    Raises:
        ConfigError: values that are not one whole number a mask, or an ``out`` that does not fit.
    """
    chosen = np.arange(1, len(masks) + 1) if values is None else np.asarray(values)
    if not _fits(chosen):
        raise ConfigError(f"values are {chosen.tolist()}, expected whole numbers that fit int32", where="values")
    arrays = (masks.counts, masks.offsets, masks.height, masks.width)
    try:
        return _rust.rle_to_labels(*arrays, np.ascontiguousarray(chosen, np.int32), background, out)
    except (OverflowError, TypeError, ValueError) as error:
        raise ConfigError(str(error), where="values, background or out") from None


def _fits(numbers: NDArray[Any]) -> bool:
    """Whether all are whole and fit int32."""
    limits = np.iinfo(np.int32)
    if numbers.size == 0:
        return True
    return numbers.dtype.kind in "iu" and bool(limits.min <= numbers.min() <= numbers.max() <= limits.max)

"""Label maps: one whole number a pixel, for instances or classes."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast import _rust
from samfast.checks import instance, kernel_errors, whole, writable
from samfast.errors import ConfigError, DataError
from samfast.masks.batch import Masks
from samfast.masks.runs import call

_INT32 = np.iinfo(np.int32)


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
        ConfigError: a ``background`` that is not a whole number that fits int32.
    """
    background = _checked_background(background)
    with kernel_errors(DataError, "labels"):
        labels = np.asarray(labels)
    if labels.ndim != 2 or not _fits(labels):
        span = f" from {labels.min()} to {labels.max()}" if labels.size and labels.dtype.kind in "iu" else ""
        raise DataError(
            f"labels are {labels.dtype} of shape {labels.shape}{span}",
            where="labels",
            fix="(H, W) whole numbers that fit int32",
        )
    with kernel_errors(DataError, "labels"):
        counts, offsets, values = _rust.labels_to_rle(np.ascontiguousarray(labels, np.int32), background)
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
        DataError: what are not masks.
        ConfigError: values that are not one whole number a mask, a ``background`` beyond int32, or an ``out`` that does
            not fit.
    """
    count = len(instance("masks", masks, Masks))
    with kernel_errors(ConfigError, "values"):
        chosen = np.arange(1, count + 1) if values is None else np.asarray(values)
    if chosen.shape != (count,) or not _fits(chosen):
        raise ConfigError(
            f"values are {reprlib.repr(values)}, expected {count} whole numbers that fit int32", where="values"
        )
    writable(out, (masks.height, masks.width), np.int32)
    chosen = np.ascontiguousarray(chosen, np.int32)
    labels: NDArray[np.int32] = call(_rust.rle_to_labels, masks, chosen, _checked_background(background), out)
    return labels


def _checked_background(background: int) -> int:
    return whole("background", background, least=int(_INT32.min), most=int(_INT32.max))


def _fits(numbers: NDArray[Any]) -> bool:
    """Whether all are whole and fit int32."""
    if numbers.size == 0:
        return True
    return numbers.dtype.kind in "iu" and bool(_INT32.min <= numbers.min() <= numbers.max() <= _INT32.max)

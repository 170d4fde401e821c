"""From objects to classes: means of scores (every object counts the same) and sums of counts (every pixel does)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast.checks import kernel_errors, reals, whole
from samfast.errors import ConfigError, DataError


def mean_by_class(
    values: ArrayLike, classes: ArrayLike, num_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The mean of each class, ``(C,)`` float64, and how many values it is of, ``(C,)`` int64.

    A value that is NaN (nothing to judge) takes no part; a class without values has mean NaN. ``np.nanmean`` of the
    means is the macro average.

    >>> mean_by_class([0.5, 1.0, np.nan, 0.2], [0, 0, 0, 2], 3)
    (array([0.75,  nan, 0.2 ]), array([2, 0, 1]))

    Args:
        values: ``(N,)`` scores, one an object.
        classes: ``(N,)`` integers, 0 to ``num_classes - 1``.
        num_classes: ``C``.

    Raises:
        DataError: values that are not numbers.
        ConfigError: values and classes that are not one an object, or a class out of range.
    """
    num_classes = whole("num_classes", num_classes, most=2**31 - 1)
    scores = reals("values", values)
    owners = _checked_classes(classes, num_classes, len(scores) if scores.ndim == 1 else -1)
    judged = ~np.isnan(scores)
    counted = np.bincount(owners[judged], minlength=num_classes)
    sums = np.bincount(owners[judged], scores[judged], minlength=num_classes)
    means = np.divide(sums, counted, out=np.full(num_classes, np.nan), where=counted > 0)
    return means, counted.astype(np.int64)


def sum_by_class(counts: NDArray[np.int64], classes: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """``(C, 4)`` int64: [tp, fp, fn, tn] of all objects of a class together; the scores of these weigh pixels equally.

    >>> sum_by_class(np.array([[1, 0, 0, 3], [2, 1, 0, 1]]), [1, 1], 2).tolist()
    [[0, 0, 0, 0], [3, 1, 0, 4]]

    Args:
        counts: ``(N, 4)`` int64, see :func:`~samfast.metrics.overlap_counts`.
        classes: ``(N,)`` integers, 0 to ``num_classes - 1``.
        num_classes: ``C``.

    Raises:
        DataError: counts that are not rows of integers.
        ConfigError: counts and classes that are not one an object, or a class out of range.
    """
    num_classes = whole("num_classes", num_classes, most=2**31 - 1)
    with kernel_errors(DataError, "counts"):
        cells = np.asarray(counts)
    if cells.dtype.kind not in "iu" or cells.ndim != 2:
        raise DataError(f"counts are {cells.dtype} of shape {cells.shape}, expected (N, 4) integers", where="counts")
    owners = _checked_classes(classes, num_classes, len(cells))
    sums = np.zeros((num_classes, cells.shape[1]), np.int64)
    np.add.at(sums, owners, cells)
    return sums


def _checked_classes(classes: ArrayLike, num_classes: int, objects: int) -> NDArray[np.int64]:
    with kernel_errors(ConfigError, "classes"):
        owners = np.asarray(classes)
    if owners.size == 0:
        owners = owners.astype(np.int64)
    if owners.shape != (objects,) or owners.dtype.kind not in "iu":
        raise ConfigError(
            f"classes are {owners.dtype} of shape {owners.shape}, expected one integer an object", where="classes"
        )
    outside = (owners < 0) | (owners >= num_classes)
    if outside.any():
        raise ConfigError(
            f"object {int(np.flatnonzero(outside)[0])} has class {owners[outside][0]}, num_classes is {num_classes}",
            where="classes",
        )
    return owners.astype(np.int64)

"""Corrective clicks: where an answer is wrong."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from samfast import _rust
from samfast.checks import choice, instance, kernel_errors, reals
from samfast.errors import ConfigError, DataError
from samfast.masks import Masks
from samfast.masks.runs import call
from samfast.prompts.draws import checked_keys, draw, visible
from samfast.prompts.values import NEGATIVE, PADDING, POSITIVE


def corrective_clicks(
    prediction: Masks,
    target: Masks,
    keys: NDArray[np.uint64] | None = None,
    *,
    rule: Literal["center", "random"] = "center",
    clicked: NDArray[np.floating] | None = None,
    ignore: Masks | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """One click for each prediction, on what it misses or on what it has too much.

    ``"center"`` is RITM's evaluation rule (Sofiiuk, Petrov, Konushin 2021): the deepest pixel of either error region,
    see :func:`~samfast.prompts.center_points`, whichever is deeper; what is too much if they are equally deep.
    ``"random"`` is the training rule of SAM 2: a uniform pixel of both regions together.

    Args:
        prediction: ``N`` masks.
        target: ``N`` masks of the same size.
        keys: ``(N,)`` uint64, see :func:`~samfast.prompts.draw_keys`; for ``"random"`` alone.
        rule: ``"center"`` or ``"random"``.
        clicked: ``(N, M, 2)`` (x, y) pixel indices, original frame, of earlier clicks that ``"center"`` must not
            repeat; rows of NaN are none.
        ignore: pixels where nothing is wrong: one mask for all, one each, or none.

    Returns:
        ``(N, 2)`` float32 (x, y) pixel indices, original frame, and ``(N,)`` int64 labels: 1 on what is missed, 0 on
        what is too much; -10 (padding) with the point (0, 0) where there is nothing to correct.

    Raises:
        DataError: what are not masks.
        ConfigError: masks that do not pair, an unknown rule, or ``keys`` or ``clicked`` that do not fit it.
    """
    instance("prediction", prediction, Masks)
    instance("target", target, Masks)
    choice("rule", rule, ("center", "random"))
    if len(prediction) != len(target):
        raise ConfigError(f"{len(prediction)} predictions for {len(target)} targets", where="prediction")
    if rule == "center":
        if keys is not None:
            raise ConfigError("the center rule draws nothing, so it takes no keys", where="keys")
        return _center(prediction, target, _pixels(clicked, len(target)), ignore)
    if keys is None or clicked is not None:
        raise ConfigError("the random rule takes keys and no earlier clicks", where="rule")
    return _random(prediction, target, checked_keys(keys, len(target)), ignore)


def _center(
    prediction: Masks, target: Masks, clicked: NDArray[np.int32], ignore: Masks | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    missed, extra = (
        call(_rust.rle_deepest, region, clicked)
        for region in (visible(target.subtract(prediction), ignore), visible(prediction.subtract(target), ignore))
    )
    is_missed = missed[1] > extra[1]
    is_wrong = (missed[1] > 0) | (extra[1] > 0)
    points = np.where(is_missed[:, None], missed[0], extra[0]) * is_wrong[:, None]
    labels = np.where(is_wrong, np.where(is_missed, POSITIVE, NEGATIVE), PADDING)
    return points.astype(np.float32), labels.astype(np.int64)


def _random(
    prediction: Masks, target: Masks, keys: NDArray[np.uint64], ignore: Masks | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    size = (target.height, target.width)
    target.subtract(prediction)  # says what does not pair
    arrays = (target.counts, target.offsets, prediction.counts, prediction.offsets)
    with kernel_errors(DataError, "prediction, target"):
        wrong = Masks(*size, *_rust.rle_difference_pairs(*arrays, *size))
    wrong = visible(wrong, ignore)
    (chosen,) = wrong.area().nonzero()
    points = np.zeros((len(target), 2), np.float32)
    labels = np.full(len(target), PADDING, np.int64)
    points[chosen] = draw(wrong[chosen], keys[chosen], 1, b"clicks  ")[:, 0]
    labels[chosen] = np.where(_holds(target[chosen], points[chosen]), POSITIVE, NEGATIVE)
    return points, labels


def _holds(masks: Masks, points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """``(N,)`` bool: whether mask ``i`` holds the pixel ``points[i]``."""
    x, y = points.astype(np.int64).T
    position = np.arange(len(masks)) * (masks.height * masks.width) + x * masks.height + y
    run = np.searchsorted(np.cumsum(masks.counts, dtype=np.int64), position, side="right")
    return np.asarray((run - masks.offsets[:-1]) % 2 == 1)


def _pixels(clicked: NDArray[np.floating] | None, count: int) -> NDArray[np.int32]:
    if clicked is None:
        return np.zeros((count, 0, 2), np.int32)
    points = reals("clicked", clicked, ConfigError)
    if points.ndim != 3 or points.shape[0] != count or points.shape[2] != 2:
        raise ConfigError(f"clicked has shape {points.shape}, expected ({count}, M, 2)", where="clicked")
    inside = np.isfinite(points) & (points >= 0) & (points < 2**31 - 1)
    return np.where(inside, np.rint(np.where(inside, points, -1)), -1).astype(np.int32)

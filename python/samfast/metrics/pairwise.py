"""IoU of every mask with every other: what matching predictions to annotations starts from."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast import _rust
from samfast.checks import instance, kernel_errors, writable
from samfast.errors import ConfigError, DataError
from samfast.masks import Masks


def pairwise_iou(
    prediction: Masks,
    target: Masks,
    *,
    crowd: ArrayLike | None = None,
    out: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """``(N, M)`` float64: IoU of each of ``N`` predictions with each of ``M`` targets, bit for bit pycocotools'.

    0 where two masks share no pixel, also where both are empty. Against a target marked in ``crowd``, ``(M,)`` bool, a
    prediction is judged by the part of it that lies in the crowd: intersection over its own area.

    >>> left, all = np.array([[1, 0]], bool), np.array([[1, 1]], bool)
    >>> pairwise_iou(Masks.from_numpy(left), Masks.from_numpy(np.stack([left, all]))).tolist()
    [[1.0, 0.5]]
    >>> pairwise_iou(Masks.from_numpy(left), Masks.from_numpy(all), crowd=[True]).tolist()
    [[1.0]]

    Args:
        prediction: ``N`` masks.
        target: ``M`` masks.
        crowd: ``(M,)`` bool, or 0 and 1; None for none.
        out: ``(N, M)`` float64 C-contiguous, to be written to and returned.

    Raises:
        DataError: what are not masks.
        ConfigError: masks of different sizes, ``crowd`` that is not one bool a target, or an ``out`` that does not fit.

    Source: ``rleIou`` of ``maskApi.c``.
    """
    instance("prediction", prediction, Masks)
    instance("target", target, Masks)
    if (prediction.height, prediction.width) != (target.height, target.width):
        raise ConfigError(
            f"target has masks of {target.height} x {target.width}, the prediction of "
            f"{prediction.height} x {prediction.width} (height x width)",
            where="target",
        )
    arrays = (prediction.counts, prediction.offsets, target.counts, target.offsets)
    flags = checked_crowd(crowd, len(target))
    writable(out, (len(prediction), len(target)), np.float64)
    with kernel_errors(DataError, "masks"):
        return _rust.rle_pairwise_iou(*arrays, flags, target.height, target.width, out)


def checked_crowd(crowd: ArrayLike | None, targets: int) -> NDArray[np.uint8]:
    """``(M,)`` uint8, not 0 where a target is a crowd.

    Raises:
        ConfigError: what is not one bool (or 0 or 1, as COCO's ``iscrowd``) a target.
    """
    if crowd is None:
        return np.zeros(targets, np.uint8)
    with kernel_errors(ConfigError, "crowd"):
        flags = np.asarray(crowd)
    if flags.shape != (targets,) or (flags.dtype.kind not in "biu" and flags.size):
        raise ConfigError(
            f"crowd is {flags.dtype} of shape {flags.shape}, expected bool of shape ({targets},)", where="crowd"
        )
    return np.asarray(flags != 0, np.uint8)

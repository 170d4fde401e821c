"""Overlap of predictions and targets: integer counts first, scores from them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast import _rust
from samfast.checks import finite, kernel_errors, logit, rows_of_four, writable
from samfast.errors import DataError
from samfast.metrics.forms import AnyMasks, common_size, read_form


def overlap_counts(
    prediction: AnyMasks,
    target: AnyMasks,
    ignore: AnyMasks | None = None,
    *,
    threshold: float = 0.0,
    width: int | None = None,
    out: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """``(N, 4)`` int64 [tp, fp, fn, tn] pixels of ``prediction[i]`` against ``target[i]``, in one pass.

    Pixels of ``ignore``, one mask for all or one each, are not counted at all.

    >>> square = np.ones((1, 2, 2), bool)
    >>> overlap_counts(square, square).tolist()
    [[4, 0, 0, 0]]
    >>> overlap_counts(np.array([[1.5, -0.5], [0.0, 2.0]], np.float32), square).tolist()
    [[2, 0, 2, 0]]

    Args:
        prediction: ``N`` masks of any form, see :data:`~samfast.metrics.forms.AnyMasks`; forms may be mixed.
        target: ``N`` masks.
        ignore: ``N`` masks, one for all, or none.
        threshold: logits above it are foreground.
        width: in pixels, needed only if prediction and target are both packed rows.
        out: ``(N, 4)`` int64 C-contiguous, to be written to and returned.

    Raises:
        DataError: a dtype or shape that is no form of masks, or a logit that is NaN; names the mask.
        ConfigError: sizes or numbers of masks that do not fit, a ``threshold`` that is not finite in float32, or an
            ``out`` that does not fit.
    """
    threshold = logit("threshold", threshold)
    forms = read_form(prediction, "prediction"), read_form(target, "target")
    ignored = None if ignore is None else read_form(ignore, "ignore")
    size = common_size(*forms, ignored, width=width)
    writable(out, (forms[0].count, 4), np.int64)
    ignored = ignored if ignored and ignored.count else None
    values = (forms[0].value, forms[1].value, ignored.value if ignored else None)
    with kernel_errors(DataError, "masks"):
        return _rust.overlap_counts(*values, *size, (threshold, threshold), out)


def scores(counts: NDArray[np.int64], empty: float = math.nan) -> dict[str, NDArray[np.float64]]:
    """``iou``, ``dice``, ``precision``, ``recall`` and ``accuracy``, each ``(N,)`` float64, of ``(N, 4)`` counts.

    ``empty`` is the score where nothing is there to judge: no pixel in either mask (IoU, Dice), none predicted
    (precision), none in the target (recall), none at all (accuracy). By default NaN, which belongs in no mean and which
    MONAI takes too; 0 is pycocotools' convention, 1 MedPy's.

    >>> scores(np.array([[1, 1, 2, 0]]))["iou"].item()
    0.25

    Args:
        counts: ``(N, 4)`` [tp, fp, fn, tn], see :func:`overlap_counts`.
        empty: NaN, 0 or 1.

    Raises:
        DataError: counts of another shape, or what are not numbers.
        ConfigError: an ``empty`` that is not a number.
    """
    empty = empty if isinstance(empty, float) and math.isnan(empty) else finite("empty", empty)
    tp, fp, fn, tn = rows_of_four("counts", counts).T
    ratios: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {
        "iou": (tp, tp + fp + fn),
        "dice": (2 * tp, 2 * tp + fp + fn),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "accuracy": (tp + tn, tp + fp + fn + tn),
    }
    return {name: _ratio(part, whole, empty) for name, (part, whole) in ratios.items()}


def stability_scores(
    logits: ArrayLike, *, threshold: float = 0.0, offset: float = 1.0, empty: float = math.nan
) -> NDArray[np.float64]:
    """``(N,)`` float64: IoU of a mask cut ``offset`` above the threshold with the same cut as much below it.

    What SAM's automatic masks are filtered by: near 1 where the logits leave no doubt about the border.

    >>> stability_scores(np.array([[-2.0, 0.5, 3.0]], np.float32)[None]).item()
    0.5

    Args:
        logits: ``(N, H, W)`` or ``(H, W)`` float32.
        threshold: of the mask.
        offset: to both sides of it.
        empty: the score where not even the larger mask holds a pixel.

    Raises:
        DataError: what are not float32 logits, or one that is NaN; names the mask.
        ConfigError: a negative ``offset``, or one or a ``threshold`` that is not finite.

    Source: ``calculate_stability_score`` of ``segment_anything/utils/amg.py``.
    """
    threshold, offset = logit("threshold", threshold), finite("offset", offset, least=0)
    logit("offset", offset + abs(threshold))
    with kernel_errors(DataError, "logits"):
        values = np.asarray(logits)
    if values.dtype != np.float32:
        raise DataError(f"logits are {values.dtype}", where="logits", fix="pass float32")
    form = read_form(values, "logits")
    size = common_size(form, form)
    with kernel_errors(DataError, "logits"):
        counts = _rust.overlap_counts(
            form.value, form.value, None, *size, (threshold + offset, threshold - offset), None
        )
    return scores(counts, empty)["iou"]


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64], empty: float) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full_like(part, empty), where=whole > 0)

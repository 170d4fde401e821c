"""Boundary IoU: the IoU of the inner edges of masks, which small errors of large objects do not escape.

Source: Cheng et al., *Boundary IoU: Improving object-centric image segmentation evaluation*, CVPR 2021, and its
``boundary-iou-api``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast import _rust
from samfast.checks import finite, instance, kernel_errors, logit, mask_size
from samfast.errors import ConfigError, DataError
from samfast.masks import Masks
from samfast.metrics.forms import AnyMasks, common_size, read_form
from samfast.metrics.overlap import scores
from samfast.metrics.pairwise import checked_crowd, pairwise_iou

DILATION_RATIO = 0.02
"""Width of the edge as a fraction of the image's diagonal, as on COCO; LVIS and Cityscapes take it too."""


def boundary_width(height: int, width: int, *, dilation_ratio: float = DILATION_RATIO) -> int:
    """Width of the edge in pixels: the fraction of the image's diagonal, rounded half to even, at least 1.

    >>> boundary_width(480, 640), boundary_width(45, 60)
    (16, 2)

    Args:
        height: of the image (not of a crop), in pixels.
        width: of the image, in pixels.
        dilation_ratio: the fraction, above 0 and at most 100.

    Raises:
        ConfigError: a ratio out of that range, or an image without pixels.
    """
    height, width = mask_size(height, width)
    if not 0 < finite("dilation_ratio", dilation_ratio) <= 100:
        raise ConfigError(
            f"dilation_ratio is {dilation_ratio}", where="dilation_ratio", fix="above 0 and at most 100, such as 0.02"
        )
    return max(1, round(dilation_ratio * math.sqrt(height * height + width * width)))


def boundaries(masks: Masks, *, dilation_ratio: float = DILATION_RATIO) -> Masks:
    """The edge of each mask: its pixels at most :func:`boundary_width` from background, diagonal steps counting as one.

    What lies outside the image is background.

    >>> boundaries(Masks.from_numpy(np.ones((3, 3), bool))).area()
    array([8])

    Raises:
        ConfigError: a ratio out of range, see :func:`boundary_width`.
    """
    instance("masks", masks, Masks)
    distance = boundary_width(masks.height, masks.width, dilation_ratio=dilation_ratio)
    with kernel_errors(DataError, "masks"):
        arrays = _rust.boundaries((masks.counts, masks.offsets), masks.height, masks.width, distance)
    return Masks(masks.height, masks.width, *arrays)


def boundary_iou(
    prediction: AnyMasks,
    target: AnyMasks,
    *,
    dilation_ratio: float = DILATION_RATIO,
    threshold: float = 0.0,
    width: int | None = None,
    empty: float = math.nan,
) -> NDArray[np.float64]:
    """``(N,)`` float64: IoU of the edge of ``prediction[i]`` with that of ``target[i]``.

    Of thin objects all is edge, and the score is their IoU. COCO's boundary AP matches by the smaller of the two, see
    :func:`pairwise_boundary_iou`.

    There are no ignored pixels: the references do not say whether an edge runs where a region to be ignored begins.
    To say that it does, subtract the region from both masks first.

    >>> square, hollow = np.ones((9, 9), bool), np.ones((9, 9), bool)
    >>> hollow[3:6, 3:6] = False
    >>> round(boundary_iou(square, hollow).item(), 3)
    0.667

    Args:
        prediction: ``N`` masks of any form, see :data:`~samfast.metrics.forms.AnyMasks`; forms may be mixed.
        target: ``N`` masks.
        dilation_ratio: see :func:`boundary_width`.
        threshold: logits above it are foreground.
        width: in pixels, needed only if both are packed rows.
        empty: the score where both masks are empty.

    Raises:
        DataError: a dtype or shape that is no form of masks, or a logit that is NaN; names the mask.
        ConfigError: sizes or numbers of masks that do not fit, or a ratio or threshold out of range.
    """
    threshold = logit("threshold", threshold)
    forms = read_form(prediction, "prediction"), read_form(target, "target")
    height, across = common_size(*forms, width=width)
    distance = boundary_width(height, across, dilation_ratio=dilation_ratio)
    with kernel_errors(DataError, "masks"):
        counts = _rust.boundary_counts(forms[0].value, forms[1].value, height, across, distance, threshold)
    return scores(counts, empty)["iou"]


def pairwise_boundary_iou(
    prediction: Masks,
    target: Masks,
    *,
    crowd: ArrayLike | None = None,
    dilation_ratio: float = DILATION_RATIO,
) -> NDArray[np.float64]:
    """``(N, M)`` float64: the smaller of mask IoU and boundary IoU; against a crowd, mask IoU alone.

    Args:
        prediction: ``N`` masks.
        target: ``M`` masks.
        crowd: ``(M,)`` bool, see :func:`~samfast.metrics.pairwise_iou`.
        dilation_ratio: see :func:`boundary_width`.

    Raises:
        ConfigError: masks of different sizes, ``crowd`` that is not one bool a target, or a ratio out of range.
    """
    of_masks = pairwise_iou(prediction, target, crowd=crowd)
    edges = (boundaries(masks, dilation_ratio=dilation_ratio) for masks in (prediction, target))
    of_edges = pairwise_iou(*edges)
    is_crowd = checked_crowd(crowd, len(target)) != 0
    return np.asarray(np.where(is_crowd[None], of_masks, np.minimum(of_masks, of_edges)))

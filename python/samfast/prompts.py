"""Prompts: what is asked of a model, and the draws they come from.

:class:`Prompts` is the value that crosses rooms. The draws (points, boxes) are kernels of ``samfast._rust`` fed by
counter-based keys, so that a prompt depends on what it is for and never on threads, order or batch. The stream of a key
is SplitMix64: draw ``n`` is ``mix(mix(key ^ purpose) + (n + 1) * 0x9E3779B97F4A7C15)``, the purpose being the eight
bytes ``"points  "`` or ``"boxes   "``, big-endian.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samfast import _rust
from samfast.errors import ConfigError, DataError
from samfast.masks import Masks

POSITIVE = 1
"""Label of a foreground point."""
NEGATIVE = 0
"""Label of a background point."""
PADDING = -10
"""Label of a point that is not there: it fills up a batch and takes part in nothing."""


@dataclass(frozen=True)
class Prompts:
    """``P`` prompts on the images of one batch, original frame, pixel indices, (x, y).

    Attributes:
        image_index: ``(P,)`` int64, the image of the batch each prompt is about.
        points: ``(P, N, 2)`` float32, with ``N`` >= 0; prompts with fewer points are padded.
        labels: ``(P, N)`` int64: 1 foreground, 0 background, -10 padding.
        boxes: ``(P, 4)`` float32 [xmin, ymin, xmax, ymax], inclusive; a row of NaN where a prompt has no box.
        mask_logits: ``(P, low_res, low_res)`` float32 logits of an earlier prediction, low-res frame; None for none.
    """

    image_index: NDArray[np.int64]
    points: NDArray[np.float32]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    mask_logits: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.image_index)

    @property
    def has_box(self) -> NDArray[np.bool_]:
        """``(P,)`` bool: which prompts carry a box."""
        return np.asarray(~np.isnan(self.boxes).any(axis=1))

    @property
    def num_points(self) -> NDArray[np.int64]:
        """``(P,)`` int64: real points of each prompt."""
        return np.asarray((self.labels != PADDING).sum(axis=1))

    @property
    def is_one_point(self) -> NDArray[np.bool_]:
        """``(P,)`` bool: prompts that are one point and nothing else, the ambiguous ones."""
        alone = (self.num_points == 1) & ~self.has_box
        return alone if self.mask_logits is None else np.zeros_like(alone)


def draw_keys(
    seed: int, image_key: str, annotation_ids: Sequence[str], *, epoch: int = 0, draw: int = 0
) -> NDArray[np.uint64]:
    """``(N,)`` uint64: one key an annotation, from what the draw is for and from nothing else.

    The key is the little-endian 8-byte BLAKE2b digest of seed, epoch, draw, image key and annotation id, each written
    as text behind its length (4 bytes, little-endian).

    >>> bool(draw_keys(0, "image", ["a", "b"])[1] == draw_keys(0, "image", ["b"])[0])
    True
    """
    shared = hashlib.blake2b(digest_size=8)
    for part in (seed, epoch, draw, image_key):
        shared.update(_framed(str(part)))
    keys = np.empty(len(annotation_ids), np.uint64)
    for i, annotation_id in enumerate(annotation_ids):
        own = shared.copy()
        own.update(_framed(annotation_id))
        keys[i] = int.from_bytes(own.digest(), "little")
    return keys


def sample_points(masks: Masks, keys: NDArray[np.uint64], k: int = 1) -> NDArray[np.float32]:
    """``(N, k, 2)`` float32 (x, y) pixel indices, original frame: uniform pixels of each mask.

    The points of a mask differ from each other while it has pixels left, and the first of five is also the one of one.
    ``keys`` is ``(N,)`` uint64, see :func:`draw_keys`.

    Raises:
        DataError: an empty mask, which has no point to draw; names its index.
        ConfigError: keys that are not one a mask.
    """
    _check_keys(keys, len(masks))
    try:
        points = _rust.sample_points(masks.counts, masks.offsets, masks.height, masks.width, keys, k)
    except ValueError as error:
        raise DataError(str(error), where="masks") from None
    return points.astype(np.float32)


def jitter_boxes(
    boxes: NDArray[np.floating],
    keys: NDArray[np.uint64],
    *,
    ratio: float = 0.1,
    max_px: float = 20.0,
    height: int,
    width: int,
) -> NDArray[np.float32]:
    """``(N, 4)`` float32: boxes as a person might have drawn them, SAM's rule.

    Each coordinate moves by an independent uniform amount of at most ``ratio`` of the box's side along it and at most
    ``max_px`` pixels, and stays on the image: within [0, width - 1] x [0, height - 1]. Corners stay in order.

    Args:
        boxes: ``(N, 4)`` [xmin, ymin, xmax, ymax], pixel indices, inclusive, original frame.
        keys: ``(N,)`` uint64, see :func:`draw_keys`.
        ratio: largest shift, as a fraction of the side.
        max_px: largest shift, in pixels.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Raises:
        DataError: a box that is not finite or out of order (an empty mask's); names its index.
        ConfigError: keys that are not one a box.
    """
    boxes = np.ascontiguousarray(boxes, np.float64).reshape(-1, 4)
    _check_keys(keys, len(boxes))
    try:
        return _rust.jitter_boxes(boxes, keys, ratio, max_px, height, width).astype(np.float32)
    except ValueError as error:
        raise DataError(str(error), where="boxes") from None


def concatenate(batches: Sequence[Prompts]) -> Prompts:
    """The prompts of all batches in order; points are padded to the longest, ``image_index`` is kept as it is.

    Raises:
        ConfigError: no batches, or mask logits in some of them only.
    """
    if not batches:
        raise ConfigError("no prompts to concatenate", where="batches")
    most = max(batch.points.shape[1] for batch in batches)
    padded = [_padded(batch, most) for batch in batches]
    logits = [batch.mask_logits for batch in batches if batch.mask_logits is not None]
    if len(logits) not in (0, len(batches)):
        raise ConfigError("some prompts have mask logits and some have none", where="batches")
    return Prompts(
        image_index=np.concatenate([batch.image_index for batch in batches]),
        points=np.concatenate([points for points, _ in padded]),
        labels=np.concatenate([labels for _, labels in padded]),
        boxes=np.concatenate([batch.boxes for batch in batches]),
        mask_logits=np.concatenate(logits) if logits else None,
    )


def _padded(prompts: Prompts, num_points: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    missing = num_points - prompts.points.shape[1]
    points = np.pad(prompts.points, ((0, 0), (0, missing), (0, 0)))
    return points, np.pad(prompts.labels, ((0, 0), (0, missing)), constant_values=PADDING)


def _framed(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data


def _check_keys(keys: NDArray[np.uint64], items: int) -> None:
    if keys.shape != (items,) or keys.dtype != np.uint64:
        raise ConfigError(
            f"keys are {keys.dtype} of shape {keys.shape}, expected uint64 of shape ({items},)",
            where="keys",
            fix="make them with draw_keys",
        )

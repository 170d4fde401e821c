"""Random draws from masks and boxes.

The draws are kernels of ``samfast._rust`` fed by counter-based keys, so that a prompt depends on what it is for and
never on threads, order or batch. The stream of a key is SplitMix64 (``docs/draws.md``): draw ``n`` is
``mix(mix(key ^ purpose) + (n + 1) * 0x9E3779B97F4A7C15)``, the purpose being the eight bytes ``"points  "``,
``"negative"``, ``"clicks  "`` or ``"boxes   "``, big-endian.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from samfast import _rust
from samfast.checks import choice, finite, instance, kernel_errors, mask_size, rows_of_four, whole
from samfast.errors import ConfigError, DataError
from samfast.masks import Masks
from samfast.masks.runs import call


def draw_keys(
    seed: int, image_key: str, annotation_ids: Sequence[str], *, epoch: int = 0, draw: int = 0
) -> NDArray[np.uint64]:
    """``(N,)`` uint64: one key an annotation, from what the draw is for and from nothing else.

    The key is the little-endian 8-byte BLAKE2b digest of seed, epoch, draw, image key and annotation id, each written
    as text behind its length (4 bytes, little-endian).

    >>> bool(draw_keys(0, "image", ["a", "b"])[1] == draw_keys(0, "image", ["b"])[0])
    True

    Raises:
        DataError: an annotation id that is not text.
    """
    shared = hashlib.blake2b(digest_size=8)
    for part in (seed, epoch, draw, image_key):
        shared.update(_framed(str(part)))
    keys = np.empty(len(annotation_ids), np.uint64)
    for i, annotation_id in enumerate(annotation_ids):
        own = shared.copy()
        own.update(_framed(instance(f"annotation_ids[{i}]", annotation_id, str)))
        keys[i] = int.from_bytes(own.digest(), "little")
    return keys


def sample_points(
    masks: Masks, keys: NDArray[np.uint64], k: int = 1, *, ignore: Masks | None = None
) -> NDArray[np.float32]:
    """``(N, k, 2)`` float32 (x, y) pixel indices, original frame: uniform pixels of each mask.

    The points of a mask differ from each other while it has pixels left, and the first of five is also the one of one.

    Args:
        masks: ``N`` masks.
        keys: ``(N,)`` uint64, see :func:`draw_keys`.
        k: points of each mask.
        ignore: pixels no point may lie on: one mask for all, one each, or none.

    Raises:
        DataError: a mask without pixels to draw from, names its index; what are not masks; or a side of more than
            2**24 pixels, which float32 does not count one by one.
        ConfigError: keys that are not one a mask, a ``k`` below 0 or of 2**31 points in all, or ``ignore`` of another
            size or number.
    """
    masks = visible(masks, ignore)
    return draw(masks, checked_keys(keys, len(masks)), k, b"points  ")


def negative_points(
    masks: Masks,
    keys: NDArray[np.uint64],
    k: int = 1,
    *,
    where: Literal["outside", "box", "ring"] = "outside",
    ring_px: float = 10.0,
    ignore: Masks | None = None,
) -> NDArray[np.float32]:
    """``(N, k, 2)`` float32 (x, y) pixel indices, original frame: uniform pixels beside each mask.

    Where a mask leaves no such pixel (it fills its box, nothing but ignored pixels are around it) they are drawn from
    all of the image that it leaves. A ring is what ``micro-sam`` draws from, with a disc in place of its square.

    Args:
        masks: ``N`` masks.
        keys: ``(N,)`` uint64, see :func:`draw_keys`; the draws of the same keys by :func:`sample_points` are unrelated.
        k: points of each mask, different from each other while there are pixels left.
        where: ``"outside"``, anywhere on the image; ``"box"``, in the mask's tight box; ``"ring"``, at most ``ring_px``
            from the mask, centre to centre.
        ring_px: width of the ring, in pixels.
        ignore: pixels no point may lie on: one mask for all, one each, or none.

    Raises:
        DataError: a mask that leaves no pixel of the image, names its index; what are not masks; or a side as for
            :func:`sample_points`.
        ConfigError: keys that are not one a mask, a ``k`` as for :func:`sample_points`, an unknown ``where``, a
            ``ring_px`` that is not a number of at least 0, or ``ignore`` of another size or number.
    """
    choice("where", where, ("outside", "box", "ring"))
    ring_px = finite("ring_px", ring_px, least=0)
    outside = visible(_with(masks, *call(_rust.rle_complement, masks)), ignore)
    keys = checked_keys(keys, len(masks))
    room = outside.area()
    if not room.all():
        raise DataError(f"mask {room.argmin()} leaves no pixel of the image for a negative point", where="masks")
    if where == "outside":
        region = outside
    elif where == "box":
        boxes = call(_rust.rle_bbox, masks)
        boxes[boxes[:, 2] < 0] = -1  # an empty mask has no box: one beside the image
        region = outside.intersect(_with(masks, *_rust.boxes_to_rle(boxes, masks.height, masks.width)))
    else:
        region = outside.intersect(_with(masks, *call(_rust.rle_ring, masks, ring_px)))
    both = Masks.concatenate([region, outside])
    chosen = np.where(region.area() > 0, 0, len(masks)) + np.arange(len(masks))
    return draw(both[chosen], keys, k, b"negative")


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
        boxes: ``(N, 4)``, or ``(4,)`` for one, [xmin, ymin, xmax, ymax], pixel indices, inclusive, original frame.
        keys: ``(N,)`` uint64, see :func:`draw_keys`.
        ratio: largest shift, as a fraction of the side.
        max_px: largest shift, in pixels.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Raises:
        DataError: a box that is not finite or out of order (an empty mask's), names its index; what are not boxes; or
            an image with a side as for :func:`sample_points`.
        ConfigError: keys that are not one a box, an image without pixels, or a shift that is not finite or below 0.
    """
    boxes = rows_of_four("boxes", boxes)
    keys = checked_keys(keys, len(boxes))
    limits = (finite("ratio", ratio, least=0), finite("max_px", max_px, least=0))
    size = mask_size(height, width)
    if max(size) > 2**24:
        what = f"an image of {size[0]} x {size[1]} pixels (height x width) has a side of more than 2^24 pixels"
        raise DataError(what, where="height, width")
    with kernel_errors(DataError, "boxes"):
        return _rust.jitter_boxes(boxes, keys, *limits, *size).astype(np.float32)


def visible(masks: Masks, ignore: Masks | None) -> Masks:
    """``masks`` without the pixels of ``ignore``."""
    instance("masks", masks, Masks)
    return masks if ignore is None or not len(instance("ignore", ignore, Masks)) else masks.subtract(ignore)


def draw(masks: Masks, keys: NDArray[np.uint64], k: int, purpose: bytes) -> NDArray[np.float32]:
    """``(N, k, 2)`` float32 pixels of each mask, from the stream of its key and the purpose."""
    # The kernel draws points; a key enters only as key ^ purpose.
    points_keys = keys ^ np.uint64(int.from_bytes(purpose, "big") ^ int.from_bytes(b"points  ", "big"))
    points: NDArray[np.int32] = call(_rust.sample_points, masks, points_keys, checked_k(k, len(masks)))
    return points.astype(np.float32)


def checked_k(k: int, items: int) -> int:
    """How many points of each item; all of them can be counted."""
    return whole("k", k, most=(2**31 - 1) // max(items, 1))


def _with(masks: Masks, counts: NDArray[np.uint32], offsets: NDArray[np.int64]) -> Masks:
    return Masks(masks.height, masks.width, counts, offsets)


def _framed(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data


def checked_keys(keys: NDArray[np.uint64] | None, items: int) -> NDArray[np.uint64]:
    """One key an item, C-contiguous.

    Raises:
        ConfigError: what is not that.
    """
    with kernel_errors(ConfigError, "keys"):
        keys = np.asarray(keys)
    if keys.shape != (items,) or keys.dtype != np.uint64:
        raise ConfigError(
            f"keys are {keys.dtype} of shape {keys.shape}, expected uint64 of shape ({items},)",
            where="keys",
            fix="make them with draw_keys",
        )
    return np.ascontiguousarray(keys)

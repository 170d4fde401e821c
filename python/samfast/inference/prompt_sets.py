"""Prompt sets: the prompts a model is judged with, drawn once from (seed, image, object) and frozen ever after."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from samfast.data.types import Sample, Target
from samfast.errors import ConfigError
from samfast.masks import Masks
from samfast.prompts import POSITIVE, Prompts, draw_keys, sample_points

_Draw = Callable[[Masks, NDArray[np.uint64]], Prompts]


def evaluation_prompts(kind: str, target: Target, sample: Sample, *, seed: int = 0) -> Prompts:
    """One prompt for each object of an image.

    The draw is keyed by (seed, image bytes, annotation id): it is the same for every model, epoch, run, thread count
    and order of the data.

    Args:
        kind: ``"point"``, one pixel drawn uniformly from the object; ``"box"``, the tight box of the object.
        target: the objects, original frame. None of them may be empty.
        sample: the image they are on.
        seed: of the draw.

    Returns:
        ``len(target.masks)`` prompts, original frame, all on image 0, in the order of the target. No point lies on an
        ignored pixel.

    Raises:
        ConfigError: there is no such kind.
    """
    check_kind(kind)
    masks = target.masks.subtract(target.ignore) if len(target.ignore) else target.masks
    return PROMPT_KINDS[kind](masks, draw_keys(seed, sample.key, target.ids))


def check_kind(kind: str) -> None:
    """Raise :class:`~samfast.errors.ConfigError` unless there is such a prompt kind."""
    if kind not in PROMPT_KINDS:
        raise ConfigError(f"{kind!r} is no prompt kind", where="prompts", fix=f"choose from {', '.join(PROMPT_KINDS)}")


def point_prompts(points: NDArray[np.floating]) -> Prompts:
    """``(P, N, 2)`` foreground points (x, y), original frame, as ``P`` prompts on image 0."""
    num_prompts, num_points = points.shape[:2]
    return Prompts(
        image_index=np.zeros(num_prompts, np.int64),
        points=points.astype(np.float32),
        labels=np.full((num_prompts, num_points), POSITIVE, np.int64),
        boxes=np.full((num_prompts, 4), np.nan, np.float32),
    )


def box_prompts(boxes: NDArray[np.floating]) -> Prompts:
    """``(P, 4)`` inclusive [xmin, ymin, xmax, ymax] boxes, original frame, as ``P`` prompts on image 0."""
    return Prompts(
        image_index=np.zeros(len(boxes), np.int64),
        points=np.zeros((len(boxes), 0, 2), np.float32),
        labels=np.zeros((len(boxes), 0), np.int64),
        boxes=np.asarray(boxes, np.float32),
    )


def _point(masks: Masks, keys: NDArray[np.uint64]) -> Prompts:
    return point_prompts(sample_points(masks, keys))


def _box(masks: Masks, keys: NDArray[np.uint64]) -> Prompts:
    return box_prompts(masks.boxes())


PROMPT_KINDS: dict[str, _Draw] = {"point": _point, "box": _box}
"""The prompt kinds by name."""

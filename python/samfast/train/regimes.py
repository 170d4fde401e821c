"""Regimes: how the prompts of a training step are drawn. A regime is one function from masks and keys to prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samfast.data.types import Sample, Target
from samfast.errors import ConfigError
from samfast.inference.contract import MULTIMASK, SINGLE, OutputContract
from samfast.inference.prompt_sets import box_prompts, point_prompts
from samfast.masks import Masks
from samfast.prompts import PADDING, Prompts, concatenate, draw_keys, jitter_boxes, sample_points

_CHOICE, _FIRST_PROMPT = 0, 1
"""Draw numbers: one chooses the objects of an epoch, the others draw their prompts."""
_ROUND = 2**32
"""Between the draw numbers of a prompt and of its corrections: more than there are prompts of an object."""


def point(masks: Masks, keys: NDArray[np.uint64]) -> Prompts:
    """One pixel of each mask, uniform."""
    return point_prompts(sample_points(masks, keys))


def box(masks: Masks, keys: NDArray[np.uint64]) -> Prompts:
    """The box of each mask, each side moved by noise of a tenth of its length, at most 20 px (SAM, appendix A)."""
    return box_prompts(jitter_boxes(masks.boxes(), keys, height=masks.height, width=masks.width))


def point_or_box(masks: Masks, keys: NDArray[np.uint64]) -> Prompts:
    """A point or a box for each mask, as a fair coin of its key falls."""
    points, boxes = point(masks, keys), box(masks, keys)
    boxed = (keys >> np.uint64(63)).astype(bool)
    return Prompts(
        image_index=points.image_index,
        points=np.where(boxed[:, None, None], np.float32(0), points.points),
        labels=np.where(boxed[:, None], PADDING, points.labels),
        boxes=np.where(boxed[:, None], boxes.boxes, np.float32(np.nan)),
    )


@dataclass(frozen=True)
class Regime:
    """A way to draw training prompts.

    Attributes:
        draw: ``N`` masks that are not empty and ``(N,)`` uint64 keys to ``N`` prompts, original frame, on image 0.
        kinds: the evaluation prompts it is validated with.
        is_corrected: whether every answer but the last is corrected by a click and asked for again.
    """

    draw: Callable[[Masks, NDArray[np.uint64]], Prompts]
    kinds: tuple[str, ...]
    is_corrected: bool = False

    @property
    def contract(self) -> OutputContract:
        """The tokens it teaches: all four on single points, token 0 on boxes, none on prompts it never draws."""
        return OutputContract(
            one_point=SINGLE + MULTIMASK if "point" in self.kinds else (),
            other=SINGLE if "box" in self.kinds else (),
        )


REGIMES = {
    "point": Regime(point, ("point",)),
    "box": Regime(box, ("box",)),
    "point+box": Regime(point_or_box, ("point", "box")),
    "clicks": Regime(point_or_box, ("point", "box"), is_corrected=True),
}


def get_regime(name: str) -> Regime:
    """The regime of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in REGIMES:
        raise ConfigError(f"{name!r} is no regime", where="regime", fix=f"choose from {', '.join(REGIMES)}")
    return REGIMES[name]


def choose_objects(target: Target, sample: Sample, *, seed: int, epoch: int, at_most: int) -> NDArray[np.int64]:
    """The objects of an image that take part in an epoch, in the target's order.

    Which they are depends on (seed, epoch, image, annotation) alone.
    """
    keys = draw_keys(seed, sample.key, target.ids, epoch=epoch, draw=_CHOICE)
    return np.sort(np.argsort(keys, kind="stable")[:at_most])


def training_prompts(
    regime: Regime,
    target: Target,
    sample: Sample,
    objects: NDArray[np.int64],
    *,
    seed: int,
    epoch: int,
    prompts_per_object: int = 1,
) -> Prompts:
    """Fresh prompts for some objects of an image: ``prompts_per_object`` rounds, each in the order of ``objects``.

    Each prompt is keyed by (seed, epoch, image, annotation, round): it does not depend on the order of the data, the
    batch it is in, or what else is drawn.

    Args:
        regime: how they are drawn.
        target: what can be seen of it, see :func:`~samfast.train.targets.visible`.
        sample: the image.
        objects: indices into the target's masks; at least one.
        seed: of the run.
        epoch: of the run.
        prompts_per_object: rounds.

    Returns:
        original frame, all on image 0.
    """
    masks = target.masks[objects]
    ids = [target.ids[index] for index in objects]
    return concatenate(
        [
            regime.draw(masks, draw_keys(seed, sample.key, ids, epoch=epoch, draw=_FIRST_PROMPT + round_))
            for round_ in range(prompts_per_object)
        ]
    )


def click_keys(
    sample: Sample,
    annotation_ids: Sequence[str],
    *,
    seed: int,
    epoch: int,
    corrections: int,
    prompts_per_object: int = 1,
) -> NDArray[np.uint64]:
    """``(P, corrections)`` keys of the clicks that correct the answers to :func:`training_prompts`, in their order.

    A key depends on (seed, epoch, image, annotation, prompt, correction) alone.
    """
    keys = np.empty((prompts_per_object, len(annotation_ids), corrections), np.uint64)
    for round_ in range(prompts_per_object):
        for number in range(corrections):
            draw = (number + 1) * _ROUND + _FIRST_PROMPT + round_
            keys[round_, :, number] = draw_keys(seed, sample.key, annotation_ids, epoch=epoch, draw=draw)
    return keys.reshape(prompts_per_object * len(annotation_ids), corrections)

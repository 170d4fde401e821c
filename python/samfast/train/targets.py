"""Training targets: masks as soft values on the grid that the loss is taken on, whatever the label format was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from samfast.data.types import Target
from samfast.frames import Frame, PreprocessSpec
from samfast.masks import Masks

LOSS_FRAMES = ("low-res", "model")
"""``low-res``: the decoder's own grid; ``model``: the pixels of its input, which logits are upscaled to: better where
objects are a few cells small, for targets of four times the memory."""


def target_spec(spec: PreprocessSpec, loss_frame: str) -> PreprocessSpec:
    """``spec``, with the grid that targets are made on for its low-res frame.

    >>> spec = PreprocessSpec(1024, 64, 256, (0, 0, 0), (1, 1, 1))
    >>> target_spec(spec, "model").low_res, target_spec(spec, "low-res").low_res
    (1024, 256)
    """
    return replace(spec, low_res=spec.size) if loss_frame == "model" else spec


def visible(target: Target) -> Target:
    """The target without its ignored pixels, and without the objects of which nothing is left then."""
    masks = target.masks.subtract(target.ignore) if target.ignore.area().any() else target.masks
    return replace(target, masks=masks).select(np.flatnonzero(masks.area()))


def soft_targets(masks: Masks, ignore: Masks, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Average masks over the cells of the low-res frame, counting only pixels that are on the image and not ignored.

    Args:
        masks: ``N`` masks, original frame, none of whose pixels is ignored.
        ignore: one mask, original frame.
        frame: of the image.

    Returns:
        ``(N, low_res, low_res)`` float32 targets in [0, 1], and ``(low_res, low_res)`` float32 weights in [0, 1]: the
        fraction of each cell that counts. Where the weight is 0, so is the target.
    """
    target = masks.rasterize(frame)
    weight = frame.coverage()
    if not ignore.area().any():
        return target, weight
    counted = 1 - ignore.rasterize(frame)[0]
    target = np.divide(target, counted, out=np.zeros_like(target), where=counted > 0)
    return np.clip(target, 0, 1), weight * counted


def in_bytes(target: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Values in [0, 1] as 255ths: a quarter of the memory, and of what goes to a GPU.

    >>> in_bytes(np.array([0, 0.5, 1], np.float32))
    array([  0, 128, 255], dtype=uint8)
    """
    parts: NDArray[np.uint8] = np.rint(target * np.float32(255)).astype(np.uint8)
    return parts

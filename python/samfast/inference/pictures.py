"""Masks and prompts on small pictures of their images, for pages and dashboards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samfast.inference.draw import overlay
from samfast.masks import Masks
from samfast.prompts import Prompts

OPACITY = 0.45


def small_overlay(image: NDArray[np.uint8], masks: Masks, prompts: Prompts | None = None) -> NDArray[np.uint8]:
    """Masks and prompts, original frame, on an ``(h, w, 3)`` uint8 thumbnail of their image, of its size."""
    height, width = image.shape[:2]
    if prompts is not None:
        scale = np.array([width / masks.width, height / masks.height])
        prompts = replace(
            prompts,
            points=((prompts.points + 0.5) * scale - 0.5).astype(np.float32),
            boxes=((prompts.boxes + 0.5) * np.tile(scale, 2) - 0.5).astype(np.float32),
        )
    return overlay(image, shrink_masks(masks, height, width), OPACITY, prompts)


def shrink_image(image: NDArray[np.uint8], longest_px: int) -> NDArray[np.uint8]:
    """An ``(H, W, 3)`` uint8 image with its longest side brought down to ``longest_px``; smaller ones stay."""
    small = Image.fromarray(image)
    small.thumbnail((longest_px, longest_px), Image.Resampling.BOX)
    return np.array(small)


def shrink_masks(masks: Masks, height: int, width: int) -> Masks:
    """Masks resampled to ``height x width`` pixels: foreground where half of a pixel's area was; one at a time."""
    if (masks.height, masks.width) == (height, width) or len(masks) == 0:
        return masks if len(masks) else Masks.empty(height, width)
    small = []
    for index in range(len(masks)):
        whole = Image.fromarray(masks[index].numpy()[0].astype(np.uint8) * 255)
        small.append(np.asarray(whole.resize((width, height), Image.Resampling.BOX)) >= 128)
    return Masks.from_numpy(np.stack(small))

"""What ``train_tiny.py`` trains on: images with prompts and low-res targets, by position in a stream."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from tiny_photos import Photos
from torch import Tensor

from samfast.data.shapes import shape_scene
from samfast.models.architecture import get_architecture

TRAIN_STREAM, VALIDATION_STREAM = 20000, 20001
PROMPTS_PER_IMAGE = 8
POINTS = 3
"""Most points of one prompt."""
POINT, BOX, SEVERAL = 0, 1, 2
"""Kinds of prompt: one point, a box, several points."""
HALF_SIZE_SHARES, FULL_SIZE_SHARES = (0.45, 0.4, 0.15), (0.33, 0.55, 0.12)
"""Of each kind, on half-size and on full-size images: only the latter have boxes of the size users draw."""
PHOTO_SHARE = 0.35
"""Of the training images, where photographs are given."""
SPEC = get_architecture("tiny").spec
Batch = dict[str, Tensor]


def scene(
    rng: np.random.Generator, stream: int, index: int, size: tuple[int, int], photos: Photos | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """An image of ``size`` and ``(n, H, W)`` masks of objects on it in random order, at most one for each prompt."""
    while photos is not None:
        crop = photos.crop(rng, *size, count=PROMPTS_PER_IMAGE)
        if crop is not None:
            return crop
    image, labels = shape_scene(stream, index, size=size)
    while labels.max() == 0:
        index += 1 << 32
        image, labels = shape_scene(stream, index, size=size)
    order = rng.permutation(int(labels.max()))[:PROMPTS_PER_IMAGE] + 1
    return image, labels[None] == order[:, None, None]


def example(
    stream: int, index: int, *, side: int = SPEC.size, validation: bool = False, photos: Photos | None = None
) -> Batch:
    """One image of ``side`` pixels with its prompts and low-res targets, a pure function of the arguments.

    Args:
        stream: of generated scenes.
        index: position in it.
        side: of the model input, or of a part of it.
        validation: whether each of the first objects is asked for once by a point and once by its box.
        photos: crops of these take the place of generated scenes.
    """
    rng = np.random.default_rng([stream, index, 1])
    size = [side, side]
    if rng.random() < 0.5:
        size[rng.integers(2)] = int(rng.integers(side * 9 // 16, side))
    image, found = scene(rng, stream, index, (size[0], size[1]), photos)
    masks = np.zeros((PROMPTS_PER_IMAGE, side, side), np.bool_)
    masks[:, : size[0], : size[1]] = found[np.arange(PROMPTS_PER_IMAGE) % len(found)]
    coords = np.zeros((PROMPTS_PER_IMAGE, POINTS + 2, 2), np.float32)
    codes = np.full((PROMPTS_PER_IMAGE, POINTS + 2), -10, np.int64)
    kinds = rng.choice(3, PROMPTS_PER_IMAGE, p=HALF_SIZE_SHARES if side < SPEC.size else FULL_SIZE_SHARES)
    if validation:
        kinds = np.arange(PROMPTS_PER_IMAGE) % 2
        masks = masks[np.arange(PROMPTS_PER_IMAGE) // 2]
    for row, (kind, mask) in enumerate(zip(kinds, masks, strict=True)):
        y, x = np.nonzero(mask)
        if kind == BOX:
            box = np.array([x.min(), y.min(), x.max(), y.max()], np.float32)
            if not validation and rng.random() < 0.6:
                reach = np.minimum(0.1 * np.tile(box[2:] - box[:2] + 1, 2), 0.08 * side)
                box = np.clip(box + rng.uniform(-1, 1, 4) * reach, 0, np.tile(size[::-1], 2) - 1)
            coords[row, POINTS:] = box.reshape(2, 2)
            codes[row, POINTS:] = (2, 3)
            continue
        points = 1 if kind == POINT else int(rng.integers(2, POINTS + 1))
        picks = rng.integers(len(x), size=points)
        coords[row, :points, 0], coords[row, :points, 1] = x[picks], y[picks]
        codes[row, :points] = 1
        if points > 1 and rng.random() < 0.5:  # the last one says what is not wanted
            coords[row, points - 1] = rng.random(2) * size[::-1] // 1
            at = coords[row, points - 1].astype(int)
            codes[row, points - 1] = int(mask[at[1], at[0]])
        codes[row, POINTS] = -1
    normal = (image.astype(np.float32) - np.float32(SPEC.mean)) / np.float32(SPEC.std)
    pixels = np.zeros((3, side, side), np.float32)
    pixels[:, : size[0], : size[1]] = normal.transpose(2, 0, 1)
    cell = SPEC.size // SPEC.low_res
    low = side // cell
    target = masks.reshape(-1, low, cell, low, cell).mean(axis=(2, 4), dtype=np.float32)
    out = {
        "image": torch.from_numpy(pixels),
        "coords": torch.from_numpy(coords),
        "labels": torch.from_numpy(codes),
        "kind": torch.from_numpy(np.asarray(kinds, np.int64)),
        "target": torch.from_numpy(target),
        "valid": torch.from_numpy(_coverage(size, low, cell)).expand(PROMPTS_PER_IMAGE, -1, -1),
    }
    if validation:
        out["mask"] = torch.from_numpy(masks)
    return out


def _coverage(size: list[int], low: int, cell: int) -> np.ndarray:
    rows, columns = (np.clip(length / cell - np.arange(low), 0, 1) for length in size)
    return np.outer(rows, columns).astype(np.float32)


class Stream(torch.utils.data.Dataset):
    """The examples of one stream by position, a share of them photographs."""

    def __init__(self, stream: int, side: int, photos: Photos | None) -> None:
        self.stream, self.side, self.photos = stream, side, photos

    def __getitem__(self, index: int) -> Batch:
        is_photo = np.random.default_rng([self.stream, index, 2]).random() < PHOTO_SHARE
        return example(self.stream, index, side=self.side, photos=self.photos if is_photo else None)


class From(torch.utils.data.Sampler):
    """Positions ``first``, ``first + 1``, ... without end."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        index = self.first
        while True:
            yield index
            index += 1


def _worker(_: int) -> None:
    import cv2

    cv2.setNumThreads(0)
    os.nice(1)


def batches(first: int, batch_size: int, side: int, photos: Photos | None, workers: int) -> Iterator[Batch]:
    """Batches from position ``first`` of the training stream on, in order, made by background processes."""
    loader = torch.utils.data.DataLoader(
        Stream(TRAIN_STREAM, side, photos),
        batch_size=batch_size,
        sampler=From(first),
        num_workers=workers,
        prefetch_factor=6,
        worker_init_fn=_worker,
    )
    return iter(loader)

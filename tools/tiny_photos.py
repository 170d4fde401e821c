"""Real photographs for ``train_tiny.py``: crops of those data sets whose licences let weights be passed on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samfast import load_dataset
from samfast.data.types import Split
from samfast.masks import Masks

SOURCES = {"nuclei": "CC0", "facade_coco": "CC BY 4.0", "pothole_yolo": "CC BY 4.0"}
"""Folder names and licences; the model's card attributes them."""
MIN_AREA_PX = 48
"""Objects of which a crop shows fewer pixels are not asked for."""


class Photos:
    """The photographs of one split of every source, decoded once.

    Args:
        root: the folder that holds the sources' folders.
        split: the test sets are never read here.
    """

    def __init__(self, root: Path, split: Split) -> None:
        self.sources: list[list[tuple[NDArray[np.uint8], Masks]]] = []
        for name in SOURCES:
            dataset = load_dataset(root / name)
            samples = dataset.of(split, state="labelled")
            self.sources.append([(dataset.image(sample), dataset.target(sample).masks) for sample in samples])

    def crop(
        self, rng: np.random.Generator, height: int, width: int, *, count: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]] | None:
        """A random window of a random photograph, turned, mirrored and tinted.

        Returns:
            ``(height, width, 3)`` uint8 RGB and ``(n, height, width)`` bool, at most ``count`` objects in random order;
            None where the window shows no object.
        """
        import cv2

        source = self.sources[rng.integers(len(self.sources))]
        image, masks = source[rng.integers(len(source))]
        reach = min(image.shape[0] / height, image.shape[1] / width)
        scale = max(float(rng.uniform(0.3, 1.0)) * reach, min(reach, 0.5))
        rows, columns = min(round(height * scale), image.shape[0]), min(round(width * scale), image.shape[1])
        top, left = int(rng.integers(image.shape[0] - rows + 1)), int(rng.integers(image.shape[1] - columns + 1))
        window = np.s_[top : top + rows, left : left + columns]
        shrinks = scale > 1
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        photo = cv2.resize(image[window], (width, height), interpolation=how)
        found: list[NDArray[np.bool_]] = []
        xmin, ymin, xmax, ymax = masks.boxes().T
        seen = (xmin < left + columns) & (xmax >= left) & (ymin < top + rows) & (ymax >= top)
        for index in rng.permutation(np.flatnonzero(seen)):
            part = masks[[int(index)]].numpy()[0][window].astype(np.uint8) * 255
            mask = cv2.resize(part, (width, height), interpolation=how) > 127
            if mask.sum() >= MIN_AREA_PX:
                found.append(mask)
            if len(found) == count:
                break
        if not found:
            return None
        flips = tuple(np.flatnonzero(rng.random(2) < 0.5))
        photo, stack = np.flip(photo, flips), np.flip(np.stack(found), tuple(1 + axis for axis in flips))
        return _tinted(rng, photo), np.ascontiguousarray(stack)


def _tinted(rng: np.random.Generator, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Another light, another camera: contrast, brightness, colour balance, sometimes none or the negative."""
    pixels = photo.astype(np.float32)
    if rng.random() < 0.2:
        pixels[:] = pixels.mean(axis=2, keepdims=True)
    if rng.random() < 0.1:
        pixels = 255 - pixels
    gain = rng.uniform(0.7, 1.3) * rng.uniform(0.85, 1.15, 3)
    pixels = (pixels - 128) * gain.astype(np.float32) + 128 + rng.normal(0, 18)
    pixels += rng.uniform(0, 5) * rng.standard_normal(pixels.shape, dtype=np.float32)
    return np.clip(pixels, 0, 255).astype(np.uint8)

"""A data set whose images say where their objects are, and segmenters whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samfast.data import Dataset, load_dataset
from samfast.frames import PreprocessSpec
from samfast.inference.contract import OutputContract
from samfast.inference.segmenter import Embedding
from samfast.inference.tokens import Tokens

SIDE = 64
SPEC = PreprocessSpec(SIDE, 8, SIDE, (0, 0, 0), (1, 1, 1))
"""Images of at most this size reach the low-res grid pixel by pixel, so that a known answer is known exactly."""

SIZES = [(64, 64), (64, 48), (50, 64)]


class Reader:
    """Answers a prompt with the object whose number the image's red channel holds there, moved right by ``shift``."""

    spec = SPEC

    def __init__(self, shift: int = 0, *, name: str = "reader") -> None:
        self.name = name
        self.contract = OutputContract()
        self.shift = shift
        self.embedded = 0

    def embed(self, images: Sequence[np.ndarray]) -> Embedding:
        self.embedded += len(images)
        return Embedding(
            {"image": [image[..., 0] for image in images]}, tuple(SPEC.frame(*i.shape[:2]) for i in images)
        )

    def decode(self, embedding: Embedding, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
        logits = np.full((len(tokens.labels), 4, SIDE, SIDE), -5.0, np.float32)
        for prompt, (coords, labels) in enumerate(zip(tokens.coords, tokens.labels, strict=True)):
            numbers = embedding.features["image"][int(tokens.image_index[prompt])]
            if 2 in labels:
                (xmin, ymin), (xmax, ymax) = (coords[labels == corner][0].astype(int) for corner in (2, 3))
                inside = numbers[ymin : ymax + 1, xmin : xmax + 1]
                number = np.bincount(inside[inside > 0], minlength=2).argmax()
            else:
                x, y = coords[0].round().astype(int)
                number = numbers[y, x]
            answer = answer_of(numbers, int(number), self.shift)
            logits[prompt, :, : answer.shape[0], : answer.shape[1]][:, answer] = 5.0
        return logits, np.full((len(tokens.labels), 4), 0.5, np.float32)


def answer_of(numbers: np.ndarray, number: int, shift: int) -> np.ndarray:
    """``(H, W)`` bool: the object, moved right by ``shift``; what leaves the image is gone."""
    mask = numbers == number
    return mask if shift == 0 else np.pad(mask, ((0, 0), (shift, 0)))[:, : mask.shape[1]]


def write_numbered(root: Path, *, ignore_columns: int = 0) -> Path:
    """Nine images of one to three rectangles, numbered in the red channel; binary masks; given sets."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    names = []
    for image_number in range(9):
        rng = np.random.default_rng(image_number)
        height, width = SIZES[image_number % len(SIZES)]
        image = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
        image[..., 0] = 0
        for number in range(1, 2 + image_number % 3):
            top = 3 + 16 * (number - 1)
            left = int(rng.integers(8, 16))
            image[top : top + int(rng.integers(5, 13)), left : left + int(rng.integers(9, 28)), 0] = number
        mask = ((image[..., 0] > 0) * 255).astype(np.uint8)
        if ignore_columns:
            mask = np.where(mask > 0, 1, 0).astype(np.uint8)
            mask[:, :ignore_columns] = 255
        name = f"{image_number:02}.png"
        Image.fromarray(image).save(root / "images" / name)
        Image.fromarray(mask).save(root / "masks" / name)
        names.append(f"images/{name}")
    (root / "splits.json").write_text(json.dumps({"train": names[:3], "val": names[3:5], "test": names[5:]}))
    return root


@pytest.fixture(scope="session")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(write_numbered(tmp_path_factory.mktemp("data") / "numbered"), target="component")


@pytest.fixture(scope="session")
def numbered_with_ignore(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(
        write_numbered(tmp_path_factory.mktemp("data") / "ignore", ignore_columns=14), target="component"
    )


@pytest.fixture
def reader() -> Callable[..., Any]:
    return Reader


@pytest.fixture
def answer() -> Callable[..., np.ndarray]:
    return answer_of

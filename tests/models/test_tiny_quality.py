"""The shipped checkpoint on shapes it has never seen.

``tools/train_tiny.py`` trains on stream 20000 of ``shape_scene`` and watches stream 20001; stream 20002 is for here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from samfast.data.shapes import shape_scene
from samfast.models.architecture import get_architecture
from samfast.models.checkpoints import load_model

TEST_STREAM = 20002
SIZES = ((256, 256), (192, 256), (256, 168))
FLOORS = {"point": 0.55, "point-best": 0.54, "box": 0.65}
"""A little below what the shipped checkpoint reaches here: 0.59, 0.59 and 0.70."""


@dataclass
class Asked:
    """Four objects each of 24 scenes, once from a point and once from a box."""

    images: torch.Tensor  # (I, 3, S, S)
    index: torch.Tensor  # (P,)
    points: torch.Tensor  # (P, 2, 2), a point and SAM's pad token
    boxes: torch.Tensor  # (P, 2, 2)
    masks: torch.Tensor  # (P, S, S) bool
    on_image: torch.Tensor  # (P, S, S) bool


@pytest.fixture(scope="module")
def asked() -> Asked:
    spec = get_architecture("tiny").spec
    images, index, points, boxes, masks, on_image = [], [], [], [], [], []
    rng = np.random.default_rng(0)
    for scene in range(24):
        height, width = SIZES[scene % len(SIZES)]
        image, labels = shape_scene(TEST_STREAM, scene, size=(height, width))
        images.append(spec.preprocess(image))
        for label in rng.permutation(labels.max())[:4] + 1:
            mask, inside = np.zeros((2, spec.size, spec.size), bool)
            mask[:height, :width] = labels == label
            inside[:height, :width] = True
            y, x = np.nonzero(mask)
            pick = rng.integers(len(x))
            index.append(scene)
            points.append([[x[pick], y[pick]], [0, 0]])
            boxes.append([[x.min(), y.min()], [x.max(), y.max()]])
            masks.append(mask)
            on_image.append(inside)
    return Asked(
        torch.from_numpy(np.stack(images)),
        torch.tensor(index),
        torch.tensor(np.array(points), dtype=torch.float32),
        torch.tensor(np.array(boxes), dtype=torch.float32),
        torch.from_numpy(np.stack(masks)),
        torch.from_numpy(np.stack(on_image)),
    )


@pytest.fixture(scope="module")
def tiny():
    return load_model("tiny")


@pytest.fixture(scope="module")
def embeddings(tiny, asked: Asked) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([tiny.encode(part)["image_embeddings"] for part in asked.images.split(4)])


def mean_iou(tiny, embeddings: torch.Tensor, asked: Asked, kind: str) -> float:
    """Mean IoU in the model frame."""
    coords, codes = (asked.boxes, (2, 3)) if kind == "box" else (asked.points, (1, -1))
    labels = torch.tensor(codes).expand(len(coords), -1)
    with torch.inference_mode():
        logits, scores = tiny.decode(embeddings, asked.index, coords, labels)
        token = scores[:, 1:].argmax(1) + 1 if kind == "point-best" else torch.zeros(len(coords), dtype=torch.int64)
        chosen = logits[torch.arange(len(coords)), token][:, None]
        side = asked.masks.shape[-1]
        found = torch.nn.functional.interpolate(chosen, (side, side), mode="bilinear")[:, 0] > 0
    found = found & asked.on_image
    iou = (found & asked.masks).sum((1, 2)) / (found | asked.masks).sum((1, 2)).clamp(min=1)
    return float(iou.mean())


@pytest.mark.parametrize("kind", FLOORS)
def test_tiny_segments_objects_it_has_never_seen(tiny, embeddings, asked: Asked, kind: str) -> None:
    assert mean_iou(tiny, embeddings, asked, kind) >= FLOORS[kind]


@pytest.mark.parametrize("kind", FLOORS)
def test_the_figure_falls_with_a_neighbours_embedding(tiny, embeddings, asked: Asked, kind: str) -> None:
    right = mean_iou(tiny, embeddings, asked, kind)
    assert mean_iou(tiny, embeddings.roll(1, 0), asked, kind) < 0.7 * right


@pytest.mark.parametrize("kind", FLOORS)
def test_the_figure_falls_with_the_prompts_of_other_objects(tiny, embeddings, asked: Asked, kind: str) -> None:
    right = mean_iou(tiny, embeddings, asked, kind)
    mixed = Asked(
        asked.images, asked.index, asked.points.roll(1, 0), asked.boxes.roll(1, 0), asked.masks, asked.on_image
    )
    assert mean_iou(tiny, embeddings, mixed, kind) < 0.5 * right


def test_predicted_scores_order_the_masks(tiny, embeddings, asked: Asked) -> None:
    """Predicted IoU goes with the IoU that is reached, over all boxes."""
    labels = torch.tensor((2, 3)).expand(len(asked.boxes), -1)
    with torch.inference_mode():
        logits, scores = tiny.decode(embeddings, asked.index, asked.boxes, labels)
    side = asked.masks.shape[-1]
    found = (torch.nn.functional.interpolate(logits[:, :1], (side, side), mode="bilinear")[:, 0] > 0) & asked.on_image
    iou = (found & asked.masks).sum((1, 2)) / (found | asked.masks).sum((1, 2)).clamp(min=1)
    assert np.corrcoef(iou.numpy(), scores[:, 0].numpy())[0, 1] > 0.3

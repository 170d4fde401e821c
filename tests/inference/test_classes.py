"""Masks without prompts: who may be asked, what overlaps, what is judged."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from samfast.data.types import Target
from samfast.errors import ConfigError
from samfast.frames import PreprocessSpec
from samfast.inference.classes import (
    best_classes,
    class_masks,
    class_order,
    class_scores,
    class_tokens,
    segment_classes,
)
from samfast.inference.contract import OutputContract
from samfast.inference.segmenter import Embedding, segment
from samfast.masks import Masks
from samfast.prompts import point_prompts

SPEC = PreprocessSpec(64, 4, 16, (0, 0, 0), (1, 1, 1))


def model(contract: OutputContract, logits: np.ndarray) -> SimpleNamespace:
    """A segmenter that answers ``(K, 16, 16)`` logits to whatever it is asked."""
    scores = np.linspace(0.5, 0.9, len(logits), dtype=np.float32)[None]
    asked = []

    def decode(_, tokens):
        asked.append(tokens)
        return logits[None], scores

    return SimpleNamespace(name="m", spec=SPEC, contract=contract, decode=decode, asked=asked)


def noise(classes: int) -> np.ndarray:
    return np.random.default_rng(classes).normal(0, 3, (classes, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("size", [(64, 64), (37, 61), (200, 90)])
@pytest.mark.parametrize("classes", [2, 5])
def test_classes_of_which_a_pixel_has_one_do_not_overlap(size, classes) -> None:
    logits, embedding = noise(classes), Embedding({}, (SPEC.frame(*size),))
    names = tuple("abcdefg"[:classes])
    masks = segment_classes(model(OutputContract((), (), names), logits), embedding).masks.numpy()
    assert masks.sum(0).max() == 1
    full = SPEC.frame(*size).logits_to_original(logits)
    best = np.where(full.max(0) > 0, full.argmax(0) + 1, 0)
    found = np.where(masks.any(0), masks.argmax(0) + 1, 0)
    assert (best == found).mean() > 0.9999  # two ways to upscale, equal but for rounding
    free = segment_classes(model(OutputContract((), (), names, multilabel=True), logits), embedding).masks
    assert free.numpy().sum(0).max() > 1
    np.testing.assert_array_equal(free.numpy(), Masks.from_logits(logits, SPEC.frame(*size)).numpy())


def test_a_lone_class_is_cut_and_an_absent_one_is_empty() -> None:
    frame = SPEC.frame(37, 61)
    alone = best_classes(noise(1), frame).numpy()
    np.testing.assert_array_equal(alone, Masks.from_logits(noise(1), frame).numpy())
    found = best_classes(np.concatenate([noise(1) - 99, noise(1), noise(1) - 99, noise(1) - 99]), frame)
    assert found.area().tolist() == [0, int(alone.sum()), 0, 0]
    assert best_classes(noise(3) - 99, frame).area().tolist() == [0, 0, 0]


def test_it_is_asked_by_the_pad_token_alone() -> None:
    asked = model(OutputContract((), (), ("a",)), noise(1))
    found = segment_classes(asked, Embedding({}, (SPEC.frame(20, 30),)))
    (tokens,) = asked.asked
    assert tokens.labels.tolist() == [[-1]]
    assert tokens.has_mask.tolist() == [0]
    assert (len(found.masks), found.scores.tolist(), found.tokens.tolist(), len(found.prompts)) == (1, [0.5], [0], 0)
    assert class_tokens(3).image_index.tolist() == [0, 1, 2]


def test_each_model_is_asked_in_its_own_way() -> None:
    embedding = Embedding({}, (SPEC.frame(20, 30),))
    with pytest.raises(ConfigError, match=r"takes no prompts.*\(road, water\)"):
        segment(
            model(OutputContract((), (), ("road", "water")), noise(2)), embedding, point_prompts(np.ones((1, 1, 2)))
        )
    with pytest.raises(ConfigError, match="nothing without a prompt"):
        segment_classes(model(OutputContract(), noise(4)), embedding)
    with pytest.raises(ConfigError, match="one image at a time"):
        segment_classes(model(OutputContract((), (), ("a",)), noise(1)), Embedding({}, (SPEC.frame(2, 3),) * 2))


def test_contracts_of_classes_survive_files_and_old_files_have_none() -> None:
    contract = OutputContract((), (), ("road", "water"), multilabel=True)
    assert OutputContract.from_dict(contract.to_dict()) == contract
    assert OutputContract.from_dict({"one_point": [0], "other": []}) == OutputContract((0,), ())


def test_classes_are_matched_by_name() -> None:
    assert class_order(("road", "water"), ("water", "road"), model="m").tolist() == [1, 0]
    with pytest.raises(ConfigError, match=r"the model alone has road; the data alone has street"):
        class_order(("road", "water"), ("water", "street"), model="m")


def target(labels: list[list[int]], classes: list[int]) -> Target:
    masks = Masks.from_numpy(np.stack([np.array(labels) == value for value in range(1, len(classes) + 1)]))
    ids = tuple(map(str, range(len(classes))))
    return Target(masks, np.array(classes), ids, Masks.from_numpy(np.zeros((2, 3), bool)), "instance")


def test_a_class_is_all_of_its_objects() -> None:
    found = class_masks(target([[1, 2, 0], [0, 3, 0]], [2, 0, 2]), np.array([2, 1, 0]))
    assert found.numpy().astype(int).tolist() == [
        [[1, 0, 0], [0, 1, 0]],
        [[0, 0, 0], [0, 0, 0]],
        [[0, 1, 0], [0, 0, 0]],
    ]


def test_scores_are_of_the_classes_at_stake() -> None:
    counts = np.array([[6, 2, 0, 2], [0, 0, 0, 10], [0, 3, 0, 7], [0, 0, 5, 5]])  # right, absent, invented, missed
    found = class_scores(counts)
    assert found["iou"] == pytest.approx(0.75 / 3)
    assert found["recall"] == pytest.approx(1 / 3)
    assert class_scores(counts[1:2]) == dict.fromkeys(("iou", "dice", "precision", "recall"), 1.0)

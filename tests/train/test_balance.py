"""Balance: what the shares of a step's loss add up to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from samfast.data.types import Target
from samfast.inference.contract import OutputContract
from samfast.masks import Masks
from samfast.progress import bar
from samfast.train import train_decoder
from samfast.train.balance import Balance
from samfast.train.batches import make_batch
from samfast.train.config import TrainConfig
from samfast.train.prompt_free import tell_overlap


def target(classes: list[int], sides: list[int]) -> Target:
    masks = np.zeros((len(sides), 120, 120), bool)
    for mask, side in zip(masks, sides, strict=True):
        mask[:side, :side] = True
    ids = tuple(map(str, range(len(sides))))
    return Target(Masks.from_numpy(masks), np.array(classes), ids, Masks.empty(120, 120), "instance")


TARGETS = [target([0, 0, 1], [31, 32, 95]), target([0], [96]), target([2, 0], [10, 20])]


@pytest.mark.parametrize(("rule", "groups"), [("class", [0, 0, 1, 0, 2, 0]), ("size", [0, 1, 1, 2, 0, 0])])
def test_every_group_of_the_train_set_weighs_the_same(rule, groups) -> None:
    balance = Balance.over(rule, TARGETS)
    weights = np.concatenate([balance.weights(each) for each in TARGETS])
    sums = np.bincount(groups, weights)
    np.testing.assert_allclose(sums, sums[0])
    assert weights.mean() == pytest.approx(1)
    even = Balance.over("none", TARGETS)
    assert np.ptp(np.bincount(groups, np.concatenate([even.weights(each) for each in TARGETS]))) > 0


def test_a_group_that_the_train_set_lacks_counts_once() -> None:
    assert Balance.over("class", TARGETS[:1]).weights(target([7], [5])).tolist() == [1.0]


@pytest.mark.parametrize("rule", ["none", "image", "class", "size"])
def test_shares_of_a_step(rule, dataset, cache) -> None:
    samples = list(dataset.of("train", state="labelled"))
    config = TrainConfig.make("flood-study", balance=rule, max_prompts=3, prompts_per_object=2)
    balance = Balance.over(rule, map(dataset.target, samples))
    batch = make_batch(dataset, samples, cache.read, config, cache.spec, epoch=1, balance=balance)
    counts = np.bincount(batch.tokens.image_index)
    assert len(set(counts)) > 1, "images of different numbers of objects"
    by_image = np.bincount(batch.tokens.image_index, batch.share / batch.whole)
    if rule == "none":
        np.testing.assert_allclose(batch.share / batch.whole, 1 / len(batch), rtol=1e-6)
    if rule == "image":
        np.testing.assert_allclose(by_image, 1 / len(samples), rtol=1e-6)
    else:
        assert np.ptp(by_image) > 0.01


def test_reading_the_labels_of_a_train_set_shows_progress(dataset, cache, tmp_path, monkeypatch) -> None:
    shown: list[tuple[str, float | None]] = []

    @contextmanager
    def noted(description: str, total: float | None, **more: Any) -> Iterator[Any]:
        shown.append((description, total))
        with bar(description, total, **more) as running:
            yield running

    monkeypatch.setattr("samfast.progress.bar", noted)
    quick = {"epochs": 1, "batch_size": 6, "max_prompts": 1, "regime": "box", "device": "cpu"}
    train_decoder(dataset, cache=cache, out=tmp_path / "even", **quick)
    assert shown == []
    train_decoder(dataset, cache=cache, out=tmp_path / "run", balance="size", **quick)
    assert shown == [("reading labels", 6)]
    tell_overlap(OutputContract(classes=("a", "b")), dataset, dataset.of("train"))
    assert shown == [("reading labels", 6)] * 2

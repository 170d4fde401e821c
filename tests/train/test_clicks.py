"""Corrections: where their clicks lie, what they depend on, and that the answers they correct are asked about again."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch

from samfast.data import Dataset
from samfast.data.types import Sample
from samfast.prompts import PADDING
from samfast.train import clicks
from samfast.train.batches import Batch, epoch_updates, make_batch
from samfast.train.clicks import Asked, corrected, next_click
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer
from samfast.train.losses import prompt_losses
from samfast.train.objective import OBJECTIVES
from samfast.train.regimes import click_keys

P, L = 40, 24
CPU = torch.device("cpu")


@pytest.fixture
def answers() -> dict[str, torch.Tensor]:
    """Ragged answers to ragged objects; the last rows of cells lie off the image."""
    draw = np.random.default_rng(2)
    y, x = np.mgrid[:L, :L]
    cx, cy, radius = draw.uniform(4, 18, P), draw.uniform(4, 14, P), draw.uniform(2, 6, P)
    target = np.clip(radius[:, None, None] - np.hypot(x - cx[:, None, None], y - cy[:, None, None]), 0, 1)
    weight = np.ones((P, L, L))
    weight[:, 18:] = 0
    return {
        "logits": torch.from_numpy(draw.normal(2 * target - 1, 1)).float(),
        "target": torch.from_numpy(target * weight).float(),
        "weight": torch.from_numpy(weight).float(),
    }


def keys(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2**63, P, dtype=np.int64))


def error_region(answers: dict[str, torch.Tensor]) -> np.ndarray:
    wrong = (answers["logits"].numpy() > 0) != (answers["target"].numpy() >= 0.5)
    return wrong & (answers["weight"].numpy() > 0)


def test_clicks_lie_where_the_answer_is_wrong(answers) -> None:
    wrong, true = error_region(answers), answers["target"].numpy() >= 0.5
    row = np.arange(P)
    labels_seen = set()
    for seed in range(20):
        cells, labels = next_click(**answers, keys=keys(seed))
        x, y = cells.numpy().T
        assert wrong[row, y, x].all()
        assert np.array_equal(labels.numpy() == 1, true[row, y, x])
        labels_seen |= set(labels.tolist())
        # Control: another answer's error region does not hold these clicks.
        assert not np.roll(wrong, 1, axis=0)[row, y, x].all()
    assert labels_seen == {0, 1}


def test_the_click_is_the_numbered_cell_of_the_error_region(answers) -> None:
    wrong, chosen = error_region(answers), keys()
    cells, _ = next_click(**answers, keys=chosen)
    for p in range(P):
        y, x = np.nonzero(wrong[p])
        number = int(chosen[p]) % len(y)
        assert cells[p].tolist() == [x[number], y[number]]


def test_every_wrong_cell_is_drawn(answers) -> None:
    one = {name: values[:1].expand(4000, L, L) for name, values in answers.items()}
    cells, _ = next_click(**one, keys=torch.arange(4000) * 7919)
    wrong = error_region(answers)[0]
    drawn = np.zeros((L, L))
    np.add.at(drawn, (cells[:, 1].numpy(), cells[:, 0].numpy()), 1)
    expected = 4000 / wrong.sum()
    assert (drawn > 0).sum() == wrong.sum()
    assert drawn[wrong].min() > 0.9 * expected


def test_a_right_answer_is_clicked_on_the_object(answers) -> None:
    right = {**answers, "logits": torch.where(answers["target"] >= 0.5, 3.0, -3.0)}
    cells, labels = next_click(**right, keys=keys())
    x, y = cells.numpy().T
    assert (labels == 1).all()
    assert (answers["target"].numpy()[np.arange(P), y, x] >= 0.5).all()


def test_an_object_that_fills_no_cell_is_clicked_where_it_is(answers) -> None:
    target = torch.zeros(P, L, L)
    target[:, 7, 3], target[:, 7, 4] = 0.2, 0.1
    missed = {**answers, "logits": torch.full((P, L, L), -5.0), "target": target}
    cells, labels = next_click(**missed, keys=keys())
    assert cells.tolist() == [[3, 7]] * P
    assert (labels == 1).all()


def test_a_click_does_not_depend_on_the_batch(answers) -> None:
    order = torch.tensor([7, 3, 31])
    whole = next_click(**answers, keys=keys())
    part = next_click(**{name: values[order] for name, values in answers.items()}, keys=keys()[order])
    assert torch.equal(part[0], whole[0][order])
    assert torch.equal(part[1], whole[1][order])
    other = next_click(**answers, keys=keys(1))
    assert not torch.equal(other[0], whole[0])


def test_a_correction_adds_the_click_and_the_answer(answers) -> None:
    asked = Asked(torch.arange(P), torch.rand(P, 2, 2), torch.tensor([[1, -1]] * P), None, None)
    answer = answers["logits"][:, None].clone().requires_grad_(True)
    rest = answers["target"], answers["weight"], keys()
    again = corrected(asked, answer, *rest, torch.ones(P, dtype=torch.bool), cell_px=4.0)
    cells, labels = next_click(**answers, keys=keys())
    assert torch.equal(again.coords[:, :2], asked.coords)
    assert torch.equal(again.coords[:, 2], cells * 4.0 + 1.5)  # pixels 4c to 4c + 3 have their centre at index 4c + 1.5
    assert torch.equal(again.labels, torch.cat([asked.labels, labels[:, None]], dim=1))
    assert torch.equal(again.mask, answers["logits"][:, None])
    assert not again.mask.requires_grad
    assert again.has_mask.eq(1).all()

    some = torch.arange(P) % 3 > 0
    mixed = corrected(asked, answer, *rest, some, cell_px=4.0)
    assert torch.equal(mixed.labels[some], again.labels[some])
    assert torch.equal(mixed.coords[some], again.coords[some])
    assert mixed.labels[~some, 2].eq(PADDING).all()
    assert mixed.coords[~some, 2].eq(0).all()
    assert torch.equal(mixed.mask, again.mask)
    alone = corrected(asked, answer, *rest, some & False, cell_px=4.0)
    assert torch.equal(alone.labels, asked.labels)
    assert torch.equal(alone.mask, again.mask)


def test_the_answer_that_is_asked_about() -> None:
    logits, scores = torch.randn(4, 4, L, L), torch.tensor([[0.9, 0.1, 0.5, 0.3], [0.0, 0.7, 0.2, 0.8]] * 2)
    lone = torch.tensor([True, True, False, False])
    assert torch.equal(clicks.answers(logits, scores, lone, best_predicted=False), logits[:, :1])
    chosen = clicks.answers(logits, scores, lone, best_predicted=True)
    assert torch.equal(chosen[:, 0], torch.stack([logits[0, 2], logits[1, 3], logits[2, 0], logits[3, 0]]))


@pytest.fixture
def config() -> TrainConfig:
    return TrainConfig.make("flood-study", regime="clicks:4", batch_size=3, max_prompts=2, lr=1e-3)


@pytest.fixture
def samples(dataset: Dataset) -> list[Sample]:
    return list(dataset.of("train", state="labelled"))


def test_keys_depend_on_what_they_are_for_alone(samples) -> None:
    settings = {"seed": 0, "epoch": 1, "corrections": 3}
    whole = click_keys(samples[0], ["a", "b", "c"], **settings)
    assert whole.shape == (3, 3)
    assert np.array_equal(click_keys(samples[0], ["c", "a"], **settings), whole[[2, 0]])
    twice = click_keys(samples[0], ["a", "b", "c"], **settings, prompts_per_object=2)
    assert np.array_equal(twice[:3], whole)
    assert np.array_equal(click_keys(samples[0], ["a", "b", "c"], **{**settings, "corrections": 2}), whole[:, :2])
    others = [
        click_keys(samples[1], ["a", "b", "c"], **settings),
        click_keys(samples[0], ["a", "b", "c"], **{**settings, "seed": 1}),
        click_keys(samples[0], ["a", "b", "c"], **{**settings, "epoch": 2}),
    ]
    assert len(np.unique(np.concatenate([twice, *others]))) == 15 * 3


def spy_on_decode(trainer: Trainer, monkeypatch) -> list[dict]:
    calls: list[dict] = []
    decode = trainer.sam.decode

    def spy(**asked):
        logits, ious = decode(**asked)
        calls.append({**asked, "logits": logits.detach().clone(), "ious": ious.detach().clone()})
        return logits, ious

    monkeypatch.setattr(trainer.sam, "decode", spy)
    return calls


def judged(call: dict, batch: Batch, is_one_point: torch.Tensor) -> np.ndarray:
    target, weight = torch.from_numpy(batch.target), torch.from_numpy(batch.weight)[call["image_index"]]
    return prompt_losses(
        OBJECTIVES["bce+dice"], call["logits"], call["ious"], target, weight, is_one_point
    ).total.numpy()


def test_each_answer_is_asked_about_again(dataset, cache, samples, config, monkeypatch) -> None:
    trainer = Trainer(cache.decoder(), config, steps_per_epoch=2, device=CPU)
    calls = spy_on_decode(trainer, monkeypatch)
    batch = make_batch(dataset, samples, cache.read, config, cache.spec, epoch=1)
    losses = trainer.losses(batch)
    assert [call["coords"].shape[1] for call in calls] == [2, 3, 4, 5]
    assert calls[0]["mask"] is None
    for before, after in itertools.pairwise(calls):
        assert torch.equal(after["mask"], before["logits"][:, :1])
        assert torch.equal(after["coords"][:, :-1], before["coords"])
        error = (before["logits"][:, 0] > 0).numpy() != (batch.target >= 0.5)
        cell = ((after["coords"][:, -1] + 0.5) * cache.spec.low_res / cache.spec.size - 0.5).round().long().numpy()
        assert error[np.arange(len(batch)), cell[:, 1], cell[:, 0]].mean() > 0.9  # the others have no error left

    # A loss is the mean over rounds: the first is judged as the prompt it is, the others by token 0.
    lone = torch.from_numpy(batch.is_one_point)
    assert 0 < lone.sum() < len(lone)
    rounds = [judged(call, batch, lone if number == 0 else lone & False) for number, call in enumerate(calls)]
    assert losses == pytest.approx(np.mean(rounds, axis=0), rel=1e-5)
    assert losses != pytest.approx(rounds[0], rel=1e-2)

    # Control: without the answers as mask prompts other losses come out.
    decode = trainer.sam.decode
    monkeypatch.setattr(trainer.sam, "decode", lambda **asked: decode(**{**asked, "mask": None, "has_mask": None}))
    assert np.abs(trainer.losses(batch) - losses).max() > 1e-3


def test_sams_schedule(dataset, cache, samples, config, monkeypatch) -> None:
    trainer = Trainer(cache.decoder(), config.replace(regime="sam"), steps_per_epoch=2, device=CPU)
    calls = spy_on_decode(trainer, monkeypatch)
    batch = make_batch(dataset, samples, cache.read, trainer.config, cache.spec, epoch=1)
    losses = trainer.losses(batch)
    assert len(calls) == 11
    last = calls[-1]["labels"]
    assert ((last == 0) | (last == 1))[:, 2:].sum(1).tolist() == [8] * len(batch)
    assert torch.equal(last, calls[-2]["labels"])
    lone = torch.from_numpy(batch.is_one_point)
    best = calls[0]["ious"][:, 1:].argmax(1) + 1
    wanted = calls[0]["logits"][torch.arange(len(batch)), torch.where(lone, best, 0)]
    assert torch.equal(calls[1]["mask"][:, 0], wanted)
    assert torch.equal(calls[2]["mask"], calls[1]["logits"][:, :1])
    rounds = [judged(call, batch, lone if number == 0 else lone & False) for number, call in enumerate(calls)]
    assert losses == pytest.approx(np.mean(rounds, axis=0), rel=1e-5)


def test_a_prompts_loss_does_not_depend_on_the_batch(dataset, cache, samples, config) -> None:
    trainer = Trainer(cache.decoder(), config, steps_per_epoch=2, device=CPU)
    together = trainer.losses(make_batch(dataset, samples, cache.read, config, cache.spec, epoch=1))
    apart = [trainer.losses(make_batch(dataset, [s], cache.read, config, cache.spec, epoch=1)) for s in samples]
    close = np.isclose(np.concatenate(apart), together, rtol=1e-5)
    assert close.mean() > 0.8  # an answer that is rounded otherwise may move a click
    assert not np.isclose(together, np.roll(together, 1), rtol=1e-5).any()


def test_training_on_clicks_lowers_their_loss(dataset, cache, samples, config) -> None:
    trainer = Trainer(copy.deepcopy(cache.decoder()), config, steps_per_epoch=2, device=CPU)
    judged = make_batch(dataset, samples, cache.read, config, cache.spec, epoch=9)
    before = trainer.losses(judged).mean()
    step = 0
    for epoch in range(1, 5):
        for (batch,) in epoch_updates(dataset, samples, cache.read, config, cache.spec, epoch=epoch):
            means = trainer.step(batch, step)
            step += 1
    assert means["loss"] == pytest.approx(means["loss_bce"] + means["loss_dice"] + means["loss_iou"], rel=1e-5)
    assert trainer.losses(judged).mean() < 0.95 * before


def test_no_click_takes_an_object_smaller_than_any_cell_for_background() -> None:
    target, weight = torch.zeros(2, 8, 8), torch.ones(2, 8, 8)
    target[:, 3, 5], target[:, 3, 6] = 0.4, 0.2
    logits = torch.full((2, 8, 8), -1.0)
    logits[0, 3, 5] = 1  # right; the other misses it
    for key in range(5):
        cells, labels = next_click(logits, target, weight, torch.full((2,), key))
        assert cells.tolist() == [[5, 3], [5, 3]]
        assert labels.tolist() == [1, 1]

"""What a step is made from does not depend on the batch it is in."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from samfast.cache.loader import epoch_order
from samfast.errors import RunError
from samfast.inference.tokens import Tokens
from samfast.masks import Masks
from samfast.models.sam import Sam
from samfast.prompts import PADDING
from samfast.train.batches import Batch, epoch_updates, left_aligned, make_batch
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer

CONFIG = TrainConfig.make(regime="point+box", max_prompts=3, prompts_per_object=2, batch_size=4, device="cpu")


@pytest.fixture
def samples(dataset):
    return list(dataset.of("train", state="labelled"))


@pytest.fixture
def trainer(cache) -> Trainer:
    return Trainer(cache.decoder(), CONFIG, steps_per_epoch=2, device=torch.device("cpu"))


def losses(trainer: Trainer, batches) -> list[float]:
    return sorted(float(loss) for batch in batches for loss in trainer.losses(batch))


def test_losses_do_not_depend_on_order_or_batches(dataset, cache, samples, trainer) -> None:
    whole = losses(trainer, [make_batch(dataset, samples, cache.read, CONFIG, cache.spec, epoch=1)])
    singly = losses(
        trainer, [make_batch(dataset, [s], cache.read, CONFIG, cache.spec, epoch=1) for s in reversed(samples)]
    )
    assert len(whole) > 12
    assert singly == pytest.approx(whole, rel=1e-5)
    other = losses(trainer, [make_batch(dataset, samples, cache.read, CONFIG, cache.spec, epoch=2)])
    assert other != pytest.approx(whole, rel=1e-2)


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own(dataset, cache, samples) -> None:
    batches = [batch for (batch,) in epoch_updates(dataset, samples, cache.read, CONFIG, cache.spec, epoch=3)]
    assert [len(batch.weight) for batch in batches] == [4, 2]
    orders = {tuple(s.name for s in epoch_order(samples, seed=0, epoch=e)) for e in range(6)}
    assert len(orders) > 3
    assert all(sorted(order) == sorted(s.name for s in samples) for order in orders)
    assert epoch_order(samples[::-1], seed=0, epoch=1) == epoch_order(samples, seed=0, epoch=1)


def test_one_of_accumulated_batches_is_held_beside_those_made_ahead(dataset, cache, samples, monkeypatch) -> None:
    config = CONFIG.replace(batch_size=1, accumulate=6)
    each = Trainer(cache.decoder(), config, steps_per_epoch=1, device=torch.device("cpu"))
    made: list[weakref.ref[Batch]] = []
    alive: list[int] = []

    def noted(*given, **more) -> Batch:
        made.append(weakref.ref(batch := make_batch(*given, **more)))
        return batch

    def counted(batch: Batch):
        alive.append(sum(each() is not None for each in made))
        yield {"loss": torch.ones(())}

    monkeypatch.setattr("samfast.train.batches.make_batch", noted)
    monkeypatch.setattr("samfast.train.batches.AHEAD", 1)
    monkeypatch.setattr(each, "_pieces", counted)
    for update in epoch_updates(dataset, samples, cache.read, config, cache.spec, epoch=1):
        each.step(update, 0)
    assert len(alive) == len(samples)
    assert max(alive) <= 3


def test_what_is_left_of_an_update_is_passed_over(dataset, cache, samples) -> None:
    config = CONFIG.replace(batch_size=1, accumulate=3)
    updates = epoch_updates(dataset, samples, cache.read, config, cache.spec, epoch=1)
    taken = [next(update).tokens.coords for update in updates]
    wanted = [epoch_order(samples, seed=0, epoch=1)[index] for index in (0, 3)]
    for found, sample in zip(taken, wanted, strict=True):
        batch = make_batch(dataset, [sample], cache.read, config, cache.spec, epoch=1)
        assert np.array_equal(found, batch.tokens.coords)


def test_left_alignment_changes_no_loss(dataset, cache, samples, trainer) -> None:
    batch = make_batch(dataset, samples, cache.read, CONFIG, cache.spec, epoch=1)
    assert batch.tokens.labels.shape[1] == 2  # a point and SAM's pad token, or a box
    assert (batch.tokens.labels != PADDING).all()
    wide = replace(
        batch.tokens,
        coords=np.concatenate([np.full_like(batch.tokens.coords[:, :1], 7), batch.tokens.coords], 1),
        labels=np.concatenate([np.full_like(batch.tokens.labels[:, :1], PADDING), batch.tokens.labels], 1),
    )
    again = left_aligned(wide)
    assert np.array_equal(again.coords, batch.tokens.coords)
    assert np.array_equal(again.labels, batch.tokens.labels)
    assert trainer.losses(replace(batch, tokens=wide)) == pytest.approx(trainer.losses(batch), rel=1e-5)


def test_ragged_tokens_keep_what_is_there() -> None:
    labels = np.array([[PADDING, 2, 3], [1, -1, PADDING], [1, PADDING, -1]])
    coords = np.arange(18, dtype=np.float32).reshape(3, 3, 2)
    tokens = left_aligned(Tokens(np.zeros(3, int), coords, labels, np.zeros((3, 1, 4, 4)), np.zeros(3)))
    assert tokens.labels.tolist() == [[2, 3], [1, -1], [1, -1]]
    assert tokens.coords[2].tolist() == [[12, 13], [16, 17]]


def test_a_step_is_the_same_in_chunks_of_any_size(dataset, cache, samples) -> None:
    batch = make_batch(dataset, samples, cache.read, CONFIG, cache.spec, epoch=1)
    after: list[dict[str, torch.Tensor]] = []
    for chunk in (999, 5):
        sam = cache.decoder()
        trainer = Trainer(sam, CONFIG, steps_per_epoch=2, device=torch.device("cpu"))
        trainer.chunk = chunk
        trainer.step(batch, 0)
        after.append({name: p.grad.clone() for name, p in sam.named_parameters() if p.grad is not None})
    for name, gradient in after[0].items():
        scale = gradient.abs().max().clamp(min=1e-4)
        assert float((gradient - after[1][name]).abs().max() / scale) < 1e-3, name


def test_only_what_was_asked_for_moves(dataset, cache, samples) -> None:
    batch = make_batch(dataset, samples, cache.read, CONFIG, cache.spec, epoch=1)
    sam: Sam = cache.decoder()
    before = {name: tensor.clone() for name, tensor in sam.state_dict().items()}
    config = CONFIG.replace(trainable=("mask_decoder",))
    trainer = Trainer(sam, config, steps_per_epoch=2, device=torch.device("cpu"))
    for step in range(2):
        trainer.step(batch, step)
    moved = {name for name, tensor in sam.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("mask_decoder.") for name in moved)
    everything = Trainer(sam, CONFIG, steps_per_epoch=2, device=torch.device("cpu"))
    everything.step(batch, 0)
    moved = {name for name, tensor in sam.state_dict().items() if not torch.equal(tensor, before[name])}
    assert any(name.startswith("prompt_encoder.") for name in moved)
    assert not any("gaussian" in name for name in moved)  # the position code is a buffer, and stays


def test_a_loss_that_is_not_finite_stops_before_the_update(dataset, cache, samples, trainer) -> None:
    batch = make_batch(dataset, samples, cache.read, CONFIG, cache.spec, epoch=1)
    before = {name: tensor.clone() for name, tensor in trainer.sam.state_dict().items()}
    broken = replace(batch, features={name: np.full_like(v, np.nan) for name, v in batch.features.items()})
    with pytest.raises(RunError, match="nan"):
        trainer.step(broken, 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.sam.state_dict().items())


def test_ignored_pixels_take_part_in_nothing(dataset, cache, samples, trainer) -> None:
    """Whatever the masks say under the ignored region, the batch is the same."""

    class Relabelled:
        def __init__(self, under: bool | None, *, is_ignored: bool = True) -> None:
            self.under, self.is_ignored = under, is_ignored

        def target(self, sample):
            target = dataset.target(sample)
            masks, ignore = target.masks.numpy(), np.zeros((1, *sample.size), bool)
            ignore[:, :, : sample.size[1] // 4] = self.is_ignored
            if self.under is not None:
                masks[:, :, : sample.size[1] // 4] = self.under
            return replace(target, masks=Masks.from_numpy(masks), ignore=Masks.from_numpy(ignore))

    def batch(data) -> Batch:
        return make_batch(data, samples, cache.read, CONFIG, cache.spec, epoch=1)

    reference = batch(Relabelled(None))
    for under in (False, True):
        other = batch(Relabelled(under))
        assert np.array_equal(other.tokens.coords, reference.tokens.coords)
        assert np.array_equal(other.target, reference.target)
        assert np.array_equal(trainer.losses(other), trainer.losses(reference))
    seen = batch(Relabelled(True, is_ignored=False))
    assert not np.array_equal(seen.target, reference.target)

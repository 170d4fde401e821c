"""An update in pieces: chunks, accumulated batches, and what happens when memory runs out between them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn

from samfast.data.types import Sample
from samfast.errors import ConfigError, RunError
from samfast.train import TrainConfig, train_decoder
from samfast.train.balance import Balance
from samfast.train.batches import Batch, make_batch
from samfast.train.engine import Trainer
from samfast.train.gradients import Gradients

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def samples(dataset) -> list[Sample]:
    return list(dataset.of("train", state="labelled"))


def trainer(cache, **settings) -> Trainer:
    config = TrainConfig.make("flood-study", max_prompts=3, **settings)
    return Trainer(copy.deepcopy(cache.decoder()), config, steps_per_epoch=2, device=CPU)


def gradients(each: Trainer) -> dict[str, Tensor]:
    return {name: p.grad for name, p in each.sam.named_parameters() if p.grad is not None}


def deviation(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """The largest deviation of a gradient, relative to its largest entry."""
    assert set(found) == set(wanted)
    return max(
        float((found[name] - value).abs().max() / value.abs().max().clamp(min=1e-4)) for name, value in wanted.items()
    )


def test_a_piece_counts_whole_or_not_at_all() -> None:
    used, idle = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    sums = Gradients([used, idle])
    with sums.piece():
        (3 * used).sum().backward()
        (4 * used).sum().backward()
    with suppress(KeyError), sums.piece():
        (100 * used).sum().backward()
        raise KeyError
    with sums.piece():
        (5 * used).sum().backward()
    sums.put(divisor=2)
    assert used.grad is not None
    assert used.grad.tolist() == [6, 6]
    assert idle.grad is None
    sums.clear()
    assert used.grad is None


@pytest.mark.parametrize("balance", ["none", "image"])
def test_accumulated_batches_equal_the_joined_one(dataset, cache, samples, balance) -> None:
    joined = trainer(cache, balance=balance, regime="box")

    def part(group: list[Sample]) -> Batch:
        return make_batch(dataset, group, cache.read, joined.config, cache.spec, epoch=1, balance=Balance(balance))

    parts = [part(samples[:1]), part(samples[1:3]), part(samples[3:])]
    assert len({len(each) / len(each.weight) for each in parts}) > 1, "of different numbers of objects an image"
    wanted = joined.step(part(samples), 0)
    accumulated = trainer(cache, balance=balance, regime="box")
    found = accumulated.step(parts, 0)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert deviation(gradients(accumulated), gradients(joined)) < 1e-3

    apart = [trainer(cache, balance=balance, regime="box") for _ in parts]
    for each, one in zip(apart, parts, strict=True):
        each.step(one, 0)
    means = {name: torch.stack([gradients(each)[name] for each in apart]).mean(0) for name in gradients(joined)}
    assert deviation(means, gradients(joined)) > 0.01, "a mean of means is another gradient"


def test_a_run_that_accumulates_is_that_of_larger_batches(dataset, cache, tmp_path) -> None:
    settings = {"epochs": 2, "max_prompts": 2, "lr": 1e-3, "regime": "box", "device": "cpu", "optimizer": "adamw"}
    joined = train_decoder(dataset, cache=cache, out=tmp_path / "a", batch_size=4, **settings)
    parts = train_decoder(dataset, cache=cache, out=tmp_path / "b", batch_size=2, accumulate=2, **settings)
    other = train_decoder(dataset, cache=cache, out=tmp_path / "c", batch_size=2, **settings)
    losses = [[line["loss"] for line in run.metrics[1:]] for run in (joined, parts, other)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] != pytest.approx(losses[0], rel=1e-3)


def without_memory(each: Trainer, *, beyond: int, after: int = 0) -> Callable[..., Iterator[dict[str, Tensor]]]:
    """Rounds of a device that runs out of memory beyond so many prompts, once it took ``after`` of their rounds."""
    rounds = each._rounds

    def limited(batch: Batch, part: slice, *rest):
        for number, found in enumerate(rounds(batch, part, *rest)):
            if number >= after and part.stop - part.start > beyond:
                raise torch.OutOfMemoryError("CUDA out of memory")
            yield found

    return limited


@pytest.mark.parametrize(("regime", "after"), [("box", 0), ("clicks:2", 1)])
def test_a_step_without_memory_is_taken_in_smaller_chunks(
    dataset, cache, samples, monkeypatch, capsys, regime, after
) -> None:
    plain, limited = trainer(cache, regime=regime), trainer(cache, regime=regime)
    batch = make_batch(dataset, samples, cache.read, plain.config, cache.spec, epoch=1)
    assert len(batch) > 6
    wanted = plain.step(batch, 0)
    monkeypatch.setattr(limited, "_rounds", without_memory(limited, beyond=2, after=after))
    found = limited.step(batch, 0)
    assert limited.chunk <= 2
    assert "out of memory" in capsys.readouterr().err
    assert found == pytest.approx(wanted, rel=1e-4)
    assert deviation(gradients(limited), gradients(plain)) < 1e-2
    limited.step(batch, 1)
    assert "out of memory" not in capsys.readouterr().err, "the chunk stays what fits"


def test_no_memory_for_one_prompt_is_an_error(dataset, cache, samples, monkeypatch) -> None:
    each = trainer(cache, regime="box")
    batch = make_batch(dataset, samples, cache.read, each.config, cache.spec, epoch=1)
    before = copy.deepcopy(each.sam.state_dict())
    monkeypatch.setattr(each, "_rounds", without_memory(each, beyond=0))
    with pytest.raises(RunError, match="single prompt"):
        each.step(batch, 0)
    assert all(torch.equal(value, before[name]) for name, value in each.sam.state_dict().items())


def test_accumulate_is_one_batch_at_least() -> None:
    with pytest.raises(ConfigError, match="accumulate"):
        TrainConfig.make(accumulate=0)

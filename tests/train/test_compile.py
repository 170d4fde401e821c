"""A compiled decoder takes the same steps, and one that cannot be compiled stops nothing."""

from __future__ import annotations

import copy

import pytest
import torch

from samfast.train.batches import make_batch
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer


class CompileError(RuntimeError):
    """As torch raises them."""

    __module__ = "torch._dynamo.exc"


def stepped(dataset, cache, *, compile: bool) -> tuple[dict[str, float] | None, dict[str, torch.Tensor]]:
    """A step of a point and of a box regime, and the weights after them."""
    settings = {"batch_size": 3, "max_prompts": 2, "device": "cpu", "lr": 1e-3, "compile": compile}
    config = TrainConfig.make("flood-study", regime="point+box", **settings)
    trainer = Trainer(copy.deepcopy(cache.decoder()), config, steps_per_epoch=2, device=torch.device("cpu"))
    samples = list(dataset.of("train", state="labelled"))
    for step, part in enumerate((samples, samples[:2])):
        batch = make_batch(dataset, part, cache.read, config, cache.spec, epoch=step)
        means = trainer.step(batch, step)
    return means, trainer.sam.state_dict()


def test_what_cannot_be_compiled_runs_as_it_is(dataset, cache, monkeypatch, capsys) -> None:
    expected, weights = stepped(dataset, cache, compile=False)

    def refuse(function, **_):
        def refused(**given):
            raise CompileError("no compiler\nand more")

        return refused

    monkeypatch.setattr(torch, "compile", refuse)
    found, as_well = stepped(dataset, cache, compile=True)
    assert found == expected
    assert all(torch.equal(value, weights[name]) for name, value in as_well.items())
    assert capsys.readouterr().err.count("cannot be compiled: no compiler; the run goes on without") == 1


def test_other_errors_are_not_swallowed(dataset, cache, monkeypatch) -> None:
    def fail(**_):
        raise RuntimeError("of its own")

    monkeypatch.setattr(torch, "compile", lambda function, **_: fail)
    with pytest.raises(RuntimeError, match="of its own"):
        stepped(dataset, cache, compile=True)


@pytest.mark.slow
def test_the_compiled_decoder_takes_the_same_steps(dataset, cache, capsys) -> None:
    expected, weights = stepped(dataset, cache, compile=False)
    found, as_well = stepped(dataset, cache, compile=True)
    assert "cannot be compiled" not in capsys.readouterr().err
    assert found == pytest.approx(expected, rel=1e-4)
    start = cache.decoder().state_dict()
    apart, moved = (
        sum(float((one[name] - other[name]).square().sum()) for name in start) ** 0.5
        for one, other in ((as_well, weights), (weights, start))
    )
    assert 0 < apart < 0.05 * moved  # Adam makes a step of the smallest gradient, and so of its rounding

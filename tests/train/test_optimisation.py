"""What a step does with the gradients, and which weights a run keeps."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from samfast.data import Dataset
from samfast.data.types import Sample
from samfast.errors import ConfigError, RunError
from samfast.train import Run, TrainConfig, train_decoder
from samfast.train.batches import Batch, make_batch
from samfast.train.config import PARTS, TRAINABLE
from samfast.train.engine import Trainer

CPU = torch.device("cpu")
QUICK = {"batch_size": 3, "max_prompts": 2, "prompts_per_object": 1, "device": "cpu", "lr": 1e-3}


@pytest.fixture
def samples(dataset: Dataset) -> list[Sample]:
    return list(dataset.of("train", state="labelled"))


def trainer(cache, **settings) -> Trainer:
    config = TrainConfig.make("flood-study", **{**QUICK, **settings})
    return Trainer(copy.deepcopy(cache.decoder()), config, steps_per_epoch=2, device=CPU)


def batch(dataset, cache, samples, each: Trainer, epoch: int = 1) -> Batch:
    return make_batch(dataset, samples, cache.read, each.config, cache.spec, epoch=epoch)


def test_gradients_are_cut_down_to_the_norm(dataset, cache, samples) -> None:
    norms = []
    for clip in (0.0, 0.05):
        each = trainer(cache, clip_norm=clip)
        each.step(batch(dataset, cache, samples, each), 0)
        gradients = [p.grad for p in each.sam.parameters() if p.grad is not None]
        norms.append(float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))))
    assert norms[0] > 0.1
    assert norms[1] == pytest.approx(0.05, rel=1e-4)


def test_the_average_of_the_weights(dataset, cache, samples) -> None:
    """By its decay, and by less of it while there are few steps to average over."""
    each = trainer(cache, ema=0.2)
    name = "mask_decoder.mask_tokens.weight"
    moving = dict(each.sam.named_parameters())[name]
    wanted = moving.detach().clone()
    for step, decay in enumerate([1 / 10, 2 / 11, 0.2, 0.2]):
        each.step(batch(dataset, cache, samples, each, epoch=step + 1), step)
        wanted = decay * wanted + (1 - decay) * moving.detach()
    raw = moving.detach().clone()
    with each.averaged():
        torch.testing.assert_close(moving.detach(), wanted)
        assert not torch.allclose(moving, raw, rtol=1e-6)
    assert torch.equal(moving, raw)


@pytest.mark.parametrize("part", [*TRAINABLE, *PARTS])
def test_what_is_named_moves_and_nothing_else(part, dataset, cache, samples) -> None:
    each = trainer(cache, trainable=(part,), regime="point+box+mask", prompts_per_object=4)
    before = {name: value.detach().clone() for name, value in each.sam.named_parameters()}
    each.step(batch(dataset, cache, samples, each), 0)
    moved = {name for name, value in each.sam.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(f"{part}.") for name in moved)


def test_a_loss_that_is_not_finite_stops_or_is_skipped(dataset, cache, samples) -> None:
    for on_nan in ("stop", "skip"):
        each = trainer(cache, on_nan=on_nan)
        broken = batch(dataset, cache, samples, each)
        broken.target[0] = np.nan
        before = copy.deepcopy(each.sam.state_dict())
        if on_nan == "stop":
            with pytest.raises(RunError, match="step 1"):
                each.step(broken, 0)
        else:
            assert each.step(broken, 0) is None
        assert all(torch.equal(value, before[name]) for name, value in each.sam.state_dict().items())


@pytest.mark.parametrize(("on_nan", "clip_norm"), [("stop", 1.0), ("skip", 1.0), ("skip", 0.0)])
def test_a_gradient_that_is_not_finite_stops_or_is_skipped(dataset, cache, samples, on_nan, clip_norm) -> None:
    """Of a loss that is; cut down to a norm, it would make all weights NaN."""
    each = trainer(cache, on_nan=on_nan, clip_norm=clip_norm)
    one = batch(dataset, cache, samples[:1], each)
    before = copy.deepcopy(each.sam.state_dict())
    token = dict(each.sam.named_parameters())["mask_decoder.mask_tokens.weight"]
    hook = token.register_hook(lambda gradient: gradient * torch.nan)
    if on_nan == "stop":
        with pytest.raises(RunError, match=r"norm of the gradient became nan at step 1[\s\S]*lr"):
            each.step(one, 0)
    else:
        assert each.step(one, 0) is None
    assert all(torch.equal(value, before[name]) for name, value in each.sam.state_dict().items())
    hook.remove()
    assert each.step(one, 0) is not None


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_an_update_that_ruins_the_decoder_is_found_by_the_judgement(dataset, cache, tmp_path, on_nan) -> None:
    """The weights are large, and finite; no further update of the epoch would meet a loss that is not."""
    settings = {**QUICK, "lr": 1e6, "batch_size": 6, "epochs": 2, "on_nan": on_nan}
    with pytest.raises(RunError, match=r"epoch 1: the decoder answers with logits that are not finite[\s\S]*lr"):
        train_decoder(dataset, cache=cache, out=tmp_path / "run", **settings)
    assert [line["epoch"] for line in Run(tmp_path / "run").metrics] == [0]


def test_what_plays_no_part_is_told_and_an_error_if_it_is_all(dataset, cache, tmp_path, capsys) -> None:
    idle, settings = "prompt_encoder.mask_downscaling", {**QUICK, "epochs": 1, "batch_size": 6, "regime": "box"}
    with pytest.raises(RunError, match=rf"no gradient reaches {idle} by regime='box'[\s\S]*trainable"):
        train_decoder(dataset, cache=cache, out=tmp_path / "none", trainable=(idle,), **settings)
    assert [line["epoch"] for line in Run(tmp_path / "none").metrics] == [0]
    without_iou = {"loss": {"name": "bce+dice", "iou": 0.0}, "trainable": ["mask_decoder.iou_prediction_head"]}
    with pytest.raises(RunError, match=r"no gradient reaches mask_decoder\.iou_prediction_head"):
        train_decoder(dataset, cache=cache, out=tmp_path / "zero", **settings, **without_iou)
    capsys.readouterr()
    assert train_decoder(dataset, cache=cache, out=tmp_path / "run", trainable=("mask_decoder", idle), **settings)
    assert f"no gradient reaches {idle} by regime='box': it stays as it was" in capsys.readouterr().err
    train_decoder(dataset, cache=cache, out=tmp_path / "all", **settings)
    assert "no gradient reaches" not in capsys.readouterr().err


def test_skipped_steps_are_counted_and_an_epoch_of_them_ends_the_run(dataset, cache, tmp_path, monkeypatch) -> None:
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, batch, number: None if number == 1 else step(self, batch, number))
    run = train_decoder(dataset, cache=cache, out=tmp_path / "a", epochs=2, on_nan="skip", **QUICK)
    assert [line.get("skipped_steps") for line in run.metrics] == [None, 1.0, None]
    monkeypatch.setattr(Trainer, "step", lambda self, batch, number: None)
    with pytest.raises(RunError, match="no step had a finite loss"):
        train_decoder(dataset, cache=cache, out=tmp_path / "b", epochs=2, on_nan="skip", **QUICK)
    assert [line["epoch"] for line in Run(tmp_path / "b").metrics] == [0]


def test_a_run_that_gets_no_better_ends(dataset, cache, tmp_path, capsys) -> None:
    settings = {**QUICK, "lr": 1e-12, "epochs": 9, "patience": 2}
    run = train_decoder(dataset, cache=cache, out=tmp_path / "run", **settings)
    assert run.is_finished
    best = int(np.argmax([line["val_iou"] for line in run.metrics]))
    assert len(run.metrics) - 1 == best + 2 < 9
    assert "the run ends after epoch" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings", [{"ema": 1.0}, {"patience": -1}, {"clip_norm": -1.0}, {"on_nan": "pray"}, {"balance": "luck"},
                 {"trainable": ("mask_decoder.nothing",)}, {"trainable": ("image_encoder.neck",)},
                 {"trainable": ("mask_decoder", "mask_decoder")}, {"trainable": 5}, {"trainable": [["mask_decoder"]]},
                 {"trainable": ("mask_decoder.transformer", "mask_decoder")}]
)  # fmt: skip
def test_what_cannot_be(settings) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        TrainConfig.make(**settings)


def test_one_part_needs_no_list() -> None:
    assert TrainConfig.make(trainable="mask_decoder").trainable == ("mask_decoder",)

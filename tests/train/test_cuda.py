"""A training step on a GPU against the same on a CPU."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from samfast.cache import EmbeddingCache
from samfast.data import Dataset
from samfast.models.sam import Sam
from samfast.train import train_decoder
from samfast.train.batches import make_batch
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer
from samfast.train.losses import prompt_losses
from samfast.train.objective import OBJECTIVES

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device")


def steps(
    dataset: Dataset,
    cache: EmbeddingCache,
    sam: Sam,
    *,
    device: str,
    regime: str,
    precision: str = "fp32",
    **settings: str,
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses of three steps on the same images, and the weights after them."""
    config = TrainConfig.make("flood-study", regime=regime, max_prompts=3, device=device, **settings)
    decoder = copy.deepcopy(sam)
    trainer = Trainer(decoder, config, steps_per_epoch=3, device=torch.device(device), precision=precision)
    samples = list(dataset.of("train", state="labelled"))
    losses = []
    for step in range(3):
        batch = make_batch(dataset, samples, cache.read, config, sam.spec, epoch=step + 1)
        losses.append(trainer.step(batch, step)["loss"])
    return losses, {name: value.cpu() for name, value in decoder.state_dict().items()}


@pytest.mark.parametrize(("regime", "frame"), [("point", "low-res"), ("box", "model"), ("point+box", "model")])
def test_float32_steps_equal_the_cpus(dataset, cache, regime, frame) -> None:
    sam = cache.decoder()
    on_cpu, weights = steps(dataset, cache, sam, device="cpu", regime=regime, loss_frame=frame)
    on_gpu, found = steps(dataset, cache, sam, device="cuda", regime=regime, loss_frame=frame)
    assert np.allclose(on_gpu, on_cpu, rtol=1e-3)
    assert not np.allclose(on_gpu[0], on_cpu[1], rtol=1e-3)
    before = sam.state_dict()
    for name, wanted in weights.items():
        moved = (wanted - before[name]).abs().max()
        assert (found[name] - wanted).abs().mean() <= 0.05 * moved + 1e-7, name


def test_clicks_run_and_their_first_loss_is_near_the_cpus(dataset, cache) -> None:
    """A click that moves by a cell leads elsewhere: the losses are near, and not the same."""
    sam = cache.decoder()
    on_cpu, _ = steps(dataset, cache, sam, device="cpu", regime="clicks:3")
    on_gpu, _ = steps(dataset, cache, sam, device="cuda", regime="clicks:3")
    assert np.allclose(on_gpu, on_cpu, rtol=0.1)


@pytest.mark.parametrize("side", [64, 256])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_and_gradients_are_those_of_the_cpus_kernel(name, side) -> None:
    draw = torch.Generator().manual_seed(0)
    logits, scores = 3 * torch.randn(5, 4, 64, 64, generator=draw), torch.rand(5, 4, generator=draw)
    target, weight = torch.rand(2, 5, side, side, generator=draw)
    found = {}
    for device in ("cpu", "cuda"):
        given = [values.to(device) for values in (logits, scores, target, weight, torch.arange(5) % 2 > 0)]
        given[0].requires_grad_()
        losses = prompt_losses(OBJECTIVES[name], *given)
        losses.total.sum().backward()
        found[device] = losses.total.detach().cpu(), given[0].grad.cpu()
    for on_gpu, on_cpu in zip(found["cuda"], found["cpu"], strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-6)


def test_bfloat16_steps_stay_close(dataset, cache) -> None:
    sam = cache.decoder()
    exact, _ = steps(dataset, cache, sam, device="cuda", regime="point+box")
    rough, weights = steps(dataset, cache, sam, device="cuda", regime="point+box", precision="bf16")
    assert np.allclose(rough, exact, rtol=0.05)
    assert rough != exact
    assert all(value.isfinite().all() for value in weights.values())


def test_embeddings_are_read_into_memory_that_the_gpu_copies_from(cache) -> None:
    plain, pinned = (cache.read(cache.keys, pinned=on)["image_embeddings"] for on in (False, True))
    np.testing.assert_array_equal(pinned, plain)
    assert torch.from_numpy(pinned).is_pinned()
    assert not torch.from_numpy(plain).is_pinned()
    moved = torch.from_numpy(pinned).to("cuda", non_blocking=True)
    np.testing.assert_array_equal(moved.cpu(), plain)


def test_a_step_without_memory_is_taken_in_smaller_chunks(dataset, cache, monkeypatch) -> None:
    """The error is the allocator's own: a chunk of more than three prompts asks for more than any GPU has."""
    sam = cache.decoder()
    wanted, _ = steps(dataset, cache, sam, device="cuda", regime="box")
    rounds = Trainer._rounds

    def greedy(self, batch, part, *rest):
        for found in rounds(self, batch, part, *rest):
            if part.stop - part.start > 3:
                torch.empty(2**50, dtype=torch.uint8, device="cuda")
            yield found

    monkeypatch.setattr(Trainer, "_rounds", greedy)
    found, _ = steps(dataset, cache, sam, device="cuda", regime="box")
    assert np.allclose(found, wanted, rtol=1e-4)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_two_gpus_take_the_steps_of_one(dataset, cache, tmp_path) -> None:
    settings = {"epochs": 2, "batch_size": 4, "max_prompts": 3, "regime": "box", "device": "cuda", "precision": "fp32"}
    one = train_decoder(dataset, cache=cache, out=tmp_path / "one", **settings)
    two = train_decoder(dataset, cache=cache, out=tmp_path / "two", devices=2, **settings)
    assert [line["loss"] for line in two.metrics[1:]] == pytest.approx([line["loss"] for line in one.metrics[1:]], 1e-3)

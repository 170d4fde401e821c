"""The loss in the model frame against segment_anything's upscaling and losses written with boolean indexing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam as StockSam
from torch import Tensor
from torch.nn import functional as F

from samfast.errors import ConfigError
from samfast.frames import PreprocessSpec
from samfast.masks import Masks
from samfast.train import loss_frame
from samfast.train.batches import make_batch
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer
from samfast.train.loss_frame import to_low_res
from samfast.train.losses import Losses, prompt_losses
from samfast.train.objective import OBJECTIVES, Objective
from samfast.train.targets import soft_targets, target_spec

SPEC = PreprocessSpec(64, 4, 16, (0, 0, 0), (1, 1, 1))
FINE = target_spec(SPEC, "model")
P = 5
OBJECTIVE = OBJECTIVES["bce+dice"]
Case = dict[str, Tensor]


def in_frame(objective, *, logits, predicted_iou, target, weight, is_one_point):
    return prompt_losses(objective, logits, predicted_iou, target, weight, is_one_point)


def drawn(size: tuple[int, int], *, is_ignored: bool) -> tuple[Case, Tensor, Tensor]:
    """Arguments of the loss for an image that is not scaled, its masks, and what counts of it."""
    draw = np.random.default_rng(2)
    masks, ignore = draw.random((P, *size)) < 0.4, np.zeros((1, *size), bool)
    if is_ignored:
        ignore[0, 5:25, 3:20] = True
    frame = FINE.frame(*size)
    assert frame.resized == size
    target, weight = soft_targets(Masks.from_numpy(masks & ~ignore), Masks.from_numpy(ignore), frame)
    case = {
        "logits": torch.from_numpy(draw.normal(0, 3, (P, 4, 16, 16)).astype(np.float32)),
        "predicted_iou": torch.from_numpy(draw.random((P, 4)).astype(np.float32)),
        "target": torch.from_numpy(target),
        "weight": torch.from_numpy(np.stack([weight] * P)),
        "is_one_point": torch.zeros(P, dtype=torch.bool),
    }
    return case, torch.from_numpy(masks), torch.from_numpy(~ignore[0])


def by_hand(logits: Tensor, scores: Tensor, masks: Tensor, counts: Tensor) -> Tensor:
    """``(P,)`` losses of token 0: the pixels that count picked out, of logits as ``SamPredictor`` shows them."""
    size = tuple(counts.shape)
    stock = StockSam.__new__(StockSam)
    torch.nn.Module.__init__(stock)
    stock.image_encoder = torch.nn.Module()
    stock.image_encoder.img_size = SPEC.size
    shown = stock.postprocess_masks(logits, size, size)[:, 0]  # bilinear to the model frame, padding cropped
    found = []
    for x, y, score in zip(shown, masks.float(), scores[:, 0], strict=True):
        x, y = x[counts], y[counts]  # noqa: PLW2901
        probability = x.sigmoid()
        dice = 1 - (2 * (probability * y).sum() + 1) / (probability.sum() + y.sum() + 1)
        both, either = ((x > 0) & (y > 0)).sum(), ((x > 0) | (y > 0)).sum()
        found.append(F.binary_cross_entropy_with_logits(x, y) + dice + (score - both / either) ** 2)
    return torch.stack(found)


@pytest.mark.parametrize("is_ignored", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (64, 41), (39, 64)])
def test_it_is_the_loss_of_upscaled_logits_where_the_image_is(size, is_ignored) -> None:
    case, masks, counts = drawn(size, is_ignored=is_ignored)
    logits, copy = (case["logits"].clone().requires_grad_() for _ in range(2))
    losses = in_frame(OBJECTIVE, **{**case, "logits": logits})
    expected = by_hand(copy, case["predicted_iou"], masks, counts)
    torch.testing.assert_close(losses.total, expected, rtol=1e-5, atol=1e-5)
    losses.total.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(logits.grad, copy.grad, rtol=1e-4, atol=1e-6)
    assert set(losses.parts) == {"bce", "dice", "iou"}

    everything = in_frame(OBJECTIVE, **{**case, "weight": torch.ones(P, 64, 64)})
    is_everything = bool(counts.all()) and size == (64, 64)
    assert torch.allclose(everything.total, expected, atol=1e-3) == is_everything


def test_one_point_teaches_all_tokens_in_either_frame() -> None:
    case, *_ = drawn((64, 64), is_ignored=False)
    case["is_one_point"][::2] = True
    case["logits"].requires_grad_()
    in_frame(OBJECTIVE, **case).total.sum().backward()
    taught = case["logits"].grad.abs().amax((2, 3)) > 0
    assert taught[:, 0].all()
    assert taught[:, 1:].sum(1).tolist() == [1, 0, 1, 0, 1]


def held_bytes(objective: Objective, case: Case) -> tuple[int, Losses]:
    """What is held for the gradient, each storage once."""
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    case["logits"].requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = in_frame(objective, **case)
        given = {values.untyped_storage().data_ptr() for values in case.values()}
    return sum(size for place, size in held.items() if place not in given), losses


def test_nothing_of_the_frame_is_held_for_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    case, *_ = drawn((64, 64), is_ignored=False)
    doubles = {name: values.double() if values.is_floating_point() else values for name, values in case.items()}
    one_map = P * 64 * 64 * 4
    held, by_kernel = held_bytes(OBJECTIVE, case)
    assert held < one_map
    held, whole = held_bytes(OBJECTIVE, doubles)
    assert held < one_map
    torch.testing.assert_close(by_kernel.total.double(), whole.total, rtol=1e-6, atol=1e-6)
    monkeypatch.setattr(loss_frame, "CHUNK_PIXELS_ELSEWHERE", 64 * 64)
    _, singly = held_bytes(OBJECTIVE, doubles)
    torch.testing.assert_close(singly.total, whole.total)
    monkeypatch.setattr(loss_frame, "checkpoint", lambda run, *given, **_: run(*given))
    assert held_bytes(OBJECTIVE, doubles)[0] > 3 * one_map  # the control: without making it again, it is held


@pytest.mark.parametrize("size", [(40, 64), (64, 27), (100, 73), (31, 31)])
@pytest.mark.parametrize("is_ignored", [False, True])
def test_cells_average_the_model_frame(size, is_ignored) -> None:
    draw = np.random.default_rng(1)
    ignore = np.zeros((1, *size), bool)
    if is_ignored:
        ignore[0, 5:25, 3:20] = draw.random((20, 17)) < 0.8
    masks = Masks.from_numpy((draw.random((3, *size)) < 0.4) & ~ignore)
    expected = soft_targets(masks, Masks.from_numpy(ignore), SPEC.frame(*size))
    target, weight = map(torch.from_numpy, soft_targets(masks, Masks.from_numpy(ignore), FINE.frame(*size)))
    found, counted = to_low_res(target, weight.expand(3, -1, -1), SPEC.low_res)
    for each in counted:
        np.testing.assert_allclose(each, expected[1], atol=1e-5)
    counts = expected[1] > 1e-4
    np.testing.assert_allclose(found.numpy()[:, counts], expected[0][:, counts], atol=1e-3)
    assert to_low_res(found, counted, SPEC.low_res)[0] is found


@pytest.mark.parametrize("regime", ["point+box", "clicks:3"])
def test_a_step_takes_its_loss_where_it_is_told(dataset, cache, regime) -> None:
    samples = list(dataset.of("train", state="labelled"))
    losses, clicked = {}, {}
    for frame in ("low-res", "model"):
        config = TrainConfig.make(regime=regime, max_prompts=2, device="cpu", loss_frame=frame)
        batch = make_batch(dataset, samples, cache.read, config, cache.spec, epoch=1)
        assert batch.target.shape[-1] == batch.weight.shape[-1] == target_spec(cache.spec, frame).low_res
        trainer = Trainer(cache.decoder(), config, steps_per_epoch=1, device=torch.device("cpu"))
        losses[frame] = trainer.losses(batch)
        clicked[frame] = trainer.step(batch, 0)
        assert trainer.step(batch, 1)["loss"] < clicked[frame]["loss"]
    assert not np.allclose(losses["low-res"], losses["model"], rtol=1e-3)
    assert np.corrcoef(losses["low-res"], losses["model"])[0, 1] > 0.95  # the same clicks on the same objects


def test_what_is_no_frame() -> None:
    with pytest.raises(ConfigError, match="low-res, model"):
        TrainConfig.make(loss_frame="original")

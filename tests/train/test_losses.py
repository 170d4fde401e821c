"""Losses against numpy written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from samfast.errors import ConfigError
from samfast.train.cells import cell_sums
from samfast.train.losses import dice, iou, mean, prompt_losses
from samfast.train.objective import OBJECTIVES, Objective, to_objective

P, L = 5, 6


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("l2", "no loss"),
        ({"hinge": 1.0}, "no part 'hinge'"),
        ({"iou": 1.0}, "teaches masks"),
        ({"name": "bce+dice", "alpha": 2.0}, "alpha=2.0"),
        ({"bce": -1.0}, "bce=-1.0"),
        ({"bce": True}, "bce=True"),
        ({"bce": float("nan")}, "bce=nan"),
        (7, "7 is no loss"),
    ],
)
def test_what_is_no_loss(value, what) -> None:
    with pytest.raises(ConfigError, match=what):
        to_objective(value)


def test_weights_and_shape_are_those_of_the_objective(case) -> None:
    given = tensors(case)
    losses = prompt_losses(to_objective({"bce": 3.0, "focal": 2.0, "alpha": 0.6, "gamma": 1.0, "iou": 0.0}), **given)
    assert set(losses.parts) == {"bce", "focal"}
    boxes = ~given["is_one_point"]
    logits, target, weight = given["logits"][boxes, 0], given["target"][boxes], given["weight"][boxes]
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    torch.testing.assert_close(losses.parts["bce"][boxes], 3 * (entropy * weight).sum((1, 2)) / weight.sum((1, 2)))
    cells = sigmoid_focal_loss(logits, target, alpha=0.6, gamma=1.0)
    torch.testing.assert_close(losses.parts["focal"][boxes], 2 * (cells * weight).sum((1, 2)) / weight.sum((1, 2)))
    assert Objective(bce=1.0) == to_objective({"bce": 1.0})


@pytest.fixture
def case() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(3)
    weight = draw.random((P, L, L))
    weight[:, 4:] = 0  # off the image
    return {
        "logits": draw.normal(0, 3, (P, 4, L, L)),
        "predicted_iou": draw.random((P, 4)),
        "target": draw.random((P, L, L)),
        "weight": weight,
        "is_one_point": np.array([True, False, True, False, True]),
    }


def by_hand(logits: np.ndarray, target: np.ndarray, weight: np.ndarray) -> tuple[float, float, float]:
    """(bce, dice, iou) of one mask, cell by cell."""
    entropy = shared = mass = both = either = 0.0
    for x, t, w in zip(logits.ravel(), target.ravel(), weight.ravel(), strict=True):
        p = 1 / (1 + np.exp(-x))
        entropy -= w * (t * np.log(p) + (1 - t) * np.log(1 - p))
        shared += w * p * t
        mass += w * (p + t)
        both += w * ((x > 0) and (t >= 0.5))
        either += w * ((x > 0) or (t >= 0.5))
    return entropy / weight.sum(), 1 - (2 * shared + 1) / (mass + 1), both / either


def tensors(case: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in case.items()}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-6)])
def test_parts_match_numpy(case, dtype, tolerance) -> None:
    logits, target, weight = (torch.from_numpy(case[name].astype(dtype)) for name in ("logits", "target", "weight"))
    owner = torch.arange(P).repeat_interleave(4)
    sums = cell_sums(logits.flatten(0, 1), target, weight, owner, Objective(bce=1.0))
    found = [mean(sums.entropy, sums.counted), dice(sums.shown, sums.shared, sums.true), iou(sums.both, sums.either)]
    for index in range(4 * P):
        p, token = divmod(index, 4)
        expected = by_hand(case["logits"][p, token], case["target"][p], case["weight"][p])
        assert [float(values[index]) for values in found] == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
def test_focal_is_torchvisions(case, gamma, dtype) -> None:
    given = {name: values.to(dtype) for name, values in tensors(case).items() if name != "is_one_point"}
    objective = Objective(focal=1.0, alpha=0.3, gamma=gamma)
    found = prompt_losses(objective, **given, is_one_point=torch.zeros(P, dtype=torch.bool)).parts["focal"]
    cells = sigmoid_focal_loss(given["logits"][:, 0], given["target"], alpha=0.3, gamma=gamma)
    torch.testing.assert_close(found, (cells * given["weight"]).sum((1, 2)) / given["weight"].sum((1, 2)))


def test_parts_are_weighted(case) -> None:
    losses = prompt_losses(OBJECTIVES["focal+dice+iou"], **tensors(case))
    singly = prompt_losses(Objective(focal=1.0, dice=1.0), **tensors(case))
    assert set(losses.parts) == {"focal", "dice", "iou"}
    boxes = ~case["is_one_point"]  # a lone point also chooses its token by the weighted sum
    torch.testing.assert_close(losses.parts["focal"][boxes], 20 * singly.parts["focal"][boxes])
    torch.testing.assert_close(losses.parts["dice"][boxes], singly.parts["dice"][boxes])


def test_which_tokens_are_taught(case) -> None:
    losses = prompt_losses(OBJECTIVES["bce+dice"], **tensors(case))
    for p in range(P):
        each = np.array([by_hand(case["logits"][p, token], case["target"][p], case["weight"][p]) for token in range(4)])
        masks = each[:, 0] + each[:, 1]
        error = (case["predicted_iou"][p] - each[:, 2]) ** 2
        if case["is_one_point"][p]:
            expected = 0.5 * masks[0] + 0.5 * masks[1:].min() + error.mean()
        else:
            expected = masks[0] + error[0]
        assert float(losses.total[p]) == pytest.approx(expected, abs=1e-12)
    assert torch.stack(list(losses.parts.values())).sum(0).numpy() == pytest.approx(losses.total.numpy())


def test_gradients_reach_supervised_tokens_only(case) -> None:
    given = tensors(case)
    given["logits"].requires_grad_(True)
    given["predicted_iou"].requires_grad_(True)
    prompt_losses(OBJECTIVES["bce+dice"], **given).total.sum().backward()
    masks = given["logits"].grad.abs().sum((-2, -1)) > 0
    scores = given["predicted_iou"].grad.abs() > 0
    lone = given["is_one_point"]
    assert masks[~lone].tolist() == [[True, False, False, False]] * 2
    assert scores[~lone].tolist() == [[True, False, False, False]] * 2
    assert masks[lone, 0].all()
    assert (masks[lone, 1:].sum(1) == 1).all()
    assert scores[lone].all()


def test_cells_off_the_image_and_ignored_cells_count_for_nothing(case) -> None:
    before = prompt_losses(OBJECTIVES["bce+dice"], **tensors(case)).total
    case["logits"][:, :, 4:] = 50
    case["target"][:, 4:] = 0.25
    assert torch.equal(prompt_losses(OBJECTIVES["bce+dice"], **tensors(case)).total, before)
    case["weight"][:, 4:] = 0.1
    assert not torch.isclose(prompt_losses(OBJECTIVES["bce+dice"], **tensors(case)).total, before).any()


def test_nothing_to_judge_is_finite(case) -> None:
    case["weight"][0] = 0
    case["target"][1] = 0
    case["logits"][1] = -9
    losses = prompt_losses(OBJECTIVES["bce+dice"], **tensors(case))
    assert losses.total.isfinite().all()
    case["predicted_iou"][1] = 1
    assert prompt_losses(OBJECTIVES["bce+dice"], **tensors(case)).parts["iou"][1] == 0  # empty, and shown as empty


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_mask_smaller_than_any_cell_is_not_an_empty_one(dtype) -> None:
    target = torch.zeros(3, L, L, dtype=dtype)
    target[:2, 2, 3], target[:2, 2, 4] = 0.4, 0.1
    logits = torch.full((3, 4, L, L), -5.0, dtype=dtype)
    logits[0, :, 2, 3] = 5  # right; the second shows nothing, the third too, of nothing
    given = {"logits": logits, "target": target, "weight": torch.ones_like(target)}
    for scores, expected in ((1.0, [0, 1, 0]), (0.0, [1, 0, 1])):
        predicted = torch.full((3, 4), scores, dtype=dtype)
        losses = prompt_losses(OBJECTIVES["bce+dice"], **given, predicted_iou=predicted, is_one_point=torch.ones(3) > 0)
        assert losses.parts["iou"].tolist() == expected

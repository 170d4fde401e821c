"""Losses without prompts against torch's own of one class a pixel, and against those of prompts."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from samfast.train.class_losses import class_losses
from samfast.train.losses import prompt_losses
from samfast.train.objective import OBJECTIVES, Objective

P, L = 3, 6
EVERYTHING = Objective(bce=2.0, dice=3.0, focal=5.0, iou=7.0)


def drawn(classes: int) -> dict[str, torch.Tensor]:
    """One class or the background at every cell; a third of the cells do not count."""
    draw = torch.Generator().manual_seed(classes)
    labels = torch.randint(0, classes + 1, (P, L, L), generator=draw)
    weight = torch.rand(P, L, L, generator=draw)
    weight[:, 4:] = 0
    return {
        "logits": torch.randn(P, classes, L, L, generator=draw) * 3,
        "predicted_iou": torch.rand(P, classes, generator=draw),
        "target": F.one_hot(labels, classes + 1).movedim(-1, 1)[:, 1:].float(),
        "weight": weight,
    }


def mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (values * weight).sum((1, 2)) / weight.sum((1, 2))


def of_prompts(case: dict[str, torch.Tensor], index: int) -> dict[str, torch.Tensor]:
    """The losses of one class, were it the answer to a prompt."""
    one = {name: case[name][:, index] for name in ("target", "predicted_iou")}
    tokens = case["logits"][:, index, None].expand(-1, 4, -1, -1)
    scores = one.pop("predicted_iou")[:, None].expand(-1, 4)
    given = {"logits": tokens, "predicted_iou": scores, "weight": case["weight"], **one}
    return prompt_losses(EVERYTHING, **given, is_one_point=torch.zeros(P, dtype=torch.bool)).parts


def test_of_one_class_both_are_the_losses_of_a_prompt() -> None:
    case = drawn(1)
    case["target"] *= 0.7  # soft
    expected = of_prompts(case, 0)
    for multilabel in (False, True):
        found = class_losses(EVERYTHING, **case, multilabel=multilabel)
        for name, values in expected.items():
            torch.testing.assert_close(found.parts[name], values)
        torch.testing.assert_close(found.total, sum(expected.values()))


def test_one_class_a_pixel_is_torchs_cross_entropy_and_a_softmax() -> None:
    case = drawn(4)
    found = class_losses(EVERYTHING, **case, multilabel=False).parts
    logits = torch.cat([torch.zeros(P, 1, L, L), case["logits"]], 1)
    labels = torch.cat([1 - case["target"].sum(1, keepdim=True), case["target"]], 1).argmax(1)
    entropy = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(found["bce"], 2 * mean(entropy, case["weight"]))
    balance = torch.where(labels == 0, 0.75, 0.25)
    torch.testing.assert_close(
        found["focal"], 5 * mean(balance * (1 - (-entropy).exp()) ** 2 * entropy, case["weight"])
    )
    share = logits.softmax(1)[:, 1:] * case["weight"][:, None]
    both, all_ = (share * case["target"]).sum((2, 3)), share + case["target"] * case["weight"][:, None]
    torch.testing.assert_close(found["dice"], 3 * (1 - (2 * both + 1) / (all_.sum((2, 3)) + 1)).mean(1))
    best = F.one_hot(logits.argmax(1), 5).movedim(-1, 1)[:, 1:].bool()
    true, weight = case["target"].bool(), case["weight"][:, None]
    iou = ((best & true) * weight).sum((2, 3)) / ((best | true) * weight).sum((2, 3))
    torch.testing.assert_close(found["iou"], 7 * ((case["predicted_iou"] - iou) ** 2).mean(1))


def test_several_labels_are_the_mean_over_classes_and_another_loss() -> None:
    case = drawn(3)
    found = class_losses(EVERYTHING, **case, multilabel=True).parts
    each = [of_prompts(case, index) for index in range(3)]
    for name, values in found.items():
        torch.testing.assert_close(values, torch.stack([of_one[name] for of_one in each]).mean(0))
    single = class_losses(EVERYTHING, **case, multilabel=False).parts
    assert all((found[name] - single[name]).abs().min() > 1e-3 for name in found)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_teaches_the_classes_and_nothing_where_nothing_counts(name, multilabel) -> None:
    logits = torch.zeros(P, 3, L, L, requires_grad=True)
    case = drawn(3)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        losses = class_losses(OBJECTIVES[name], **{**case, "logits": logits}, multilabel=multilabel)
        losses.total.sum().backward()
        assert logits.grad[:, :, 4:].abs().max() == 0
        optimizer.step()
    found = torch.cat([torch.zeros(P, 1, L, L), logits.detach()], 1).argmax(1)[:, :4]
    wanted = torch.cat([1 - case["target"].sum(1, keepdim=True), case["target"]], 1).argmax(1)[:, :4]
    assert torch.equal(found, wanted)


def test_targets_of_several_classes_are_shared_out_where_a_pixel_has_one() -> None:
    case = drawn(2)
    case["target"] = torch.ones_like(case["target"])
    both = class_losses(Objective(bce=1.0), **case, multilabel=False)
    halves = class_losses(Objective(bce=1.0), **{**case, "target": case["target"] / 2}, multilabel=False)
    torch.testing.assert_close(both.parts["bce"], halves.parts["bce"])

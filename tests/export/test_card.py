"""What a model card says of its base model and of how long its training was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from samfast.export.card import model_card
from samfast.export.source import open_source
from samfast.train import Run


def front_matter(card: str) -> list[str]:
    return card.split("---\n")[1].splitlines()


@pytest.mark.parametrize(
    ("checkpoint", "says"),
    [
        (None, ["license: apache-2.0"]),
        ("sam_vit_b_01ec64.pth", ["license: apache-2.0", "base_model: facebook/sam-vit-base"]),
        ("sam_vit_h_4b8939.pth", ["license: apache-2.0", "base_model: facebook/sam-vit-huge"]),
        ("mine.pth", []),
    ],
)
def test_the_front_matter_names_an_official_base(run: Run, checkpoint: str | None, says: list[str]) -> None:
    source = open_source(run, None)
    assert source.run is not None
    card = model_card(replace(source, run={**source.run, "checkpoint": checkpoint}))
    assert front_matter(card)[3:] == says
    assert len(front_matter(model_card(open_source("tiny", None)))) == 3


def test_what_is_exported_holds_no_path(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.record["encoder"], "checkpoint", "/home/me/sam_vit_b_01ec64.pth")
    monkeypatch.setattr(Run, "sam", lambda *_, **__: None)
    source = open_source(run, None)
    assert source.run is not None
    assert source.run["checkpoint"] == "sam_vit_b_01ec64.pth"


def test_a_run_that_ended_early_says_when(run: Run) -> None:
    source = open_source(run, None)
    assert source.run is not None
    config = {**source.run["config"], "epochs": 9}
    card = model_card(replace(source, run={**source.run, "config": config}))
    assert "9 epochs planned, seed 0; ended after epoch 1; epoch" in card

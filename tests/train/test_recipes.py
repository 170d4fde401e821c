"""Recipes: what people reproduce by name."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from samfast.cli import cli
from samfast.models.architecture import MODEL_NAMES
from samfast.train.config import TrainConfig
from samfast.train.objective import Objective
from samfast.train.recipes import RECIPES
from samfast.train.regimes import get_regime
from samfast.train.schedules import Milestones, Plateau


def test_the_recipes() -> None:
    assert RECIPES == ("default", "finestsam", "flood-study", "lightning-sam", "medsam", "sam")
    shown = "".join(CliRunner().invoke(cli, ["train", "--help"]).output.split())
    assert all(recipe in shown for recipe in RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("model", MODEL_NAMES)
def test_every_recipe_is_a_config_of_every_model(recipe: str, model: str) -> None:
    config = TrainConfig.make(recipe, model=model)
    assert config.recipe == recipe
    assert get_regime(config.regime)


def test_what_they_reproduce() -> None:
    finest, lightning = TrainConfig.make("finestsam", model="vit_b"), TrainConfig.make("lightning-sam", model="vit_b")
    assert (finest.regime, finest.lr, finest.trainable) == ("center@32", 4e-5, ("mask_decoder",))
    assert finest.schedule == Plateau(gamma=0.05, patience=1)
    assert finest.loss == Objective(focal=20.0, dice=1.0, iou=1.0, alpha=0.8, gamma=2.0)
    assert lightning.schedule == Milestones(250, (60000, 86666), 0.1)
    assert get_regime(lightning.regime).kinds == ("box",)
    assert get_regime(lightning.regime).alternatives[0].name == "box~0%"  # exact, as its name says
    assert TrainConfig.make("medsam", model="vit_b").loss.iou == 0
    assert get_regime(TrainConfig.make("sam", model="vit_b").regime).corrections == 10
    assert TrainConfig.make("sam", model="vit_b", regime="box").regime == "box"
    fine = {recipe for recipe in RECIPES if TrainConfig.make(recipe, model="vit_b").loss_frame == "model"}
    assert fine == {"finestsam", "lightning-sam", "medsam"}  # these scale logits up before they take the loss

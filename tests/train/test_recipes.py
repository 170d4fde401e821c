"""Recipes: what people reproduce by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from samfast import train_decoder
from samfast.cli import cli
from samfast.models.architecture import MODEL_NAMES
from samfast.train.config import TRAINABLE, TrainConfig
from samfast.train.objective import Objective
from samfast.train.recipes import RECIPES, recipe_source
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


def made(recipe: str, **explicit: object) -> TrainConfig:
    return TrainConfig.make(recipe, model="vit_b", **explicit)


def test_finestsam_trains_as_its_configuration_says() -> None:
    """Figures of WholeNow/finestSAM: config.py and train/utils.py at 29f9c47, dataset.py at 2e1e941."""
    config = made("finestsam")
    assert (config.epochs, config.eval_interval, config.batch_size) == (500, 10, 1)  # num_epochs, eval_interval
    assert (config.optimizer, config.lr, config.weight_decay) == ("adamw", 4e-5, 1e-4)  # torch.optim.AdamW
    assert config.loss == Objective(focal=20, dice=1, iou=1, alpha=0.8, gamma=2)  # focal_ratio, ..., focal_gamma
    assert config.schedule == Plateau(gamma=0.05, patience=1, threshold=1e-4, cooldown=0, min_factor=0)
    assert config.trainable == ("mask_decoder",)  # freeze: image_encoder, prompt_encoder
    assert config.regime == "centroid-inside@32"  # use_center, snap_to_grid, build_point_grid(32)


def test_lightning_sam_trains_as_its_configuration_says() -> None:
    """Figures of luca-medeiros/lightning-sam: lightning_sam/config.py at 5b57333, train.py at cf1fe7c."""
    config = made("lightning-sam")
    assert (config.epochs, config.eval_interval, config.batch_size) == (20, 2, 2)
    assert (config.optimizer, config.lr, config.weight_decay) == ("adam", 8e-4, 1e-4)  # torch.optim.Adam
    # warmup_steps, steps, decay_factor
    assert config.schedule == Milestones(warmup_steps=250, milestones=(60000, 86666), gamma=1 / 10)
    assert (config.loss.focal, config.loss.dice, config.loss.iou) == (20, 1, 1)  # 20. * loss_focal + loss_dice + ...
    assert config.trainable == ("mask_decoder",)
    regime = get_regime(config.regime)
    assert [kind.name for kind in regime.alternatives] == ["box~0%"]  # exact: `box` has noise
    assert regime.kinds == ("box",)


def test_medsam_trains_as_its_script_says() -> None:
    """Figures of bowang-lab/MedSAM: train_one_gpu.py at 8432244."""
    config = made("medsam")
    assert (config.epochs, config.batch_size, config.max_prompts) == (1000, 2, 1)  # -num_epochs, -batch_size
    assert (config.optimizer, config.lr, config.weight_decay) == ("adamw", 1e-4, 0.01)  # -lr, -weight_decay
    assert config.schedule.kind == "constant"
    assert (config.loss.bce, config.loss.dice, config.loss.iou) == (1, 1, 0)  # seg_loss + ce_loss
    assert config.trainable == ("mask_decoder",)
    assert config.regime == "box"


def test_sam_trains_as_its_paper_says() -> None:
    """Figures of Kirillov et al., 2023, appendix A."""
    config = made("sam")
    assert (config.optimizer, config.lr, config.weight_decay) == ("adamw", 8e-4, 0.1)
    assert config.schedule == Milestones(warmup_steps=250, milestones=(60000, 86666), gamma=0.1)
    assert (config.loss.focal, config.loss.dice, config.loss.iou, config.max_prompts) == (20, 1, 1, 64)
    assert get_regime(config.regime).corrections + 1 == 11
    assert config.trainable == TRAINABLE
    assert made("sam", regime="box").regime == "box"


def test_those_that_scale_logits_up_before_the_loss_do_so() -> None:
    coarse = {recipe for recipe in RECIPES if made(recipe).loss_frame == "low-res"}
    assert coarse == {"flood-study", "sam"}


def test_a_run_and_the_help_say_where_a_recipe_comes_from(dataset, cache, tmp_path: Path) -> None:
    shown = "".join(CliRunner().invoke(cli, ["train", "--help"]).output.split())
    for recipe in RECIPES:
        assert "".join(recipe_source(recipe).split()) in shown
    assert "(there: the image encoder as well, and with it the embeddings)" in recipe_source("medsam")
    options = {"cache": cache, "device": "cpu", "max_prompts": 1, "steps": 1}
    run = train_decoder(dataset, recipe="medsam", out=tmp_path / "run", **options)
    assert f"recipe medsam: {recipe_source('medsam')}\n" in (run.path / "run.log").read_text()
    again = train_decoder(dataset, recipe=run.path / "config.toml", out=tmp_path / "again", cache=cache)
    assert recipe_source("medsam") in (again.path / "run.log").read_text()

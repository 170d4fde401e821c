"""The matrix: every combination once, told apart by what is trained, wrong ones told before anything is."""

from __future__ import annotations

from pathlib import Path

import pytest

from samfast.cache import EmbeddingCache
from samfast.data import Dataset
from samfast.data.folds import make_folds
from samfast.errors import ConfigError
from samfast.sweeps.cell import Judging
from samfast.sweeps.grid import cell_folder, make_grid

FIXED = {"epochs": 1}


def test_every_combination_with_every_seed_on_every_fold() -> None:
    cells = make_grid({"lr": [1e-4, 3e-4], "regime": ["box", "point"]}, seeds=[0, 5], folds=3, fixed=FIXED)
    assert len(cells) == 2 * 2 * 2 * 3
    assert {(cell.config.lr, cell.config.regime, cell.seed, cell.fold) for cell in cells} == {
        (lr, regime, seed, fold)
        for lr in (1e-4, 3e-4)
        for regime in ("box", "point")
        for seed in (0, 5)
        for fold in range(3)
    }
    assert all(cell.config.epochs == 1 and cell.config.seed == cell.seed for cell in cells)


def test_settings_that_are_equal_are_trained_once() -> None:
    assert len(make_grid({"loss": ["bce+dice", {"bce": 1.0, "dice": 1.0}]}, seeds=[0], folds=None, fixed=FIXED)) == 1


def test_recipes_are_an_axis() -> None:
    cells = make_grid({"recipe": ["default", "medsam"]}, seeds=[0], folds=None, fixed=FIXED)
    assert [cell.config.recipe for cell in cells] == ["default", "medsam"]


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({"lrr": [1]}, "did you mean 'lr'"),
        ({"lr": []}, "no values"),
        ({"regime": "box"}, "no values"),
        ({"lr": [1e-4, -1.0]}, "lr=-1"),
        ({"epochs": [2]}, "fixed"),
        ({"model": ["tiny"]}, "no axis"),
        ({"seed": [1, 2]}, "no axis"),
        ({"regime": ["box", "boxx"]}, "boxx"),
        (["lr"], "names no values"),
    ],
)
def test_what_can_never_be_trained_is_told_before_anything_is(axes: dict[str, list[object]], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_grid(axes, seeds=[0], folds=None, fixed=FIXED)


def test_the_error_of_what_all_share_begins_with_it() -> None:
    with pytest.raises(ConfigError, match=r"^seed=-1"):
        make_grid({}, seeds=[-1], folds=None, fixed=FIXED)


def test_prompts_of_a_file_are_those_in_it(tmp_path: Path, dataset: Dataset) -> None:
    """An edited file is trained on, and judged by, anew; the same one under the same name is not."""
    file = tmp_path / "p.csv"
    kind = f"csv:{file}"

    def known() -> tuple[str, object]:
        cell = make_grid({"regime": [kind]}, seeds=[0], folds=None, fixed=FIXED)[0]
        return cell.key(dataset, "embeddings"), Judging((kind, "box"), "single", 0).record()

    file.write_text("image,x,y\nscene0.rf.0.png,10,10\n")
    key, judged = known()
    file.write_text("image,x,y\nscene0.rf.0.png,10,11.5\n")
    changed_key, judged_otherwise = known()
    assert changed_key != key
    assert judged_otherwise != judged
    file.write_text("image,x,y\nscene0.rf.0.png,10,10\n")
    assert known() == (key, judged)


def test_a_cell_is_found_again_whatever_it_is_called(tmp_path: Path, dataset: Dataset, cache: EmbeddingCache) -> None:
    """By its settings, data and embeddings; another axis beside it changes its name alone."""
    alone = make_grid({"lr": [1e-4]}, seeds=[0], folds=None, fixed=FIXED)[0]
    beside = make_grid({"lr": [1e-4], "regime": ["point+box", "box"]}, seeds=[0], folds=None, fixed=FIXED)
    key = alone.key(dataset, cache.fingerprint)
    assert beside[0].key(dataset, cache.fingerprint) == key
    others = [
        beside[1].key(dataset, cache.fingerprint),
        alone.key(dataset, "another"),
        alone.key(make_folds(dataset, 2)[0], cache.fingerprint),
        make_grid({"lr": [1e-4]}, seeds=[1], folds=None, fixed=FIXED)[0].key(dataset, cache.fingerprint),
    ]
    assert len({key, *others}) == 5
    made = cell_folder(tmp_path, "lr=0.0001, seed=0", key)
    assert made.name == f"lr=0.0001-seed=0-{key}"
    made.mkdir()
    assert cell_folder(tmp_path, "another name", key) == made

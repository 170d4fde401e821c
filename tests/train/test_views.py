"""Training on views: each in its turn, every figure from the plain one, targets where the view shows them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samfast import evaluate, train_decoder
from samfast.cache import EmbeddingCache, cache_embeddings
from samfast.errors import CacheError
from samfast.train import batches
from samfast.train.batches import make_batch, shown_target
from samfast.train.config import TrainConfig
from samfast.train.regimes import choose_objects, training_prompts
from samfast.train.run import Run
from samfast.train.targets import soft_targets, visible
from samfast.train.views import EpochViews, recipe_in, view_of
from samfast.views import PRESETS, Geometry, Recipe, view_key, view_target

CONFIG = TrainConfig.make(
    loss_frame="low-res", regime="point+box", max_prompts=3, prompts_per_object=1, batch_size=4, device="cpu"
)
COUNT = 3


@pytest.fixture(scope="module")
def viewed(dataset, sam, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingCache:
    out = tmp_path_factory.mktemp("views") / "c"
    return cache_embeddings(dataset, model=sam, out=out, device="cpu", views=COUNT, augment="aerial")


@pytest.fixture
def views(viewed: EmbeddingCache) -> EpochViews:
    return EpochViews(viewed, recipe_in(viewed, "aerial"), COUNT, 0)


def test_every_image_is_shown_in_all_its_views_before_one_comes_again() -> None:
    for count in (1, 3, 8):
        for key in ("aa" * 32, "bb" * 32, "cc" * 32):
            order = [view_of(key, seed=0, epoch=epoch, count=count) for epoch in range(3 * count)]
            assert sorted(order[:count]) == list(range(count))
            assert order == order[:count] * 3
    at_once = Counter(view_of(f"{number:064x}", seed=0, epoch=1, count=4) for number in range(400))
    assert all(70 < at_once[view] < 130 for view in range(4))
    keys = [f"{number:064x}" for number in range(50)]
    assert [view_of(k, seed=0, epoch=1, count=4) for k in keys] != [view_of(k, seed=1, epoch=1, count=4) for k in keys]


def test_a_batch_is_made_of_the_views_of_its_epoch(dataset, viewed: EmbeddingCache, views: EpochViews) -> None:
    samples = dataset.of("train", state="labelled")
    seen = set()
    for epoch in range(1, COUNT + 1):
        shown = views.shown(samples, epoch=epoch)
        batch = make_batch(dataset, shown, viewed.read, CONFIG, viewed.spec, epoch=epoch)
        first = 0
        for index, (plain, one) in enumerate(zip(samples, shown, strict=True)):
            view = view_of(plain.key, seed=0, epoch=epoch, count=COUNT)
            key = view_key(plain.key, PRESETS["aerial"].identity, view)
            seen.add(view)
            assert one.key == key
            assert (plain.name, plain.annotation_ids) == (one.name, one.annotation_ids)
            row = viewed.read([key])["image_embeddings"][0]
            np.testing.assert_array_equal(batch.features["image_embeddings"][index], row)

            (placement,) = viewed.placements([key])
            target = visible(view_target(dataset.target(plain), placement))
            frame = viewed.spec.frame(*placement.size)
            soft, weight = soft_targets(target.masks, target.ignore, frame)
            np.testing.assert_array_equal(batch.weight[index], weight)
            mine = batch.target[batch.tokens.image_index == index]
            whole = visible(dataset.target(plain)).ids
            dealt = choose_objects(whole, plain.key, seed=0, epoch=epoch, at_most=CONFIG.max_prompts)
            assert len(mine) == len({whole[number] for number in dealt} & set(target.ids))
            assert all(any(np.array_equal(one, each) for each in soft) for one in mine)
            for number in range(first, first + len(mine)):  # a point lies on its mask, a box around it
                x, y = np.floor(batch.tokens.coords[number, 0] * viewed.spec.low_res / viewed.spec.size).astype(int)
                if batch.tokens.labels[number, 0] == 1:
                    assert batch.target[number, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max() > 0
            first += len(mine)
    assert seen == {0, 1, 2}


def test_every_object_that_its_views_show_takes_part_once_before_any_does_again(
    dataset, viewed: EmbeddingCache, views: EpochViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dealt out are the image's objects, whichever view an epoch shows."""
    asked: list[str] = []

    def spy(regime: Any, target: Any, sample: Any, frame: Any, objects: Any, **options: Any) -> Any:
        asked.extend(target.ids[number] for number in objects)
        return training_prompts(regime, target, sample, frame, objects, **options)

    monkeypatch.setattr(batches, "training_prompts", spy)
    several = [one for one in dataset.of("train", state="labelled") if len(visible(dataset.target(one)).ids) > 1]
    assert len(several) > 3
    for sample in several:
        whole = visible(dataset.target(sample)).ids
        config = CONFIG.replace(max_prompts=-(-len(whole) // 2))  # all in two epochs
        shown = [views.shown([sample], epoch=epoch) for epoch in (1, 2)]
        asked.clear()
        for epoch, one in enumerate(shown, start=1):
            make_batch(dataset, one, viewed.read, config, viewed.spec, epoch=epoch)
        in_both = set.intersection(*(set(visible(shown_target(dataset, one[0])).ids) for one in shown))
        assert len(asked) == len(set(asked))
        assert in_both <= set(asked) <= set(whole)


def test_a_batch_of_another_image_frame_would_not_fit(dataset, viewed: EmbeddingCache, views: EpochViews) -> None:
    """Where a view lies crosswise its low-res target does, too: the plain image's would be wrong."""
    samples = dataset.of("train", state="labelled")
    differing = 0
    for epoch in range(1, COUNT + 1):
        shown = [(a, b) for a, b in zip(samples, views.shown(samples, epoch=epoch), strict=True) if a.key != b.key]
        for plain, one in shown:
            right = make_batch(dataset, [one], viewed.read, CONFIG, viewed.spec, epoch=epoch)
            wrong = make_batch(dataset, [plain], viewed.read, CONFIG, viewed.spec, epoch=epoch)
            differing += not np.array_equal(right.weight, wrong.weight)
    assert differing > 3


def test_training_reads_views_and_judges_the_plain_images(
    dataset, viewed: EmbeddingCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = EmbeddingCache.read

    def spy(self: EmbeddingCache, keys: Any, **options: Any) -> Any:
        read.extend(key if isinstance(key, str) else key.key for key in keys)
        return original(self, keys, **options)

    monkeypatch.setattr(EmbeddingCache, "read", spy)
    options: dict[str, Any] = {"cache": viewed, "epochs": COUNT, "device": "cpu", "max_prompts": 2}
    run = train_decoder(dataset, out=tmp_path / "run", views=COUNT, augment="aerial", **options)
    train = dataset.of("train", state="labelled")
    judged = {sample.key for sample in dataset.of("val")}
    rows = EpochViews(viewed, PRESETS["aerial"].identity, COUNT, 0).rows(train)
    counts = Counter(read)
    assert {key: counts[key] for key in rows} == dict.fromkeys(rows, 1)  # K epochs: every view once
    assert set(counts) == set(rows) | judged
    assert run.config.views == COUNT
    assert run.config.augment == "aerial"
    assert run.record["views"] == {"count": COUNT, "recipe": PRESETS["aerial"].identity}

    read.clear()
    report = evaluate(run, dataset, prompts=["box"], on="val", out=tmp_path / "report", baselines=False)
    assert report
    assert set(read) <= judged

    plain = train_decoder(dataset, out=tmp_path / "plain", **options)
    assert plain.record["views"] == {"count": 1, "recipe": None}
    assert plain.metrics[0]["val_iou"] == run.metrics[0]["val_iou"]  # judged alike before the first step
    assert plain.metrics[1]["loss"] != run.metrics[1]["loss"]


def test_a_config_file_reproduces_a_run_on_views_of_a_recipe_of_ones_own(dataset, sam, tmp_path: Path) -> None:
    recipe = Recipe("mine", Geometry(flip_horizontal=1))
    options: dict[str, Any] = {"epochs": 1, "device": "cpu", "max_prompts": 1}
    first = train_decoder(
        dataset, model=sam, cache=tmp_path / "c", out=tmp_path / "a", views=2, augment=recipe, **options
    )
    again = train_decoder(dataset, cache=tmp_path / "c", out=tmp_path / "b", recipe=first.path / "config.toml")
    assert Run(again.path).record["views"] == {"count": 2, "recipe": recipe.identity}
    assert again.metrics[-1]["loss"] == first.metrics[-1]["loss"]


def test_views_that_are_not_there_are_an_error_that_says_how_to_make_them(
    dataset, viewed: EmbeddingCache, tmp_path: Path
) -> None:
    train = len(dataset.of("train", state="labelled"))
    for options, says in (
        ({"views": 4, "augment": "aerial"}, rf"lacks {train} of {4 * train} views.*\n.*\n.*--views 4 --augment aerial"),
        ({"views": 2, "augment": "light"}, rf"lacks {train} of {2 * train} views"),
        ({"views": 2, "augment": "mine"}, "no recipes of the name 'mine'"),
    ):
        with pytest.raises(CacheError, match=says):
            train_decoder(dataset, cache=viewed, out=tmp_path / "run", device="cpu", **options)

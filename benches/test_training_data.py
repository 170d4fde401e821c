"""What a training step is made from: ``pytest benches/test_training_data.py --benchmark-only``.

Batches of four images, in SAM 1's shapes: making one (embeddings read, prompts drawn, targets averaged) beside the step
that is taken on it, and drawing the prompts of one beside a loop over objects in Python, as public scripts draw them.
Batches are made while the step before runs, so making one has to take less than a step, and little, for it takes cores.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco
from synthetic import write_cache

from samfast.cache import EmbeddingCache
from samfast.data import Dataset, load_dataset
from samfast.data.scenes import write_flood_scenes
from samfast.data.types import Sample
from samfast.models.allocator import keep_heap
from samfast.models.architecture import get_architecture
from samfast.models.sam import Sam
from samfast.prompts import NEGATIVE, POSITIVE, Prompts
from samfast.train.batches import Batch, make_batch
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer
from samfast.train.regimes import choose_objects, get_regime, training_prompts
from samfast.train.targets import visible

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
FLOOD = Path(__file__).resolve().parents[2] / "shared" / "data" / "flood"
MODEL = "vit_b"
REGIMES = ("point+box", "clicks:8", "mask", "center", "farthest")
IMAGES, POINTS = 4, 2
FOLDER = tempfile.TemporaryDirectory(prefix="samfast-")


@dataclass(frozen=True)
class Data:
    """Four images of a data set, from small to large, and a cache of noise that holds them."""

    dataset: Dataset
    samples: Sequence[Sample]
    cache: EmbeddingCache


@cache
def data() -> Data:
    folder = Path(FOLDER.name)
    dataset = load_dataset(FLOOD if FLOOD.is_dir() else write_flood_scenes(folder / "scenes", 12))
    by_size = sorted(dataset.of("train", state="labelled"), key=lambda sample: sample.size[0] * sample.size[1])
    samples = [by_size[(2 * number + 1) * len(by_size) // (2 * IMAGES)] for number in range(IMAGES)]
    rows = write_cache(folder / "c", [sample.name for sample in samples], keys=[sample.key for sample in samples])
    return Data(dataset, samples, rows)


def config_of(regime: str) -> TrainConfig:
    return TrainConfig.make(model=MODEL, regime=regime, batch_size=IMAGES, device="cpu")


def made(regime: str) -> Batch:
    found, spec = data(), get_architecture(MODEL).spec
    return make_batch(found.dataset, found.samples, found.cache.read, config_of(regime), spec, epoch=1)


@pytest.mark.parametrize("who", ["a batch", "the step on it"])
@pytest.mark.parametrize("regime", REGIMES)
def test_batch(benchmark: Any, regime: str, who: str) -> None:
    torch.set_num_threads(1)
    benchmark.group = f"{regime}: a batch"
    if who == "a batch":
        benchmark(made, regime)
        return
    keep_heap()
    sam = Sam(get_architecture(MODEL), decoder_only=True)
    trainer = Trainer(sam, config_of(regime), steps_per_epoch=1, device=torch.device("cpu"))
    benchmark.pedantic(trainer.step, (made(regime), 0), rounds=2, warmup_rounds=1)


def drawn() -> list[Prompts]:
    """Points on each object and beside it, and its box."""
    regime = get_regime(f"points:{POINTS},{POINTS}&box~0%")
    prompts = []
    for sample in data().samples:
        target = visible(data().dataset.target(sample))
        objects = choose_objects(target.ids, sample.key, seed=0, epoch=1, at_most=16)
        frame = get_architecture(MODEL).spec.frame(*sample.size)
        prompts.append(training_prompts(regime, target, sample, frame, objects, seed=0, epoch=1))
    return prompts


@cache
def annotations() -> list[list[dict[str, Any]]]:
    return [data().dataset.target(sample).masks.rle() for sample in data().samples]


def looped(*, as_tuples: bool) -> list[list[tuple[list[Any], list[int]]]]:
    """A loop over images and objects: decode the mask, list its pixels and those beside it, draw, find the sides."""
    prompts = []
    for objects in annotations():
        image = []
        for annotation in objects:
            mask = coco.decode(annotation)
            inside, outside = np.argwhere(mask == 1), np.argwhere(mask == 0)
            points = [*pixels(inside, as_tuples=as_tuples), *pixels(outside, as_tuples=as_tuples)]
            rows, columns = np.where(mask)
            image.append((points, [columns.min(), rows.min(), columns.max(), rows.max()]))
        prompts.append(image)
    return prompts


def pixels(places: NDArray[np.int64], *, as_tuples: bool) -> list[Any]:
    """Some of ``(n, 2)`` places (y, x), as (x, y)."""
    if as_tuples:
        return random.sample([(x, y) for y, x in places.tolist()], POINTS)
    return [tuple(places[number][::-1]) for number in random.sample(range(len(places)), POINTS)]


def check() -> None:
    """Points inside and outside, and the same boxes."""
    for sample, prompts, loops in zip(data().samples, drawn(), looped(as_tuples=False), strict=True):
        masks = data().dataset.target(sample).masks.numpy()
        assert len(masks) == len(prompts) == len(loops)
        np.testing.assert_array_equal(prompts.boxes, [box for _, box in loops])
        for mask, points, labels, (theirs, _) in zip(masks, prompts.points, prompts.labels, loops, strict=True):
            assert labels.tolist() == [POSITIVE] * POINTS + [NEGATIVE] * POINTS
            for of in (points, theirs):
                assert [bool(mask[int(y), int(x)]) for x, y in of] == [True] * POINTS + [False] * POINTS


LOOPS: dict[str, Callable[[], Any]] = {
    "samfast": drawn,
    "numpy": lambda: looped(as_tuples=False),
    "numpy, pixels as tuples": lambda: looped(as_tuples=True),
}


@pytest.mark.parametrize("who", LOOPS)
def test_prompts(benchmark: Any, who: str) -> None:
    benchmark.group = "prompts of a batch from annotations"
    check()
    if who == "samfast":
        benchmark(drawn)
    else:
        benchmark.pedantic(LOOPS[who], rounds=3)

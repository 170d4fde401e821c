"""What encoded views are worth and cost: ``python benches/views.py FLOOD_ROOT --augment aerial``.

``tiny`` is tuned on 1, 4 and 8 views of each train image, all else alike, and judged on the test set. The cache grows
from one number of views to the next, as a user's would.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders.machine import describe
from results import RESULTS, one_thread_each, table, write_section

import samfast
from samfast.cache import EmbeddingCache
from samfast.cache.records import read_jobs
from samfast.train.batches import make_batch
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer
from samfast.train.views import EpochViews
from samfast.views import get_recipe

SEED = 0
STEPS = 8
"""Measured ones; as many before them warm up."""


def encode(root: Path, place: Path, views: int, augment: str) -> tuple[EmbeddingCache, float, int]:
    """The cache with so many views of each image, and the seconds and bytes of them, at the cache's mean of a row."""
    data = samfast.load_dataset(root)
    cache = samfast.cache_embeddings(data, out=place, device="cpu", views=views, augment=augment, seed=SEED)
    rows = views * len({sample.key for sample in data.samples})
    jobs = read_jobs(place)
    seconds = sum(job.seconds for job in jobs) / sum(job.encoded for job in jobs)
    return cache, rows * seconds, rows * cache.manifest.row_bytes


def judged(root: Path, cache: Path, settings: dict[str, Any], out: Path) -> tuple[float, float, float]:
    """Test IoU by point and by box, and the seconds of training without validation."""
    data = samfast.load_dataset(root)
    run = samfast.train_decoder(data, cache=cache, out=out, device="cpu", keep_finished=True, **settings)
    report = samfast.evaluate(run, data, cache=cache, baselines=False, device="cpu")
    tuned = {line.prompt: line.mean["iou"] for line in report.summary if line.role == "tuned"}
    return tuned["point"], tuned["box"], sum(line["seconds"] for line in run.metrics)


def data_side(root: Path, cache: EmbeddingCache, views: int, settings: dict[str, Any]) -> tuple[float, float]:
    """Milliseconds of one thread to make a batch, and to train on it."""
    data = samfast.load_dataset(root)
    config = TrainConfig.make(device="cpu", **{name: value for name, value in settings.items() if name != "views"})
    samples = list(data.of("train", state="labelled"))
    shown = EpochViews(cache, get_recipe(config.augment).identity, views, SEED).shown(samples, epoch=1)
    starts = range(0, len(shown), config.batch_size)
    trainer = Trainer(
        cache.decoder(), config, steps_per_epoch=len(starts), device=torch.device("cpu"), precision="fp32"
    )
    spent = []
    for step, start in enumerate(islice(starts, 2 * STEPS)):
        began = time.perf_counter()
        batch = make_batch(data, shown[start : start + config.batch_size], cache.read, config, cache.spec, epoch=1)
        made = time.perf_counter()
        trainer.step(batch, step)
        spent.append((made - began, time.perf_counter() - made))
    making, training = np.median(spent[len(spent) // 2 :], axis=0) * 1e3
    return float(making), float(training)


def main() -> None:
    """Encode, train, judge, and write the section of ``RESULTS.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--augment", default="aerial")
    parser.add_argument("--views", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--max-prompts", type=int, default=2, help="objects of an image in an epoch; bounds the time")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--work", type=Path, help="a folder for cache and runs, which go on where they were interrupted"
    )
    options = parser.parse_args()

    common = {"augment": options.augment, "max_prompts": options.max_prompts, "epochs": options.epochs}
    common = {name: value for name, value in common.items() if value is not None}
    with tempfile.TemporaryDirectory() as folder:
        place = options.work or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        cache_path = place / f"{options.data.resolve().name}-{options.augment}.samcache"
        costs, parts = {}, {}
        for views in sorted(options.views):
            cache, *costs[views] = encode(options.data, cache_path, views, options.augment)
            torch.set_num_threads(1)
            parts[views] = data_side(options.data, cache, views, common)
            torch.set_num_threads(os.cpu_count() or 1)
        with one_thread_each(options.jobs) as pool:
            runs: dict[int, list[Future[tuple[float, float, float]]]] = {
                views: [
                    pool.submit(
                        judged,
                        options.data,
                        cache_path,
                        {**common, "views": views, "seed": seed},
                        place / f"{views} views, {options.augment}, seed {seed}",
                    )
                    for seed in options.seeds
                ]
                for views in sorted(options.views)
            }
            rows = []
            for views, pending in runs.items():
                point, box, training = np.mean([run.result() for run in pending], axis=0)
                making, step = parts[views]
                cells = [f"{point:.3f}", f"{box:.3f}", f"{costs[views][0]:.0f} s", f"{costs[views][1] / 1e6:.0f} MB"]
                cells += [f"{training:.0f} s", f"{making:.1f} ms", f"{step:.0f} ms", f"{making / step:.1%}"]
                rows.append([str(views), *cells])
                print(*rows[-1], sep="  ", flush=True)
    header = ["views", "test IoU, point", "test IoU, box", "encoding", "disk", "training", "a batch", "a step", "share"]
    note = (
        f"`tiny` on `{options.data.resolve().name}`, recipe `{options.augment}`, regime point+box, seeds"
        f" {options.seeds}, at most {options.max_prompts} objects an image in an epoch. Encoding and disk are those of"
        " all images and sets. A batch is made by one thread while the step before it runs."
    )
    head = f"## Encoded views\n\n{describe('cpu', options.jobs)}."
    write_section(options.results, "views", f"{head} {note}\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()

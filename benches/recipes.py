"""Choose the default recipe: ``python benches/recipes.py DATA_ROOT...`` trains ``tiny`` with every candidate.

The candidate with the highest validation IoU, averaged over data sets, is the one to take; the test column is for the
record and chooses nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from contenders.machine import describe
from results import RESULTS, one_thread_each, table, write_section

import samfast
from samfast.train.schedules import Constant, Cosine

COMMON = {"epochs": 20, "batch_size": 4, "prompts_per_object": 2, "eval_interval": 4}
ADAMW = {**COMMON, "loss": "bce+dice", "optimizer": "adamw", "weight_decay": 0.01}
COSINE = {**ADAMW, "schedule": Cosine(warmup_epochs=1.0)}
CANDIDATES: dict[str, dict[str, Any]] = {
    "flood-study, 20 epochs, 2 prompts": {"recipe": "flood-study", **COMMON},
    "AdamW, cosine, lr 3e-4": {**COSINE, "lr": 3e-4},
    "AdamW, cosine, lr 1e-3": {**COSINE, "lr": 1e-3},
    "AdamW, cosine, lr 2e-3": {**COSINE, "lr": 2e-3},
    "AdamW, constant, lr 1e-3": {**ADAMW, "lr": 1e-3, "schedule": Constant()},
    "AdamW, cosine, lr 1e-3, focal": {**COSINE, "lr": 1e-3, "loss": "focal+dice+iou"},
}
"""With every setting that matters, so that a change of the default recipe changes none of them."""


def judged(root: Path, cache: Path, settings: dict[str, Any], seed: int, out: Path) -> tuple[float, float]:
    """The best validation IoU of a run, and the test IoU of that epoch's weights: the mean over point and box."""
    data = samfast.load_dataset(root)
    run = samfast.train_decoder(data, cache=cache, seed=seed, out=out, device="cpu", keep_finished=True, **settings)
    report = samfast.evaluate(run, data, cache=cache, baselines=False, device="cpu")
    tuned = [line.mean["iou"] for line in report.summary if line.role == "tuned"]
    return max(line.get("val_iou", 0.0) for line in run.metrics), float(np.mean(tuned))


def compared(
    candidates: Mapping[str, dict[str, Any]],
    roots: Sequence[Path],
    *,
    seeds: Sequence[int],
    place: Path,
    pool: ProcessPoolExecutor,
) -> list[list[str]]:
    """Train and judge every candidate on every data set: a row each, of val / test IoU by data set and their mean."""
    place.mkdir(parents=True, exist_ok=True)
    caches = {root: place / f"{root.name}.samcache" for root in roots}
    for root, cache in caches.items():
        samfast.cache_embeddings(samfast.load_dataset(root), out=cache, device="cpu")
    runs: dict[tuple[str, Path], list[Future[tuple[float, float]]]] = {}
    for candidate, settings in candidates.items():
        for root, cache in caches.items():
            outs = {seed: place / f"{candidate}, {root.name}, seed {seed}" for seed in seeds}
            runs[candidate, root] = [
                pool.submit(judged, root, cache, settings, seed, out) for seed, out in outs.items()
            ]
    rows = []
    for candidate in candidates:
        figures = [np.mean([run.result() for run in runs[candidate, root]], axis=0) for root in caches]
        cells = [f"{val:.3f} / {test:.3f}" for val, test in [*figures, np.mean(figures, axis=0)]]
        rows.append([candidate, *cells])
        print(*rows[-1], sep="  ", flush=True)
    return rows


def main() -> None:
    """Train, judge, and write the section of ``RESULTS.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES))
    parser.add_argument("--max-prompts", type=int, default=2, help="objects of an image in an epoch; bounds the time")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, help="a folder for the runs, which go on where they were interrupted")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder, one_thread_each(options.jobs) as pool:
        candidates = {name: {**CANDIDATES[name], "max_prompts": options.max_prompts} for name in options.candidates}
        place = options.work or Path(folder)
        rows = compared(candidates, options.data, seeds=options.seeds, place=place, pool=pool)
    text = table(["val / test IoU", *(root.name for root in options.data), "mean"], rows)
    note = (
        f"`tiny`, regime point+box, mean IoU over both prompts, seeds {options.seeds}, at most {options.max_prompts}"
        " objects an image in an epoch. Chosen by val alone. Train sets of nuclei, facades and potholes also taught"
        " `tiny`, and their val sets were watched meanwhile; no test set was."
    )
    head = f"## The default recipe\n\n{describe('cpu', options.jobs)}."
    write_section(options.results, "recipes", f"{head} {note}\n\n{text}")


if __name__ == "__main__":
    main()

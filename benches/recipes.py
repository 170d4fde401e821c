"""Choose the default recipe: ``python benches/recipes.py DATA_ROOT...`` trains ``tiny`` with every candidate.

The candidate with the highest validation IoU, averaged over data sets, is the one to take; the test column is for the
record and chooses nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import record, table

import samfast
from samfast.data import Dataset
from samfast.train.schedules import Constant, Cosine

COSINE = {"optimizer": "adamw", "weight_decay": 0.01, "schedule": Cosine(warmup_epochs=1.0)}
CANDIDATES: dict[str, dict[str, Any]] = {
    "flood-study": {"recipe": "flood-study"},
    "AdamW, cosine, lr 3e-4": {**COSINE, "lr": 3e-4},
    "AdamW, cosine, lr 1e-3": {**COSINE, "lr": 1e-3},
    "AdamW, cosine, lr 2e-3": {**COSINE, "lr": 2e-3},
    "AdamW, constant, lr 1e-3": {**COSINE, "lr": 1e-3, "schedule": Constant()},
    "Adam, cosine, lr 1e-3": {**COSINE, "lr": 1e-3, "optimizer": "adam", "weight_decay": 0.0},
    "AdamW, cosine, lr 1e-3, focal": {**COSINE, "lr": 1e-3, "loss": "focal+dice+iou"},
}


def judged(data: Dataset, cache: samfast.EmbeddingCache, settings: dict[str, Any], seed: int, out: Path) -> np.ndarray:
    """The best validation IoU of a run, and the test IoU of that epoch's weights: the mean over point and box."""
    run = samfast.train_decoder(data, cache=cache, seed=seed, out=out, **settings)
    best = max(line["val_iou"] for line in run.metrics)
    report = samfast.evaluate(run, data, cache=cache, baselines=False)
    return np.array([best, np.mean([line.mean["iou"] for line in report.summary if line.role == "tuned"])])


def main() -> None:
    """Train, judge, and write the section of ``RESULTS.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    sets = {root.name: samfast.load_dataset(root) for root in options.data}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        caches = {name: samfast.cache_embeddings(data, out=place / f"{name}.samcache") for name, data in sets.items()}
        for number, candidate in enumerate(options.candidates):
            figures = {
                name: np.mean(
                    [
                        judged(data, caches[name], CANDIDATES[candidate], seed, place / f"{name}-{number}-{seed}")
                        for seed in options.seeds
                    ],
                    axis=0,
                )
                for name, data in sets.items()
            }
            mean = np.mean(list(figures.values()), axis=0)
            cells = [f"{val:.3f} / {test:.3f}" for val, test in [*figures.values(), mean]]
            rows.append([candidate, *cells])
            print(*rows[-1], sep="  ", flush=True)
    text = table(["val / test IoU", *sets, "mean"], rows)
    note = f"`tiny`, point+box, mean over both prompts, seeds {options.seeds}. Chosen by val alone."
    record("recipes", "The default recipe", f"{note}\n\n{text}", command="python benches/recipes.py DATA...")


if __name__ == "__main__":
    main()

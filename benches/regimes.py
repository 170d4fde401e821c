"""What each regime is worth on its own prompts: ``python benches/regimes.py FLOOD_ROOT --work FOLDER``.

``tiny`` is tuned once a regime and seed, from one cache, and judged on the test set. What is done lies in ``--work``,
where the script goes on after an interruption.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from contenders.machine import describe
from results import RESULTS, one_thread_each, over_seeds, table, write_section

import samfast
from samfast.train.regimes import get_regime

REGIMES = (
    "point",
    "box",
    "point+box",
    "center",
    "centroid-inside",
    "farthest",
    "points:3,2",
    "mask",
    "clicks:4",
    "sam",
    "none",
)
COLUMNS = ("point", "box")
"""Prompts with a column of their own."""
Figures = dict[str, dict[str, float]]
"""Role to prompt kind to test IoU."""


def judged(root: Path, cache: Path, regime: str, seed: int, epochs: int | None, place: Path) -> Figures:
    """Tune and judge, on the prompts that the regime is validated with; or what an earlier call found."""
    found = place / f"{regime}, seed {seed}.json"
    if not found.exists():
        data = samfast.load_dataset(root)
        out, settings = place / f"{regime}, seed {seed}", {"regime": regime, "seed": seed, "epochs": epochs}
        run = samfast.train_decoder(data, cache=cache, out=out, device="cpu", keep_finished=True, **settings)
        prompts = get_regime(regime).kinds
        report = samfast.evaluate(run, data, prompts=prompts, cache=cache, baselines=False, device="cpu")
        figures: Figures = {}
        for line in report.summary:
            figures.setdefault(line.role, {})[line.prompt] = line.mean["iou"]
        found.write_text(json.dumps(figures))
    answer: Figures = json.loads(found.read_text())
    return answer


def row(regime: str, by_seed: list[Figures]) -> list[str]:
    """The line of a regime: tuned, and in brackets what the untuned model answers to the same prompts."""

    def cell(kind: str) -> str:
        untuned = by_seed[0].get("zero-shot", {}).get(kind)  # none without prompts
        shown = over_seeds([each["tuned"][kind] for each in by_seed])
        return shown if untuned is None else f"{shown} ({untuned:.3f})"

    own = [kind for kind in by_seed[0]["tuned"] if kind not in COLUMNS]
    shown = [cell(kind) if kind in by_seed[0]["tuned"] else "" for kind in COLUMNS]
    return [regime, *shown, ", ".join(f"{kind}: {cell(kind)}" for kind in own)]


def main() -> None:
    """Train, judge, and write the section of ``RESULTS.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--regimes", nargs="+", default=list(REGIMES))
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, help="a folder for cache and runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, one_thread_each(options.jobs) as pool:
        place = options.work or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        cache = place / f"{options.data.resolve().name}.samcache"
        data = samfast.load_dataset(options.data)
        samfast.cache_embeddings(data, model="tiny", out=cache, device="cpu")
        runs: dict[str, list[Future[Figures]]] = {regime: [] for regime in options.regimes}
        for seed in options.seeds:  # a whole table of one seed before the next
            for regime in options.regimes:
                arguments: tuple[Any, ...] = (options.data, cache, regime, seed, options.epochs, place)
                runs[regime].append(pool.submit(judged, *arguments))
        rows = [row(regime, [run.result() for run in pending]) for regime, pending in runs.items()]
    note = (
        f"{data.root.name}: {len(data.of('test'))} test images; `tiny`, recipe `default`"
        f"{'' if options.epochs is None else f', {options.epochs} epochs'}, seeds {options.seeds}. Test IoU on the"
        " prompts that a regime is validated with, drawn once; in brackets the untuned model's."
    )
    text = table(["regime", "point", "box", "its own prompt"], rows)
    head = f"## What each regime is worth\n\n{describe('cpu', options.jobs)}."
    write_section(options.results, "regimes", f"{head} {note}\n\n{text}")


if __name__ == "__main__":
    main()

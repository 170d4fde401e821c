"""The kernels and the cache beside their peers, one table each: ``python benches/kernels.py masks prompts metrics``.

Runs ``benches/test_NAME.py`` on one core (``threads`` and ``cache`` on all of them) and writes a section of
``benches/RESULTS.md`` a suite: medians, and how many times faster samfast is than the others of the group.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from contenders.machine import describe
from results import RESULTS, table, write_section

HERE = Path(__file__).resolve().parent
SUITES = {
    "masks": "Masks",
    "prompts": "Distances, prompts and logits",
    "metrics": "Metrics",
    "threads": "One thread and two",
    "cache": "Reading the cache",
    "losses": "The loss of eight points and its gradient",
    "training_data": "The data side of a training step",
}
ALL_CORES = ("threads", "cache")


def run(suite: str) -> list[dict[str, Any]]:
    """What pytest-benchmark found, a dict a call."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / f"test_{suite}.py")]
        command += ["--benchmark-only", f"--benchmark-json={found}"]
        threads = {} if suite in ALL_CORES else {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        os.sched_setaffinity(0, cores if suite in ALL_CORES else cores[:1])
        try:
            subprocess.run(command, check=True, env={**os.environ, **threads})
        finally:
            os.sched_setaffinity(0, cores)
        benchmarks: list[dict[str, Any]] = json.loads(found.read_text())["benchmarks"]
    return benchmarks


def rows(benchmarks: list[dict[str, Any]]) -> list[list[str]]:
    """A row a group: what was measured, the first call's median, and each other's as a multiple of it."""
    groups: dict[str, list[tuple[str, float]]] = {}
    for each in benchmarks:
        of = each["params"] or {}
        who = of.get("who", of.get("peer", of.get("threads", each["name"])))
        groups.setdefault(each["group"] or each["name"], []).append((str(who), each["stats"]["median"]))
    body = []
    for group, calls in groups.items():
        (first, base), *others = calls
        said = ", ".join(f"{name} {seconds / base:.3g}×" for name, seconds in others)
        body.append([group, f"{1e3 * base:.4g}", said if first == "samfast" or not others else f"from {first}: {said}"])
    return body


def main() -> None:
    """Measure, and write the sections."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", choices=list(SUITES))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    for suite in options.suites or SUITES:
        body = rows(run(suite))
        cores = len(os.sched_getaffinity(0)) if suite in ALL_CORES else 1
        text = table(["group", "samfast, ms", "the others take"], body)
        head = f"## {SUITES[suite]}\n\n{describe('cpu', cores)}. Medians of one run, outputs compared first."
        write_section(options.results, f"kernels-{suite}", f"{head}\n\n{text}")


if __name__ == "__main__":
    main()

"""Rows that come from the disk, beside bare ``pread`` of the same bytes: ``TMPDIR=DISK python benches/cold_reads.py``.

The contenders take turns, in an order drawn for each turn, and are compared within it: how long a disk takes depends on
the moment, and on what it was asked for just before.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from contenders.machine import describe
from results import RESULTS, table, write_section
from test_cache import BATCH, THREADS, Setting

PREAD, AGAIN, NOW = f"pread, {THREADS} threads", "samfast, rows checked before", "samfast, rows checked now"


def in_turns(setting: Setting, rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender, turn by turn."""
    found: dict[str, list[float]] = {PREAD: [], AGAIN: [], NOW: []}
    draw = random.Random(0)
    for _ in range(rounds):
        for name in draw.sample(sorted(found), len(found)):
            setting.samfast()
            if name == NOW:
                setting.forget_checks()
            setting.forget_pages()
            start = time.perf_counter()
            (setting.pread if name == PREAD else setting.samfast)()
            found[name].append(time.perf_counter() - start)
    return found


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(Path(folder))
        os.sync()
        found = in_turns(setting, options.rounds)
        setting.close()
    rows = []
    for name, seconds in found.items():
        share = statistics.median(bare / ours for bare, ours in zip(found[PREAD], seconds, strict=True))
        rows.append([name, f"{1e3 * statistics.median(seconds):.1f}", f"{share:.0%}"])
        print(*rows[-1], sep="  ")
    head = f"## Reading the cache from the disk\n\n{describe('cpu', len(os.sched_getaffinity(0)))}."
    note = f"{BATCH} random rows of 2 MiB, none of them in memory; medians of {options.rounds} turns."
    body = table(["", "ms", "of pread's bandwidth"], rows)
    write_section(options.results, "cold-reads", f"{head} {note}\n\n{body}")


if __name__ == "__main__":
    main()

"""``benches/RESULTS.md``: a section a benchmark, each written by its script and naming the machine it ran on."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

RESULTS = Path(__file__).with_name("RESULTS.md")


def write_section(path: Path, name: str, text: str) -> None:
    """Put ``text`` between the marks of a section, in place of what is there, or at the end."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = path.read_text() if path.exists() else "# Results\n\nRatios hold for the machine named with them.\n"
    before, found, rest = page.partition(begin)
    after = rest.partition(end)[2] if found else "\n"
    path.write_text(f"{before if found else page + chr(10)}{begin}\n{text}\n{end}{after}")


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])


def over_seeds(values: list[float]) -> str:
    """The mean, and how far seeds lie apart (sample standard deviation)."""
    if len(set(values)) < 2:
        return f"{values[0]:.3f}" if values else ""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def one_thread_each(jobs: int) -> ProcessPoolExecutor:
    """A pool of ``jobs`` processes in which torch takes one thread."""
    return ProcessPoolExecutor(jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,))

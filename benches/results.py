"""``benches/RESULTS.md``: one section a benchmark, each written by its script and naming the machine it ran on."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

import torch

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADER = "# Results\n\nEach section is written by the script it names, and holds what its last run measured.\n"


def machine(device: str = "cpu") -> str:
    """The machine in a line: processor or GPU, cores, memory, versions."""
    names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    model = names[0] if names else platform.machine()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [f"{model}, {len(os.sched_getaffinity(0))} cores, {memory_gib:.0f} GiB"]
    if device.startswith("cuda"):
        parts.insert(0, torch.cuda.get_device_name(device))
    return ", ".join([*parts, f"torch {torch.__version__}", f"Python {platform.python_version()}"])


def record(name: str, title: str, body: str, *, command: str, device: str = "cpu") -> None:
    """Put a section in place of the one of the same name, or at the end."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else HEADER
    when = datetime.now(UTC).date().isoformat()
    section = (
        f"<!-- {name} -->\n## {title}\n\n`{command}`, {when}: {machine(device)}\n\n{body.strip()}\n<!-- /{name} -->\n"
    )
    found = re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- /{re.escape(name)} -->\n", re.DOTALL)
    text = found.sub(lambda _: section, text) if found.search(text) else f"{text}\n{section}"
    RESULTS.write_text(text, encoding="utf-8")


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])

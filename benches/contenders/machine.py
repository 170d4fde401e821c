"""What a figure was measured on, in a line."""

from __future__ import annotations

import datetime
import os
import platform
import re
from pathlib import Path

import torch


def physical_cores() -> list[int]:
    """One processor of each core that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores: dict[str, int] = {}
    for cpu in usable:
        path = Path(siblings.format(cpu))
        cores.setdefault(path.read_text() if path.exists() else str(cpu), cpu)
    return list(cores.values())


def take_cores(threads: int | None) -> int:
    """Keep this process and its children on as many physical cores, all of them for None; returns how many."""
    cores = physical_cores()
    threads = threads or len(cores)
    os.sched_setaffinity(0, cores[:threads])
    torch.set_num_threads(threads)
    return threads


def describe(device: str, threads: int) -> str:
    """Processor or GPU, threads, memory, versions and date."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    cpu = named[1].strip() if named else platform.processor()
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    parts = [f"{cpu}, {threads} of {os.cpu_count()} processors, {memory_gb:.0f} GB"]
    if device.startswith("cuda"):
        card = torch.cuda.get_device_properties(device)
        parts.insert(0, f"{card.name}, {card.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}")
    parts += [f"torch {torch.__version__}", f"Python {platform.python_version()}", " ".join(platform.libc_ver())]
    return "; ".join([*parts, datetime.date.today().isoformat()])

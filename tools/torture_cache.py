"""Does the embedding cache keep its word? Jobs are killed, bits flipped, shards lost, processes raced, disks filled.

    python tools/torture_cache.py                    # at full size, a few minutes
    python tools/torture_cache.py --only kills race  # some of it

Every promise that is broken is an AssertionError that says which. What is counted on the way is printed as a table. The
test suite runs the same functions on less. The encoder is a real one of random weights, small enough to take a
millisecond an image: what is tested is all around it.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torture_bench import SHARD_ROWS, STALE, Bench, contents, noticed

from samfast.artifacts import verify
from samfast.cache.check import damaged_rows
from samfast.cache.format import CACHE_JSON, read_manifest
from samfast.cache.records import read_jobs
from samfast.cache.rows import Rows
from samfast.cache.shard import list_shards, read_shard
from samfast.errors import CacheError, CorruptCacheError
from samfast.models.sam import Sam

Figures = dict[str, Any]


def kills(bench: Bench, count: int, seed: int = 0) -> Figures:
    """``kill -9`` at random moments, half of them within a call that changes a file, and resume each time."""
    rng = np.random.default_rng(seed)
    out, committed = bench.new(), {}
    figures = {"kills": 0, "caches": 0, "within a write": 0, "rows lost at most": 0, "rows lost in all": 0}
    pause = 0.002
    while figures["kills"] < count:
        is_timed = bool(rng.integers(2))
        process, encoded = bench.start(out, pause=pause, die_at=0 if is_timed else int(rng.integers(1, 200)))
        if is_timed:
            while process.is_alive() and not encoded.value:
                time.sleep(0.001)
            process.join(float(rng.uniform(0, 2 * pause * bench.images)))
            process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), f"a job ended with {process.exitcode}"
        if process.exitcode == 0:
            bench.check_whole(out)
            figures["caches"] += 1
            shutil.rmtree(out)
            out, committed = bench.new(), {}
            continue
        figures["kills"] += 1
        figures["within a write"] += any(path.stat().st_size for path in out.rglob(f".{'?' * 32}.tmp"))
        before, committed = committed, contents(out) if (out / CACHE_JSON).exists() else {}
        assert before.items() <= committed.items(), "a row that was committed is gone or another"
        assert committed.items() <= bench.expected.items(), "a row is not what an uninterrupted job makes"
        lost = encoded.value - (len(committed) - len(before))
        assert 0 <= lost <= 2 * SHARD_ROWS + 1, (
            f"{lost} rows are lost: more than the shard at hand and the one in write"
        )
        figures["rows lost at most"] = max(figures["rows lost at most"], lost)
        figures["rows lost in all"] += lost
    bench.encode(out)
    bench.check_whole(out)
    figures["caches"] += 1
    return figures


def flips(bench: Bench, step: int = 1) -> Figures:
    """Every ``step``-th bit of a shard flipped, one at a time: its index when it is opened, its rows when read."""
    out = bench.copy(bench.whole)
    manifest, path = read_manifest(out), list_shards(out)[1]
    shard = read_shard(path, manifest)
    assert damaged_rows(shard, manifest) == [], "an untouched shard passes"
    begin = min(shard.offsets.values())
    figures = {"index bits": 0, "feature bits": 0}
    with path.open("r+b", buffering=0) as file:
        for bit in range(0, 8 * shard.num_bytes, step):
            at, mask = bit // 8, 1 << bit % 8
            original = os.pread(file.fileno(), 1, at)
            os.pwrite(file.fileno(), bytes([original[0] ^ mask]), at)
            if at < begin:
                with noticed(CorruptCacheError, path.name):
                    read_shard(path, manifest)
                figures["index bits"] += 1
            else:
                row = (at - begin) // manifest.row_bytes
                assert damaged_rows(shard, manifest) == [row], f"bit {bit} of row {row} is flipped, and no one notices"
                figures["feature bits"] += 1
            os.pwrite(file.fileno(), original, at)
    verify(out)
    return figures


def damage(bench: Bench, rounds: int, seed: int = 0) -> Figures:
    """A cache damaged in every way: ``verify`` names the file, and the same job again repairs it."""
    rng = np.random.default_rng(seed)
    other = Bench(Path(tempfile.mkdtemp(dir=bench.place)) / "other", 3, seed=1)

    def flip(path: Path, begin: int, end: int) -> None:
        content = bytearray(path.read_bytes())
        content[int(rng.integers(begin, min(end, len(content))))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)

    ways: dict[str, Callable[[Path], object]] = {
        "bit in the index": lambda path: flip(path, 0, 4096),
        "bit in a row": lambda path: flip(path, 4096, sys.maxsize),
        "truncated": lambda path: os.truncate(path, int(rng.integers(path.stat().st_size))),
        "of another cache": lambda path: shutil.copy(list_shards(other.whole)[0], path),
        "deleted": lambda path: path.unlink(),
        "bit in the decoder": lambda path: flip(path.with_name("decoder.safetensors"), 0, sys.maxsize),
    }
    figures = dict.fromkeys(ways, 0)
    for way, harm in ways.items():
        for _ in range(rounds):
            out = bench.copy(bench.whole)
            verify(out)
            path = list_shards(out)[int(rng.integers(len(list_shards(out))))]
            harm(path)
            named = "decoder.safetensors" if "decoder" in way else path.name
            with noticed(CorruptCacheError, named):
                verify(out)
            bench.encode(out)
            bench.check_whole(out)
            figures[way] += 1
            shutil.rmtree(out)
    return figures


def race(bench: Bench, rounds: int, processes: int = 4, *, kill_one: bool = False) -> Figures:
    """Several processes on one cache; in the end all rows are there, and few were encoded twice."""
    figures = {"races": 0, "rows": 0, "encoded twice at most": 0, "encoded twice in all": 0, "shards": 0}
    for _ in range(rounds):
        out = bench.new()
        jobs = [bench.start(out, pause=0.01) for _ in range(processes)]
        if kill_one:
            while jobs[0][1].value < SHARD_ROWS:
                time.sleep(0.001)
            jobs[0][0].kill()
        for number, (process, _) in enumerate(jobs):
            process.join()
            assert process.exitcode == 0 or (kill_one and number == 0), f"a job ended with {process.exitcode}"
        assert contents(out) == bench.expected, "the processes did not make all of it"
        bench.encode(out)  # which has nothing to do but to clear up after a process that was killed
        bench.check_whole(out)
        manifest = read_manifest(out)
        shards = [read_shard(path, manifest) for path in list_shards(out)]
        rows = Rows(shards)
        counted = np.bincount(rows.shard, minlength=len(shards))
        credit = {shard.path.name: int(rows) for shard, rows in zip(shards, counted, strict=True)}
        wasted = [job.encoded - sum(credit[shard.name] for shard in job.shards) for job in read_jobs(out)]
        assert max(wasted) <= SHARD_ROWS, f"processes encoded {wasted} rows that others had written"
        figures["races"] += 1
        figures["rows"] += len(rows)
        figures["encoded twice at most"] = max(figures["encoded twice at most"], *wasted)
        figures["encoded twice in all"] += sum(wasted)
        figures["shards"] += len(shards)
    return figures


def rivals(bench: Bench, rounds: int) -> Figures:
    """Two jobs of different precision started together on one new folder: one wins, the other gets the error."""
    won = {"fp32": 0, "bf16": 0}
    for _ in range(rounds):
        out = bench.new()
        jobs = {precision: bench.start(out, precision=precision)[0] for precision in won}
        for process in jobs.values():
            process.join()
        codes = {precision: process.exitcode for precision, process in jobs.items()}
        assert sorted(codes.values()) == [0, STALE], f"they ended with {codes}"
        winner = min(codes, key=lambda precision: codes[precision])
        won[winner] += 1
        bench.encode(out, precision=winner)
        assert verify(out)["rows"] == bench.images
        assert (contents(out) == bench.expected) == (winner == "fp32"), "the loser's rows are in it"
    return won


def full_disk(bench: Bench, rounds: int, seed: int = 0) -> Figures:
    """The disk is full after a random number of bytes: a clear error, what was written stays, the next run resumes."""
    rng = np.random.default_rng(seed)
    write = os.write
    most = sum(path.stat().st_size for path in bench.whole.rglob("*") if path.is_file())
    kept = []
    for _ in range(rounds):
        out, room = bench.new(), [int(rng.integers(1, most))]

        def limited(descriptor: int, data: Any, room: list[int] = room) -> int:
            if not room[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = write(descriptor, data[: room[0]])
            room[0] -= written
            return written

        os.write = limited
        try:
            with noticed(CacheError, "the disk is full", str(out)):
                bench.encode(out)
        finally:
            os.write = write
        kept.append(_resumes(bench, out))
    return {"disks": rounds, "rows kept at least": min(kept), "rows kept at most": max(kept)}


def full_mount(bench: Bench) -> Figures:
    """The same on a small file system of its own that another program fills up; needs the right to mount one."""
    disk = bench.place / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        return {"mount": "not permitted here"}
    encode, filler = Sam.encode, disk / "filler"

    def filling(self: Sam, images: torch.Tensor) -> dict[str, torch.Tensor]:
        if list_shards(disk / "c") and not filler.exists():
            with filler.open("wb", buffering=0) as file:
                for chunk in (65536, 4096, 1):
                    try:
                        while True:
                            file.write(bytes(chunk))
                    except OSError:
                        continue
        return encode(self, images)

    try:
        Sam.encode = filling  # type: ignore[method-assign]
        with noticed(CacheError, "the disk is full", str(disk / "c")):
            bench.encode(disk / "c")
        Sam.encode = encode  # type: ignore[method-assign]
        filler.unlink()
        kept = _resumes(bench, disk / "c")
        assert kept >= SHARD_ROWS
        return {"mount": "4 MB tmpfs", "rows kept": kept}
    finally:
        Sam.encode = encode  # type: ignore[method-assign]
        subprocess.run(["umount", str(disk)], check=True)


def _resumes(bench: Bench, out: Path) -> int:
    """What a failed job has left is intact, and the next one completes it; rows that were left."""
    assert not list(out.rglob(".*.tmp")), "temporaries are left"
    kept = contents(out) if (out / CACHE_JSON).exists() else {}
    assert kept.items() <= bench.expected.items()
    bench.encode(out)
    bench.check_whole(out)
    return len(kept)


def main() -> None:
    """Run everything at full size and print the figures."""
    full: dict[str, Callable[[Path], Figures]] = {
        "kills": lambda place: kills(Bench(place, 24), 100),
        "flips": lambda place: flips(Bench(place, 8)),
        "damage": lambda place: damage(Bench(place, 10), 5),
        "race": lambda place: race(Bench(place, 96), 3),
        "race with a kill": lambda place: race(Bench(place, 48), 3, kill_one=True),
        "rivals": lambda place: rivals(Bench(place, 8), 5),
        "full disk": lambda place: full_disk(Bench(place, 24), 20),
        "full mount": lambda place: full_mount(Bench(place, 24)),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted(full), metavar="NAME", help=", ".join(full))
    chosen = parser.parse_args().only or full
    torch.set_num_threads(1)
    for name in chosen:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as place:
            figures = full[name](Path(place) / "bench")
        listed = ", ".join(
            f"{value} {what}" if isinstance(value, int) else f"{value}" for what, value in figures.items()
        )
        print(f"{name:18} {time.monotonic() - started:6.1f} s  {listed}", flush=True)


if __name__ == "__main__":
    main()

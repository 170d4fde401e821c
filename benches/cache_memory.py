"""Resident memory of training with many cached images and with few: ``python benches/cache_memory.py``.

Tiny images, masks and features: what is measured is the index of the cache, the data set's, and what reads ahead.
"""

from __future__ import annotations

import argparse
import gc
import io
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from contenders.machine import describe
from PIL import Image
from results import RESULTS, table, write_section
from synthetic import write_cache

from samfast.data import load_dataset
from samfast.models.architecture import ARCHITECTURES, Architecture
from samfast.models.sam import empty_sam
from samfast.train.batches import epoch_updates
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer

SMALL = Architecture("small", 64, 8, 32, 2, 2, (1,), 4, 32, 64, iou_head_dim=32)
SIDE = 24
STEPS = 30


def write_images(root: Path, count: int) -> Path:
    """A data set of so many images of ``SIDE`` pixels, each of other bytes, with one object each."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[6:18, 6:18] = 255
    files = []
    for pixels in (np.zeros((SIDE, SIDE, 3), np.uint8), mask):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "bmp")
        files.append(buffer.getvalue())
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(count):
        image = files[0][:-8] + number.to_bytes(8, "little")  # in the last pixels
        (root / "images" / f"{number:06}.bmp").write_bytes(image)
        (root / "masks" / f"{number:06}.bmp").write_bytes(files[1])
    return root


def resident_mb() -> float:
    """Of this process."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6


def train(folder: Path, count: int, steps: int = STEPS) -> float:
    """Megabytes resident after ``steps`` optimizer steps on ``count`` images."""
    torch.set_num_threads(1)
    ARCHITECTURES[SMALL.name] = SMALL
    dataset = load_dataset(write_images(folder / "data", count))
    samples = dataset.of("train", state="labelled")
    cache = write_cache(
        folder / "cache",
        [sample.name for sample in samples],
        keys=[sample.key for sample in samples],
        shape=(SMALL.prompt_dim, SMALL.embedding, SMALL.embedding),
        rows_per_shard=1024,
    )
    sam = empty_sam(SMALL, decoder_only=True)
    for tensor in sam.state_dict().values():
        tensor.normal_(std=0.1)
    config = TrainConfig.make(regime="point", batch_size=8, device="cpu")
    trainer = Trainer(
        sam, config, steps_per_epoch=-(-len(samples) // 8), device=torch.device("cpu"), precision="float32"
    )
    updates = epoch_updates(dataset, samples, cache.read, config, SMALL.spec, epoch=1)
    for step, update in enumerate(islice(updates, steps)):
        trainer.step(update, step)
    return resident_mb()


def measure(count: int) -> float:
    """:func:`train` in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--train", str(count)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=int, nargs="*", default=[100, 100_000])
    parser.add_argument("--train", type=int, help="measure this process")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.train is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(train(Path(folder), options.train))
        return
    rows = []
    for count in options.counts:
        rows.append([str(count), f"{measure(count):.0f} MB"])
        print(*rows[-1], sep="  ", flush=True)
    head = f"## Memory of training, by cached images\n\n{describe('cpu', 1)}."
    note = f"Resident after {STEPS} steps; images, masks and features are tiny, so that the indices are what grows."
    write_section(options.results, "cache-memory", f"{head} {note}\n\n{table(['images', 'resident'], rows)}")


if __name__ == "__main__":
    main()

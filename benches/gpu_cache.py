"""The cache on a GPU, in one call: how fast it is filled, and whether training ever waits for it.

    python benches/gpu_cache.py --model vit_b

Encoding as the job does it, all around the encoder included, beside ``segment_anything``'s encoder alone, eager and in
float32. Then epochs on what was encoded: the share of their time in which the decoder has no batch to go on with.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from contenders.job import waiter
from contenders.machine import describe
from contenders.prepare import draw_checkpoint
from contenders.scripts import stock_sam
from results import RESULTS, table, write_section

import samfast
from samfast.cache import EmbeddingCache
from samfast.cache.records import read_jobs
from samfast.data import Dataset, load_dataset
from samfast.data.scenes import write_flood_scenes
from samfast.models.allocator import keep_heap
from samfast.models.precision import pick_precision
from samfast.train.batches import epoch_updates
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer

EAGER_BATCH, EAGER_ROUNDS = 4, 5


def eager(model: str, checkpoint: str, device: str) -> float:
    """Seconds an image of ``segment_anything``'s encoder in float32."""
    torch.backends.cudnn.allow_tf32 = False
    encoder, wait = stock_sam(model, checkpoint).to(device).eval().image_encoder, waiter(device)
    images = torch.randn(EAGER_BATCH, 3, encoder.img_size, encoder.img_size, device=device)
    seconds = []
    for _ in range(1 + EAGER_ROUNDS):
        start = time.perf_counter()
        with torch.inference_mode():
            encoder(images)
        wait()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:]) / EAGER_BATCH


def encode(data: Dataset, model: str, checkpoint: str, device: str, out: Path) -> float:
    """Seconds an image of the job, its start and its end included."""
    samfast.cache_embeddings(data, model=model, checkpoint=checkpoint, device=device, out=out)
    (job,) = read_jobs(out)
    return job.seconds / job.encoded


def idle(data: Dataset, cache: EmbeddingCache, device: str, epochs: int) -> tuple[float, float]:
    """Seconds of an epoch after the first, and the share of it that is spent waiting for a batch."""
    config = TrainConfig.make(model=cache.model, regime="point", device=device)
    samples = data.of("train", state="labelled")
    steps, compute = -(-len(samples) // config.batch_size), torch.device(device)
    precision = pick_precision("auto", compute)
    trainer = Trainer(cache.decoder(), config, steps_per_epoch=steps, device=compute, precision=precision)
    waited = lasted = 0.0
    for epoch in range(1, epochs + 1):
        updates = epoch_updates(
            data, samples, lambda some: cache.read(some, pinned=compute.type == "cuda"), config, cache.spec, epoch=epoch
        )
        start = before = time.perf_counter()
        for step, update in enumerate(map(list, updates)):
            waited += (time.perf_counter() - before) * (epoch > 1)
            trainer.step(update, (epoch - 1) * steps + step)  # ends with its loss on the CPU
            before = time.perf_counter()
        lasted += (before - start) * (epoch > 1)
    return lasted / (epochs - 1), waited / lasted


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    keep_heap()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        checkpoint = str(draw_checkpoint(options.model, work / "weights.pth"))
        data = load_dataset(write_flood_scenes(work / "scenes", options.images))
        seconds = {"segment_anything, eager, float32": eager(options.model, checkpoint, options.device)}
        place = work / "scenes.samcache"
        seconds["samfast"] = encode(data, options.model, checkpoint, options.device, place)
        epoch, share = idle(data, EmbeddingCache.open(place), options.device, options.epochs)
    base = next(iter(seconds.values()))
    rows = [[name, f"{1e3 * each:.2f}", f"{base / each:.2f}×"] for name, each in seconds.items()]
    text = f"""## The cache on a GPU: `{options.model}`

{describe(options.device, torch.get_num_threads())}. Random weights, {options.images} generated scenes.

{table(["encoding, ms an image", "", "times as fast"], rows)}

An epoch on them takes {epoch:.2f} s; {share:.1%} of it the decoder waits for a batch."""
    print(text)
    write_section(options.results, f"cache-{options.model}-{options.device.split(':')[0]}", text)


if __name__ == "__main__":
    main()

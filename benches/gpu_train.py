"""Training steps on a GPU, in one call: ``python benches/gpu_train.py``; prints Markdown.

Embeddings and weights are noise of the real size. The loop is that of public scripts, see :mod:`step`: the same losses
and gradients, checked first.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from contenders.prepare import draw_checkpoint
from models import STOCK, Task
from step import OURS, Loop, check
from synthetic import draw_batch, write_cache

from samfast.data import load_dataset
from samfast.data.scenes import write_flood_scenes
from samfast.models.sam import Sam
from samfast.train.batches import epoch_updates
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer
from samfast.train.targets import LOSS_FRAMES

CASES = {"16 images x 1 prompt": (16, 1), "4 images x 8 prompts": (4, 8), "16 images x 8 prompts": (16, 8)}
COMPILED = "samfast, decode compiled"
LOOP_AT_LEAST, MEMORY_AT_MOST_GB, IDLE_AT_MOST = 8.0, 4.0, 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--images", type=int, default=256, help="Of the epoch that shows whether the loader keeps up.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        checkpoint = draw_checkpoint(options.model, work / "model.pth")
        task = Task(options.model, str(checkpoint), options.device, torch.get_num_threads(), options.rounds)
        print(
            "| step | precision | ms: "
            + " / ".join((STOCK, OURS, COMPILED))
            + " | times | GiB | pass |\n"
            + "|---" * 6
            + "|"
        )
        for case in CASES:
            for precision in ("fp32", "bf16"):
                steps(task, case, precision)
        if task.kind == "cuda":
            memory(options.model, options.device)
        for frame in LOSS_FRAMES:
            loader(task, work, options.images, frame)


def trainer_of(sam: Sam, task: Task, precision: str) -> Trainer:
    settings: dict[str, Any] = {"regime": "point", "lr": 1e-6, "model": task.model, "device": task.device}
    config = TrainConfig.make("flood-study", **settings)
    return Trainer(sam, config, steps_per_epoch=1, device=torch.device(task.device), precision=precision)


def steps(task: Task, case: str, precision: str) -> None:
    """The loop, samfast, and samfast with a compiled decoder."""
    images, prompts = CASES[case]
    batch = draw_batch(task.model, images, prompts)
    stock, ours = task.models()
    trainer, compiled = (trainer_of(sam, task, precision) for sam in (ours, task.models()[1]))
    compiled.sam.decode = torch.compile(compiled.sam.decode)  # type: ignore[method-assign]
    loop = Loop(stock, trainer.config, precision)
    check(trainer, loop, batch, has_clicks=False, precision=precision)
    calls = {STOCK: lambda: loop.step(batch), OURS: lambda: trainer.step(batch, 0)}
    calls[COMPILED] = lambda: compiled.step(batch, 0)
    if task.kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = task.in_turns(calls)
    times = seconds[STOCK] / seconds[OURS]
    peak = torch.cuda.max_memory_allocated() / 2**30 if task.kind == "cuda" else float("nan")
    cells = " / ".join(f"{1e3 * seconds[name]:.4g}" for name in calls)
    print(f"| {case} | {precision} | {cells} | {times:.2f} | {peak:.2f} | {times >= LOOP_AT_LEAST} |", flush=True)


def memory(model: str, device: str) -> None:
    """What the decoder of ``vit_h``, all of whose decoders are alike, takes to train at batch 16."""
    with tempfile.TemporaryDirectory() as folder:
        task = Task(model, str(draw_checkpoint(model, Path(folder) / "m.pth")), device, torch.get_num_threads(), 1)
        sam = task.models()[1]
    sam.image_encoder = None
    trainer = trainer_of(sam, task, "bf16")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        trainer.step(draw_batch(model, 16, 1), 0)
    peak = torch.cuda.max_memory_reserved() / 2**30
    print(f"\nDecoder alone, 16 images x 1 prompt, bf16: {peak:.2f} GiB reserved; pass: {peak <= MEMORY_AT_MOST_GB}")


def loader(task: Task, work: Path, images: int, frame: str) -> None:
    """The part of an epoch in which the device waits for the next batch."""
    work /= frame
    dataset = load_dataset(write_flood_scenes(work / "scenes", images))
    samples = list(dataset.of("train", state="labelled"))
    grid = task.models()[1].spec.embedding
    shape = (256, grid, grid)
    cache = write_cache(work / "c.samcache", [s.name for s in samples], keys=[s.key for s in samples], shape=shape)
    sam = task.models()[1]
    sam.image_encoder = None
    trainer = trainer_of(sam, task, "bf16" if task.kind == "cuda" else "fp32")
    config = trainer.config.replace(batch_size=16, loss_frame=frame)

    def read(batch: Any) -> Any:
        return cache.read(batch, pinned=task.kind == "cuda")

    waited, started = 0.0, time.perf_counter()
    updates = iter(epoch_updates(dataset, samples, read, config, sam.spec, epoch=1))
    for number in range(-(-len(samples) // config.batch_size)):
        asked = time.perf_counter()
        batches = list(next(updates))
        if number == 0:  # nothing was ready before
            started = time.perf_counter()
        else:
            waited += time.perf_counter() - asked
        trainer.step(batches, number)
    idle = waited / (time.perf_counter() - started)
    print(
        f"\nWaiting for batches of 16, loss in the {frame} frame: {100 * idle:.1f} % of an epoch of {len(samples)};"
        f" pass: {idle <= IDLE_AT_MOST}"
    )


if __name__ == "__main__":
    main()

"""The encoder and the decoder step beside ``segment_anything``'s, form by form: ``python benches/models.py``.

Per allocator in a process of its own; what is compared runs in turns within it. Writes a section of
``benches/RESULTS.md``. The tables are where ``FORMS`` of ``samfast.models.attention``, ``is_image_projected`` of
``samfast.models.decoder`` and ``CHUNK_POSITIONS`` of ``samfast.train.engine`` come from.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import torch
from contenders.job import waiter
from contenders.machine import describe, take_cores
from contenders.prepare import draw_checkpoint
from contenders.scripts import stock_sam
from results import RESULTS, table, write_section
from segment_anything.modeling import Sam as StockSam
from torch import Tensor

from samfast.models import attention, decoder
from samfast.models.allocator import keep_heap
from samfast.models.checkpoints import load_model
from samfast.models.sam import Sam

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FORMS = {"cpu": ("explicit", "masked", "folded", "in_blocks"), "cuda": ("explicit", "masked", "folded")}
STOCK = "segment_anything"
CHUNKS = {"cpu": (1, 4, 8, 16), "cuda": (16, 32, 64, 128)}
"""Prompts decoded at once; the last one is all of a step's."""
ORDERS, TOKENS = ("reassociated", "projected"), (7, 12, 16, 20, 32)
Seconds = dict[str, float]


@dataclass(frozen=True)
class Task:
    """What one process measures.

    Attributes:
        model: name of the architecture.
        checkpoint: weights for all.
        device: to compute on.
        threads: of torch.
        rounds: times that each is measured; the median counts.
    """

    model: str
    checkpoint: str
    device: str
    threads: int
    rounds: int

    def models(self) -> tuple[StockSam, Sam]:
        """segment_anything's and samfast's, of the same weights."""
        torch.set_num_threads(self.threads)
        torch.backends.cudnn.allow_tf32 = False  # as samfast encodes: float32 against float32
        stock = stock_sam(self.model, self.checkpoint).to(self.device).eval()
        return stock, load_model(self.model, checkpoint=self.checkpoint).to(self.device)

    @property
    def kind(self) -> str:
        """The device's type."""
        return torch.device(self.device).type

    @property
    def prompts(self) -> int:
        """Of a decoder step, each on an image of its own."""
        return CHUNKS[self.kind][-1]

    def in_turns(self, calls: dict[str, Callable[[], object]]) -> Seconds:
        """Median seconds of each call; they take turns, so that a busy moment falls on all of them."""
        wait = waiter(self.device)
        found: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(self.rounds + 1):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                wait()
                if turn:  # the first pass of a process costs more
                    found[name].append(time.perf_counter() - start)
        return {name: statistics.median(values) for name, values in found.items()}


def encoders(task: Task, precision: str, batch: int) -> Seconds:
    """Seconds an image: ``segment_anything``'s encoder, and samfast's with each form of attention."""
    stock, ours = task.models()
    device = torch.device(task.device)
    images = torch.randn(batch, 3, ours.spec.size, ours.spec.size, device=device)

    def run(form: str | None) -> Callable[[], object]:
        def call() -> object:
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                if form is None:
                    return stock.image_encoder(images)
                with patch.dict(attention.FORMS, {(device.type, DTYPES[precision]): getattr(attention, form)}):
                    return ours.encode(images)

        return call

    found = task.in_turns({STOCK: run(None), **{form: run(form) for form in FORMS[device.type]}})
    return {name: seconds / batch for name, seconds in found.items()}


def drawn_prompts(model: Sam, count: int, points: int, device: torch.device) -> dict[str, Tensor]:
    """``count`` prompts of ``points`` points on as many images, with SAM's pad token."""
    spec, channels = model.spec, model.architecture.prompt_dim
    labels = torch.ones(count, points + 1, dtype=torch.int64, device=device)
    labels[:, -1] = -1
    return {
        "image_embeddings": torch.randn(count, channels, spec.embedding, spec.embedding).to(device),
        "image_index": torch.arange(count, device=device),
        "coords": torch.rand(count, points + 1, 2, device=device) * spec.size,
        "labels": labels,
    }


def decoder_step(model: Sam, asked: dict[str, Tensor], chunk: int) -> None:
    """Decode and go back, ``chunk`` prompts at once."""
    model.zero_grad()
    for start in range(0, len(asked["labels"]), chunk):
        part = slice(start, start + chunk)
        rest = {name: asked[name][part] for name in ("image_index", "coords", "labels")}
        logits, scores = model.decode(asked["image_embeddings"], **rest)
        (logits.square().mean((1, 2, 3)).sum() + scores.sum()).backward()


def stock_step(stock: StockSam, asked: dict[str, Tensor]) -> None:
    """The same with ``segment_anything``'s modules, an image at a time: they decode the prompts of one image."""
    stock.zero_grad()
    for row in range(len(asked["labels"])):
        points = asked["coords"][row : row + 1, :-1], asked["labels"][row : row + 1, :-1]
        sparse, dense = stock.prompt_encoder(points=points, boxes=None, masks=None)
        logits, scores = stock.mask_decoder.predict_masks(
            image_embeddings=asked["image_embeddings"][row : row + 1],
            image_pe=stock.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
        (logits.square().mean() + scores.sum()).backward()


def steps(task: Task, precision: str) -> Seconds:
    """Seconds of a decoder step of images with a point each, in chunks of several sizes."""
    stock, ours = task.models()
    device = torch.device(task.device)
    stock.image_encoder.requires_grad_(False)
    asked = drawn_prompts(ours, task.prompts, 1, device)
    stock_step(stock, asked)
    decoder_step(ours, asked, task.prompts)
    own = dict(ours.named_parameters())
    theirs = {name: value.grad for name, value in stock.named_parameters() if value.grad is not None}
    largest = max(float(gradient.norm()) for gradient in theirs.values())
    for name, wanted in theirs.items():  # the same work: the same gradients
        found = own[name].grad
        assert found is not None, name
        assert (found - wanted).norm() <= 1e-2 * wanted.norm() + 1e-6 * largest, name

    def autocast(step: Callable[[], object]) -> Callable[[], object]:
        def call() -> object:
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                return step()

        return call

    calls: dict[str, Callable[[], object]] = {STOCK: lambda: stock_step(stock, asked)}
    for chunk in CHUNKS[task.kind]:
        calls[f"{chunk} at once"] = lambda chunk=chunk: decoder_step(ours, asked, chunk)
    return task.in_turns({name: autocast(call) for name, call in calls.items()})


def orders(task: Task) -> Seconds:
    """Seconds of a decoder step by number of tokens, with the image projected and not."""
    _, ours = task.models()
    calls: dict[str, Callable[[], object]] = {}
    for tokens in TOKENS:
        asked = drawn_prompts(
            ours, task.prompts, tokens - 6, torch.device(task.device)
        )  # beside an IoU, four mask and a pad token
        for order in ORDERS:

            def call(asked: dict[str, Tensor] = asked, is_projected: bool = order == "projected") -> None:
                with patch.object(decoder, "is_image_projected", lambda *_: is_projected):
                    decoder_step(ours, asked, 4)

            calls[f"{order} {tokens}"] = call
    return task.in_turns(calls)


def in_process(measure: Callable[..., Seconds], *arguments: object, kept: bool) -> Seconds:
    """What ``measure`` finds in a process of its own, whose heap is kept or not."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=keep_heap if kept else None) as pool:
        return pool.submit(measure, *arguments).result()


def section(task: Task, batch: int) -> str:
    """Measure everything: the Markdown of the section."""
    is_gpu = task.device.startswith("cuda")
    heaps = {"": True} if is_gpu else {"stock malloc": False, "kept heap": True}
    parts = [f"## Encoder and decoder step: `{task.model}` on {'a GPU' if is_gpu else 'a CPU'}"]
    parts += [f"{describe(task.device, task.threads)}. Random weights; medians of {task.rounds}, in turns."]

    def by_heap(measure: Callable[..., Seconds], scale: float, *rest: object) -> str:
        columns, rows = [], {}
        for precision in DTYPES:
            for heap, kept in heaps.items():
                columns.append(f"{precision} {heap}".strip())
                for name, seconds in in_process(measure, task, precision, *rest, kept=kept).items():
                    rows.setdefault(name, []).append(seconds)
        base = rows[STOCK]
        body = [
            [name, *(f"{scale * v:.4g} ({b / v:.2f}×)" for v, b in zip(values, base, strict=True))]
            for name, values in rows.items()
        ]
        return table([f"(times faster than {STOCK} of the column)", *columns], body)

    parts += [f"### Milliseconds an image, {batch} at once, by form of attention", by_heap(encoders, 1e3, batch)]
    parts += [f"### Milliseconds a decoder step, {task.prompts} images with a point each", by_heap(steps, 1e3)]
    found = in_process(orders, task, kept=True)
    header = ["order of the products", *(f"{tokens} tokens" for tokens in TOKENS)]
    body = [[order, *(f"{1e3 * found[f'{order} {tokens}']:.4g}" for tokens in TOKENS)] for order in ORDERS]
    parts += [f"### Milliseconds a decoder step, {task.prompts} prompts, by tokens, fp32", table(header, body)]
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None, *, device: str = "cpu", batch: int = 1) -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit_b")
    parser.add_argument("--device", default=device)
    parser.add_argument("--threads", type=int, help="the machine's cores")
    parser.add_argument("--batch", type=int, default=batch, help="images encoded at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    options.threads = take_cores(options.threads)
    with tempfile.TemporaryDirectory() as work:
        checkpoint = str(draw_checkpoint(options.model, Path(work) / "weights.pth"))
        task = Task(options.model, checkpoint, options.device, options.threads, options.rounds)
        text = section(task, options.batch)
    print(text)
    write_section(options.results, f"models-{options.model}-{options.device.split(':')[0]}", text)


if __name__ == "__main__":
    main()

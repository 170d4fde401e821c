"""A whole training step beside the loop over images of public scripts: ``python benches/step.py --work FOLDER``.

Both train prompt encoder and mask decoder from the same embeddings, prompts and targets in memory, with the same losses
and optimizer, to the same gradients, which is checked first. The loop decodes the prompts of one image at a time with
``segment_anything``'s modules. Per allocator and precision in a process of its own; the two take turns within it. What
is measured lies in ``--work``, where the script goes on after an interruption.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from contenders.machine import describe, take_cores
from contenders.prepare import draw_checkpoint
from models import DTYPES, STOCK, Seconds, Task, in_process
from numpy.typing import NDArray
from results import RESULTS, table, write_section
from segment_anything.modeling import Sam as StockSam
from synthetic import draw_batch
from torch import Tensor

from samfast.train.batches import Batch
from samfast.train.cells import Sums, plain_sums
from samfast.train.clicks import Asked, corrected
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer
from samfast.train.losses import prompt_losses
from samfast.train.objective import Objective

CASES = {
    "16 images x 1 prompt": (16, 1, "point"),
    "4 images x 8 prompts": (4, 8, "point"),
    "4 images x 2 prompts, clicks:8": (4, 2, "clicks:8"),
}
"""Images, prompts on each, and the regime."""
HEAPS = {"stock malloc": False, "kept heap": True}
OURS = "samfast"


def sums_in_torch(logits: Tensor, target: Tensor, weight: Tensor, owner: Tensor, objective: Objective) -> Sums:
    """What the loss is made of, as public scripts take it."""
    return plain_sums(logits, target[owner], weight[owner], objective)


class Loop:
    """The training step of public scripts."""

    def __init__(self, sam: StockSam, config: TrainConfig, precision: str) -> None:
        self.sam = sam
        self.config = config
        self.device = next(sam.mask_decoder.parameters()).device
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")
        sam.image_encoder.requires_grad_(False)
        self.moving = [*sam.prompt_encoder.parameters(), *sam.mask_decoder.parameters()]
        self.optimizer = torch.optim.Adam(self.moving, lr=config.lr)

    def step(self, batch: Batch) -> float:
        self.optimizer.zero_grad()
        total = sum(self.image_loss(batch, index) for index in range(len(batch.weight)))
        self.optimizer.step()
        return float(total)

    def image_loss(self, batch: Batch, index: int) -> float:
        """Ask all prompts of an image, correct the answers, and so on; backward after each time."""
        mine = batch.tokens.image_index == index
        embedding = self.tensor(batch.features["image_embeddings"][index : index + 1])
        target, weight = self.tensor(batch.target[mine]), self.tensor(batch.weight[[index]])
        keys, share = (
            self.tensor((batch.click_keys[mine] >> np.uint64(1)).astype(np.int64)),
            self.tensor(batch.share[mine] / batch.whole),
        )
        points = (self.tensor(values[mine, :1]) for values in (batch.tokens.coords, batch.tokens.labels))
        asked = Asked(torch.zeros_like(share, dtype=torch.int64), *points, mask=None, has_mask=None)
        weight, is_one_point = weight.expand_as(target), self.tensor(batch.is_one_point[mine])
        times, total = keys.shape[1] + 1, 0.0
        for number in range(times):
            logits, scores = self.decode(embedding, asked)
            with mock.patch("samfast.train.losses.cell_sums", sums_in_torch):
                losses = prompt_losses(self.config.loss, logits, scores, target, weight, is_one_point)
            loss = (losses.total * share).sum() / times
            loss.backward()
            total += float(loss.detach())
            if number + 1 < times:
                draws = keys[:, number], torch.ones_like(share, dtype=torch.bool)
                cell_px = self.sam.image_encoder.img_size / logits.shape[-1]
                asked = corrected(asked, logits[:, :1], target, weight, *draws, cell_px=cell_px)
                is_one_point = torch.zeros_like(is_one_point)
        return total

    def tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def decode(self, embedding: Tensor, asked: Asked) -> tuple[Tensor, Tensor]:
        encoder = self.sam.prompt_encoder
        with self.autocast:
            sparse, dense = encoder(points=(asked.coords, asked.labels), boxes=None, masks=asked.mask)
            logits, scores = self.sam.mask_decoder.predict_masks(
                image_embeddings=embedding,
                image_pe=encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
        return logits.float(), scores.float()


def measured(task: Task, case: str, precision: str) -> Seconds:
    """Seconds of a step of each."""
    images, prompts, regime = CASES[case]
    stock, ours = task.models()
    batch = draw_batch(task.model, images, prompts, regime=regime)
    settings: dict[str, Any] = {"regime": regime, "lr": 1e-6, "model": task.model, "device": "cpu"}
    config = TrainConfig.make("flood-study", **settings)
    trainer = Trainer(ours, config, steps_per_epoch=1, device=torch.device("cpu"), precision=precision)
    loop = Loop(stock, config, precision)
    check(trainer, loop, batch, has_clicks=batch.click_keys.shape[1] > 0, precision=precision)
    return task.in_turns({STOCK: lambda: loop.step(batch), OURS: lambda: trainer.step(batch, 0)})


def check(trainer: Trainer, loop: Loop, batch: Batch, *, has_clicks: bool, precision: str) -> None:
    """The same work: the same loss and gradients. A click may fall elsewhere where two logits differ by rounding."""
    means = trainer.step(batch, 0)
    assert means is not None
    tolerance = 5e-2 if has_clicks else 1e-4 if precision == "fp32" else 2e-2
    found, wanted = means["loss"], loop.step(batch)
    assert abs(found - wanted) <= tolerance * wanted, (found, wanted)
    if has_clicks or precision != "fp32":
        return
    own = {name: value.grad for name, value in trainer.sam.named_parameters()}
    theirs = {name: value.grad for name, value in loop.sam.named_parameters() if value.grad is not None}
    largest = max(float(gradient.norm()) for gradient in theirs.values())
    for name, gradient in theirs.items():
        assert (own[name] - gradient).norm() <= 1e-2 * gradient.norm() + 1e-6 * largest, name


def section(task: Task, cases: Sequence[str], work: Path) -> str:
    """Measure what is not in ``work``: the Markdown of the section."""
    body = []
    for case in cases:
        cells = []
        for precision in DTYPES:
            seconds: dict[str, Seconds] = {}
            for heap, kept in HEAPS.items():
                answer = work / f"{task.model}, {case}, {precision}, {heap}.json"
                if not answer.exists():
                    answer.write_text(json.dumps(in_process(measured, task, case, precision, kept=kept)))
                seconds[heap] = json.loads(answer.read_text())
                theirs, ours = seconds[heap][STOCK], seconds[heap][OURS]
                cells.append(f"{1e3 * theirs:.4g} / {1e3 * ours:.4g} ({theirs / ours:.2f}×)")
            cells.append(f"{seconds['stock malloc'][STOCK] / seconds['kept heap'][OURS]:.2f}×")
        body.append([case, *cells])
        print(*body[-1], sep="  ", flush=True)
    header = [f"{precision}, {column}" for precision in DTYPES for column in (*HEAPS, "each as it ships")]
    note = (
        f"Milliseconds of {STOCK}'s modules in a loop over images / of samfast, on the same allocator, and how many"
        " times faster samfast is; as they ship, that is with malloc's defaults for the loop and the heap kept for"
        f" samfast. Forward, losses, backward, Adam. Random weights; medians of {task.rounds}, in turns."
    )
    head = f"## A training step: `{task.model}` on a CPU\n\n{describe('cpu', task.threads)}."
    return f"{head} {note}\n\n{table(['step', *header], body)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit_b")
    parser.add_argument("--checkpoint", type=Path, help="of the model; drawn by default")
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--threads", type=int, help="the machine's cores")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="a folder for what is measured")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    options.threads = take_cores(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        checkpoint = options.checkpoint or draw_checkpoint(options.model, Path(folder) / "weights.pth")
        task = Task(options.model, str(checkpoint), "cpu", options.threads, options.rounds)
        text = section(task, options.only, work)
    write_section(options.results, f"step-{options.model}-cpu", text)


if __name__ == "__main__":
    main()

"""The answers of all jobs as Markdown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

EPOCHS = 17
"""Of the job that is compared: those of the flood-segmentation study."""
WHO = {
    "encoder": "(a) encoder in every step",
    "naive": "(b) naive cache",
    "samfast": "(c) samfast",
}
WITHIN = 0.005
"""How near to the best IoU counts as there: a plateau's highest point is chance."""
HEAP = {"system": "stock", "kept": "heap kept"}

Answers = dict[tuple[str, str, str], dict[str, Any]]
"""(contender, malloc, precision) to what :func:`contenders.job.run` answered."""


@dataclass(frozen=True)
class Cost:
    """What a contender costs, in seconds.

    Attributes:
        opened: to read and check the data set, once a run; 0 for those who read its files in every step.
        cache: to encode the images once; 0 where every step does.
        encoded: images that was measured over.
        epoch: an epoch.
        over: what that was measured over.
    """

    opened: float
    cache: float
    encoded: int
    epoch: float
    over: str

    @property
    def job(self) -> float:
        """A first run, the cache included."""
        return self.cache + self.second_run

    @property
    def second_run(self) -> float:
        """Another run on the same cache."""
        return self.until(EPOCHS)

    def until(self, epochs: int) -> float:
        """So many epochs on a cache that is there."""
        return self.opened + epochs * self.epoch

    def of(self, share: float) -> Cost:
        """The same for ``share`` times as many images."""
        return replace(self, opened=share * self.opened, cache=share * self.cache, epoch=share * self.epoch)


def costs(answers: Answers, row: str, precision: str, images: int) -> dict[tuple[str, str], Cost]:
    """(contender, malloc) to its cost, for those that were measured."""
    found = {}
    for (who, malloc, which), answer in answers.items():
        if which == precision and row in answer["rows"]:
            encode = answer.get("encode", {"image_s": 0.0, "images": 0})
            timing = answer["rows"][row]
            found[who, malloc] = Cost(
                opened=answer.get("open_image_s", 0.0) * images,
                cache=encode["image_s"] * images,
                encoded=encode["images"],
                epoch=timing["epoch_s"],
                over=timing["over"],
            )
    return found


def row_table(found: dict[tuple[str, str], Cost], images: int) -> str:
    """All contenders for one kind of prompt at one precision, and how many times faster samfast is as it ships."""
    ours = found["samfast", "kept"]
    lines = [
        f"| contender | malloc | open | cache | epoch | measured over | {EPOCHS} epochs | second run"
        f" | samfast: {EPOCHS} epochs | samfast: second run |",
        "|---|---|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for (who, malloc), cost in found.items():
        over = cost.over if cost.encoded in (0, images) else f"{cost.over}; cache: {cost.encoded} images"
        cells = [
            WHO[who],
            HEAP[malloc],
            *(f"{seconds:.1f} s" if seconds else "–" for seconds in (cost.opened, cost.cache)),
            f"{cost.epoch:.2f} s",
            over,
            f"{cost.job:.0f} s",
            f"{cost.second_run:.0f} s",
            _times(cost.job / ours.job),
            _times(cost.second_run / ours.second_run),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def split_table(answers: Answers, row: str, images: int) -> str:
    """From the first contender to samfast, one change at a time: seconds an epoch, and an encode.

    The encoder of (a) is timed as (b) makes its files. Steps that were not measured are left out.
    """
    found = {
        (*who, precision): cost
        for precision in ("fp32", "bf16")
        for who, cost in costs(answers, row, precision, images).items()
    }
    steps = [
        ("as published", ("encoder", "system", "fp32"), ("naive", "system", "fp32")),
        ("allocator", ("encoder", "kept", "fp32"), ("naive", "kept", "fp32")),
        ("cache", ("naive", "kept", "fp32"), ("naive", "kept", "fp32")),
        ("decoder, batching, prompts", ("samfast", "kept", "fp32"), ("samfast", "kept", "fp32")),
        ("precision: bf16", ("samfast", "kept", "bf16"), ("samfast", "kept", "bf16")),
    ]
    lines = ["| change | epoch | factor | encoding an image | factor |", "|---|---:|---:|---:|---:|"]
    before: tuple[float, float] | None = None
    for change, trained, encoded in steps:
        if trained not in found or encoded not in found:
            continue
        now = found[trained].epoch, found[encoded].cache / images
        factors = ["", ""] if before is None else [_times(was / each) for was, each in zip(before, now, strict=True)]
        epoch, encode = (f"{seconds:.2f} s" for seconds in now)
        lines.append(f"| {change}: {WHO[trained[0]]} | {epoch} | {factors[0]} | {encode} | {factors[1]} |")
        before = now
    return "\n".join(lines)


def curve_table(curves: dict[str, list[list[float]]], found: dict[tuple[str, str], Cost]) -> str:
    """Epochs and seconds until (b) and (c), and with (b)'s curve (a), reach an equal validation IoU.

    Args:
        curves: ``"naive"`` and ``"samfast"`` to the validation IoU of every seed before the first epoch and after each.
        found: what the contenders cost on the images that the curves were trained on.
    """
    mean = {who: np.mean(runs, axis=0) for who, runs in curves.items()}
    best = {who: float(curve[1:].max()) for who, curve in mean.items()}
    target = min(best.values()) - WITHIN
    epochs = {who: 1 + int(np.argmax(curve[1:] >= target)) for who, curve in mean.items()}
    epochs["encoder"] = epochs["naive"]
    ours = found["samfast", "kept"]
    reached_s = ours.cache + ours.until(epochs["samfast"])
    lines = [
        f"Validation IoU {target:.3f} (untuned {mean['samfast'][0]:.3f}; best of (b) {best['naive']:.3f}, of (c)"
        f" {best['samfast']:.3f}; the target is {WITHIN:g} less than the smaller; mean over"
        f" seeds: {len(curves['samfast'])}).",
        "",
        "| contender | malloc | epochs to it | time to it, cache included | samfast |",
        "|---|---|---:|---:|---:|",
    ]
    for (who, malloc), cost in found.items():
        seconds = cost.cache + cost.until(epochs[who])
        cells = [WHO[who], HEAP[malloc], str(epochs[who]), f"{seconds:.0f} s", _times(seconds / reached_s)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _times(ratio: float) -> str:
    return f"{ratio:.3g}×" if ratio < 100 else f"{ratio:.0f}×"

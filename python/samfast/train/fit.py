"""Epoch after epoch: train, judge, keep the best, and leave what the next epoch starts from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from samfast.data import Dataset
from samfast.data.types import Sample
from samfast.errors import DataError, RunError, SamfastError
from samfast.models.sam import Sam
from samfast.progress import Stopwatch, bar, track
from samfast.train.balance import EVEN, Balance
from samfast.train.batches import Read, epoch_updates
from samfast.train.callbacks import Callbacks
from samfast.train.config import TrainConfig
from samfast.train.divergence import TrainedSegmenter, in_epoch
from samfast.train.engine import Trainer
from samfast.train.folder import RunFolder
from samfast.train.partial_epoch import PartialEpoch
from samfast.train.pictures import pictured, validation_pictures
from samfast.train.prompt_free import run_contract
from samfast.train.regimes import get_regime
from samfast.train.targets import visible
from samfast.train.validation import validate
from samfast.train.views import EpochViews
from samfast.train.world import ALONE, World

NOBODY = Callbacks()
SAVE_SECONDS = 60.0
"""How long an epoch trains between two writes of its state, which take 0.25 s for the 50 MB of ``vit_b`` and Adam."""


def fit(
    folder: RunFolder,
    sam: Sam,
    dataset: Dataset,
    views: EpochViews,
    train: Sequence[Sample],
    val: Sequence[Sample],
    read: Read,
    config: TrainConfig,
    *,
    device: torch.device,
    precision: str,
    callbacks: Callbacks = NOBODY,
    world: World = ALONE,
) -> None:
    """Train ``sam`` in place, from the last update that ``folder`` holds to the end, and leave the run in it.

    Of several processes that train together, the first judges, speaks and writes, and the others wait for it.

    Raises:
        RunError: the loss diverged, or a callback failed; the best weights so far are kept.
    """
    steps_per_epoch = -(-len(train) // (config.batch_size * config.accumulate))
    trainer = Trainer(sam, config, steps_per_epoch=steps_per_epoch, device=device, precision=precision, world=world)
    epochs = -(-trainer.steps // steps_per_epoch)
    regime = get_regime(config.regime)
    labels = (visible(dataset.target(sample)) for sample in track(train, "reading labels"))
    balance = world.first(Balance.over(config.balance, labels) if world.is_first else EVEN)
    segmenter = TrainedSegmenter(sam, run_contract(config, dataset), device=device)
    metrics: list[dict[str, Any]] = []
    journal = folder.journal
    callbacks = callbacks if world.is_first else NOBODY
    shown_val = pictured(val, callbacks.pictures)

    def tell(text: str) -> None:
        if world.is_first:
            journal.say(text)

    def finish_epoch(*, epoch: int, **line: Any) -> None:
        metrics.append({"epoch": epoch, **line})
        if world.is_first:
            judge_and_save(epoch)
        trainer.judged = world.first(trainer.judged)

    def judge_and_save(epoch: int) -> None:
        is_judged = epoch % config.eval_interval == 0 or epoch == epochs
        with trainer.averaged():
            if is_judged:
                watch = Stopwatch()
                with in_epoch(epoch):
                    judged = validate(segmenter, dataset, val, read, regime.kinds, seed=config.seed)
                trainer.judged.append(judged["val_iou"])
                metrics[-1] |= {**judged, "val_seconds": round(watch.seconds, 3)}
            is_best = folder.save_weights(sam.decoder_state(), metrics)
            pictures = (
                validation_pictures(segmenter, dataset, shown_val, read, regime.kinds, seed=config.seed)
                if is_judged and shown_val
                else {}
            )
        folder.save_epoch(sam.decoder_state(), trainer.state(), metrics)
        tell(_line(metrics[-1], epochs, is_best=is_best))
        if is_judged:
            callbacks.validation(
                step=min(epoch * steps_per_epoch, trainer.steps), epoch=epoch, line=metrics[-1], pictures=pictures
            )

    def save(partial: PartialEpoch) -> None:
        if world.is_first:
            folder.save_progress(sam.decoder_state(), trainer.state(), metrics, partial)

    partial = PartialEpoch()
    done = world.first(folder.progress() if world.is_first else None)
    if done is not None:
        sam.load_state_dict(done.weights, strict=False)
        trainer.load_state(done.trainer)
        metrics += done.metrics
        partial = done.partial
        within = f", and {partial.updates} updates of the next" if partial.updates else ""
        tell(f"continuing after epoch {done.epoch} of {epochs}{within}")
    steps_done = max(len(metrics) - 1, 0) * steps_per_epoch + partial.updates
    try:
        with callbacks.watching(folder, config.to_dict(), step=steps_done):
            if done is None:
                finish_epoch(epoch=0, loss=None, lr=None, seconds=0.0)
            for epoch in range(len(metrics), epochs + 1):
                if config.patience and len(trainer.judged) - 1 - np.argmax(trainer.judged) >= config.patience:
                    tell(f"no better for {config.patience} judgements in a row: the run ends after epoch {epoch - 1}")
                    break
                shown = views.shown(train, epoch=epoch)
                trained = _train_epoch(
                    trainer,
                    dataset,
                    shown,
                    read,
                    config,
                    epoch=epoch,
                    partial=partial,
                    save=save,
                    balance=balance,
                    callbacks=callbacks,
                )
                if epoch == 1 and (unreached := _unreached(trainer)):
                    tell(unreached)
                finish_epoch(epoch=epoch, **trained, seconds=round(partial.seconds, 3))
                partial = PartialEpoch()
            if world.is_first:
                folder.finish(metrics)
                journal.note("finished")
    except KeyboardInterrupt:
        tell(
            f"interrupted in epoch {len(metrics)} of {epochs}; {folder.path} holds all but the last minute at most."
            " Start it again with the same arguments to continue."
        )
        raise
    except SamfastError as error:
        if world.is_first:
            journal.note(f"error: {error}")
        raise


def _train_epoch(
    trainer: Trainer,
    dataset: Dataset,
    samples: Sequence[Sample],
    read: Read,
    config: TrainConfig,
    *,
    epoch: int,
    partial: PartialEpoch,
    save: Callable[[PartialEpoch], None],
    balance: Balance,
    callbacks: Callbacks,
) -> dict[str, float]:
    """One pass over the train set, or the rest of it: the mean over prompts of the loss and its parts, and the last
    learning rate.
    """
    before = (epoch - 1) * trainer.steps_per_epoch
    step = before + partial.updates
    seconds, watch, since_saved = partial.seconds, Stopwatch(), Stopwatch()
    with bar(f"epoch {epoch}", len(samples)) as running:
        spec = trainer.sam.spec
        images = len(samples) / trainer.steps_per_epoch
        running.advance(partial.updates * images)
        which = {"epoch": epoch, "done": partial.updates, "at_most": trainer.steps - before}
        for together in epoch_updates(
            dataset, samples, read, config, spec, **which, balance=balance, world=trainer.world
        ):
            with in_epoch(epoch):
                means = trainer.step(together, step)
            partial.add(means)
            if means is not None and means.pop("prompts"):
                callbacks.step(step=step + 1, epoch=epoch, values={**means, "lr": trainer.learning_rate(step)})
            step += 1
            running.advance(images, loss=partial.sums.get("loss", 0.0) / max(partial.prompts, 1))
            partial.seconds = seconds + watch.seconds
            if since_saved.seconds >= SAVE_SECONDS:
                save(partial)
                since_saved = Stopwatch()
    if partial.prompts == 0 and partial.skipped:
        raise RunError(f"epoch {epoch}: no step had a finite loss", where="lr", fix="a smaller lr, or clip_norm=1")
    if partial.prompts == 0:
        raise DataError("every object of the train set lies in the ignored region", where=dataset.root)
    trained = {**partial.means(), "lr": trainer.learning_rate(step - 1)}
    return {**trained, "skipped_steps": partial.skipped} if partial.skipped else trained


def _unreached(trainer: Trainer) -> str:
    """What to tell of the parts that ``trainable`` names and the first epoch did not move, if there are such.

    Raises:
        RunError: it moved none.
    """
    names = trainer.unreached
    what = f"no gradient reaches {', '.join(names)} by regime={trainer.config.regime!r}"
    if len(names) == len(trainer.config.trainable):
        raise RunError(f"{what}: nothing is trained", where="trainable", fix="name other parts, or another regime")
    return f"{what}: it stays as it was" if names else ""


def _line(line: dict[str, Any], epochs: int, *, is_best: bool) -> str:
    """An epoch in a line for people."""
    loss = "untuned    " if line["loss"] is None else f"loss {line['loss']:.4f}"
    kinds = "  ".join(
        f"{name.removeprefix('val_iou_')} {value:.3f}" for name, value in line.items() if name.startswith("val_iou_")
    )
    judged = f"  val IoU {line['val_iou']:.4f}  ({kinds})" if "val_iou" in line else ""
    return f"epoch {line['epoch']:>3}/{epochs}  {loss}{judged}{'  best' if is_best else ''}"

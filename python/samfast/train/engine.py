"""The training step: forward, loss and backward in chunks of prompts, one optimizer update."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samfast.errors import RunError
from samfast.models.compiling import why_refused
from samfast.models.sam import Sam
from samfast.models.segmenter import as_float32
from samfast.progress import say
from samfast.train.batches import Batch
from samfast.train.class_losses import class_losses
from samfast.train.clicks import Asked, answers, corrected
from samfast.train.config import TrainConfig
from samfast.train.divergence import diverged
from samfast.train.gradients import Gradients
from samfast.train.loss_frame import to_low_res
from samfast.train.losses import prompt_losses
from samfast.train.regimes import get_regime
from samfast.train.world import ALONE, World

CHUNK_POSITIONS = {"cuda": 2**18}
"""Image positions (prompts times the embedding grid) decoded at once, by device type: bounds a step's activations."""
CHUNK_POSITIONS_ELSEWHERE = 2**16

FUSED = ("cpu", "cuda")
"""Device types on which an update of all parameters is one kernel."""


class Trainer:
    """A decoder and its optimizer.

    Args:
        sam: a decoder-only model; moved to ``device``, and trained in place.
        config: the settings.
        steps_per_epoch: optimizer steps an epoch has.
        device: to train on.
        precision: ``"fp32"`` or ``"bf16"`` (autocast; parameters and losses stay float32).
        world: the processes that take each step together.
    """

    def __init__(
        self,
        sam: Sam,
        config: TrainConfig,
        *,
        steps_per_epoch: int,
        device: torch.device,
        precision: str = "fp32",
        world: World = ALONE,
    ) -> None:
        self.sam = sam.to(device)
        self.config = config
        self.device = device
        self.steps_per_epoch = steps_per_epoch
        self.steps = config.steps or config.epochs * steps_per_epoch
        self.world = world
        self._autocast = precision == "bf16"
        self._is_sam = get_regime(config.regime).is_sam
        self._is_prompt_free = get_regime(config.regime).is_prompt_free
        self._loss = partial(prompt_losses, config.loss)
        if self._is_prompt_free:
            self._loss = partial(class_losses, config.loss, multilabel=config.multilabel)
        self.cell_px = sam.spec.size / sam.spec.low_res
        self.chunk = max(1, CHUNK_POSITIONS.get(device.type, CHUNK_POSITIONS_ELSEWHERE) // sam.spec.embedding**2)
        # Numbers of prompts and tokens vary from step to step.
        self._compiled = torch.compile(self.sam.decode, dynamic=True) if config.compile else None
        sam.requires_grad_(False)
        modules = [sam.get_submodule(name) for name in config.trainable]
        for module in modules:
            module.requires_grad_(True)
        optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
        groups = _parameter_groups(modules, config.weight_decay)
        self.optimizer = optimizer(groups, lr=config.lr, fused=device.type in FUSED)
        self.judged: list[float] = []
        self._moving = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self._gradients = Gradients(self._moving)
        self._names: tuple[str, ...] = ()
        self._averaged = [parameter.detach().clone() for parameter in self._moving] if config.ema else []

    @property
    def trainable_parameters(self) -> int:
        """How many numbers training moves."""
        return sum(parameter.numel() for parameter in self.sam.parameters() if parameter.requires_grad)

    def step(self, batches: Batch | Iterable[Batch], step: int) -> dict[str, float] | None:
        """One optimizer update.

        A chunk of prompts that a GPU has no memory for is halved, for good, and tried again: nothing of it has been
        added to the gradient yet.

        Args:
            batches: one, or several that are accumulated, or none: the loss is the mean over all their prompts, each
                with its share, and over those of the other processes. Of several, one is held at a time.
            step: number of the update, counted from 0 over all epochs.

        Returns:
            the loss, each part of it by name, and how many ``prompts`` it is the mean over. Without prompts there is
            no update. None if the loss or its gradient is not finite, and the step was skipped.

        Raises:
            RunError: the loss or its gradient is not finite, and the settings do not say to skip it. The parameters
                are as they were. Or there is no memory for a single prompt.
        """
        self._gradients.clear()
        whole, prompts = 0.0, 0
        sums: dict[str, Tensor] = {}
        for batch in [batches] if isinstance(batches, Batch) else batches:
            whole, prompts = whole + batch.whole, prompts + len(batch)
            for found in self._pieces(batch) if len(batch) else ():
                sums = {name: sums[name] + value if sums else value for name, value in found.items()}
        self._names = self._names or self.world.longest(tuple(sums))
        none = torch.zeros((), device=self.device)
        counts = torch.tensor([whole, prompts], dtype=torch.float32, device=self.device)
        totals = torch.cat([counts, *(sums.get(name, none)[None] for name in self._names)])
        totals = self._gradients.join(self.world, totals)
        norm = self._gradients.norm().to(self.device)
        norm, whole, prompts, *losses = torch.cat([norm[None], totals]).tolist()
        if prompts == 0:
            return {"prompts": 0}
        means = {name: total / whole for name, total in zip(self._names, losses, strict=True)}
        for name, value in {"loss": means["loss"], "norm of the gradient": norm}.items():
            if not np.isfinite(value):
                if self.config.on_nan == "skip":
                    return None
                raise diverged(f"the {name} became {value} at step {step + 1}")
        clip_norm = self.config.clip_norm or np.inf
        self._gradients.put(divisor=whole * max(1.0, norm / whole / clip_norm))
        lr = self.learning_rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        if self._averaged:
            decay = min(self.config.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(self._averaged, self._moving, 1 - decay)
        return {**means, "prompts": prompts}

    @property
    def unreached(self) -> list[str]:
        """What of the modules and parts that are to move no gradient has reached so far."""
        first_moments = {parameter: state["exp_avg"] for parameter, state in self.optimizer.state.items()}

        def is_reached(name: str) -> bool:
            moments = map(first_moments.get, self.sam.get_submodule(name).parameters())
            return any(bool(moment.any()) for moment in moments if moment is not None)

        return [name for name in self.config.trainable if not is_reached(name)]

    def try_out(self, batch: Batch) -> None:
        """Take a batch backward and forget it: :attr:`chunk` is then what there is memory for."""
        for _ in self._pieces(batch):
            pass
        self._gradients.clear()

    def _pieces(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """Add a batch to the gradient, chunk by chunk; for each, the sums of the losses by name."""
        features = {name: as_float32(self._tensor(values)) for name, values in batch.features.items()}
        weight = self._tensor(batch.weight)
        start = 0
        while start < len(batch):
            part = slice(start, min(start + self.chunk, len(batch)))
            try:
                with self._gradients.piece():
                    sums = self._teach(batch, part, features, weight)
            except torch.OutOfMemoryError as error:
                if part.stop - start == 1:
                    fix = "device='cpu', or a GPU with more memory"
                    raise RunError(f"no memory for a single prompt: {error}", where=self.device.type, fix=fix) from None
                self.chunk = (part.stop - start) // 2
            except RuntimeError as error:
                reason = why_refused(error)
                if reason is None or self._compiled is None:
                    raise
                self._compiled = None
                say(f"the decoder cannot be compiled: {reason}; the run goes on without")
                continue
            else:
                start = part.stop
                yield sums
                continue
            torch.cuda.empty_cache()  # not in the except clause, whose error holds on to what failed
            say(f"out of memory: the step goes on in chunks of {self.chunk} prompts")

    def _teach(self, batch: Batch, part: slice, features: dict[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
        """Take some prompts backward: the sums of their losses, each with its share, by name."""
        share = self._tensor(batch.share[part])
        sums: dict[str, Tensor] = {}
        for losses in self._rounds(batch, part, features, weight):
            taught = (losses["loss"] * share).sum()
            if taught.requires_grad:  # what moves may play no part in these prompts
                taught.backward()
            for name, values in losses.items():
                total = (values.detach() * share).sum()
                sums[name] = sums[name] + total if name in sums else total
        return sums

    def losses(self, batch: Batch) -> NDArray[np.float32]:
        """``(P,)`` float32 losses of a batch's prompts, training nothing."""
        features = {name: as_float32(self._tensor(values)) for name, values in batch.features.items()}
        weight = self._tensor(batch.weight)
        with torch.no_grad():
            parts = [
                torch.stack([losses["loss"] for losses in self._rounds(batch, part, features, weight)]).sum(0)
                for part in (slice(start, start + self.chunk) for start in range(0, len(batch), self.chunk))
            ]
        return torch.cat(parts).cpu().numpy()

    def learning_rate(self, step: int) -> float:
        """The learning rate of an update, counted from 0 over all epochs."""
        config = self.config
        length = {"steps_per_epoch": self.steps_per_epoch, "steps": self.steps}
        return config.lr * config.schedule.factor(step, **length, judged=self.judged)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The average of the weights in their place, where one is kept."""
        moving = [parameter.detach().clone() for parameter in self._moving] if self._averaged else []
        self._put(self._averaged)
        try:
            yield
        finally:
            self._put(moving)

    def _put(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self._moving if values else [], values, strict=True):
                parameter.copy_(value)

    def state(self) -> dict[str, Any]:
        """What the next step starts from, beside the weights."""
        return {"optimizer": self.optimizer.state_dict(), "averaged": self._averaged, "judged": self.judged}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self._averaged = [value.to(self.device) for value in state["averaged"]]
        self.judged = list(state["judged"])

    def _rounds(
        self, batch: Batch, part: slice, features: dict[str, Tensor], weight: Tensor
    ) -> Iterator[dict[str, Tensor]]:
        """Ask some prompts, and again as often as they are corrected: each time, each prompt's share of its loss.

        A prompt's loss is the mean over the times it is asked. No gradient flows from one time to the next, so that
        each may be taken backward before the next is asked.
        """
        tokens = batch.tokens[part]
        asked = Asked(
            image_index=self._tensor(tokens.image_index),
            coords=self._tensor(tokens.coords),
            labels=self._tensor(tokens.labels),
            mask=None if tokens.mask is None else self._tensor(tokens.mask),
            has_mask=None if tokens.mask is None else self._tensor(tokens.has_mask),
        )
        target, weight = self._tensor(batch.target[part]), weight[asked.image_index]
        target = target.float() / 255 if target.dtype == torch.uint8 else target
        is_one_point = self._tensor(batch.is_one_point[part])
        keys = self._tensor((batch.click_keys[part] >> np.uint64(1)).astype(np.int64))  # torch divides int64 alone
        adds_click = self._tensor(batch.adds_click[part])
        corrections = keys.shape[1]
        cells = to_low_res(target, weight, self.sam.spec.low_res) if corrections else (target, weight)
        for number in range(corrections + 1):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
                logits, ious = (self._compiled or self.sam.decode)(**features, **vars(asked))
            logits = logits.float()
            lone = () if self._is_prompt_free else (is_one_point,)
            losses = self._loss(logits, ious.float(), target, weight, *lone)
            named = {"loss": losses.total, **{f"loss_{name}": values for name, values in losses.parts.items()}}
            yield {name: values / (corrections + 1) for name, values in named.items()}
            if number < corrections:
                answer = answers(logits, ious, is_one_point, best_predicted=self._is_sam)
                draws = keys[:, number], adds_click[:, number]
                asked = corrected(asked, answer, *cells, *draws, cell_px=self.cell_px)
                is_one_point = torch.zeros_like(is_one_point)

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values if values.flags.writeable else values.copy()).to(self.device, non_blocking=True)


def _parameter_groups(modules: list[nn.Module], weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with and without decay: embeddings, norms and biases hold no direction that ought to shrink."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for module in modules:
        for child in module.modules():
            for parameter in child.parameters(recurse=False):
                shrinks = parameter.ndim >= 2 and not isinstance(child, nn.Embedding)
                (decayed if shrinks else kept).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]

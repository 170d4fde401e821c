"""Regimes: how the prompts of a training step are drawn.

=============  =====================================================================================================
``KIND``       a prompt kind, see :mod:`samfast.inference.prompt_kinds`; ``box`` means ``box~10%``, a box with SAM's
               noise, and ``mask`` means ``mask~10%``
``A+B``        one of the kinds, each equally likely, mixed across objects
``csv:PATH``   the prompts of a file, as they are; judged by the same file. Its objects alone take part
``clicks:N``   ``point+box``, and the answer corrected by a click, asked again, and so on: N questions, 8 by default
``sam``        SAM's schedule: ``point+box``, 8 clicks, and 2 times the last answer alone, the one at a random place
               among the clicks and the other at the end (Kirillov et al., 2023, appendix A)
``none``       no prompt: a mask token of its own for each class, taught all of the class on every annotated image,
               those included that hold none of it (as SAMed, Zhang and Liu, 2023, has it)
=============  =====================================================================================================

"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samfast.data.types import Sample, Target
from samfast.errors import ConfigError
from samfast.frames import Frame
from samfast.inference.contract import MULTIMASK, NO_PROMPT, SINGLE, OutputContract
from samfast.inference.given import Given
from samfast.inference.prompt_kinds import GIVEN, Keys, PromptKind, prompt_kind
from samfast.prompts import Prompts, concatenate, draw_keys

_CHOICE, _FIRST_PROMPT = 0, 1
"""Draw numbers: one chooses the objects of an epoch, the others draw their prompts."""
_ROUND = 2**32
"""Between the draw numbers of a prompt and of its corrections: more than there are prompts of an object."""

NOISE = {"box": "box~10%", "mask": "mask~10%"}
"""What a kind becomes in training: one that is drawn anew in every epoch."""
SAM_CLICKS = 8
CORRECTED = re.compile(r"clicks(?::(\d+))?|sam")


@dataclass(frozen=True)
class Regime:
    """A way to draw training prompts.

    Attributes:
        name: what it is called.
        alternatives: the kinds of the first prompt, each equally likely.
        kinds: the evaluation prompts it is validated with, drawn once: the same, but for ``box``, which has no noise.
        corrections: how often an answer is asked for again.
        is_sam: whether one of the corrections but the last, and the last, add no click.
    """

    name: str
    alternatives: tuple[PromptKind, ...]
    kinds: tuple[str, ...]
    corrections: int = 0
    is_sam: bool = False

    @property
    def is_prompt_free(self) -> bool:
        """Whether it draws no prompts, and teaches classes."""
        return not self.alternatives

    @property
    def contract(self) -> OutputContract:
        """The tokens it teaches: all four on single points, token 0 on others, none on prompts it never draws."""
        if self.is_prompt_free:
            return OutputContract((), ())
        lone = any(kind.may_be_one_point for kind in self.alternatives)
        others = self.corrections > 0 or not all(kind.is_one_point for kind in self.alternatives)
        return OutputContract(one_point=SINGLE + MULTIMASK if lone else (), other=SINGLE if others else ())

    @property
    def given(self) -> Given | None:
        """The file that gives its prompts; None where they are drawn, or where there are none."""
        return self.alternatives[0].given if self.alternatives else None

    def askable(self, target: Target, sample: Sample) -> Target:
        """The objects of an image that it asks for."""
        return self.alternatives[0].askable(target, sample)

    def draw(self, target: Target, frame: Frame, keys: Keys) -> Prompts:
        """A first prompt for each object; arguments and result are those of a prompt kind."""
        drawn = concatenate([kind.draw(target, frame, keys) for kind in self.alternatives])
        count = len(self.alternatives)
        chosen = ((keys >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)).astype(np.int64)
        return drawn[chosen * len(keys) + np.arange(len(keys))]

    def adds_click(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """``(P, C)`` bool: whether each correction adds a click, from the ``(P, C)`` keys of the corrections."""
        added = np.ones(keys.shape, bool)
        if self.is_sam:
            added[:, -1] = False
            added[np.arange(len(keys)), (keys[:, -1] % np.uint64(self.corrections - 1)).astype(np.int64)] = False
        return added


def get_regime(name: str) -> Regime:
    """The regime of that name.

    >>> get_regime("point+box").kinds, get_regime("clicks:3").corrections
    (('point', 'box'), 2)

    Raises:
        ConfigError: there is none.
    """
    if name == NO_PROMPT:
        return Regime(name, alternatives=(), kinds=(NO_PROMPT,))
    if found := CORRECTED.fullmatch(name):
        first = get_regime("point+box")
        asked = SAM_CLICKS + 3 if name == "sam" else int(found[1] or 8)
        if asked < 1:
            raise ConfigError(f"{name!r} asks nothing", where="regime", fix="clicks:1 or more")
        return Regime(name, first.alternatives, first.kinds, corrections=asked - 1, is_sam=name == "sam")
    if name.startswith(GIVEN):
        return Regime(name, (prompt_kind(name),), (name,))
    if GIVEN in name:
        raise ConfigError(
            f"{name!r} joins the prompts of a file with others: they are a regime of their own",
            where="regime",
            fix=f"{GIVEN}PATH alone; or write all prompts to the file",
        )
    drawn = ["&".join(NOISE.get(term, term) for term in kind.split("&")) for kind in name.split("+")]
    try:
        alternatives = tuple(prompt_kind(kind) for kind in drawn)
    except ConfigError as error:
        raise ConfigError(
            f"{name!r} is no regime: {error.what}",
            where="regime",
            fix=f"{error.fix}; several of them joined by +; clicks:N; sam; or none, alone",
        ) from None
    return Regime(name, alternatives, tuple(dict.fromkeys(re.sub(r"box~\d+%", "box", kind) for kind in drawn)))


def choose_objects(ids: Sequence[str], image_key: str, *, seed: int, epoch: int, at_most: int) -> NDArray[np.int64]:
    """The objects of an image that take part in an epoch: rising indices into ``ids``.

    They are shuffled, and dealt out over as few epochs as can take them all; then they are shuffled again. Which they
    are depends on (seed, epoch, image, annotations) alone.

    Args:
        ids: annotation ids of all objects that are to take part in turn.
        image_key: row key of the plain image.
        seed: of the run.
        epoch: of the run, counted from 1.
        at_most: objects of an epoch.
    """
    shares = -(-len(ids) // at_most) or 1
    turn, share = divmod(epoch - 1, shares)
    order = np.argsort(draw_keys(seed, image_key, ids, epoch=turn, draw=_CHOICE), kind="stable")
    return np.sort(np.array_split(order, shares)[share])


def training_prompts(
    regime: Regime,
    target: Target,
    sample: Sample,
    frame: Frame,
    objects: NDArray[np.int64],
    *,
    seed: int,
    epoch: int,
    prompts_per_object: int = 1,
) -> Prompts:
    """Fresh prompts for some objects of an image: ``prompts_per_object`` rounds, each in the order of ``objects``.

    Each prompt is keyed by (seed, epoch, image, annotation, round): it does not depend on the order of the data, the
    batch it is in, or what else is drawn.

    Args:
        regime: how they are drawn.
        target: what can be seen of it, see :func:`~samfast.train.targets.visible`.
        sample: the image.
        frame: of the image.
        objects: indices into the target's masks; at least one.
        seed: of the run.
        epoch: of the run.
        prompts_per_object: rounds.

    Returns:
        original frame, all on image 0.
    """
    chosen = target.select(objects)
    draws = range(_FIRST_PROMPT, _FIRST_PROMPT + prompts_per_object)
    keys = [draw_keys(seed, sample.key, chosen.ids, epoch=epoch, draw=draw) for draw in draws]
    return concatenate([regime.draw(chosen, frame, each) for each in keys])


def click_keys(
    sample: Sample,
    annotation_ids: Sequence[str],
    *,
    seed: int,
    epoch: int,
    corrections: int,
    prompts_per_object: int = 1,
) -> NDArray[np.uint64]:
    """``(P, corrections)`` keys of the clicks that correct the answers to :func:`training_prompts`, in their order.

    A key depends on (seed, epoch, image, annotation, prompt, correction) alone.
    """
    keys = np.empty((prompts_per_object, len(annotation_ids), corrections), np.uint64)
    for round_ in range(prompts_per_object):
        for number in range(corrections):
            draw = (number + 1) * _ROUND + _FIRST_PROMPT + round_
            keys[round_, :, number] = draw_keys(seed, sample.key, annotation_ids, epoch=epoch, draw=draw)
    return keys.reshape(prompts_per_object * len(annotation_ids), corrections)

"""Prompt sets: the prompts a model is judged with, drawn once from (seed, image, object) and frozen ever after."""

from __future__ import annotations

from dataclasses import replace

from samfast.data.types import Sample, Target
from samfast.frames import PreprocessSpec
from samfast.inference.prompt_kinds import prompt_kind
from samfast.prompts import Prompts, draw_keys


def evaluation_prompts(kind: str, target: Target, sample: Sample, spec: PreprocessSpec, *, seed: int = 0) -> Prompts:
    """One prompt for each object of an image.

    The draw is keyed by (seed, image bytes, annotation id): it is the same for every model, epoch, run, thread count
    and order of the data.

    Args:
        kind: see :mod:`samfast.inference.prompt_kinds`.
        target: the objects, original frame. None of them may be empty, or lie under ignored pixels, and the kind asks
            for all of them, see :meth:`~samfast.inference.prompt_kinds.PromptKind.askable`.
        sample: the image they are on.
        spec: of the model that is asked; masks alone depend on it.
        seed: of the draw.

    Returns:
        ``len(target.masks)`` prompts, original frame, all on image 0, in the order of the target. No point lies on an
        ignored pixel.

    Raises:
        ConfigError: there is no such kind.
    """
    masks = target.masks.subtract(target.ignore) if len(target.ignore) else target.masks
    shown = replace(target, masks=masks)
    return prompt_kind(kind).draw(shown, spec.frame(*sample.size), draw_keys(seed, sample.key, target.ids))

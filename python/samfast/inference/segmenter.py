"""The Segmenter interface, and the one road from prompts to masks that every model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from samfast.errors import ConfigError
from samfast.frames import Frame, PreprocessSpec
from samfast.inference.contract import OutputContract, Selection
from samfast.inference.tokens import Tokens, tokenize
from samfast.masks import Masks
from samfast.prompts import Prompts

EMBED_BATCH = {"cuda": 4}
"""Images embedded at once, by device type; one elsewhere: a batch brings no speed on a CPU and costs its memory."""

DECODE_CHUNK = 32
"""Prompts decoded at once: bounds memory, and more brings no speed on a CPU."""


@dataclass(frozen=True)
class Embedding:
    """The encoder's named features of one or more images.

    Attributes:
        features: name to ``(I, ...)`` array; numpy arrays or torch tensors, whatever the segmenter that made it takes.
        frames: one :class:`~samfast.frames.Frame` an image.
    """

    features: Mapping[str, Any]
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Prediction:
    """What a model answered to the ``P`` prompts on one image; or, without prompts, of its ``P`` classes.

    Attributes:
        masks: ``P`` masks, original frame.
        scores: ``(P,)`` float32, the model's own estimate of each mask's IoU.
        low_res: ``(P, low_res, low_res)`` float32 logits of the chosen tokens.
        tokens: ``(P,)`` int64, the chosen mask tokens.
        prompts: what was asked; none of a model that is asked without.
    """

    masks: Masks
    scores: NDArray[np.float32]
    low_res: NDArray[np.float32]
    tokens: NDArray[np.int64]
    prompts: Prompts


class Segmenter(Protocol):
    """Anything that embeds images and decodes prompts: a torch model, an ONNX bundle."""

    name: str
    spec: PreprocessSpec
    contract: OutputContract

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Embedding:
        """Encode ``(H, W, 3)`` RGB uint8 images, original frame."""
        ...

    def decode(self, embedding: Embedding, tokens: Tokens) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode ``P`` prompts: ``(P, T, low_res, low_res)`` logits and ``(P, T)`` predicted IoU of all mask tokens."""
        ...


def segment(
    segmenter: Segmenter, embedding: Embedding, prompts: Prompts, *, selection: Selection = "single"
) -> Prediction:
    """Answer prompts on one image.

    Args:
        segmenter: the model.
        embedding: of exactly one image.
        prompts: original frame, all on image 0.
        selection: which token answers, see :data:`~samfast.inference.contract.Selection`.

    Returns:
        masks in the original frame, thresholded at the spec's ``mask_threshold``.

    Raises:
        ConfigError: the model is one that is asked without prompts, or the embedding is of several images.
    """
    segmenter.contract.require_prompts(segmenter.name)
    frame = require_one_image(embedding)
    tokens = tokenize(prompts, embedding.frames)
    low_res = np.zeros((len(prompts), frame.spec.low_res, frame.spec.low_res), np.float32)
    scores = np.zeros(len(prompts), np.float32)
    chosen = np.zeros(len(prompts), np.int64)
    for start in range(0, len(prompts), DECODE_CHUNK):
        part = slice(start, start + DECODE_CHUNK)
        logits, ious = segmenter.decode(embedding, tokens[part])
        chosen[part] = segmenter.contract.select(ious, prompts.is_one_point[part], selection)
        rows = np.arange(len(ious))
        low_res[part] = logits[rows, chosen[part]]
        scores[part] = ious[rows, chosen[part]]
    return Prediction(Masks.from_logits(low_res, frame), scores, low_res, chosen, prompts)


def require_one_image(embedding: Embedding) -> Frame:
    """The frame of the one image that is embedded.

    Raises:
        ConfigError: there are several.
    """
    if len(embedding.frames) != 1:
        raise ConfigError(f"masks are made of one image at a time, this embedding holds {len(embedding.frames)}")
    return embedding.frames[0]

"""The two graphs of a bundle as functions: the names of their inputs and outputs, and how they are called."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samfast.inference.tokens import Tokens
from samfast.runtime.sessions import Device, open_session, session_device

ENCODER_FILE = "encoder.onnx"
DECODER_FILE = "decoder.onnx"

ENCODER_INPUT = "image"
"""``(B, 3, size, size)`` float32, as ``PreprocessSpec.preprocess`` makes it."""
EMBEDDINGS = "image_embeddings"
"""``(B, C, g, g)`` float32: what the encoder gives and the decoder takes."""
DECODER_INPUTS = (EMBEDDINGS, "image_index", "point_coords", "point_labels", "mask_input", "has_mask_input")
"""``(I, C, g, g)`` float32; ``(P,)`` int64; ``(P, N, 2)`` float32, model frame; ``(P, N)`` int64; ``(P, 1, L, L)``
float32 logits; ``(P,)`` float32. Labels mean what they mean in ``Tokens``: integers, because they are only compared."""
DECODER_OUTPUTS = ("low_res_masks", "iou_predictions")
"""``(P, 4, L, L)`` float32 logits and ``(P, 4)`` float32 predicted IoU, of all mask tokens."""


class Graphs:
    """An encoder and a decoder in ONNX Runtime.

    The decoder is opened at once, so that a device that is not to be had is known before any work; the encoder, the
    large one, when it is first used.

    Args:
        folder: holds ``encoder.onnx`` and ``decoder.onnx``.
        device: see :data:`~samfast.runtime.sessions.Device`.
        threads: CPU threads of one inference; None for one a core.
        keeps_memory: whether the CPU memory of one inference is kept for the next.

    Attributes:
        device: ``"cuda"`` or ``"cpu"``, where the graphs really run.

    Raises:
        ConfigError, RuntimeUnavailableError, CheckpointError: see :func:`~samfast.runtime.sessions.open_session`.
    """

    def __init__(
        self, folder: Path, *, device: Device = "auto", threads: int | None = None, keeps_memory: bool = True
    ) -> None:
        self._folder = folder
        self._options: dict[str, Any] = {"threads": threads, "keeps_memory": keeps_memory}
        self._decoder = open_session(folder / DECODER_FILE, device=device, **self._options)
        (mask,) = (each for each in self._decoder.get_inputs() if each.name == DECODER_INPUTS[4])
        self._mask_shape = tuple(mask.shape[1:])
        self.device: Device = "cuda" if session_device(self._decoder) == "cuda" else "cpu"

    @cached_property
    def _encoder(self) -> Any:
        return open_session(self._folder / ENCODER_FILE, device=self.device, **self._options)

    def open_encoder(self) -> None:
        """Open the encoder now, and not when it is first used."""
        _ = self._encoder

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """:data:`ENCODER_INPUT` to :data:`EMBEDDINGS`."""
        embeddings: NDArray[np.float32] = self._encoder.run([EMBEDDINGS], {ENCODER_INPUT: images})[0]
        return embeddings

    def decode(
        self, embeddings: NDArray[np.floating], tokens: Tokens
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """:data:`DECODER_INPUTS` to :data:`DECODER_OUTPUTS`; the embeddings may be of any float type."""
        mask = tokens.mask
        if mask is None:
            mask = np.zeros((len(tokens.image_index), *self._mask_shape), np.float32)
        values = (
            np.asarray(embeddings, np.float32),
            tokens.image_index,
            tokens.coords,
            tokens.labels,
            np.asarray(mask, np.float32),
            tokens.has_mask,
        )
        feed = {name: np.ascontiguousarray(value) for name, value in zip(DECODER_INPUTS, values, strict=True)}
        logits, ious = self._decoder.run(list(DECODER_OUTPUTS), feed)
        return logits, ious

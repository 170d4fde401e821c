"""An ONNX bundle as a Segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samfast.errors import ConfigError
from samfast.inference.segmenter import EMBED_BATCH, Embedding
from samfast.inference.tokens import Tokens
from samfast.runtime.bundle import OnnxBundle
from samfast.runtime.graphs import EMBEDDINGS, Graphs
from samfast.runtime.sessions import Device


class OnnxSegmenter:
    """A :class:`~samfast.inference.segmenter.Segmenter` over an ONNX bundle.

    Args:
        bundle: an :class:`~samfast.runtime.bundle.OnnxBundle` or its folder.
        device: see :data:`~samfast.runtime.sessions.Device`.
        name: as tables show it; the bundle's name by default.
        threads: CPU threads of one inference; None for one a core.

    Attributes:
        device: ``"cuda"`` or ``"cpu"``, where it really runs.

    Raises:
        CheckpointError: the bundle is missing, damaged, or mixed from two models.
        RuntimeUnavailableError: ONNX Runtime or the device asked for is not there.
    """

    def __init__(
        self,
        bundle: OnnxBundle | str | Path,
        *,
        device: Device = "auto",
        name: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, OnnxBundle) else OnnxBundle(bundle)
        self.graphs = Graphs(self.bundle.path, device=device, threads=threads)
        self.name = self.bundle.name if name is None else name
        self.spec = self.bundle.spec
        self.contract = self.bundle.contract
        self.device = self.graphs.device

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Embedding:
        """Encode ``(H, W, 3)`` RGB uint8 images, original frame.

        Raises:
            ConfigError: there are no images.
        """
        if not images:
            raise ConfigError("there are no images to embed", where="images")
        step = EMBED_BATCH.get(self.device, 1)
        parts = []
        for start in range(0, len(images), step):
            batch = np.stack([self.spec.preprocess(image) for image in images[start : start + step]])
            parts.append(self.graphs.encode(batch))
        frames = tuple(self.spec.frame(*image.shape[:2]) for image in images)
        return Embedding({EMBEDDINGS: np.concatenate(parts)}, frames)

    def decode(self, embedding: Embedding, tokens: Tokens) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode ``P`` prompts.

        Args:
            embedding: of one or more images, numpy arrays of any float type.
            tokens: model frame, see :func:`~samfast.inference.tokens.tokenize`.

        Returns:
            ``(P, 4, low_res, low_res)`` logits and ``(P, 4)`` predicted IoU, float32.
        """
        return self.graphs.decode(embedding.features[EMBEDDINGS], tokens)

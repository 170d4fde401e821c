"""A torch model as a Segmenter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samfast.errors import ConfigError
from samfast.inference.contract import OutputContract
from samfast.inference.segmenter import EMBED_BATCH, Embedding
from samfast.inference.tokens import Tokens
from samfast.models.sam import Sam


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device to compute on: ``"auto"`` takes a CUDA device if there is one, and the CPU otherwise.

    >>> pick_device("cpu")
    device(type='cpu')

    Raises:
        ConfigError: the device is not there, or is no device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"{device!r} is no device", where="device", fix="use auto, cpu, cuda or cuda:0") from None
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {str(device)!r} is not there: PyTorch sees {torch.cuda.device_count()} CUDA devices",
            where="device",
            fix="use device='cpu', or install a PyTorch build for this machine's GPU",
        )
    return picked


class TorchSegmenter:
    """A :class:`~samfast.inference.segmenter.Segmenter` over a :class:`~samfast.models.sam.Sam`, float32.

    Args:
        sam: moved to ``device`` and put in eval mode.
        contract: which mask tokens its training has taught; the official ones by default.
        name: as tables show it; the architecture's name by default.
        device: see :func:`pick_device`.
    """

    def __init__(
        self,
        sam: Sam,
        contract: OutputContract | None = None,
        *,
        name: str | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device = pick_device(device)
        self.sam = sam.to(self.device).eval()
        self.spec = sam.spec
        self.contract = OutputContract() if contract is None else contract
        self.name = sam.name if name is None else name

    @torch.inference_mode()
    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Embedding:
        """Encode ``(H, W, 3)`` RGB uint8 images, original frame; the features stay on the device.

        Raises:
            ConfigError: there are no images, or the model is decoder-only.
        """
        if not images:
            raise ConfigError("there are no images to embed", where="images")
        step = EMBED_BATCH.get(self.device.type, 1)
        parts = []
        for start in range(0, len(images), step):
            batch = np.stack([self.spec.preprocess(image) for image in images[start : start + step]])
            parts.append(self.sam.encode(torch.from_numpy(batch).to(self.device)))
        features = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return Embedding(features, tuple(self.spec.frame(*image.shape[:2]) for image in images))

    @torch.inference_mode()
    def decode(self, embedding: Embedding, tokens: Tokens) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode ``P`` prompts.

        Args:
            embedding: of one or more images, torch tensors or numpy arrays.
            tokens: model frame, see :func:`~samfast.inference.tokens.tokenize`.

        Returns:
            ``(P, 4, low_res, low_res)`` logits and ``(P, 4)`` predicted IoU, float32.
        """
        logits, ious = self.sam.decode(
            **{name: as_float32(self._tensor(values)) for name, values in embedding.features.items()},
            image_index=self._tensor(tokens.image_index),
            coords=self._tensor(tokens.coords),
            labels=self._tensor(tokens.labels),
            mask=None if tokens.mask is None else self._tensor(tokens.mask),
            has_mask=None if tokens.mask is None else self._tensor(tokens.has_mask),
        )
        return logits.float().cpu().numpy(), ious.float().cpu().numpy()

    def _tensor(self, values: Tensor | NDArray) -> Tensor:
        if not isinstance(values, Tensor):
            values = torch.from_numpy(values if values.flags.writeable else values.copy())
        return values.to(self.device)


def as_float32(feature: Tensor) -> Tensor:
    """A feature as ``decode`` takes it: floats as float32, whole numbers as they are."""
    return feature.float() if feature.is_floating_point() else feature

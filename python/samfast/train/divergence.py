"""How a training ends whose numbers are no longer finite: in a loss, in a gradient, or in what the decoder answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from samfast.errors import RunError
from samfast.inference.segmenter import Embedding
from samfast.inference.tokens import Tokens
from samfast.models.segmenter import TorchSegmenter


def diverged(what: str) -> RunError:
    """The error to raise."""
    fix = "a smaller lr, a longer warm-up, or clip_norm=1; the epochs finished before are kept"
    return RunError(what, where="lr", fix=fix)


@contextmanager
def in_epoch(epoch: int) -> Iterator[None]:
    """Let an error that ends a training say in which epoch it did."""
    try:
        yield
    except RunError as error:
        raise RunError(f"epoch {epoch}: {error.what}", where=error.where, fix=error.fix) from None


class TrainedSegmenter(TorchSegmenter):
    """A decoder in training: its last update may have ruined it, which no loss has shown yet."""

    def decode(self, embedding: Embedding, tokens: Tokens) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As any decoder answers.

        Raises:
            RunError: the logits are not finite.
        """
        logits, ious = super().decode(embedding, tokens)
        if not np.isfinite(logits).all():
            raise diverged("the decoder answers with logits that are not finite")
        return logits, ious

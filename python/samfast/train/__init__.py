"""Training: config, regimes, losses, the loop, and the run on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samfast.train.config import TrainConfig
from samfast.train.run import Run

if TYPE_CHECKING:
    from samfast.train.callbacks import Callback
    from samfast.train.loop import train_decoder

__all__ = ["Callback", "Run", "TrainConfig", "train_decoder"]


def __getattr__(name: str) -> Any:
    """Load the loop, and torch with it, when training is asked for: a run can be described without."""
    if name == "train_decoder":
        from samfast.train.loop import train_decoder

        return train_decoder
    if name == "Callback":
        from samfast.train.callbacks import Callback

        return Callback
    raise AttributeError(f"module 'samfast.train' has no attribute {name!r}")

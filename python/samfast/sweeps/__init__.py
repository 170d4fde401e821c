"""Sweeps: many trainings of one data set from one cache, compared on the val set, the winner judged on test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samfast.sweeps.result import Sweep

if TYPE_CHECKING:
    from samfast.sweeps.matrix import sweep

__all__ = ["Sweep", "sweep"]


def __getattr__(name: str) -> Any:
    """Load what trains, and torch with it, when it is asked for."""
    if name == "sweep":
        from samfast.sweeps.matrix import sweep

        return sweep
    raise AttributeError(f"module 'samfast.sweeps' has no attribute {name!r}")

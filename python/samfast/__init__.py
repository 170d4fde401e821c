"""samfast: encode every image once, train the Segment Anything decoder from disk, know whether it worked, ship it."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samfast.artifacts import info, verify
    from samfast.cache import EmbeddingCache, cache_embeddings, merge, prune
    from samfast.data import Dataset, load_dataset
    from samfast.evaluation import Report, evaluate
    from samfast.export import export_checkpoint, export_decoder, export_huggingface, export_onnx, push_to_hub
    from samfast.pipeline import quickstart, tune
    from samfast.predictions import predict
    from samfast.runtime import OnnxBundle, OnnxPredictor
    from samfast.sweeps import Sweep, sweep
    from samfast.train import Run, train_decoder

try:
    __version__ = version("samfast")
except PackageNotFoundError:  # running from a source tree that is not installed
    __version__ = "0"

_HOME = {
    "Dataset": "data",
    "EmbeddingCache": "cache",
    "OnnxBundle": "runtime",
    "OnnxPredictor": "runtime",
    "Report": "evaluation",
    "Run": "train",
    "Sweep": "sweeps",
    "cache_embeddings": "cache",
    "evaluate": "evaluation",
    "export_checkpoint": "export",
    "export_decoder": "export",
    "export_huggingface": "export",
    "export_onnx": "export",
    "info": "artifacts",
    "load_dataset": "data",
    "merge": "cache",
    "predict": "predictions",
    "prune": "cache",
    "push_to_hub": "export",
    "quickstart": "pipeline",
    "sweep": "sweeps",
    "train_decoder": "train",
    "tune": "pipeline",
    "verify": "artifacts",
}

__all__ = [
    "Dataset",
    "EmbeddingCache",
    "OnnxBundle",
    "OnnxPredictor",
    "Report",
    "Run",
    "Sweep",
    "cache_embeddings",
    "evaluate",
    "export_checkpoint",
    "export_decoder",
    "export_huggingface",
    "export_onnx",
    "info",
    "load_dataset",
    "merge",
    "predict",
    "prune",
    "push_to_hub",
    "quickstart",
    "sweep",
    "train_decoder",
    "tune",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: the heavy rooms stay closed until someone enters."""
    if name not in _HOME:
        raise AttributeError(f"module 'samfast' has no attribute {name!r}")
    try:
        value = getattr(import_module(f"samfast.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        from samfast.errors import explain_missing

        raise explain_missing(error) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

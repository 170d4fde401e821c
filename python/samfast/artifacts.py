"""Any artifact on disk: what it is, whether it is whole, and, where it can segment, the segmenter it holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from samfast.errors import ConfigError, RunError
from samfast.inference.contract import OutputContract
from samfast.models.architecture import MODEL_NAMES

if TYPE_CHECKING:
    from samfast.inference.segmenter import Segmenter

Kind = Literal["cache", "run", "bundle", "data"]

_MARKS: dict[str, Kind] = {
    "cache.json": "cache",
    "run.json": "run",
    "encoder.onnx": "bundle",
    "decoder.onnx": "bundle",
}
"""Files that tell what a folder is."""

EXPECTED = (
    f"a model name ({', '.join(MODEL_NAMES)}), a run folder, an ONNX bundle folder, a Run, an OnnxBundle or a Segmenter"
)


def kind_of(path: str | Path) -> Kind:
    """What the folder ``path`` is: ``"cache"``, ``"run"``, ``"bundle"``, or ``"data"`` for any other folder.

    Raises:
        ConfigError: there is no such folder, it is a file, or it may not be looked into.
    """
    folder = Path(path).expanduser()
    try:
        if folder.is_dir():
            return next((kind for name, kind in _MARKS.items() if (folder / name).is_file()), "data")
        what = "this is a file, and artifacts are folders" if folder.exists() else "there is no such folder"
    except OSError as error:
        what = f"the file system refuses: {error.strerror}"
    raise ConfigError(
        what, where=folder, fix="pass the folder of an embedding cache, a run, an ONNX bundle or a data set"
    )


def info(path: str | Path) -> dict[str, Any]:
    """What an artifact is and holds, JSON-ready; ``kind`` says which sort it is.

    Raises:
        SamfastError: it cannot be read, or is none.
    """
    folder = Path(path).expanduser()
    kind = kind_of(folder)
    return {
        "kind": kind,
        "path": str(folder),
        **{k: v for k, v in _INFO[kind](folder).items() if k not in ("kind", "path")},
    }


def verify(path: str | Path) -> dict[str, Any]:
    """Check that an artifact is whole, down to its bytes.

    A cache's rows and a bundle's graphs are compared with their checksums, a run's weights are loaded, a data set's
    images and annotations are read.

    Returns:
        ``kind``, ``path``, and what was checked.

    Raises:
        SamfastError: something is damaged, missing or cannot be used; the message lists it.
    """
    folder = Path(path).expanduser()
    kind = kind_of(folder)
    return {"kind": kind, "path": str(folder), **_VERIFY[kind](folder)}


def open_segmenter(model: Any, *, checkpoint: str | Path | None = None, device: str = "auto") -> Segmenter:
    """Whatever can segment, ready to embed images and decode prompts.

    Args:
        model: a model's name, a :class:`~samfast.train.Run` or its folder, an
            :class:`~samfast.runtime.OnnxBundle` or its folder, or a
            :class:`~samfast.inference.segmenter.Segmenter`, which is returned as it is.
        checkpoint: of the base model; ``tiny`` and bundles need none, and a run remembers its own.
        device: where the model computes.

    Raises:
        ConfigError: ``model`` is none of these, and the message lists what it could be; or the device is none.
        CheckpointError: the base model's checkpoint is missing or of another model.
    """
    if is_segmenter(model):
        return cast("Segmenter", model)
    opened = open_model(model)
    if isinstance(opened, str):
        from samfast.models.checkpoints import load_model
        from samfast.models.segmenter import TorchSegmenter

        return TorchSegmenter(load_model(opened, checkpoint=checkpoint), device=device)
    if hasattr(opened, "segmenter") and hasattr(opened, "metrics"):
        return cast("Segmenter", opened.segmenter(checkpoint=checkpoint, device=device, encoder=True))
    from samfast.runtime import OnnxSegmenter

    return OnnxSegmenter(opened, device=cast("Any", device))


def contract_of(model: Any) -> OutputContract:
    """What a model answers, as :func:`open_segmenter` takes it, known without its weights.

    Raises:
        ConfigError: ``model`` is none of these.
    """
    opened = model if is_segmenter(model) else open_model(model)
    return OutputContract() if isinstance(opened, str) else cast("OutputContract", opened.contract)


def open_model(model: Any) -> Any:
    """A model's name as it is, a run folder as a Run, a bundle folder as an OnnxBundle; those two as they are.

    Raises:
        ConfigError: ``model`` is none of these, or a folder that holds none of them.
    """
    if isinstance(model, str) and model in MODEL_NAMES:
        return model
    if isinstance(model, str | Path):
        path = Path(model).expanduser()
        kind = kind_of(path) if path.is_dir() else None
        if kind == "run":
            from samfast.train import Run

            return Run(path)
        if kind == "bundle":
            from samfast.runtime import OnnxBundle

            return OnnxBundle(path)
        found = {"cache": "an embedding cache", "data": "a folder that is neither a run nor a bundle", None: "nothing"}
        what = found[kind] if path.is_dir() else ("a file" if path.exists() else "nothing of that name")
        raise ConfigError(f"{str(model)!r} is no model: there is {what}", where="model", fix=f"pass {EXPECTED}")
    if type(model).__name__ in ("Run", "OnnxBundle") and hasattr(model, "path"):
        return model
    raise ConfigError(f"a {type(model).__name__} is no model", where="model", fix=f"pass {EXPECTED}")


def is_segmenter(model: Any) -> bool:
    """Whether ``model`` is a :class:`~samfast.inference.segmenter.Segmenter` itself."""
    return all(hasattr(model, name) for name in ("embed", "decode", "spec", "contract"))


def _cache_info(folder: Path) -> dict[str, Any]:
    from samfast.cache import EmbeddingCache

    return EmbeddingCache.open(folder).info()


def _run_info(folder: Path) -> dict[str, Any]:
    from samfast.train import Run

    run = Run(folder)
    dataset = run.dataset_info
    try:
        metrics, selected = run.metrics, run.selected_epoch
    except RunError:
        if run.is_finished:
            raise
        metrics, selected = [], None  # interrupted before anything was saved
    return {
        "model": run.model,
        "finished": run.is_finished,
        "epochs": max((int(entry.get("epoch", 0)) for entry in metrics), default=0),
        "selected_epoch": selected,
        "last": metrics[-1] if metrics else None,
        "contract": run.contract.to_dict(),
        "settings": run.config.to_dict(),
        "data": {name: value for name, value in dataset.items() if name != "splits"},
        "images": {name: len(files) for name, files in dataset.get("splits", {}).items()},
    }


def _bundle_info(folder: Path) -> dict[str, Any]:
    from samfast.runtime import OnnxBundle

    return dict(OnnxBundle(folder).info())


def _data_info(folder: Path) -> dict[str, Any]:
    from samfast.data import load_dataset

    dataset = load_dataset(folder)
    return {
        "layout": dataset.layout,
        "why": dataset.why,
        "classes": list(dataset.classes),
        "target_kind": dataset.target_kind,
        "images": {split: len(dataset.of(split)) for split in ("train", "val", "test")},
        "split_origin": dataset.split_origin,
        "annotation_hash": dataset.annotation_hash,
        "problems": [f"{problem.name}: {problem.kind}: {problem.detail}" for problem in dataset.problems],
    }


def _verify_cache(folder: Path) -> dict[str, Any]:
    from samfast.cache.check import verify_cache
    from samfast.cache.format import read_manifest

    return dict(verify_cache(folder, read_manifest(folder)))  # unopened, as one damaged shard keeps a cache from it


def _verify_run(folder: Path) -> dict[str, Any]:
    from samfast.train import Run

    run = Run(folder)
    run.metrics  # noqa: B018  # reads the file, and says what is wrong with it
    segmenter = run.segmenter(encoder=False, device="cpu")
    others = [Run(folder, which="last"), *(Run(folder, which=each.epoch) for each in run.kept)]
    tensors = [len(each.decoder_state()) for each in (run, *others)]
    return {"weights": len(tensors), "tensors": tensors[0], "finished": run.is_finished, "model": segmenter.name}


def _verify_bundle(folder: Path) -> dict[str, Any]:
    from samfast.runtime import OnnxBundle

    bundle = OnnxBundle(folder)
    bundle.verify()
    return {"model": bundle.model, "name": bundle.name}


def _verify_data(folder: Path) -> dict[str, Any]:
    from samfast.data import load_dataset

    dataset = load_dataset(folder, strict=True)
    return {"images": len(dataset), "problems": len(dataset.problems)}


_INFO = {"cache": _cache_info, "run": _run_info, "bundle": _bundle_info, "data": _data_info}
_VERIFY = {"cache": _verify_cache, "run": _verify_run, "bundle": _verify_bundle, "data": _verify_data}

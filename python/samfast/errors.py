"""The errors samfast raises on purpose: each says what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path


class SamfastError(Exception):
    """Base of every error samfast raises on purpose.

    Args:
        what: what is wrong, with the offending value.
        where: the file, field or argument it was found in.
        fix: what the reader can do about it.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.fix = fix
        lines = [what]
        if self.where is not None:
            lines.append(f"  in: {self.where}")
        if fix is not None:
            lines.append(f"  fix: {fix}")
        super().__init__("\n".join(lines))


class ConfigError(SamfastError, ValueError):
    """An option, or a combination of options, that cannot work."""


class DataError(SamfastError):
    """A data set, image or annotation that cannot be used."""


class CheckpointError(SamfastError):
    """A model checkpoint that is missing, unreadable or of another model."""


class CacheError(SamfastError):
    """An embedding cache that cannot be read or written."""


class StaleCacheError(CacheError):
    """An embedding cache made by another model, preprocessing or precision than the one asked for."""


class CorruptCacheError(CacheError):
    """An embedding cache whose bytes are not the bytes that were written."""


class RunError(SamfastError):
    """A training run folder that cannot be read, resumed or written."""


class ExportError(SamfastError):
    """A model that cannot be exported, or an export that does not predict what the model predicts."""


class RuntimeUnavailableError(SamfastError):
    """An ONNX Runtime, execution provider or optional package that is not there."""


class OutputExistsError(SamfastError, FileExistsError):
    """An output folder that already holds something else."""


def choices(name: object, known: Collection[str]) -> str:
    """What could have been meant by an unknown name, for the ``fix`` of an error.

    >>> choices("gama", ["alpha", "gamma"])
    "did you mean 'gamma'? There are alpha, gamma"
    """
    close = get_close_matches(str(name), list(known), 1)
    return f"{f'did you mean {close[0]!r}? ' if close else ''}There are {', '.join(known) or 'none'}"


_EXTRAS = {
    "cv2": "train",
    "jinja2": "train",
    "lightning_fabric": "train",
    "matplotlib": "train",
    "onnx": "export",
    "onnxscript": "export",
    "segment_anything": "train",
    "torch": "train",
    "torchvision": "train",
}


def explain_missing(error: ModuleNotFoundError) -> Exception:
    """The error to raise for a module that is not there: one that names the extra, if an extra brings the module."""
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        return error
    return RuntimeUnavailableError(f"{package} is not installed", fix=f"pip install 'samfast[{_EXTRAS[package]}]'")


def require(*packages: str) -> None:
    """Raise unless these packages are installed; they are looked for, not imported.

    Raises:
        RuntimeUnavailableError: one is not, and an extra of samfast brings it.
    """
    for package in packages:
        if find_spec(package) is None:
            raise explain_missing(ModuleNotFoundError(f"No module named {package!r}", name=package))

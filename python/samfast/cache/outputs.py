"""Outputs for people: their folder is checked before the work, and an error in writing them names the file."""

from __future__ import annotations

from pathlib import Path

from samfast.cache.atomic import Bytes, write_new
from samfast.errors import CacheError, OutputExistsError, SamfastError


def checked_folder(out: str | Path) -> Path:
    """The path of a folder that is there, or can be made.

    Raises:
        OutputExistsError: it is a file, or lies below one.
        SamfastError: the system cannot look there.
    """
    folder = Path(out).expanduser()
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists() or place.is_symlink())
        is_folder = there.is_dir()
    except OSError as error:
        raise SamfastError(_reason(error), where=folder, fix="choose another out (--out)") from None
    if not is_folder:
        raise OutputExistsError(
            "this is a file, and the output is a folder", where=there, fix="choose another out (--out)"
        )
    return folder


def write_output(path: Path, content: Bytes) -> None:
    """Write one file, in the place of any older one; its folder is made if it is not there.

    Raises:
        SamfastError: the disk is full, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, [content])
    except (CacheError, OSError) as error:
        what = error.what if isinstance(error, CacheError) else _reason(error)
        raise SamfastError(
            what, where=path, fix="make room or check the permissions, or choose another out (--out)"
        ) from error


def _reason(error: OSError) -> str:
    return f"writing failed: {error.strerror or error}"

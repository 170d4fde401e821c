"""A folder of files that is either whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from samfast.cache.atomic import sync
from samfast.errors import ExportError, OutputExistsError

if sys.platform != "win32":
    import fcntl

LOCK = "lock"
"""Held in a temporary folder by the process that writes it; free, the folder was left behind."""


@contextmanager
def whole_folder(path: Path, *, files: Collection[str], overwrite: bool = False) -> Iterator[Path]:
    """A new, empty folder beside ``path`` that takes its name when the block ends, and is removed if the block fails.

    Args:
        path: of the folder.
        files: names of the files the block may write.
        overwrite: replace a folder that holds such files and nothing else.

    Raises:
        OutputExistsError: ``path`` exists and may not be replaced.
        ExportError: the disk is full, or cannot be written.
    """
    check_free(path, files=files, overwrite=overwrite)
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path.parent)
        temporary.mkdir()
        with (temporary / LOCK).open("wb") as lock:
            if sys.platform != "win32":
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield temporary
        (temporary / LOCK).unlink()
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        check_free(path, files=files, overwrite=overwrite)
        _place(temporary, path)
        sync(path.parent)
    except OutputExistsError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ExportError(
            f"{'the disk is full' if full else 'writing failed'}: {error.strerror or error}",
            where=path.parent,
            fix=f"{'make room' if full else 'check the disk and its permissions'} and export again",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(path: Path, *, files: Collection[str], overwrite: bool) -> None:
    """Raise :class:`OutputExistsError` unless ``path`` is free, or may be replaced."""
    if not path.exists():
        return
    strangers = sorted(set(os.listdir(path)) - set(files)) if path.is_dir() else [path.name]
    if strangers:
        raise OutputExistsError(
            f"this is something else, and is never replaced (it holds {strangers[0]})"
            if path.is_dir()
            else "this is a file, and is never replaced by a folder",
            where=path,
            fix="choose another out",
        )
    if not overwrite:
        raise OutputExistsError("it exists", where=path, fix="choose another out, or pass overwrite=True (--overwrite)")


def _place(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.rename(path)
        return
    old = path.parent / f".{uuid.uuid4().hex}.tmp"  # folders cannot be exchanged in one step everywhere
    path.rename(old)
    temporary.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _remove_stale(folder: Path) -> None:
    """Remove the temporary folders that no living process holds."""
    for lock in folder.glob(f".*.tmp/{LOCK}"):
        with suppress(OSError):  # another process holds it, or has removed it
            if sys.platform != "win32":
                with lock.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:  # where an open file cannot be removed
                lock.unlink()
            shutil.rmtree(lock.parent)

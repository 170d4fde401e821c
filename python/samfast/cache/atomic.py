"""Files that are either whole or not there: a locked temporary in the same folder, fsync, rename.

A temporary is named ``.<uuid>.tmp`` and held with a lock by the process that writes it, so that one whose lock is free
was left behind by a process that is gone, and may be removed.
"""

from __future__ import annotations

import errno
import importlib
import os
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from samfast.errors import CacheError

# Windows needs no locks: an open file cannot be removed there.
fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None

Bytes = bytes | memoryview

_CHUNK = 1 << 24


def write_new(path: Path, parts: Iterable[Bytes]) -> None:
    """Write ``parts`` one after the other as the file ``path``, in the place of any older one.

    Raises:
        CacheError: the disk is full, or cannot be written.
    """
    _write(path, parts, os.replace)


def write_exclusive(path: Path, parts: Iterable[Bytes]) -> bool:
    """Like :func:`write_new` if there is no such file yet; False, and nothing is written, if there is.

    Of several processes that try at once, exactly one succeeds.

    Raises:
        CacheError: the disk is full, or cannot be written.
    """
    try:
        _write(path, parts, _link)
    except FileExistsError:
        return False
    return True


def remove_stale(folder: Path) -> int:
    """Remove the temporaries in ``folder`` that no living process holds; how many there were."""
    removed = 0
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):  # another process holds it, or has removed it
            descriptor = os.open(path, os.O_RDWR)
            try:
                if fcntl is not None:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            finally:
                os.close(descriptor)
            if fcntl is None:
                path.unlink()
            removed += 1
    return removed


def _write(path: Path, parts: Iterable[Bytes], place: Callable[[Path, Path], None]) -> None:
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    descriptor = -1
    try:
        try:
            descriptor = _open_locked(temporary)
            for part in parts:
                _write_all(descriptor, part)
            os.fsync(descriptor)
            if fcntl is None:  # Windows renames no open file
                os.close(descriptor)
                descriptor = -1
            place(temporary, path)
            _sync_folder(path.parent)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise CacheError(
            f"{'the disk is full' if full else 'writing failed'}: {error.strerror or error}",
            where=path.parent,
            fix=f"{'make room' if full else 'check the disk and its permissions'} and run the same command again; "
            "what was written before stays, and is not computed again",
        ) from error


def _open_locked(temporary: Path) -> int:
    while True:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        if fcntl is None:
            return descriptor
        with suppress(OSError):  # a file system without locks: its temporaries are never removed as stale
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Until it was locked the file looked abandoned, and another process may have removed it.
        with suppress(FileNotFoundError):
            if os.stat(temporary).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(path) from None
        os.replace(temporary, path)


def _write_all(descriptor: int, data: Bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view[:_CHUNK]) :]


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every system opens folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

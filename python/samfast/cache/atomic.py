"""Files that are either whole or not there: a locked temporary in the same folder, fsync, rename.

A temporary is named ``.<uuid>.tmp`` and held with a lock by the process that writes it, so that one whose lock is free
was left behind by a process that is gone, and may be removed. Where the file system has no locks nothing is.
"""

from __future__ import annotations

import errno
import importlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from samfast.errors import CacheError, SamfastError

# Windows needs no locks: an open file cannot be removed there.
fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None

Bytes = bytes | memoryview

MOMENT_SECONDS = 1.0
"""How long a lock is waited for: the one who makes a file holds it until it has its name."""
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
    if path.exists():
        return False
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


@contextmanager
def lock(path: Path, *, shared: bool) -> Iterator[None]:
    """Hold a file that is there, together with others or alone, while the block runs.

    Raises:
        CacheError: another process holds it in a way that excludes this one, or the file system has no locks and
            this process is to be alone.
    """
    if fcntl is None:  # Windows, where a file in use cannot be removed under its reader
        yield
        return
    descriptor = os.open(path, os.O_RDONLY if shared else os.O_RDWR)
    try:
        until = time.monotonic() + MOMENT_SECONDS
        while not _flock(descriptor, path, shared=shared):
            if time.monotonic() > until:
                raise CacheError(
                    "another process is at work in this cache", where=path.parent, fix="run this when it has ended"
                )
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _flock(descriptor: int, path: Path, *, shared: bool) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if not shared:
            raise CacheError(
                f"the file system has no locks: {error.strerror}",
                where=path.parent,
                fix="copy the cache to one that has, and back",
            ) from None
    return True


def try_lock(path: Path) -> int | None:
    """Make a file if need be and hold it alone: its descriptor, to be closed; None if another process holds it.

    Raises:
        OSError: the file cannot be made, or the system has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "no locks")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(path, descriptor):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def read_held(path: Path) -> bytes | None:
    """The content of a file while another process holds it alone; None if none does."""
    with suppress(OSError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read()
    return None


def _is_same(path: Path, descriptor: int) -> bool:
    """Whether the open file still has the name ``path``: until it was locked, another may have removed it."""
    with suppress(FileNotFoundError):
        return os.stat(path).st_ino == os.fstat(descriptor).st_ino
    return False


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
            if descriptor >= 0:  # the file has its name, and its lock is that of whoever uses it
                os.close(descriptor)
                descriptor = -1
            sync(path.parent)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise _explained(error, path.parent) from error


@contextmanager
def explained(place: Path) -> Iterator[None]:
    """Errors of the file system in this block as :class:`CacheError`, naming the file, or else ``place``."""
    try:
        yield
    except SamfastError:
        raise
    except OSError as error:
        raise _explained(error, Path(os.fsdecode(error.filename)) if error.filename else place) from error


def _explained(error: OSError, where: Path) -> CacheError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return CacheError(
        f"{'the disk is full' if full else 'the file system refuses'}: {error.strerror or error}",
        where=where,
        fix=f"{'make room' if full else 'check the path and its permissions'} and run the same command again; "
        "what was written before stays, and is not computed again",
    )


def _open_locked(temporary: Path) -> int:
    while True:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        if fcntl is None:
            return descriptor
        with suppress(OSError):  # a file system without locks: its temporaries are never removed as stale
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_same(temporary, descriptor):
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


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    with suppress(OSError):  # not every system opens folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

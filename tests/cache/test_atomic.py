"""Files appear whole or not at all, and only what no one writes is cleaned up."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from samfast.cache import atomic
from samfast.errors import CacheError


def test_written_whole(tmp_path: Path) -> None:
    atomic.write_new(tmp_path / "a", [b"one", memoryview(b"two"), b""])
    atomic.write_new(tmp_path / "a", [b"three"])
    assert (tmp_path / "a").read_bytes() == b"three"
    assert os.listdir(tmp_path) == ["a"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(atomic.os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    atomic.write_new(tmp_path / "a", [b"0123456789"])
    assert (tmp_path / "a").read_bytes() == b"0123456789"


@pytest.mark.parametrize(("code", "says"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "Input/output error")])
def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    atomic.write_new(tmp_path / "a", [b"before"])

    def fail(descriptor: int, data: Any) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic.os, "write", fail)
    with pytest.raises(CacheError, match=says):
        atomic.write_new(tmp_path / "a", [b"after"])
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a"]


def test_of_many_writers_one_creates(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda name: atomic.write_exclusive(tmp_path / "a", [b"%d" % name]), range(32)))
    assert sum(won) == 1
    assert (tmp_path / "a").read_bytes() == b"%d" % won.index(True)
    assert os.listdir(tmp_path) == ["a"]


def test_creation_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(atomic.os, "link", refuse)
    assert atomic.write_exclusive(tmp_path / "a", [b"1"])
    assert not atomic.write_exclusive(tmp_path / "a", [b"2"])
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_file_that_has_its_name_is_not_held_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may hold it at once, also while its maker still waits for the disk."""
    path, held = tmp_path / "a", []

    def sync(folder: Path) -> None:
        with atomic.lock(path, shared=False):
            held.append(folder)

    monkeypatch.setattr(atomic, "MOMENT_SECONDS", 0.0)
    monkeypatch.setattr(atomic, "sync", sync)
    atomic.write_exclusive(path, [b"content"])
    atomic.write_new(path, [b"content"])
    assert held == [tmp_path, tmp_path]


def test_a_lock_is_waited_for_a_moment(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with ThreadPoolExecutor(1) as pool:
        with atomic.lock(tmp_path / "a", shared=False):
            waiting = pool.submit(lambda: atomic.lock(tmp_path / "a", shared=True).__enter__())
            time.sleep(0.1)
            assert not waiting.done()
        waiting.result(10)


def test_only_free_temporaries_are_removed(tmp_path: Path) -> None:
    for name in (".held.tmp", ".free.tmp", "mine.tmp"):
        (tmp_path / name).touch()
    with (tmp_path / ".held.tmp").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert atomic.remove_stale(tmp_path) == 1
        assert sorted(os.listdir(tmp_path)) == [".held.tmp", "mine.tmp"]
    assert atomic.remove_stale(tmp_path) == 1
    assert os.listdir(tmp_path) == ["mine.tmp"]


def test_a_temporary_removed_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Locks:
        LOCK_EX = fcntl.LOCK_EX

        @staticmethod
        def flock(descriptor: int, operation: int) -> None:
            if not calls:
                (tmp_path / next(iter(os.listdir(tmp_path)))).unlink()
            calls.append(operation)
            fcntl.flock(descriptor, operation)

    monkeypatch.setattr(atomic, "fcntl", Locks)
    atomic.write_new(tmp_path / "a", [b"content"])
    assert len(calls) == 2
    assert (tmp_path / "a").read_bytes() == b"content"

"""Folders that cannot be written, read or found, and names of every kind: an error that says so, or no difference."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from samfast import cache_embeddings, load_dataset, merge, verify
from samfast.cache import EmbeddingCache
from samfast.cache.shard import list_shards
from samfast.errors import CacheError, CorruptCacheError, OutputExistsError, SamfastError

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2


@pytest.fixture
def obeying() -> Iterator[None]:
    """Permissions bind this process as they bind any other: root lays down the rights to ignore them."""
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root ignores permissions, and only on Linux can it stop doing so")
    libc = ctypes.CDLL(None, use_errno=True)
    header, before = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    without = (ctypes.c_uint32 * 6)(*before)
    without[0] &= ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    assert libc.capset(header, without) == 0
    yield
    assert libc.capset(header, before) == 0


@pytest.fixture
def allowed() -> Iterator[Callable[[Path, int], None]]:
    """``allowed(path, mode)``: chmod, undone at the end."""
    before: list[tuple[Path, int]] = []

    def change(path: Path, mode: int) -> None:
        before.append((path, path.stat().st_mode))
        path.chmod(mode)

    yield change
    for path, mode in reversed(before):
        path.chmod(mode)


@pytest.fixture
def cache(photos: Callable, small: Any, tmp_path: Path) -> EmbeddingCache:
    return cache_embeddings(photos(3), model=small, out=tmp_path / "c")


def test_permissions_bind_this_test(tmp_path: Path, obeying: None, allowed: Callable) -> None:
    allowed(tmp_path, 0o555)
    with pytest.raises(PermissionError):
        (tmp_path / "a").touch()


def test_a_whole_cache_may_be_read_only(
    cache: EmbeddingCache,
    small: Any,
    tmp_path: Path,
    photos: Callable,
    contents: Callable,
    encoded: SimpleNamespace,
    obeying: None,
    allowed: Callable,
) -> None:
    before = contents(cache)
    for place in (cache.path, cache.path / "datasets", cache.path / "jobs"):
        allowed(place, 0o555)
    for path in cache.path.rglob("*.*"):
        allowed(path, 0o444)
    encoded.images = 0
    assert contents(cache_embeddings(tmp_path / "photos", model=small, out=cache.path)) == before
    assert contents(cache_embeddings(load_dataset(tmp_path / "photos", limit=2), model=small, out=cache.path)) == before
    assert verify(cache.path)["rows"] == 3
    with pytest.raises(CacheError, match="Permission denied") as caught:
        cache_embeddings(photos(2, "other"), model=small, out=cache.path)
    assert str(cache.path) in str(caught.value)
    with pytest.raises(CacheError, match="Permission denied") as caught:
        merge(cache.path)
    assert str(cache.path) in str(caught.value)
    assert encoded.images == 0


def test_a_folder_that_may_not_be_written(
    photos: Callable, small: Any, tmp_path: Path, encoded: SimpleNamespace, obeying: None, allowed: Callable
) -> None:
    root = photos(2)
    for name, is_there in (("none", False), ("empty", True)):
        place = tmp_path / name
        place.mkdir()
        if is_there:
            (place / "c").mkdir()
            allowed(place / "c", 0o555)
        else:
            allowed(place, 0o555)
        with pytest.raises(CacheError, match="Permission denied") as caught:
            cache_embeddings(root, model=small, out=place / "c")
        assert str(place / "c") in str(caught.value)
        assert caught.value.fix
    assert encoded.images == 0


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o400])
def test_a_cache_that_may_not_be_read_is_no_damaged_or_empty_one(
    cache: EmbeddingCache,
    small: Any,
    tmp_path: Path,
    encoded: SimpleNamespace,
    obeying: None,
    allowed: Callable,
    mode: int,
) -> None:
    """Nor may it be that a folder which is not listed passes for one without shards."""
    allowed(cache.path, mode)
    encoded.images = 0
    for work in (
        lambda: EmbeddingCache.open(cache.path),
        lambda: cache_embeddings(tmp_path / "photos", model=small, out=cache.path),
        lambda: verify(cache.path),
    ):
        with pytest.raises(SamfastError, match="Permission denied") as caught:
            work()
        assert not isinstance(caught.value, CorruptCacheError)
        assert str(cache.path) in str(caught.value)
        assert "remove" not in (caught.value.fix or "")
    assert encoded.images == 0


@pytest.mark.parametrize("name", ["cache.json", "shard"])
def test_a_file_that_may_not_be_read_is_named(
    cache: EmbeddingCache, small: Any, tmp_path: Path, obeying: None, allowed: Callable, name: str
) -> None:
    path = list_shards(cache.path)[0] if name == "shard" else cache.path / name
    allowed(path, 0o000)
    for work in (
        lambda: EmbeddingCache.open(cache.path),
        lambda: cache_embeddings(tmp_path / "photos", model=small, out=cache.path),
    ):
        with pytest.raises(CacheError, match="Permission denied") as caught:
            work()
        assert not isinstance(caught.value, CorruptCacheError)
        assert path.name in str(caught.value)
    assert path.exists(), "it is not set aside: it may be whole"


def test_symbolic_links(cache: EmbeddingCache, small: Any, tmp_path: Path, contents: Callable) -> None:
    (tmp_path / "link").symlink_to(cache.path)
    assert contents(cache_embeddings(tmp_path / "photos", model=small, out=tmp_path / "link")) == contents(cache)
    assert verify(tmp_path / "link")["rows"] == 3
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for out in (tmp_path / "a", tmp_path / "a" / "c", tmp_path / "dangling"):
        with pytest.raises((CacheError, OutputExistsError)) as caught:
            cache_embeddings(tmp_path / "photos", model=small, out=out)
        assert str(out) in str(caught.value)
        with pytest.raises(SamfastError):
            EmbeddingCache.open(out)


def test_a_loop_among_the_shards_is_named(cache: EmbeddingCache, small: Any, tmp_path: Path) -> None:
    loop = cache.path / "loop.safetensors"
    loop.symlink_to(loop)
    for work in (
        lambda: EmbeddingCache.open(cache.path),
        lambda: cache_embeddings(tmp_path / "photos", model=small, out=cache.path),
    ):
        with pytest.raises(CacheError, match=loop.name):
            work()


@pytest.mark.parametrize("name", ["поток 🌊", "a\nb", " ", "%s{}", "é" * 100, os.fsdecode(b"\xff\xfe")])
def test_names_of_every_kind(photos: Callable, small: Any, tmp_path: Path, name: str, contents: Callable) -> None:
    root = photos(names=[f"{name}{index}" for index in range(2)], name=f"data {name}")
    cache = cache_embeddings(root, model=small, out=tmp_path / f"{name}.samcache")
    assert cache.verify()["rows"] == 2
    shard = list_shards(cache.path)[0]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorruptCacheError) as caught:
        cache.verify()
    assert f"{name}1.png" in str(caught.value)
    assert cache_embeddings(root, model=small, out=cache.path).verify()["rows"] == 2


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["y" * 200] * 25)])
def test_names_longer_than_the_system_has(photos: Callable, small: Any, tmp_path: Path, name: str) -> None:
    root = photos(1)
    for work in (
        lambda: cache_embeddings(root, model=small, out=tmp_path / name),
        lambda: EmbeddingCache.open(tmp_path / name),
        lambda: merge(tmp_path / name),
    ):
        with pytest.raises(CacheError, match="File name too long"):
            work()


def test_a_folder_removed_while_a_job_is_at_work(
    photos: Callable, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = small.encode

    def removing(images: Any) -> Any:
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        return encode(images)

    monkeypatch.setattr(small, "encode", removing)
    with pytest.raises(CacheError, match="No such file or directory") as caught:
        cache_embeddings(photos(2), model=small, out=tmp_path / "c")
    assert str(tmp_path / "c") in str(caught.value)

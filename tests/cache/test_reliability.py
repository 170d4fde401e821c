"""``tools/torture_cache.py`` on a small scale: the cache keeps its word, and the tool would notice if it did not."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from samfast.cache.shard import list_shards
from samfast.errors import CacheError
from samfast.models.architecture import ARCHITECTURES

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def torture() -> Iterator[Any]:
    sys.path.insert(0, str(TOOLS))
    yield importlib.import_module("torture_cache")
    sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def bench(torture: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    before = dict(ARCHITECTURES)
    yield torture.Bench(tmp_path_factory.mktemp("torture") / "bench", 16)
    ARCHITECTURES.clear()
    ARCHITECTURES.update(before)


def test_killed_and_resumed(torture: Any, bench: Any) -> None:
    figures = torture.kills(bench, 8, seed=1)
    assert figures["kills"] == 8


def test_flipped_bits_are_noticed(torture: Any, bench: Any) -> None:
    figures = torture.flips(bench, step=331)
    assert min(figures.values()) > 50


def test_damage_is_named_and_repaired(torture: Any, bench: Any) -> None:
    assert set(torture.damage(bench, 1).values()) == {1}


def test_four_processes_make_one_cache(torture: Any, bench: Any) -> None:
    assert torture.race(bench, 1)["rows"] == 16


def test_of_two_rivals_one_wins(torture: Any, bench: Any) -> None:
    assert sum(torture.rivals(bench, 1).values()) == 1


def test_full_disks(torture: Any, bench: Any) -> None:
    assert torture.full_disk(bench, 4)["rows kept at most"] > 0
    assert torture.full_mount(bench)


def test_the_tool_notices(torture: Any, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative controls: a row that is missing, a shard no one checks, an error that does not come or says nothing."""
    short = bench.copy(bench.whole)
    list_shards(short)[0].unlink()
    with pytest.raises(AssertionError, match="uninterrupted"):
        bench.check_whole(short)
    twice = bench.copy(bench.whole)
    shutil.copy(list_shards(twice)[0], twice / ".00000000000000000000000000000000.tmp")
    with pytest.raises(AssertionError, match="temporaries"):
        bench.check_whole(twice)
    with pytest.raises(AssertionError, match="no one notices"), torture.noticed(CacheError, "shard"):
        pass
    with pytest.raises(AssertionError, match="does not say"), torture.noticed(CacheError, "shard"):
        raise CacheError("something")
    monkeypatch.setattr(torture, "damaged_rows", lambda shard, manifest: [])
    with pytest.raises(AssertionError, match="is flipped, and no one notices"):
        torture.flips(bench, step=331)

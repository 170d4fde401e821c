"""How several processes divide the work, played on one clock: each encodes a row a tick and writes a shard at times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samfast.cache import walk as module
from samfast.cache.atomic import remove_stale, take_seat
from samfast.cache.walk import Walk, middle_of_longest, start_of


@pytest.fixture(autouse=True)
def _always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESCAN_SECONDS", 0.0)


class Process:
    """Encodes along its walk; what it writes the others see at once.

    Args:
        disk: keys in the order they were written.
        speed: rows a tick.
    """

    def __init__(self, keys: list[str], seat: int, disk: list[str], shard_rows: int, speed: float = 1.0) -> None:
        self.walk = Walk(keys, seat, lambda: disk)
        self.order = iter(self.walk)
        self.keys, self.disk, self.shard_rows, self.speed = keys, disk, shard_rows, speed
        self.buffer: list[str] = []
        self.encoded: list[str] = []
        self.stretch = 0
        self.owed = 0.0
        self.is_done = False

    def tick(self) -> None:
        self.owed += self.speed
        while self.owed >= 1 and not self.is_done:
            self.owed -= 1
            at = next(self.order, None)
            if at is None:
                self.flush()
                self.is_done = True
                return
            key = self.keys[at]
            if self.walk.stretch(key) != self.stretch:
                self.stretch = self.walk.stretch(key)
                self.flush()
            self.encoded.append(key)
            self.buffer.append(key)
            if len(self.buffer) == self.shard_rows:
                self.flush()

    def flush(self) -> None:
        self.disk += self.buffer
        self.buffer = []


def play(processes: list[Process]) -> None:
    while not all(process.is_done for process in processes):
        for process in processes:
            process.tick()


def keys_of(rows: int) -> list[str]:
    return [f"{row:04}" for row in range(rows)]


def test_alone_in_the_order_of_the_data() -> None:
    assert list(Walk(keys_of(7), 0, list)) == list(range(7))
    assert list(Walk([], 0, list)) == []


def test_alone_on_another_seat_all_the_same() -> None:
    order = list(Walk(keys_of(100), 5, list))
    assert order[:10] == list(range(62, 72))
    assert sorted(order) == list(range(100))


@pytest.mark.parametrize("rows", [10, 100, 1000])
@pytest.mark.parametrize("shard_rows", [1, 16, 64])
@pytest.mark.parametrize("speeds", [(1, 1, 1, 1), (1, 0.9, 1.1, 0.5), (1, 0.05, 3, 1), (1, 1)])
def test_all_is_written_and_little_twice(rows: int, shard_rows: int, speeds: tuple[float, ...]) -> None:
    disk: list[str] = []
    keys = keys_of(rows)
    processes = [Process(keys, seat, disk, shard_rows, speed) for seat, speed in enumerate(speeds)]
    play(processes)
    assert set(disk) == set(keys)
    twice = sum(len(process.encoded) for process in processes) - rows
    assert twice <= (len(speeds) - 1) * shard_rows


def test_a_process_that_starts_late_begins_elsewhere() -> None:
    disk: list[str] = []
    keys = keys_of(100)
    first, second = (Process(keys, seat, disk, 4) for seat in (0, 1))
    for _ in range(20):
        first.tick()
    play([first, second])
    assert second.encoded[0] == "0050"
    assert set(disk) == set(keys)
    assert len(disk) <= 104


def test_rows_written_by_others_are_skipped_and_counted() -> None:
    disk = keys_of(10)[3:6]
    walk = Walk(keys_of(10), 0, lambda: [*disk, "another data set's"])
    assert sorted(walk) == [0, 1, 2, 6, 7, 8, 9]
    assert walk.skipped == 3
    assert walk.is_written("0003")
    assert not walk.is_written("0000")


def test_seats_are_as_far_apart_as_can_be() -> None:
    starts = [start_of(seat, 1024) for seat in range(8)]
    assert sorted(starts) == list(range(0, 1024, 128))
    assert min(np.diff(sorted(starts[:4]))) == 256
    left = np.zeros(9, bool)
    left[[1, 4, 5, 6, 7]] = True
    assert middle_of_longest(left) == 6


def test_a_seat_is_free_again_when_its_process_leaves(tmp_path: Path) -> None:
    with take_seat(tmp_path) as first, take_seat(tmp_path) as second:
        assert (first, second) == (0, 1)
        assert remove_stale(tmp_path) == 0, "both are held"
    with take_seat(tmp_path) as again:
        assert again == 0
    (tmp_path / ".0.tmp").touch()  # of a process that was killed
    with take_seat(tmp_path) as again:
        assert again == 0
    assert list(tmp_path.iterdir()) == []

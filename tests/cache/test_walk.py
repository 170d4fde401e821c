"""How several processes divide the work, played on one clock: each encodes a row a tick and writes a shard at times."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samfast.cache import atomic
from samfast.cache import walk as module
from samfast.cache.atomic import remove_stale
from samfast.cache.seats import take_seat
from samfast.cache.walk import Walk, middle_of_longest, start_of


@pytest.fixture(autouse=True)
def _always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESCAN_SECONDS", 0.0)


class Table:
    """Seats without files: what each process has at hand, by its number; ``sees``: they know of each other."""

    def __init__(self, sees: bool = True) -> None:
        self.at_hand: dict[int, set[str]] = {}
        self.sees = sees

    def seat(self, number: int) -> Any:
        return TableSeat(self, number)


class TableSeat:
    def __init__(self, table: Table, number: int) -> None:
        self.table, self.number = table, number
        table.at_hand[number] = set()

    def claim(self, keys: list[str], *, instead: bool = False) -> None:
        self.table.at_hand[self.number] = {*keys} | (set() if instead else self.table.at_hand[self.number])

    def others(self) -> set[str]:
        others = [keys for number, keys in self.table.at_hand.items() if number != self.number]
        return set().union(*others) if self.table.sees else set()


class Process:
    """Encodes along its walk; what it writes the others see at once.

    Args:
        disk: keys in the order they were written.
        table: who else is at work.
        speed: rows a tick.
    """

    def __init__(
        self, keys: list[str], number: int, disk: list[str], table: Table, shard_rows: int, speed: float = 1.0
    ) -> None:
        self.walk = Walk(keys, table.seat(number), lambda: disk)
        self.order = iter(self.walk)
        self.keys, self.disk, self.shard_rows, self.speed = keys, disk, shard_rows, speed
        self.buffer: list[str] = []
        self.encoded: list[str] = []
        self.stretch = 0
        self.owed = 0.0

    @property
    def is_done(self) -> bool:
        return set(self.keys) <= set(self.disk)

    def tick(self) -> None:
        self.owed += self.speed
        while self.owed >= 1 and not self.is_done:
            self.owed -= 1
            at = next(self.order, None)
            if at is None:  # the rest is at hand elsewhere
                self.flush()
                self.order = iter(self.walk)
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
    assert list(Walk(keys_of(7), Table().seat(0), list)) == list(range(7))
    assert list(Walk([], Table().seat(0), list)) == []


def test_alone_on_another_seat_all_the_same() -> None:
    order = list(Walk(keys_of(100), Table().seat(5), list))
    assert order[:10] == list(range(62, 72))
    assert sorted(order) == list(range(100))


@pytest.mark.parametrize("sees", [True, False])
@pytest.mark.parametrize("rows", [10, 100, 1000])
@pytest.mark.parametrize("shard_rows", [1, 16, 64])
@pytest.mark.parametrize("speeds", [(1, 1, 1, 1), (1, 0.9, 1.1, 0.5), (1, 0.05, 3, 1), (1, 1)])
def test_all_is_written_and_little_twice(sees: bool, rows: int, shard_rows: int, speeds: tuple[float, ...]) -> None:
    """Nothing is encoded twice by processes that see what the others have at hand, and little without locks."""
    disk: list[str] = []
    keys, table = keys_of(rows), Table(sees)
    processes = [Process(keys, seat, disk, table, shard_rows, speed) for seat, speed in enumerate(speeds)]
    play(processes)
    assert set(disk) == set(keys)
    twice = sum(len(process.encoded) for process in processes) - rows
    assert twice <= (0 if sees else (len(speeds) - 1) * shard_rows)


def test_a_process_that_starts_late_begins_elsewhere() -> None:
    disk: list[str] = []
    keys, table = keys_of(100), Table()
    first = Process(keys, 0, disk, table, 4)
    for _ in range(20):
        first.tick()
    second = Process(keys, 1, disk, table, 4)
    play([first, second])
    assert second.encoded[0] == "0050"
    assert sorted(disk) == keys


def test_the_rows_of_a_process_that_died_are_left_to_others() -> None:
    disk: list[str] = []
    keys, table = keys_of(20), Table()
    first, second = (Process(keys, seat, disk, table, 8) for seat in (0, 1))
    for _ in range(5):
        first.tick()
    for _ in range(40):
        second.tick()
    assert sorted(disk) == keys[5:], "the others are at hand"
    del table.at_hand[0]
    play([second])
    assert sorted(disk) == keys


def test_rows_written_by_others_are_skipped_and_counted() -> None:
    disk = keys_of(10)[3:6]
    walk = Walk(keys_of(10), Table().seat(0), lambda: [*disk, "another data set's"])
    assert sorted(walk) == [0, 1, 2, 6, 7, 8, 9]
    assert walk.skipped == 3
    assert walk.is_written("0003")
    assert not walk.is_written("0000")


def test_waiting_ends_when_all_is_written() -> None:
    table, disk = Table(), list[str]()
    walk = Walk(keys_of(4), table.seat(0), lambda: disk)
    assert walk.wait(), "there is something to do"
    table.at_hand[1] = {"0002"}
    assert list(walk) == [0, 1, 3]
    disk += ["0000", "0001", "0003"]

    class Others:
        def __init__(self) -> None:
            self.asked = 0

        def __call__(self) -> set[str]:
            self.asked += 1
            if self.asked == 2:
                disk.append("0002")
            return {"0002"}

    walk._seat.others = Others()
    assert not walk.wait()
    assert walk._seat.others.asked == 3, "and not for longer"


def test_a_process_that_does_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.0)
    table = Table()
    table.at_hand[1] = {"0002"}
    walk = Walk(keys_of(4), table.seat(0), list)
    assert list(walk) == [0, 1, 3]
    assert walk.wait()
    assert list(walk) == [2]


def test_two_that_cannot_decode_an_image_do_not_wait_for_each_other() -> None:
    table, disk = Table(), list[str]()
    first, second = (Walk(keys_of(2), table.seat(seat), lambda: disk) for seat in (0, 1))
    assert (next(iter(first)), next(iter(second))) == (0, 1)
    first.give_up("0000")
    second.give_up("0001")
    first._look()
    assert list(second) == [0], "the other one's"
    second.give_up("0000")
    second._look()
    assert list(first) == [1]
    first.give_up("0001")
    assert not first.wait()
    assert not second.wait()


def test_seats_are_as_far_apart_as_can_be() -> None:
    starts = [start_of(seat, 1024) for seat in range(8)]
    assert sorted(starts) == list(range(0, 1024, 128))
    assert min(np.diff(sorted(starts[:4]))) == 256
    left = np.zeros(9, bool)
    left[[1, 4, 5, 6, 7]] = True
    assert middle_of_longest(left) == 6


def test_a_seat_is_free_again_when_its_process_leaves(tmp_path: Path) -> None:
    with take_seat(tmp_path) as first, take_seat(tmp_path) as second:
        assert (first.number, second.number) == (0, 1)
        assert remove_stale(tmp_path) == 0, "both are held"
    with take_seat(tmp_path) as again:
        assert again.number == 0
    (tmp_path / ".0.tmp").touch()  # of a process that was killed
    with take_seat(tmp_path) as again:
        assert again.number == 0
    assert list(tmp_path.iterdir()) == []


def test_a_seat_says_what_is_at_hand_while_it_is_held(tmp_path: Path) -> None:
    a, b, c = ("aa" * 32, "bb" * 32, "cc" * 32)
    with take_seat(tmp_path) as watching:
        with take_seat(tmp_path) as working:
            working.claim([a])
            working.claim([b])
            assert watching.others() == {a, b}
            working.claim([c], instead=True)
            assert watching.others() == {c}
            assert working.others() == set()
            shutil.copy(tmp_path / ".1.tmp", tmp_path / ".2.tmp")  # of a process that was killed
            with (tmp_path / ".1.tmp").open("ab") as torn:
                torn.write(b"half a key")
            assert watching.others() == {c}
        assert watching.others() == set()


def test_without_locks_no_one_knows_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "fcntl", None)
    with take_seat(tmp_path) as seat:
        seat.claim(["aa" * 32])
        assert seat.others() == set()
    assert list(tmp_path.iterdir()) == []

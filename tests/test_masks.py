"""Masks: the typed face, its errors and what it promises beyond the oracles."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from samfast import _rust
from samfast.errors import ConfigError, DataError
from samfast.frames import PreprocessSpec
from samfast.masks import Masks, polygons_to_numpy, polygons_to_packed, to_labels

SQUARE = [0, 0, 9, 0, 9, 9, 0, 9]


@pytest.fixture
def pixels() -> NDArray[np.bool_]:
    return np.random.default_rng(0).random((5, 13, 17)) < 0.4


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8])
def test_numpy_round_trip(pixels: NDArray[np.bool_], dtype: type) -> None:
    assert np.array_equal(Masks.from_numpy(pixels.astype(dtype)).numpy(), pixels)


def test_any_layout(pixels: NDArray[np.bool_]) -> None:
    expected = Masks.from_numpy(pixels)
    assert Masks.from_numpy(np.asfortranarray(pixels)) == expected
    assert Masks.from_numpy(np.repeat(pixels, 2, axis=2)[:, :, ::2]) == expected
    assert Masks.from_numpy(pixels[2]) == expected[2]


def test_every_value_but_zero_is_foreground(pixels: NDArray[np.bool_]) -> None:
    values = np.random.default_rng(1).choice([1, 2, 3, 128, 255], pixels.shape).astype(np.uint8)
    assert Masks.from_numpy(pixels * values) == Masks.from_numpy(pixels)
    # A bool array made by a view may hold such bytes too.
    assert Masks.from_numpy((pixels * values).view(np.bool_)) == Masks.from_numpy(pixels)


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 2), np.float32), np.zeros(4, bool), np.zeros((1, 1, 1, 1), bool), np.zeros((1, 0, 3), bool)]
)
def test_what_are_no_masks(bad: NDArray) -> None:
    with pytest.raises(DataError):
        Masks.from_numpy(bad)


def test_selection(pixels: NDArray[np.bool_]) -> None:
    masks = Masks.from_numpy(pixels)
    keep = np.array([True, False, True, True, False])
    for index in (slice(1, 4), slice(None, None, -1), [3, 0, 3], np.array([4]), keep, [], slice(0, 0)):
        assert np.array_equal(masks[index].numpy(), pixels[index])
    assert np.array_equal(masks[-1].numpy(), pixels[-1:])
    with pytest.raises(IndexError):
        masks[5]


def test_concatenate(pixels: NDArray[np.bool_]) -> None:
    masks = Masks.from_numpy(pixels)
    assert Masks.concatenate([masks[:2], Masks.empty(13, 17), masks[2:]]) == masks
    for bad in ([], [masks, Masks.empty(17, 13)]):
        with pytest.raises(ConfigError, match="one size"):
            Masks.concatenate(bad)


def test_sets(pixels: NDArray[np.bool_]) -> None:
    masks, other = Masks.from_numpy(pixels), Masks.from_numpy(~pixels[::-1])
    assert np.array_equal(masks.intersect(other).numpy(), pixels & ~pixels[::-1])
    assert np.array_equal(masks.subtract(other).numpy(), pixels & pixels[::-1])
    assert np.array_equal(masks.subtract(masks[0]).numpy(), pixels & ~pixels[0])
    assert np.array_equal(masks.union().numpy(), pixels.any(axis=0, keepdims=True))
    for bad in (masks[:2], Masks.from_numpy(np.zeros((5, 17, 13), bool))):
        with pytest.raises(ConfigError, match="do not pair"):
            masks.intersect(bad)
        with pytest.raises(ConfigError, match="do not pair"):
            masks.subtract(bad)


def test_no_masks() -> None:
    none = Masks.empty(4, 6)
    frame = PreprocessSpec(16, 2, 8, (0, 0, 0), (1, 1, 1)).frame(4, 6)
    assert len(none) == 0
    assert none.numpy().shape == (0, 4, 6)
    assert none.rle() == []
    assert none.area().shape == (0,)
    assert none.boxes().shape == (0, 4)
    assert none.union().area().tolist() == [0]
    assert len(none.components()[0]) == 0
    assert none.rasterize(frame).shape == (0, 8, 8)
    assert none.intersect(none.union()) == none
    assert Masks.from_polygons([], 4, 6) == none
    assert Masks.from_numpy(np.zeros((0, 4, 6), bool)) == none


def test_equal_pixels_are_equal_bytes(pixels: NDArray[np.bool_]) -> None:
    masks = Masks.from_numpy(pixels)
    padded = Masks.from_rle([{"size": [2, 3], "counts": [1, 0, 1, 2, 0, 1, 1]}])
    plain = Masks.from_rle([{"size": [2, 3], "counts": [2, 3, 1]}])
    assert padded.tobytes() == plain.tobytes()
    assert Masks(2, 3, np.array([1, 0, 1, 2, 0, 1, 1], np.uint32), np.array([0, 7])) == plain
    assert Masks.from_rle(masks.rle()).tobytes() == masks.tobytes()
    changed = pixels.copy()
    changed[3, 5, 5] ^= True
    assert Masks.from_numpy(changed) != masks
    assert Masks.empty(2, 3) != Masks.empty(3, 2)
    assert Masks.from_numpy(np.zeros((1, 2, 3), bool)) != Masks.from_numpy(np.zeros((1, 3, 2), bool))


def test_bytes_are_the_documented_ones() -> None:
    masks = Masks.from_numpy(np.array([[0, 1], [1, 0]], bool))
    expected = np.array([2, 2, 1, 0, 3], "<i8").tobytes() + np.array([1, 2, 1], "<u4").tobytes()
    assert masks.tobytes() == expected


def test_polygons_of_any_form() -> None:
    expected = Masks.from_polygons([[SQUARE]], 20, 20)
    assert expected.area().tolist() == [81]
    assert Masks.from_polygons([[np.array(SQUARE, np.float32).reshape(-1, 2)]], 20, 20) == expected
    assert Masks.from_polygons([[SQUARE, SQUARE]], 20, 20) == expected
    hole = [2, 2, 4, 2, 4, 4, 2, 4]
    assert Masks.from_polygons([[SQUARE, hole]], 20, 20) == expected, "an object is the union: no holes"


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ([[1, 2, 3, 4]], "object 1, polygon 0: 4 numbers look like a box"),
        ([SQUARE, [1, 2, 3, 4, 5, 6, 7]], "object 1, polygon 1: 7 numbers are not"),
        ([[1, 2]], "object 1, polygon 0: 1 point"),
        ([[]], "object 1, polygon 0: 0 point"),
        ([], "object 1 has no polygons"),
        ([[1, 2, 3, float("nan"), 5, 6]], "object 1, polygon 0: coordinate 3 is NaN"),
        ([[1, 2, 3, float("inf"), 5, 6]], "object 1, polygon 0: coordinate 3 is inf"),
        ([[1, 2, 3, 4, 5, -1e12]], "object 1, polygon 0: coordinate 5 is -1e12"),
        ([["a", 2, 3, 4, 5, 6]], "object 1, polygon 0 is not a list of numbers"),
        ([[[1, 2], [3]]], "object 1, polygon 0 is not a list of numbers"),
        (SQUARE, "object 1 is a flat list of numbers"),
    ],
)
def test_bad_polygons_name_their_object(polygons: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Masks.from_polygons([[SQUARE], polygons, [SQUARE]], 20, 20)


@pytest.mark.parametrize(
    ("height", "width", "message"), [(0, 5, "no pixels"), (5, -1, "no pixels"), (2**20, 2**20, "more than")]
)
def test_bad_sizes(height: int, width: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Masks.from_polygons([[SQUARE]], height, width)
    with pytest.raises(DataError, match=message):
        Masks.from_rle([{"size": [height, width], "counts": "1"}])


GOOD = {"size": [2, 3], "counts": [2, 3, 1]}


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"size": [2, 3], "counts": [2, 3]}, "mask 1: runs add up to 5"),
        ({"size": [2, 3], "counts": [2, 3, 1, 2**32 - 1, 1]}, "mask 1: runs add up to"),
        ({"size": [2, 3], "counts": [-1, 7]}, "mask 1: counts must be"),
        ({"size": [2, 3], "counts": [2.5, 3.5]}, "mask 1: counts must be"),
        ({"size": [2, 3], "counts": []}, "mask 1: counts must be"),
        ({"size": [2, 3], "counts": [[1], [5]]}, "mask 1: counts must be"),
        ({"size": [2, 3], "counts": [2**70]}, "mask 1: counts must be"),
        ({"size": [2, 3], "counts": None}, "mask 1: counts must be"),
        ({"size": [2, 3]}, "mask 1: counts must be"),
        ({"size": [2, 3], "counts": ""}, "mask 1: runs add up to 0"),
        ({"size": [2, 3], "counts": "23"}, "mask 1: runs add up to 5"),
        ({"size": [2, 3], "counts": "2 3"}, "mask 1: byte 0x20 at 1"),
        ({"size": [2, 3], "counts": "23é"}, "mask 1: byte 0xc3 at 2"),
        ({"size": [2, 3], "counts": "23\ud800"}, "mask 1: byte 0xed at 2"),
        ({"size": [2, 3], "counts": b"2P"}, "mask 1: .* end in the middle"),
        ({"size": [2, 3], "counts": b"N"}, "mask 1: run 0 .* does not fit"),
        ({"size": [2, 3], "counts": b"o" * 12}, "mask 1: run 0 .* does not fit"),
        ({"size": [3, 2], "counts": [6]}, r"mask 1 has size \[3, 2\], mask 0 has \[2, 3\]"),
        ({"size": [2.5, 3], "counts": [6]}, "mask 1 has no size"),
        ({"size": [2], "counts": [6]}, "mask 1 has no size"),
        ({"counts": [6]}, "mask 1 has no size"),
    ],
)
def test_bad_run_lengths_name_their_mask(rle: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Masks.from_rle([GOOD, rle, GOOD])


def test_no_run_lengths() -> None:
    with pytest.raises(DataError, match="no mask size"):
        Masks.from_rle([])


def test_a_frame_of_another_image() -> None:
    frame = PreprocessSpec(16, 2, 8, (0, 0, 0), (1, 1, 1)).frame(6, 4)
    with pytest.raises(ConfigError, match="4 x 6"):
        Masks.empty(4, 6).rasterize(frame)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(0, 2**32 - 1), max_size=6),
    st.lists(st.integers(-3, 9), max_size=4),
    st.integers(-2, 5),
    st.integers(-2, 5),
)
def test_kernels_refuse_or_run_on_anything(counts: list[int], offsets: list[int], height: int, width: int) -> None:
    batch = (np.array(counts, np.uint32), np.array(offsets, np.int64), height, width)
    try:
        _rust.check_rle(*batch)
    except ValueError:
        for kernel in (_rust.rle_to_masks, _rust.rle_bbox, _rust.rle_union, _rust.rle_canonical, _rust.rle_components):
            with pytest.raises(ValueError):
                kernel(*batch)
    else:
        assert _rust.rle_to_masks(*batch).sum() == _rust.rle_area(*batch[:2]).sum()


def test_wrong_arrays_are_type_or_value_errors(pixels: NDArray[np.bool_]) -> None:
    counts, offsets = _rust.masks_to_rle(pixels)
    with pytest.raises(TypeError, match="counts must be uint32, not int64"):
        _rust.rle_area(counts.astype(np.int64), offsets)
    with pytest.raises(TypeError, match="offsets must be a numpy array, not list"):
        _rust.rle_area(counts, offsets.tolist())
    with pytest.raises(ValueError, match="counts must have 1 dimension"):
        _rust.rle_area(counts[None], offsets)
    with pytest.raises(ValueError, match="counts must be C-contiguous"):
        _rust.rle_area(np.repeat(counts, 2)[::2], offsets)
    with pytest.raises(TypeError, match=r"strings\[0\] must be bytes"):
        _rust.strings_to_rle(["1"], 1, 1)
    with pytest.raises(ValueError, match="connectivity is 6"):
        _rust.rle_components(counts, offsets, 13, 17, 6)
    for cell, grid in ((0.0, 4), (float("nan"), 4), (1.0, 0), (1.0, 10**9)):
        with pytest.raises(ValueError, match="expected"):
            _rust.rle_area_average(counts, offsets, 13, 17, cell, 1.0, grid)
    with pytest.raises(OverflowError):
        _rust.rle_area_average(counts, offsets, 13, 17, 1.0, 1.0, -1)


def test_memory_that_is_not_there_is_an_error() -> None:
    huge = np.tile(np.array([2**32 - 1], np.uint32), 10**6), np.arange(10**6 + 1)
    with pytest.raises(MemoryError):
        _rust.rle_to_masks(*huge, 65535, 65537)


def test_checksum() -> None:
    assert _rust.crc32c(b"123456789") == 0xE3069283
    assert _rust.crc32c(b"6789", _rust.crc32c(b"12345")) == 0xE3069283
    array = np.arange(300, dtype=np.float16).reshape(3, 100)
    assert _rust.crc32c(array) == _rust.crc32c(array.tobytes()) == _rust.crc32c(memoryview(bytearray(array.tobytes())))
    assert _rust.crc32c(b"") == _rust.crc32c(np.zeros((0, 3))) == 0
    with pytest.raises(ValueError, match="C-contiguous"):
        _rust.crc32c(array[:, ::2])
    with pytest.raises((TypeError, BufferError)):
        _rust.crc32c("text")  # type: ignore[arg-type]


def large_batch() -> NDArray[np.uint8]:
    return (np.random.default_rng(0).random((12, 600, 800)) < 0.01).astype(np.uint8)


def encode_in_child(queue: multiprocessing.Queue) -> None:
    queue.put(Masks.from_numpy(large_batch()).tobytes())


def test_kernels_work_after_a_fork() -> None:
    context = multiprocessing.get_context("fork")
    expected = Masks.from_numpy(large_batch()).tobytes()
    queue = context.Queue()
    child = context.Process(target=encode_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(timeout=60)
    assert child.exitcode == 0


def test_kernels_release_the_gil() -> None:
    batch = np.concatenate([large_batch()] * 4)
    beats = 0
    done = threading.Event()

    def beat() -> None:
        nonlocal beats
        while not done.is_set():
            beats += 1
            time.sleep(1e-4)

    def beats_during_a_kernel() -> int:
        before = beats
        _rust.masks_to_rle(batch)
        return beats - before

    thread = threading.Thread(target=beat)
    thread.start()
    # A call that held the GIL would let one beat pass at its end, never several.
    most = max(beats_during_a_kernel() for _ in range(10))
    done.set()
    thread.join()
    assert most >= 3


WRITERS: dict[str, tuple[tuple[int, ...], list[type], Callable[..., NDArray[Any]]]] = {
    "packed": ((2, 30, 2), [np.uint64], lambda masks, frame, out: masks.packed(out=out)),
    "soft": ((2, 16, 16), [np.float32], lambda masks, frame, out: masks.rasterize(frame, out=out)),
    "hard": ((2, 16, 16), [np.bool_, np.uint8], lambda masks, frame, out: masks.rasterize(frame, hard=True, out=out)),
    "polygons packed": (
        (2, 30, 2),
        [np.uint64],
        lambda masks, frame, out: polygons_to_packed([[SQUARE]] * len(masks), 30, 70, out=out),
    ),
    "polygons": (
        (2, 30, 70),
        [np.bool_, np.uint8],
        lambda masks, frame, out: polygons_to_numpy([[SQUARE]] * len(masks), 30, 70, out=out),
    ),
    "numpy": ((2, 30, 70), [np.bool_, np.uint8], lambda masks, frame, out: masks.numpy(out=out)),
    "labels": ((30, 70), [np.int32], lambda masks, frame, out: to_labels(masks, out=out)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_results_are_written_where_they_are_wanted(name: str) -> None:
    shape, dtypes, call = WRITERS[name]
    masks = Masks.from_numpy(np.random.default_rng(0).random((2, 30, 70)) < 0.5)
    frame = PreprocessSpec(64, 4, 16, (0, 0, 0), (1, 1, 1)).frame(30, 70)
    for dtype in dtypes:
        out = np.ones(shape, dtype)
        assert np.shares_memory(call(masks, frame, out), out)
        assert np.array_equal(out, call(masks, frame, None))
        locked = out.copy()
        locked.flags.writeable = False
        wrong = [out[:, :-1], np.asfortranarray(out), out[None], out.astype(np.float64), locked, out.tolist()]
        for bad in wrong:
            before = np.array(bad)
            with pytest.raises((ConfigError, DataError), match="out"):
                call(masks, frame, bad)
            assert np.array_equal(before, bad)


def test_where_results_go_is_checked_before_the_work() -> None:
    noise = Masks.from_numpy(np.random.default_rng(0).random((1, 400, 400)) < 0.5)
    many, frame = noise[np.zeros(400, int)], PreprocessSpec(1024, 64, 256, (0, 0, 0), (1, 1, 1)).frame(400, 400)
    for call in (many.numpy, many.packed, lambda out=None: many.rasterize(frame, out=out)):
        started = time.perf_counter()
        call()
        worked = time.perf_counter()
        with pytest.raises(ConfigError, match="out"):
            call(out=np.zeros((1, 2, 3)))
        # What is checked first are the run lengths themselves, as they are with every call.
        assert time.perf_counter() - worked < (worked - started) / 2

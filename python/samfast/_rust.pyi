"""The kernels of samfast: flat arrays in, flat arrays out.

A batch of ``N`` masks is ``counts`` ``(R,)`` uint32, the runs of all masks one after the other (column-major,
background first), and ``offsets`` ``(N + 1,)`` int64, where each mask's runs begin; or packed, ``words``
``(N, H, ceil(W / 64))`` uint64: row-major, the lowest bit is the leftmost pixel, zeros beyond the width. Arrays must be
C-contiguous. Polygons are lists of lists of flat lists; ``convert`` makes an array of what else a polygon may be, given
the indices of its object and of itself. Every function checks its input: ValueError names the item, TypeError the
dtype. The GIL is released while a kernel runs, and signal handlers run between two items; do not write to the arrays
meanwhile.
"""

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Buffer

_U32 = NDArray[np.uint32]
_I64 = NDArray[np.int64]
_I32 = NDArray[np.int32]
_U64 = NDArray[np.uint64]
_F32 = NDArray[np.float32]
_F64 = NDArray[np.float64]
_Convert = Callable[[ArrayLike, int, int], _F64]
_Rule = Literal["coco", "pixel-center", "opencv"]
_Pixels = NDArray[np.uint8] | NDArray[np.bool_]
_Rle = tuple[_U32, _I64]
_Form = _Rle | _Pixels | NDArray[np.float32] | _U64

class BuildInfo(TypedDict):
    version: str
    profile: Literal["debug", "release"]
    target: str
    simd: Literal["portable", "avx2", "avx512"]
    threads: int

class RowError(Exception):
    args: tuple[int, str, bool]

class ShardReader:
    def __init__(
        self, paths: Sequence[str | PathLike[str]], offsets: _I64, row_bytes: Sequence[int], max_open: int
    ) -> None: ...
    def close(self) -> None: ...
    def damaged(self, shard: _I32, row: _I32, crc: _U32) -> NDArray[np.bool_]: ...
    def read_into(
        self,
        shard: _I32,
        row: _I32,
        crc: _U32,
        check: NDArray[np.bool_],
        out: Sequence[NDArray[np.uint8] | NDArray[np.float32]],
    ) -> None: ...

def bits_to_masks(words: _U64, width: int, out: _Pixels | None = None) -> NDArray[np.uint8]: ...
def bits_to_rle(words: _U64, width: int) -> _Rle: ...
def boundaries(masks: _Form, height: int, width: int, distance: int) -> _Rle: ...
def boundary_counts(
    prediction: _Form,
    target: _Form,
    height: int,
    width: int,
    distance: int,
    threshold: float,
    out: _I64 | None = None,
) -> _I64: ...
def boxes_to_rle(boxes: _I64, height: int, width: int) -> _Rle: ...
def build_info() -> BuildInfo: ...
def check_rle(counts: _U32, offsets: _I64, height: int, width: int) -> None: ...
def cell_gradients(
    logits: _F32, target: _F32, weight: _F32, owner: _I64, focal: tuple[float, float] | None, factors: _F32
) -> _F32: ...
def cell_sums(logits: _F32, target: _F32, weight: _F32, owner: _I64, focal: tuple[float, float] | None) -> _F32: ...
def crc32c(buffer: Buffer, seed: int = 0) -> int: ...
def distance_transform(
    masks: _Pixels,
    spacing_height: float,
    spacing_width: float,
    border: bool,
    out: NDArray[np.float64] | NDArray[np.float32],
) -> None: ...
def jitter_boxes(
    boxes: NDArray[np.float64], keys: NDArray[np.uint64], ratio: float, max_px: float, height: int, width: int
) -> NDArray[np.float64]: ...
def labels_to_rle(labels: _I32, background: int) -> tuple[_U32, _I64, _I32]: ...
def logits_to_bits(
    logits: NDArray[np.float32],
    model: int,
    resized_height: int,
    resized_width: int,
    height: int,
    width: int,
    threshold: float,
) -> _U64: ...
def logits_to_rle(
    logits: NDArray[np.float32],
    model: int,
    resized_height: int,
    resized_width: int,
    height: int,
    width: int,
    threshold: float,
) -> _Rle: ...
def masks_to_bits(masks: _Pixels) -> _U64: ...
def masks_to_rle(masks: _Pixels) -> _Rle: ...
def overlap_counts(
    prediction: _Form,
    target: _Form,
    ignore: _Form | None,
    height: int,
    width: int,
    thresholds: tuple[float, float],
    out: _I64 | None = None,
) -> _I64: ...
def polygons_to_bits(
    objects: Sequence[Sequence[ArrayLike]],
    convert: _Convert,
    height: int,
    width: int,
    rule: _Rule = "coco",
    out: _U64 | None = None,
) -> _U64: ...
def polygons_to_masks(
    objects: Sequence[Sequence[ArrayLike]],
    convert: _Convert,
    height: int,
    width: int,
    rule: _Rule = "coco",
    out: _Pixels | None = None,
) -> NDArray[np.uint8]: ...
def polygons_to_rle(
    objects: Sequence[Sequence[ArrayLike]], convert: _Convert, height: int, width: int, rule: _Rule = "coco"
) -> _Rle: ...
def rle_area(counts: _U32, offsets: _I64) -> _I64: ...
def rle_area_average(
    counts: _U32,
    offsets: _I64,
    height: int,
    width: int,
    cell_height: float,
    cell_width: float,
    grid: int,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]: ...
def rle_area_majority(
    counts: _U32,
    offsets: _I64,
    height: int,
    width: int,
    cell_height: float,
    cell_width: float,
    grid: int,
    out: _Pixels | None = None,
) -> NDArray[np.uint8]: ...
def rle_bbox(counts: _U32, offsets: _I64, height: int, width: int) -> _I64: ...
def rle_canonical(counts: _U32, offsets: _I64, height: int, width: int) -> _Rle: ...
def rle_centroid_inside(counts: _U32, offsets: _I64, height: int, width: int) -> NDArray[np.int32]: ...
def rle_complement(counts: _U32, offsets: _I64, height: int, width: int) -> _Rle: ...
def rle_components(
    counts: _U32, offsets: _I64, height: int, width: int, connectivity: Literal[4, 8] = 8
) -> tuple[_U32, _I64, _I64]: ...
def rle_crop(
    counts: _U32,
    offsets: _I64,
    height: int,
    width: int,
    top: int,
    left: int,
    crop_height: int,
    crop_width: int,
) -> _Rle: ...
def rle_fill_holes(
    counts: _U32,
    offsets: _I64,
    height: int,
    width: int,
    connectivity: Literal[4, 8],
    max_area: int,
    at_border: bool,
) -> _Rle: ...
def rle_deepest(
    counts: _U32, offsets: _I64, height: int, width: int, excluded: NDArray[np.int32]
) -> tuple[NDArray[np.int32], _I64]: ...
def rle_difference_pairs(
    a_counts: _U32, a_offsets: _I64, b_counts: _U32, b_offsets: _I64, height: int, width: int
) -> _Rle: ...
def rle_farthest(counts: _U32, offsets: _I64, height: int, width: int, k: int) -> NDArray[np.int32]: ...
def rle_intersect_pairs(
    a_counts: _U32, a_offsets: _I64, b_counts: _U32, b_offsets: _I64, height: int, width: int
) -> _Rle: ...
def rle_outlines(
    counts: _U32, offsets: _I64, height: int, width: int, connectivity: Literal[4, 8], bridge: bool
) -> tuple[_I64, _I64, _I64]: ...
def rle_pairwise_iou(
    a_counts: _U32,
    a_offsets: _I64,
    b_counts: _U32,
    b_offsets: _I64,
    crowd: NDArray[np.uint8],
    height: int,
    width: int,
    out: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]: ...
def rle_remove_small(
    counts: _U32,
    offsets: _I64,
    height: int,
    width: int,
    connectivity: Literal[4, 8],
    min_area: int,
    keep_largest: bool,
) -> _Rle: ...
def rle_resize(counts: _U32, offsets: _I64, height: int, width: int, new_height: int, new_width: int) -> _Rle: ...
def rle_ring(counts: _U32, offsets: _I64, height: int, width: int, radius_px: float) -> _Rle: ...
def rle_subtract_pairs(
    a_counts: _U32, a_offsets: _I64, b_counts: _U32, b_offsets: _I64, height: int, width: int
) -> _Rle: ...
def rle_to_bits(counts: _U32, offsets: _I64, height: int, width: int, out: _U64 | None = None) -> _U64: ...
def rle_to_labels(
    counts: _U32,
    offsets: _I64,
    height: int,
    width: int,
    values: _I32,
    background: int,
    out: _I32 | None = None,
) -> _I32: ...
def rle_to_masks(
    counts: _U32, offsets: _I64, height: int, width: int, out: _Pixels | None = None
) -> NDArray[np.uint8]: ...
def rle_to_strings(counts: _U32, offsets: _I64) -> list[bytes]: ...
def rle_union(counts: _U32, offsets: _I64, height: int, width: int) -> _Rle: ...
def rle_warp(
    counts: _U32,
    offsets: _I64,
    height: int,
    width: int,
    matrix: Sequence[float],
    new_height: int,
    new_width: int,
) -> _Rle: ...
def sample_points(
    counts: _U32, offsets: _I64, height: int, width: int, keys: NDArray[np.uint64], k: int
) -> NDArray[np.int32]: ...
def sha256(parts: Iterable[Buffer]) -> str: ...
def strings_to_rle(strings: Sequence[bytes], height: int, width: int) -> _Rle: ...
def surface_distances(
    prediction: _Form,
    target: _Form,
    height: int,
    width: int,
    threshold: float,
    convention: Literal["medpy", "monai", "deepmind"],
    spacing: tuple[float, float],
    tolerances: Sequence[float],
) -> NDArray[np.float64]: ...

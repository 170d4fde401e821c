"""What a batch of masks is kept in: run lengths, one mask after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast import _rust
from samfast.checks import instance, kernel_errors, mask_size
from samfast.errors import ConfigError, DataError

_COUNTS, _OFFSETS = np.dtype(np.uint32), np.dtype(np.int64)


@dataclass(frozen=True, eq=False)
class RunLengths:
    """``N`` binary masks of ``height x width`` pixels, original frame, as run lengths.

    Two batches are equal if they have the same size and the same pixels.

    Attributes:
        height: in pixels.
        width: in pixels.
        counts: ``(R,)`` uint32, the runs of all masks one after the other, column-major, background first.
        offsets: ``(N + 1,)`` int64, where each mask's runs begin in ``counts``.

    Raises:
        DataError: a size no mask has, or arrays of other dtypes or shapes. Whether the runs make masks of that size is
            checked by everything that reads them.
    """

    height: int
    width: int
    counts: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        height, width = mask_size(self.height, self.width, DataError)
        object.__setattr__(self, "height", height)
        object.__setattr__(self, "width", width)
        _check_array("counts", self.counts, _COUNTS)
        _check_array("offsets", self.offsets, _OFFSETS)
        ends = [self.offsets.item(0), self.offsets.item(-1)] if len(self.offsets) else []
        if ends != [0, len(self.counts)]:
            raise DataError(
                f"offsets run from {ends}, expected from 0 to {len(self.counts)}, the length of counts", where="offsets"
            )

    @classmethod
    def empty(cls, height: int, width: int) -> Self:
        """A batch of no masks."""
        return cls(height, width, np.zeros(0, np.uint32), np.zeros(1, np.int64))

    @classmethod
    def concatenate(cls, batches: Sequence[Self]) -> Self:
        """The masks of all batches, in order.

        Raises:
            ConfigError: no batches, or batches of different sizes.
        """
        for batch in batches:
            instance("batches", batch, RunLengths)
        sizes = sorted({(batch.height, batch.width) for batch in batches})
        if len(sizes) != 1:
            raise ConfigError(f"batches to concatenate have sizes {sizes}, expected one size", where="batches")
        starts = np.cumsum([0, *(len(batch.counts) for batch in batches)])
        offsets = [batch.offsets[1:] + start for batch, start in zip(batches, starts, strict=False)]
        counts = np.concatenate([batch.counts for batch in batches])
        return cls(*sizes[0], counts, np.concatenate([np.zeros(1, np.int64), *offsets]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int | slice | ArrayLike) -> Self:
        """A batch of the masks an int, a slice, an index array or a bool array chooses."""
        chosen = np.atleast_1d(np.arange(len(self))[index])  # type: ignore[index]
        lengths = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        runs = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], lengths)
        return type(self)(self.height, self.width, self.counts[runs], offsets)

    def __eq__(self, other: object) -> bool:
        return self.tobytes() == other.tobytes() if isinstance(other, RunLengths) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def tobytes(self) -> bytes:
        """Bytes that are equal exactly for equal batches, on every platform: what hashes of masks are taken of."""
        counts, offsets = call(_rust.rle_canonical, self)
        header = np.array([self.height, self.width, len(self)], "<i8")
        return b"".join(part.tobytes() for part in (header, offsets.astype("<i8"), counts.astype("<u4")))

    def _like(self, counts: NDArray[np.uint32], offsets: NDArray[np.int64]) -> Self:
        """Other masks of the same size."""
        return type(self)(self.height, self.width, counts, offsets)

    def _check_partner(self, other: RunLengths) -> None:
        instance("other", other, RunLengths)
        same_size = (other.height, other.width) == (self.height, self.width)
        if not same_size or len(other) not in (1, len(self)):
            raise ConfigError(
                f"{len(other)} masks of {other.height} x {other.width} do not pair with "
                f"{len(self)} of {self.height} x {self.width} (height x width)",
                where="other",
                fix="same size, and as many masks or one",
            )


def _check_array(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> None:
    instance(name, array, np.ndarray)
    if array.dtype != dtype or array.ndim != 1:
        what = f"{name} is {array.dtype} of shape {array.shape}, expected {dtype.name} of one dimension"
        raise DataError(what, where=name)


def call(kernel: Callable[..., Any], masks: RunLengths, *options: Any) -> Any:
    """What a kernel makes of masks, with options that are checked.

    Raises:
        DataError: what are not masks.
    """
    instance("masks", masks, RunLengths)
    with kernel_errors(DataError, "masks"):
        return kernel(masks.counts, masks.offsets, masks.height, masks.width, *options)

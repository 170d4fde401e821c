"""What a batch of masks is kept in: run lengths, one mask after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast import _rust
from samfast.errors import ConfigError


@dataclass(frozen=True, eq=False)
class RunLengths:
    """``N`` binary masks of ``height x width`` pixels, original frame, as run lengths.

    Two batches are equal if they have the same size and the same pixels.

    Attributes:
        height: in pixels.
        width: in pixels.
        counts: ``(R,)`` uint32, the runs of all masks one after the other, column-major, background first.
        offsets: ``(N + 1,)`` int64, where each mask's runs begin in ``counts``.
    """

    height: int
    width: int
    counts: NDArray[np.uint32]
    offsets: NDArray[np.int64]

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
        counts, offsets = _rust.rle_canonical(*self._rle)
        header = np.array([self.height, self.width, len(self)], "<i8")
        return header.tobytes() + offsets.astype("<i8").tobytes() + counts.astype("<u4").tobytes()

    @property
    def _rle(self) -> tuple[NDArray[np.uint32], NDArray[np.int64], int, int]:
        return self.counts, self.offsets, self.height, self.width

    def _like(self, counts: NDArray[np.uint32], offsets: NDArray[np.int64]) -> Self:
        """Other masks of the same size."""
        return type(self)(self.height, self.width, counts, offsets)

    def _check_partner(self, other: RunLengths) -> None:
        same_size = (other.height, other.width) == (self.height, self.width)
        if not same_size or len(other) not in (1, len(self)):
            raise ConfigError(
                f"{len(other)} masks of {other.height} x {other.width} do not pair with "
                f"{len(self)} of {self.height} x {self.width} (height x width)",
                where="other",
                fix="same size, and as many masks or one",
            )

"""A batch of binary masks of one size, run-length encoded as COCO does, and the operations on them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast import _rust
from samfast.checks import choice, flag, instance, kernel_errors, mask_size, reals, whole, writable
from samfast.errors import ConfigError, DataError
from samfast.frames import Frame
from samfast.masks.coco import call_on_polygons, read_rles
from samfast.masks.logits import call_on_logits
from samfast.masks.runs import RunLengths, call


@dataclass(frozen=True, eq=False)
class Masks(RunLengths):
    """``N`` binary masks of ``height x width`` pixels, original frame, as run lengths: see :class:`RunLengths` for what
    they are kept in."""

    @classmethod
    def from_numpy(cls, masks: NDArray[Any]) -> Masks:
        """Encode ``(N, H, W)`` or ``(H, W)`` masks, bool or uint8; every value that is not 0 is foreground.

        >>> Masks.from_numpy(np.eye(3, dtype=bool)).area()
        array([3])

        Raises:
            DataError: another dtype or shape, or masks without pixels.
        """
        with kernel_errors(DataError, "masks"):
            masks = np.asarray(masks)
        if masks.ndim not in (2, 3) or masks.dtype not in (np.bool_, np.uint8):
            raise DataError(
                f"masks are {masks.dtype} of shape {masks.shape}",
                where="masks",
                fix="pass bool or uint8 of shape (N, H, W) or (H, W)",
            )
        batch = np.ascontiguousarray(masks[None] if masks.ndim == 2 else masks)
        with kernel_errors(DataError, "masks"):
            return cls(batch.shape[1], batch.shape[2], *_rust.masks_to_rle(batch))

    @classmethod
    def from_packed(cls, words: NDArray[np.uint64], width: int) -> Masks:
        """Encode ``(N, H, ceil(width / 64))`` uint64 as :meth:`packed` returns them.

        >>> Masks.from_packed(np.array([[[0b101]]], np.uint64), 3).numpy().astype(int).tolist()
        [[[1, 0, 1]]]

        Raises:
            DataError: another dtype or shape, or bits beyond the width.
            ConfigError: a ``width`` that is not a number of pixels.
        """
        width = whole("width", width, least=1, most=2**32 - 1)
        with kernel_errors(DataError, "words", fix="(N, H, ceil(width / 64)) uint64"):
            words = np.ascontiguousarray(words)
            counts, offsets = _rust.bits_to_rle(words, width)
        return cls(words.shape[1], width, counts, offsets)

    @classmethod
    def from_rle(cls, rles: Sequence[Mapping[str, Any]]) -> Masks:
        """Read COCO run lengths: ``{"size": [height, width], "counts": ...}``, one dict a mask.

        ``counts`` is a compressed string (str or bytes) or a list of runs; both kinds may be mixed.

        >>> Masks.from_rle([{"size": [2, 2], "counts": [1, 2, 1]}]).numpy().astype(int).tolist()
        [[[0, 1], [1, 0]]]

        Raises:
            DataError: no masks, masks of different sizes, or run lengths that are not a mask; names the index.
        """
        return cls(*read_rles(rles))

    @classmethod
    def from_polygons(
        cls,
        objects: Sequence[Sequence[ArrayLike]],
        height: int,
        width: int,
        *,
        rule: Literal["coco", "pixel-center", "opencv"] = "coco",
    ) -> Masks:
        """Rasterise objects, each a list of polygons whose union it is.

        A polygon is ``[x0, y0, x1, y1, ...]`` (COCO's ``segmentation``) or ``(K, 2)``, K >= 3, original frame, in
        pixels; vertices are continuous corners, so the square from 0 to 9 covers 81 pixels.

        >>> Masks.from_polygons([[[0, 0, 9, 0, 9, 9, 0, 9]]], 20, 20).area()
        array([81])

        Args:
            objects: ``N`` lists of polygons.
            height: of the masks, in pixels.
            width: of the masks, in pixels.
            rule: ``"coco"`` is pixel-identical to pycocotools 2.0.11 on x86-64; ``"pixel-center"`` takes the pixels
                whose centre lies inside, even-odd, as GDAL and rasterio do; ``"opencv"`` is pixel-identical to
                ``cv2.fillPoly`` (OpenCV 5) of all polygons of an object at once, vertices cut off to integers: outlines
                are inside, and polygons within polygons are holes.

        Raises:
            DataError: what is not a polygon or not finite, or a mask without pixels; names the object's index.
            ConfigError: an unknown ``rule``.
        """
        return cls(height, width, *call_on_polygons(_rust.polygons_to_rle, objects, height, width, rule))

    @classmethod
    def from_logits(cls, logits: NDArray[np.float32], frame: Frame, *, threshold: float | None = None) -> Masks:
        """What a decoder's ``(N, low_res, low_res)`` float32 logits, low-res frame, say about the original image.

        Pixel for pixel what torch makes of each map by its two bilinear ``interpolate`` calls in float32 on a CPU with
        FMA: to the model frame, crop the padding, to the original size; then ``> threshold``. Full-size logits are
        never made.

        Args:
            logits: one map a mask.
            frame: of the image they are about.
            threshold: the logit above which a pixel is foreground; None for the spec's ``mask_threshold``.

        Raises:
            DataError: logits of another dtype or shape, or a logit that is not finite; names the map.
            ConfigError: a ``threshold`` that is not finite in float32.
        """
        counts, offsets = call_on_logits(_rust.logits_to_rle, logits, frame, threshold)
        return cls(frame.height, frame.width, counts, offsets)

    def numpy(self, *, out: NDArray[np.bool_] | NDArray[np.uint8] | None = None) -> NDArray[np.bool_]:
        """``(N, H, W)`` bool; ``out``, C-contiguous bool or uint8 of that shape, is written to if it is given.

        Raises:
            ConfigError: an ``out`` of another shape, dtype or order, or one that is read-only.
        """
        writable(out, (len(self), self.height, self.width), np.bool_, np.uint8)
        pixels: NDArray[np.uint8] = call(_rust.rle_to_masks, self, out)
        return pixels.view(np.bool_)

    def packed(self, *, out: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
        """``(N, H, ceil(W / 64))`` uint64: pixel ``x`` is bit ``x % 64`` of word ``x // 64``; zeros beyond the width.
        ``out`` as for :meth:`numpy`.

        >>> Masks.from_numpy(np.array([[True, False, True]])).packed().tolist()
        [[[5]]]
        """
        writable(out, (len(self), self.height, -(-self.width // 64)), np.uint64)
        words: NDArray[np.uint64] = call(_rust.rle_to_bits, self, out)
        return words

    def rle(self) -> list[dict[str, Any]]:
        """Compressed COCO run lengths, ready for JSON: ``{"size": [height, width], "counts": str}``."""
        call(_rust.check_rle, self)
        strings = _rust.rle_to_strings(self.counts, self.offsets)
        return [{"size": [self.height, self.width], "counts": text.decode("ascii")} for text in strings]

    def area(self) -> NDArray[np.int64]:
        """``(N,)`` int64 foreground pixels."""
        call(_rust.check_rle, self)
        return _rust.rle_area(self.counts, self.offsets)

    def boxes(self) -> NDArray[np.float32]:
        """``(N, 4)`` float32 [xmin, ymin, xmax, ymax], pixel indices, inclusive; [0, 0, -1, -1] for an empty mask.

        Raises:
            DataError: a side of more than 2**24 pixels, which float32 does not count one by one.
        """
        return np.asarray(call(_rust.rle_bbox, self), np.float32)

    def union(self) -> Masks:
        """One mask: what any of them holds; empty if there are none."""
        return self._like(*call(_rust.rle_union, self))

    def intersect(self, other: Masks) -> Masks:
        """What mask ``i`` and ``other[i]`` both hold; ``other`` may be one mask for all.

        Raises:
            ConfigError: sizes or numbers of masks that do not fit.
        """
        self._check_partner(other)
        return self._pairs(_rust.rle_intersect_pairs, other)

    def subtract(self, other: Masks) -> Masks:
        """What mask ``i`` holds and ``other[i]`` does not; ``other`` may be one mask for all.

        Raises:
            ConfigError: sizes or numbers of masks that do not fit.
        """
        self._check_partner(other)
        return self._pairs(_rust.rle_subtract_pairs, other)

    def components(self, *, connectivity: Literal[4, 8] = 8) -> tuple[Masks, NDArray[np.int64]]:
        """The connected pieces of every mask, and ``(pieces,)`` int64: the mask each comes from.

        Pieces are in order of their mask, then of their first pixel in column-major order.

        Raises:
            ConfigError: a ``connectivity`` that is neither 4 nor 8.
        """
        counts, offsets, parents = call(_rust.rle_components, self, _checked_connectivity(connectivity))
        return self._like(counts, offsets), parents

    def fill_holes(
        self, *, max_area: int | None = None, connectivity: Literal[4, 8] = 4, at_border: bool = False
    ) -> Masks:
        """Each mask with its holes filled: the connected pieces of its background that do not touch the border.

        With the defaults, ``scipy.ndimage.binary_fill_holes``; with ``connectivity=8, at_border=True``, what
        ``segment_anything`` does to holes of less than ``max_area + 1`` pixels (``remove_small_regions``).

        >>> ring = np.ones((3, 3), bool)
        >>> ring[1, 1] = False
        >>> Masks.from_numpy(ring).fill_holes().area()
        array([9])

        Args:
            max_area: of the largest hole to fill, in pixels; None for any.
            connectivity: of the background's pixels.
            at_border: also fill pieces that touch the border.

        Raises:
            ConfigError: a negative ``max_area``, or a ``connectivity`` that is neither 4 nor 8.
        """
        limit = 2**64 - 1 if max_area is None else whole("max_area", max_area, most=2**64 - 1)
        options = (_checked_connectivity(connectivity), limit, flag("at_border", at_border))
        return self._like(*call(_rust.rle_fill_holes, self, *options))

    def remove_small(self, min_area: int, *, connectivity: Literal[4, 8] = 8, keep_largest: bool = False) -> Masks:
        """Each mask without its connected pieces of fewer than ``min_area`` pixels.

        Args:
            min_area: of the smallest piece to keep, in pixels.
            connectivity: of the pieces' pixels.
            keep_largest: where all pieces are smaller, keep the largest, the first of several in column-major order.

        Raises:
            ConfigError: a negative ``min_area``, or a ``connectivity`` that is neither 4 nor 8.
        """
        min_area = whole("min_area", min_area, most=2**64 - 1)
        options = (_checked_connectivity(connectivity), min_area, flag("keep_largest", keep_largest))
        return self._like(*call(_rust.rle_remove_small, self, *options))

    def crop(self, top: int, left: int, height: int, width: int) -> Masks:
        """The part of each mask in a window of ``height x width`` pixels from row ``top`` and column ``left`` on.

        Raises:
            ConfigError: a window that does not lie within the masks, or has no pixels.
        """
        size = mask_size(height, width)
        top, left = whole("top", top, most=self.height - 1), whole("left", left, most=self.width - 1)
        if top + size[0] > self.height or left + size[1] > self.width:
            raise ConfigError(
                f"a window of {size[0]} x {size[1]} pixels from row {top} and column {left} does not lie within "
                f"{self.height} x {self.width} (height x width)",
                where="height, width",
            )
        return Masks(*size, *call(_rust.rle_crop, self, top, left, *size))

    def resize(self, height: int, width: int) -> Masks:
        """Each mask at another size: a new pixel takes the pixel its centre lies in.

        ``torch``'s ``nearest-exact``, in exact arithmetic.

        Raises:
            ConfigError: a size without pixels.
        """
        size = mask_size(height, width)
        return Masks(*size, *call(_rust.rle_resize, self, *size))

    def warp(self, matrix: ArrayLike, height: int, width: int) -> Masks:
        """Each mask as it looks after an affine map: what :mod:`samfast.views` does to an image, done to its masks.

        A new pixel takes the pixel in which the place lies that its centre comes from, and is background where that
        is off the masks. Computed in float64, as ``floor(inverse[:2] @ (x + 0.5, y + 0.5, 1))``.

        >>> mask = Masks.from_numpy(np.array([[True, False, False]]))
        >>> mask.warp([[-1, 0, 3], [0, 1, 0], [0, 0, 1]], 1, 3).numpy().astype(int).tolist()  # a flip
        [[[0, 0, 1]]]

        Args:
            matrix: ``(3, 3)``, from old to new homogeneous (x, y, 1), where pixel (0, 0) is the square from 0 to 1.
            height: of the new masks, in pixels.
            width: of the new masks, in pixels.

        Raises:
            ConfigError: a matrix that is not affine or has no inverse, or a size without pixels.
        """
        size, inverse = mask_size(height, width), _inverse(matrix)
        return Masks(*size, *call(_rust.rle_warp, self, inverse, *size))

    def polygons(
        self, *, holes: Literal["bridge", "drop"] = "bridge", connectivity: Literal[4, 8] = 8
    ) -> list[list[NDArray[np.int64]]]:
        """The outline of every connected piece of every mask: ``N`` lists of ``(K, 2)`` int64 (x, y), original frame.

        Corners are those of pixels, 0 to width and 0 to height, clockwise (y is down) along the pixels' sides, so
        :meth:`from_polygons` gives the same masks back, unless holes were dropped.

        >>> Masks.from_numpy(np.ones((2, 3), bool)).polygons()[0][0].tolist()
        [[0, 0], [3, 0], [3, 2], [0, 2]]

        Args:
            holes: ``"bridge"`` runs on to each hole, around it, and back on the same line; ``"drop"`` covers holes.
            connectivity: of the pieces' pixels.

        Raises:
            ConfigError: another ``holes``, or a ``connectivity`` that is neither 4 nor 8.
        """
        choice("holes", holes, ("bridge", "drop"))
        options = (_checked_connectivity(connectivity), holes == "bridge")
        coords, polygon_ends, mask_ends = call(_rust.rle_outlines, self, *options)
        polygons = [polygon.reshape(-1, 2) for polygon in np.split(coords, polygon_ends[:-1])] if len(coords) else []
        return [polygons[start:end] for start, end in pairwise([0, *mask_ends])]

    @overload
    def rasterize(
        self, frame: Frame, *, hard: Literal[False] = False, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]: ...
    @overload
    def rasterize(
        self, frame: Frame, *, hard: Literal[True], out: NDArray[np.bool_] | NDArray[np.uint8] | None = None
    ) -> NDArray[np.bool_]: ...
    def rasterize(self, frame: Frame, *, hard: bool = False, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """``(N, low_res, low_res)``, low-res frame: float32, the mean of each mask over the on-image part of each cell.

        Straight from the runs: no mask is unpacked. 0 where a cell lies off the image; :meth:`Frame.coverage` says how
        much of it does not. From polygons or packed masks, go through :meth:`from_polygons` or :meth:`from_packed`:
        their runs cost less than the cells do.

        Args:
            frame: of the image the masks are of.
            hard: bool instead, whether the mean is at least 0.5.
            out: as for :meth:`numpy`, of the dtype that is returned, or uint8 for bool.

        Raises:
            ConfigError: a frame of another image size, or an ``out`` that does not fit.
        """
        instance("frame", frame, Frame)
        if (frame.height, frame.width) != (self.height, self.width):
            raise ConfigError(
                f"masks are {self.height} x {self.width}, the frame is {frame.height} x {frame.width} (height x width)",
                where="frame",
            )
        grid = (*frame.cell, frame.spec.low_res)
        shape = (len(self), frame.spec.low_res, frame.spec.low_res)
        if flag("hard", hard):
            writable(out, shape, np.bool_, np.uint8)
            most: NDArray[np.uint8] = call(_rust.rle_area_majority, self, *grid, out)
            return most.view(np.bool_)
        writable(out, shape, np.float32)
        mean: NDArray[np.float32] = call(_rust.rle_area_average, self, *grid, out)
        return mean

    def _pairs(self, kernel: Callable[..., Any], other: Masks) -> Masks:
        self._check_partner(other)
        with kernel_errors(DataError, "masks"):
            found = kernel(self.counts, self.offsets, other.counts, other.offsets, self.height, self.width)
        return self._like(*found)


def _checked_connectivity(connectivity: int) -> int:
    return choice("connectivity", connectivity, (4, 8))


def _inverse(matrix: ArrayLike) -> list[float]:
    """The first two rows of the inverse of an affine map.

    Raises:
        ConfigError: a matrix that is not affine or has no inverse in float64.
    """
    affine = reals("matrix", matrix, ConfigError)
    if affine.shape == (3, 3) and np.isfinite(affine).all() and np.array_equal(affine[2], [0, 0, 1]):
        with np.errstate(all="ignore"), suppress(np.linalg.LinAlgError):
            inverse = np.linalg.inv(affine)[:2]
            determinant = float(inverse[0, 0] * inverse[1, 1] - inverse[0, 1] * inverse[1, 0])
            if np.isfinite(inverse).all() and sys.float_info.min <= abs(determinant) < np.inf:
                return [float(number) for number in inverse.flat]
    raise ConfigError(f"{affine.tolist()} is no affine map with an inverse", where="matrix")

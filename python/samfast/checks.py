"""What the faces of the kernels ask of their arguments: a refusal names the argument and its value.

Options are checked before a kernel is called, so that what the kernel itself refuses is the data, see
:func:`kernel_errors`.
"""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from samfast.errors import ConfigError, DataError, SamfastError

T = TypeVar("T")
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


@contextmanager
def kernel_errors(error_type: type[SamfastError], where: str, *, fix: str | None = None) -> Iterator[None]:
    """Raise what a kernel, or numpy, refuses within as an error of samfast that names the argument ``where``.

    Errors of samfast, too little memory and interrupts pass as they are.
    """
    try:
        yield
    except SamfastError:
        raise
    except (OverflowError, TypeError, ValueError) as error:
        raise error_type(str(error), where=where, fix=fix) from None


def instance(name: str, value: object, kind: type[T]) -> T:
    """``value``, which is of this type.

    Raises:
        DataError: it is not.
    """
    if not isinstance(value, kind):
        raise DataError(f"{name} is {type(value).__name__}, expected {kind.__name__}", where=name)
    return value


def whole(name: str, value: Any, *, least: int = 0, most: int = 2**63 - 1) -> int:
    """A whole number of any integer type.

    Raises:
        ConfigError: another type, or a number that is not within ``least`` and ``most``.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if not least <= number <= most:
        top = "or more" if most == 2**63 - 1 else f"to {most}"
        raise ConfigError(f"{name} is {reprlib.repr(value)}, expected a whole number, {least} {top}", where=name)
    return number


def finite(name: str, value: Any, *, least: float = -math.inf) -> float:
    """A finite number of any real type.

    Raises:
        ConfigError: another type, a number below ``least``, NaN or an infinity.
    """
    try:
        fits = math.isfinite(value) and value >= least
    except (OverflowError, TypeError, ValueError):
        fits = False
    if not fits:
        limit = "" if least == -math.inf else f" of at least {least:g}"
        raise ConfigError(f"{name} is {reprlib.repr(value)}, expected a finite number{limit}", where=name)
    return float(value)


def logit(name: str, value: Any) -> float:
    """A number that logits, which are float32, can be compared with.

    Raises:
        ConfigError: another type, NaN, an infinity, or a number beyond those of float32.
    """
    number = finite(name, value)
    if abs(number) > _LARGEST_FLOAT32:
        what = f"{name} is {reprlib.repr(value)}, expected at most {_LARGEST_FLOAT32:.3g} in magnitude"
        raise ConfigError(what, where=name)
    return number


def choice(name: str, value: T, options: tuple[Any, ...]) -> T:
    """One of the options.

    Raises:
        ConfigError: it is none of them.
    """
    if not (isinstance(value, (str, int, np.integer)) and value in options):
        expected = " or ".join(map(repr, options))
        raise ConfigError(f"{name} is {reprlib.repr(value)}, expected {expected}", where=name)
    return value


def flag(name: str, value: Any) -> bool:
    """A bool, Python's or numpy's.

    Raises:
        ConfigError: anything else.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ConfigError(f"{name} is {reprlib.repr(value)}, expected True or False", where=name)
    return bool(value)


def mask_size(height: Any, width: Any, error_type: type[SamfastError] = ConfigError) -> tuple[int, int]:
    """(height, width) that masks can have.

    Raises:
        ConfigError: what are not two integers, or no pixels, or more than 2^32 - 1; ``error_type`` in its place.
    """
    try:
        size = operator.index(height), operator.index(width)
    except TypeError:
        raise error_type(
            f"height is {height!r} and width {width!r}, expected integers", where="height, width"
        ) from None
    wrong = "no pixels" if min(size) < 1 else "more than 2^32 - 1 pixels" if size[0] * size[1] >= 2**32 else None
    if wrong:
        what = f"a mask of {size[0]} x {size[1]} pixels (height x width) has {wrong}"
        raise error_type(what, where="height, width")
    return size


def reals(name: str, values: ArrayLike, error_type: type[SamfastError] = DataError) -> NDArray[np.float64]:
    """Numbers of any real type as float64.

    Raises:
        DataError: texts, objects, complex numbers, rows of several lengths; ``error_type`` in its place.
    """
    with kernel_errors(error_type, name):
        array = np.asarray(values)
    if array.dtype.kind not in "biuf" and array.size:
        raise error_type(f"{name} is {reprlib.repr(values)}, expected numbers", where=name)
    return array.astype(np.float64, copy=False)


def rows_of_four(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """``(N, 4)`` float64, C-contiguous, from that or from one row.

    Raises:
        DataError: another shape, or what are not numbers.
    """
    rows = np.atleast_2d(reals(name, values))
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise DataError(f"{name} has shape {np.shape(values)}, expected (N, 4)", where=name)
    return np.ascontiguousarray(rows)


def pixel_spacing(spacing: Any) -> tuple[float, float]:
    """(height, width) of a pixel, from that or from one number for both.

    Raises:
        ConfigError: anything else, or a number that is not above 0, or whose square is not.
    """
    sides = reals("spacing", spacing, ConfigError)
    if sides.shape not in ((), (2,)) or not ((sides >= 1e-100) & (sides <= 1e100)).all():
        raise ConfigError(
            f"spacing is {reprlib.repr(spacing)}",
            where="spacing",
            fix="one number above 0, or two: (height, width) of a pixel",
        )
    height, width = np.broadcast_to(sides, 2).tolist()
    return height, width


def writable(out: Any, shape: tuple[int, ...], *dtypes: DTypeLike) -> None:
    """Check that a result of this shape can be written to ``out``, which has one of these dtypes, or is None.

    Raises:
        ConfigError: it cannot.
    """
    if out is None:
        return
    is_array = isinstance(out, np.ndarray)
    if not (is_array and out.dtype in dtypes and out.shape == shape and out.flags.c_contiguous and out.flags.writeable):
        found = f"{out.dtype} of shape {out.shape}" if is_array else type(out).__name__
        names = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise ConfigError(
            f"out is {found}, expected {names} of shape {shape}", where="out", fix="a C-contiguous array, not read-only"
        )

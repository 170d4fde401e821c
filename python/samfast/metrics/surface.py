"""Distances between outlines: Hausdorff distance, its 95th percentile, mean distance, and surface Dice.

Packages that share these names do not share their definitions; ``convention`` says whose are meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from samfast import _rust
from samfast.checks import choice, kernel_errors, logit, pixel_spacing, reals
from samfast.errors import ConfigError, DataError
from samfast.metrics.forms import AnyMasks, common_size, read_form

Convention = Literal["monai", "medpy", "deepmind"]
Empty = Literal["nan", "perfect", "convention"]


def surface_distances(
    prediction: AnyMasks,
    target: AnyMasks,
    *,
    convention: Convention = "monai",
    spacing: float | tuple[float, float] = 1.0,
    tolerance: float | Sequence[float] = 1.0,
    empty: Empty = "nan",
    threshold: float = 0.0,
    width: int | None = None,
) -> dict[str, NDArray[np.float64]]:
    """``hd``, ``hd95``, ``assd`` and ``nsd`` of ``prediction[i]`` and ``target[i]``, all from one measurement.

    The first three are ``(N,)`` float64 in the unit of ``spacing``; ``nsd`` (normalised surface Dice: the share of both
    outlines within ``tolerance`` of the other) is ``(N,)``, or ``(N, T)`` for a sequence of ``T`` tolerances.

    ============ ======================================= ==================================== ==========================
    convention   outline                                 hd95                                 assd
    ============ ======================================= ==================================== ==========================
    ``monai``    pixels beside background                larger of both directions' quantiles mean over all pixels
    ``medpy``    the same                                percentile of both pooled            mean of both means
    ``deepmind`` corners, weighted by length of outline  larger of both weighted quantiles    mean of both, weighted
    ============ ======================================= ==================================== ==========================

    There are no ignored pixels, as none of the packages has any: an outline must end or run on where they begin, and no
    definition says which. To have outlines run there, subtract the region from both masks first.

    Beyond the image is background everywhere. MONAI's numbers are single precision. MedPy has no surface Dice; it is
    MONAI's there, in double precision.

    >>> a, b = np.zeros((2, 8, 8), bool)
    >>> a[2:6, 2:6] = b[2:6, 2:7] = True
    >>> {name: round(value.item(), 3) for name, value in surface_distances(a, b, tolerance=0.5).items()}
    {'hd': 1.0, 'hd95': 1.0, 'assd': 0.231, 'nsd': 0.769}

    Args:
        prediction: ``N`` masks of any form, see :data:`~samfast.metrics.forms.AnyMasks`; forms may be mixed.
        target: ``N`` masks.
        convention: whose definitions hold.
        spacing: size of a pixel, one number or (height, width), in the unit distances shall have.
        tolerance: of the surface Dice, in that unit; one or several.
        empty: what two empty masks score: ``"nan"``, ``"perfect"`` (distances 0, Dice 1), or ``"convention"``: what the
            package does (monai NaN, deepmind infinite distances and NaN, medpy an error, also where one is empty).
            Otherwise, where one mask is empty, distances are infinite and Dice is 0.
        threshold: logits above it are foreground.
        width: in pixels, needed only if both are packed rows.

    Raises:
        DataError: a dtype or shape that is no form of masks, a logit that is NaN, an empty mask where MedPy has no
            answer; names the mask.
        ConfigError: sizes or numbers of masks that do not fit, or an option out of range.

    Source: ``monai.metrics``, ``medpy.metric.binary``, ``surface_distance`` (DeepMind).
    """
    choice("convention", convention, get_args(Convention))
    choice("empty", empty, get_args(Empty))
    threshold = logit("threshold", threshold)
    tolerances = np.atleast_1d(reals("tolerance", tolerance, ConfigError))
    if tolerances.ndim != 1 or not (np.isfinite(tolerances) & (tolerances >= 0)).all():
        raise ConfigError(f"tolerance is {tolerance}", where="tolerance", fix="finite numbers of at least 0")
    sides = pixel_spacing(spacing)
    forms = read_form(prediction, "prediction"), read_form(target, "target")
    size = common_size(*forms, width=width)
    pair = (forms[0].value, forms[1].value)
    with kernel_errors(DataError, "masks"):
        found = _rust.surface_distances(*pair, *size, threshold, convention, sides, tolerances.tolist())  # (N, 3 + T)
    _fill_empty(found, convention, empty)
    names = {name: found[:, column].copy() for column, name in enumerate(("hd", "hd95", "assd"))}
    nsd = found[:, 3:].copy()
    return {**names, "nsd": nsd[:, 0] if np.ndim(tolerance) == 0 else nsd}


def _fill_empty(found: NDArray[np.float64], convention: Convention, empty: Empty) -> None:
    """Write what is asked for where masks are empty: rows of NaN where both are, infinite HD where one is."""
    both, one = np.isnan(found[:, 0]), np.isinf(found[:, 0])
    if empty == "perfect":
        found[both, :3], found[both, 3:] = 0, 1
    elif empty == "convention" and convention == "deepmind":
        found[both, :2] = np.inf
    elif empty == "convention" and convention == "medpy" and (both | one).any():
        index = int(np.flatnonzero(both | one)[0])
        raise DataError(
            f"mask {index} is empty in the prediction or the target, and MedPy defines no distance to it",
            where="masks",
            fix='empty="nan" gives NaN where both are empty, infinity where one is',
        )

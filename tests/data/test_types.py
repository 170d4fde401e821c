"""Targets, against plain indexing."""

from __future__ import annotations

import numpy as np
import pytest

from samfast.data.types import Target
from samfast.masks import Masks


@pytest.mark.parametrize("index", [[], [1], [2, 0], [0, 1, 2]])
def test_select_keeps_objects_together(index: list[int]) -> None:
    pixels = np.zeros((3, 4, 5), bool)
    for number in range(3):
        pixels[number, number, : number + 1] = True
    target = Target(Masks.from_numpy(pixels), np.array([7, 8, 9]), ("a", "b", "c"), Masks.empty(4, 5), "instance")
    part = target.select(np.array(index, np.int64))
    np.testing.assert_array_equal(part.masks.numpy(), pixels[index])
    assert part.classes.tolist() == [(7, 8, 9)[each] for each in index]
    assert part.ids == tuple("abc"[each] for each in index)
    assert (part is target) == (len(index) == 3)

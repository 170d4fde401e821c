"""Distances, prompts and upscaled masks beside their peers: ``pytest benches/test_prompts.py --benchmark-only``.

One thread each: start it with ``taskset -c 0``. What a peer returns is compared before anything is timed.

Points of masks that are still arrays cost what reading 64 MiB costs, which numpy pays as well: there the floor is the
machine's read bandwidth, and the ratio to numpy far below that for masks that are run lengths already.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy import ndimage

from samfast.distances import distance_transform
from samfast.frames import PreprocessSpec
from samfast.masks import Masks, logits_to_packed
from samfast.prompts import center_points, draw_keys, farthest_points, negative_points, sample_points

cv2 = pytest.importorskip("cv2")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SIDE = 1024
Calls = dict[str, Callable[[], Any]]


def blobs(count: int, sigma: float) -> NDArray[np.bool_]:
    """``(count, SIDE, SIDE)``: about a quarter of each is foreground, in pieces some ``sigma`` pixels wide."""
    rng = np.random.default_rng(0)
    small = ndimage.gaussian_filter(rng.standard_normal((count, SIDE // 4, SIDE // 4)), (0, sigma / 4, sigma / 4))
    masks = small > 0.7 * small.std(axis=(1, 2), keepdims=True)
    return masks.repeat(4, axis=1).repeat(4, axis=2)


def flower() -> NDArray[np.bool_]:
    """One object that fills half of the image: distances of up to 400 px."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    return np.hypot(y / 400, x / 450) < 1 + 0.15 * np.sin(6 * np.arctan2(y, x))


def transforms(mask: NDArray[np.bool_]) -> Calls:
    pixels = mask.view(np.uint8)
    calls: Calls = {
        "samfast": lambda: distance_transform(mask),
        "scipy": lambda: ndimage.distance_transform_edt(mask),
        "cv2": lambda: cv2.distanceTransform(pixels, cv2.DIST_L2, cv2.DIST_MASK_PRECISE),
    }
    assert np.array_equal(calls["samfast"](), calls["scipy"]())
    assert np.allclose(calls["samfast"](), calls["cv2"](), atol=1e-2)
    return calls


def centers() -> Calls:
    arrays = blobs(64, 120)
    arrays[:, [0, -1]] = arrays[:, :, [0, -1]] = False
    pixels, masks = arrays.view(np.uint8), Masks.from_numpy(arrays)

    def peer() -> NDArray[np.int64]:
        places = [cv2.distanceTransform(one, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).argmax() for one in pixels]
        return np.stack(np.unravel_index(places, (SIDE, SIDE))[::-1], axis=1)

    calls: Calls = {
        "samfast": lambda: center_points(masks),
        "samfast, from arrays": lambda: center_points(Masks.from_numpy(arrays)),
        "cv2": peer,
    }
    depth = ndimage.distance_transform_edt(arrays[0])
    (x, y), (u, v) = calls["samfast"]()[0].astype(int), peer()[0]
    assert abs(depth[y, x] - depth[v, u]) < 1e-3
    return calls


def points() -> Calls:
    arrays = blobs(64, 120)
    masks, keys, rng = Masks.from_numpy(arrays), draw_keys(0, "", [str(i) for i in range(64)]), np.random.default_rng(0)

    def peer() -> list[tuple[int, int]]:
        return [divmod(int(rng.choice(np.flatnonzero(one))), SIDE) for one in arrays]

    calls: Calls = {
        "samfast": lambda: sample_points(masks, keys),
        "samfast, from arrays": lambda: sample_points(Masks.from_numpy(arrays), keys),
        "numpy": peer,
    }
    assert all(one[int(y), int(x)] for one, ((x, y),) in zip(arrays, calls["samfast"](), strict=True))
    assert all(one[place] for one, place in zip(arrays, peer(), strict=True))
    return calls


def photo() -> Calls:
    """12 MP."""
    rng = np.random.default_rng(0)
    logits = (ndimage.gaussian_filter(rng.standard_normal((1, 256, 256)), (0, 12, 12)) * 100).astype(np.float32)
    frame = PreprocessSpec(1024, 64, 256, (0, 0, 0), (1, 1, 1)).frame(3000, 4000)

    def peer() -> list[Any]:
        interpolate = torch.nn.functional.interpolate
        maps = interpolate(torch.from_numpy(logits)[None], (1024, 1024), mode="bilinear")
        maps = interpolate(maps[..., : frame.resized[0], : frame.resized[1]], (3000, 4000), mode="bilinear")
        return [coco.encode(np.asfortranarray(maps[0, 0].numpy() > 0, np.uint8))]

    calls: Calls = {
        "samfast": lambda: Masks.from_logits(logits, frame).rle(),
        "samfast, packed": lambda: logits_to_packed(logits, frame),
        "torch, pycocotools": peer,
    }
    assert calls["samfast"]()[0]["counts"].encode() == peer()[0]["counts"]
    assert np.array_equal(calls["samfast, packed"](), Masks.from_logits(logits, frame).packed())
    return calls


def others() -> Calls:
    masks, keys = Masks.from_numpy(blobs(64, 120)), draw_keys(0, "", [str(i) for i in range(64)])
    return {
        "farthest 3": lambda: farthest_points(masks, 3),
        "ring 10 px": lambda: negative_points(masks, keys, where="ring"),
    }


CASES: dict[str, Callable[[], Calls]] = {
    "distance transform, blobs": lambda: transforms(blobs(1, 60)[0]),
    "distance transform, flower": lambda: transforms(flower()),
    "64 poles of inaccessibility": centers,
    "64 random points": points,
    "low-res logits to 12 MP": photo,
    "64 masks, samfast alone": others,
}
WHO = {
    "distance transform, blobs": ("samfast", "scipy", "cv2"),
    "distance transform, flower": ("samfast", "scipy", "cv2"),
    "64 poles of inaccessibility": ("samfast", "samfast, from arrays", "cv2"),
    "64 random points": ("samfast", "samfast, from arrays", "numpy"),
    "low-res logits to 12 MP": ("samfast", "samfast, packed", "torch, pycocotools"),
    "64 masks, samfast alone": ("farthest 3", "ring 10 px"),
}


@cache
def calls_of(case: str) -> Calls:
    return CASES[case]()


@pytest.mark.parametrize(("case", "who"), [(case, who) for case, names in WHO.items() for who in names])
def test_kernel(benchmark: Any, case: str, who: str) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    benchmark.group = case
    benchmark(calls_of(case)[who])

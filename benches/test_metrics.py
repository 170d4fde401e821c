"""Metrics beside their peers: ``pytest benches/test_metrics.py --benchmark-only``.

One thread each: start it with ``taskset -c 0``. What a peer returns is compared before anything is timed.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

from samfast import _rust
from samfast.masks import Masks
from samfast.metrics import boundary_iou, boundary_width, overlap_counts, pairwise_iou, scores, surface_distances

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SIDE = 1024
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
Calls = dict[str, Callable[[], Any]]


def star(center_y: float, center_x: float, radius: float, arms: int) -> NDArray[np.bool_]:
    y, x = np.mgrid[:SIDE, :SIDE]
    angle = np.arctan2(y - center_y, x - center_x)
    return np.hypot(y - center_y, x - center_x) < radius * (1 + 0.3 * np.sin(arms * angle))


def pair() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """An object that fills a third of the image, and an answer that is 10 to 100 px off."""
    return star(500, 510, 330, 7), star(520, 500, 320, 5)


def equal(found: dict[str, NDArray[np.float64]], expected: list[Any], relative: float = 1e-12) -> None:
    for ours, theirs in zip(found.values(), expected, strict=False):
        assert np.allclose(ours, theirs, rtol=relative)


def numpy_scores(prediction: NDArray[np.bool_], target: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    tp = (prediction & target).sum(axis=(1, 2))
    fp = (prediction & ~target).sum(axis=(1, 2))
    fn = (~prediction & target).sum(axis=(1, 2))
    return [tp / (tp + fp + fn), 2 * tp / (2 * tp + fp + fn), tp / (tp + fp), tp / (tp + fn)]


def numpy_counted(prediction: NDArray[np.bool_], target: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """The same by numpy's fastest call, which takes one mask at a time."""
    both, first, second = (
        np.array([np.count_nonzero(mask) for mask in masks]) for masks in (prediction & target, prediction, target)
    )
    return [both / (first + second - both), 2 * both / (first + second), both / first, both / second]


def torch_scores(prediction: Any, target: Any) -> list[Any]:
    functional = pytest.importorskip("torchmetrics.functional.classification")
    kwargs = {"multidim_average": "samplewise", "validate_args": False}
    tp, fp, _, fn, _ = functional.binary_stat_scores(prediction, target, **kwargs).double().T
    return [tp / (tp + fp + fn), 2 * tp / (2 * tp + fp + fn), tp / (tp + fp), tp / (tp + fn)]


def counts_of_bytes() -> Calls:
    torch = pytest.importorskip("torch")
    a, b = (np.repeat(mask[None], 16, axis=0) for mask in pair())
    tensors = [torch.from_numpy(mask.astype(np.int64)) for mask in (a, b)]
    return agreeing(
        {
            "samfast": lambda: scores(overlap_counts(a, b)),
            "numpy": lambda: numpy_scores(a, b),
            "numpy, count_nonzero": lambda: numpy_counted(a, b),
            "torchmetrics": lambda: torch_scores(*tensors),
        }
    )


def counts_of_logits(count: int) -> Calls:
    torch = pytest.importorskip("torch")
    a, b = (np.repeat(mask[None], count, axis=0) for mask in pair())
    logits = np.where(a, 1.5, -1.5).astype(np.float32)
    tensors = torch.from_numpy(logits), torch.from_numpy(b.astype(np.int64))
    return agreeing(
        {
            "samfast": lambda: scores(overlap_counts(logits, b)),
            "numpy": lambda: numpy_scores(logits > 0, b),
            "numpy, count_nonzero": lambda: numpy_counted(logits > 0, b),
            "torchmetrics": lambda: torch_scores(*tensors),
        }
    )


def agreeing(calls: Calls) -> Calls:
    found, *others = (call() for call in calls.values())
    for other in others:
        equal(found, other)
    return calls


def bandwidth() -> Calls:
    """Reading alone beside reading and counting, 256 MiB each: the ratio is the share of the bandwidth."""
    pixels = np.ones((2, 8, 4096, 4096), np.uint8)
    logits, target = np.ones((12, 2048, 2048), np.float32), np.ones((12, 2048, 2048), np.uint8)
    assert overlap_counts(pixels[0], pixels[1])[:, 0].tolist() == [4096**2] * 8
    return {
        "samfast, uint8": lambda: overlap_counts(pixels[0], pixels[1]),
        "samfast, logits (240 MiB)": lambda: overlap_counts(logits, target),
        "numpy.max of uint64": lambda: pixels.view(np.uint64).max(),
    }


def rle_iou(masks: Masks, others: Masks) -> Calls:
    hotcoco, faster = pytest.importorskip("hotcoco"), pytest.importorskip("faster_coco_eval")
    runs, other_runs = ([{**rle, "counts": rle["counts"].encode()} for rle in some.rle()] for some in (masks, others))
    crowd = [0] * len(others)
    calls: Calls = {
        "samfast": lambda: pairwise_iou(masks, others),
        "samfast, from COCO dicts": lambda: pairwise_iou(Masks.from_rle(runs), Masks.from_rle(other_runs)),
        "pycocotools": lambda: coco.iou(runs, other_runs, crowd),
        "hotcoco": lambda: hotcoco.mask.iou(runs, other_runs, crowd),
        "faster-coco-eval": lambda: faster.mask.iou(runs, other_runs, crowd),
    }
    for name in ("pycocotools", "hotcoco", "faster-coco-eval"):
        assert np.array_equal(calls["samfast"](), calls[name]()), name
    return calls


def pairs_of_large_masks() -> Calls:
    rng = np.random.default_rng(0)
    draws = rng.uniform([200, 200, 60], [824, 824, 300], (40, 3))
    masks = Masks.from_numpy(np.stack([star(*draw, int(rng.integers(2, 9))) for draw in draws]))
    return rle_iou(masks[:20], masks[20:])


def pairs_of_annotations() -> Calls:
    """The objects of the fullest image of coco128 with each other."""
    path = DATA / "coco128" / "annotations" / "instances_val2017.json"
    if not path.is_file():
        pytest.skip(f"REAL DATA ABSENT: {path} does not exist")
    content = json.loads(path.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    objects: dict[int, list[Any]] = {}
    for annotation in content["annotations"]:
        if not annotation["iscrowd"]:
            objects.setdefault(annotation["image_id"], []).append(annotation["segmentation"])
    fullest = max(objects, key=lambda image: len(objects[image]))
    masks = Masks.from_polygons(objects[fullest], *sizes[fullest])
    return rle_iou(masks, masks)


def boundaries_of_a_pair() -> Calls:
    cv2 = pytest.importorskip("cv2")
    a, b = (mask.view(np.uint8) for mask in pair())
    kernel, width = np.ones((3, 3), np.uint8), boundary_width(SIDE, SIDE)

    def edge(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        return mask - cv2.erode(padded, kernel, iterations=width)[1:-1, 1:-1]

    def peer() -> float:
        first, second = edge(a), edge(b)
        return (first & second).sum() / (first | second).sum()

    masks, words = [Masks.from_numpy(mask) for mask in (a, b)], [_rust.masks_to_bits(mask[None]) for mask in (a, b)]
    calls: Calls = {
        "samfast": lambda: boundary_iou(a, b),
        "samfast, from run lengths": lambda: boundary_iou(*masks),
        "samfast, from packed rows": lambda: boundary_iou(*words, width=SIDE),
        "cv2": peer,
    }
    assert calls["samfast"]().item() == peer()
    return calls


def hd95_and_nsd_of_monai() -> Calls:
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    a, b = pair()
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (a, b)]

    def peer() -> list[Any]:
        hd95 = metrics.compute_hausdorff_distance(*tensors, include_background=True, percentile=95)
        return [hd95, metrics.compute_surface_dice(*tensors, [2.0], include_background=True)]

    calls: Calls = {"samfast": lambda: surface_distances(a, b, tolerance=2.0), "monai": peer}
    found = calls["samfast"]()
    equal({"hd95": found["hd95"], "nsd": found["nsd"]}, peer(), 1e-6)
    return calls


def hd95_and_nsd_of_deepmind() -> Calls:
    package = pytest.importorskip("surface_distance")
    a, b = pair()

    def peer() -> list[float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = package.compute_surface_distances(a, b, (1, 1))
        hd95 = package.compute_robust_hausdorff(raw, 95)
        return [hd95, package.compute_surface_dice_at_tolerance(raw, 2.0)]

    calls: Calls = {
        "samfast": lambda: surface_distances(a, b, convention="deepmind", tolerance=2.0),
        "surface-distance": peer,
    }
    found = calls["samfast"]()
    equal({"hd95": found["hd95"], "nsd": found["nsd"]}, peer(), 1e-9)
    return calls


SCORERS = ["samfast", "numpy", "numpy, count_nonzero", "torchmetrics"]
GROUPS: dict[str, tuple[Callable[[], Calls], list[str]]] = {
    "scores of 16 masks, uint8": (counts_of_bytes, SCORERS),
    "scores of 16 masks, logits": (lambda: counts_of_logits(16), SCORERS),
    "scores of 2 masks, logits": (lambda: counts_of_logits(2), SCORERS),
    "read bandwidth": (bandwidth, ["samfast, uint8", "samfast, logits (240 MiB)", "numpy.max of uint64"]),
    "pairwise IoU, 20 x 20 masks of 1024²": (
        pairs_of_large_masks,
        ["samfast", "samfast, from COCO dicts", "pycocotools", "hotcoco", "faster-coco-eval"],
    ),
    "pairwise IoU, coco128's fullest image": (
        pairs_of_annotations,
        ["samfast", "samfast, from COCO dicts", "pycocotools", "hotcoco", "faster-coco-eval"],
    ),
    "boundary IoU": (
        boundaries_of_a_pair,
        ["samfast", "samfast, from run lengths", "samfast, from packed rows", "cv2"],
    ),
    "HD95 and NSD, monai": (hd95_and_nsd_of_monai, ["samfast", "monai"]),
    "HD95 and NSD, deepmind": (hd95_and_nsd_of_deepmind, ["samfast", "surface-distance"]),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread_each() -> None:
    pytest.importorskip("torch").set_num_threads(1)
    pytest.importorskip("cv2").setNumThreads(1)


@cache
def calls_of(group: str) -> Calls:
    return GROUPS[group][0]()


@pytest.mark.parametrize(("group", "who"), [(group, who) for group, (_, names) in GROUPS.items() for who in names])
def test_metrics(benchmark: Any, group: str, who: str) -> None:
    benchmark.group = group
    benchmark(calls_of(group)[who])

"""Parity: whether the exported graphs predict what the torch model predicts, measured in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from samfast.data.shapes import shape_scene
from samfast.errors import ExportError
from samfast.frames import Frame, PreprocessSpec
from samfast.inference.classes import class_tokens
from samfast.inference.segmenter import Embedding
from samfast.inference.tokens import Tokens, tokenize
from samfast.models.segmenter import TorchSegmenter
from samfast.prompts import NEGATIVE, PADDING, POSITIVE, Prompts
from samfast.runtime.graphs import EMBEDDINGS

MAX_LOGIT_DIFFERENCE = 1e-3
MIN_MASK_AGREEMENT = 0.9999
MAX_IOU_DIFFERENCE = 1e-4

SHAPES = ((0.56, 0.83), (1.1, 0.71), (0.51, 0.51))
"""(height, width) of the images, in sides of the model's input: landscape, portrait above the input's size, square."""
MAX_PAIRED_SIDE = 48
"""Side of the embedding grid up to which two images are encoded together. Global attention takes memory with its fourth
power: two images of 64 x 64 patches take 9 GB in ``vit_b``, one takes 5."""


class Graphs(Protocol):
    """An exported model, as :class:`samfast.runtime.graphs.Graphs` runs it."""

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(B, 3, size, size)`` to ``(B, C, g, g)``."""
        ...

    def decode(
        self, embeddings: NDArray[np.floating], tokens: Tokens
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``(P, 4, L, L)`` logits and ``(P, 4)`` predicted IoU."""
        ...


@dataclass(frozen=True)
class Parity:
    """The largest differences between torch and the exported graphs, over all cases.

    Attributes:
        prompts: how many were decoded.
        encoder_batch: how many images at most were encoded together.
        embedding_difference: between embeddings, in absolute value.
        logit_difference: between low-res logits, in absolute value, encoder and decoder together.
        iou_difference: between predicted IoU, in absolute value.
        mask_agreement: fraction of equal pixels at original size, over all masks.
        logit_deviation: standard deviation of torch's logits: what the differences are small against.
    """

    prompts: int
    encoder_batch: int
    embedding_difference: float
    logit_difference: float
    iou_difference: float
    mask_agreement: float
    logit_deviation: float

    def __str__(self) -> str:
        return (
            f"logits within {self.logit_difference:.1e} (their deviation is {self.logit_deviation:.2g}), masks agree on"
            f" {self.mask_agreement:.6f} of the pixels, predicted IoU within {self.iou_difference:.1e},"
            f" over {self.prompts} prompts"
        )

    def to_dict(self) -> dict[str, float]:
        """A JSON-ready dict."""
        return asdict(self)

    def check(self) -> None:
        """Pass, or say by how much the export misses.

        Raises:
            ExportError: a difference is above what float32 arithmetic in another order explains.
        """
        passed = (
            self.logit_difference <= MAX_LOGIT_DIFFERENCE  # false for NaN as well
            and self.mask_agreement >= MIN_MASK_AGREEMENT
            and self.iou_difference <= MAX_IOU_DIFFERENCE
        )
        if not passed:
            raise ExportError(
                f"the exported model does not predict what the torch model predicts: {self}",
                where="parity",
                fix=f"logits within {MAX_LOGIT_DIFFERENCE}, masks {MIN_MASK_AGREEMENT} and IoU within"
                f" {MAX_IOU_DIFFERENCE} are required; nothing was written. Try other versions of torch and onnxruntime",
            )


def measure_parity(torch_model: TorchSegmenter, graphs: Graphs) -> Parity:
    """Run both on the same images and prompts, each on its own embeddings.

    Landscape, portrait and square images; batches of 1 and, in small encoders, 2 images; 1 to 8 prompts on 1 to 3
    images; points, boxes, both, neither, ragged, with and without mask prompts; or, if that is how the model is asked,
    without prompts.
    """
    spec = torch_model.spec
    images = [shape_scene(0, index, size=size) for index, size in enumerate(_sizes(spec))]
    embedding = torch_model.embed([image for image, _ in images])
    ours = np.asarray(embedding.features[EMBEDDINGS].cpu())
    inputs = np.stack([spec.preprocess(image) for image, _ in images])
    batches = [[0], [1, 2]] if spec.embedding <= MAX_PAIRED_SIDE else [[0], [1], [2]]
    theirs = np.concatenate([graphs.encode(inputs[batch]) for batch in batches])

    logits, ious, deviations = [0.0], [0.0], [0.0]
    same, pixels, num_prompts = 0, 0, 0
    for chosen, prompts in _cases([labels for _, labels in images]):
        frames = tuple(embedding.frames[image] for image in chosen)
        asked = _with_masks(tokenize(prompts, frames), spec.low_res)
        if torch_model.contract.classes:  # and nothing else is ever asked of it
            asked = [class_tokens(len(chosen))]
        for tokens in asked:
            expected = torch_model.decode(Embedding({EMBEDDINGS: ours[chosen]}, frames), tokens)
            found = graphs.decode(theirs[chosen], tokens)
            logits.append(_difference(expected[0], found[0]))
            ious.append(_difference(expected[1], found[1]))
            deviations.append(float(expected[0].std()))
            for index, one, other in zip(tokens.image_index, expected[0], found[0], strict=True):
                equal = _equal_pixels(one, other, frames[index])
                same, pixels = same + int(equal.sum()), pixels + equal.size
            num_prompts += len(tokens.image_index)
    return Parity(
        prompts=num_prompts,
        encoder_batch=max(len(batch) for batch in batches),
        embedding_difference=_difference(ours, theirs),
        logit_difference=float(np.max(logits)),
        iou_difference=float(np.max(ious)),
        mask_agreement=same / pixels,
        logit_deviation=float(np.max(deviations)),
    )


def _sizes(spec: PreprocessSpec) -> list[tuple[int, int]]:
    return [(round(height * spec.size), round(width * spec.size)) for height, width in SHAPES]


def _cases(labels: Sequence[NDArray[np.int32]]) -> Iterable[tuple[list[int], Prompts]]:
    """Which images are decoded together, and prompts that count among these."""
    rng = np.random.default_rng(0)
    yield [0], _draw(rng, labels, [0], points=[1], boxed=[False])
    yield [1], _draw(rng, labels, [1], points=[0, 0], boxed=[True, True])
    yield [2], _draw(rng, labels, [2], points=[0], boxed=[False])
    yield [2, 0], _draw(rng, labels, [2, 0], points=[5, 1, 2], boxed=[True, False, True])
    yield [0, 1, 2], _draw(rng, labels, [0, 1, 2], points=[1, 0, 3, 1, 2, 0, 1, 0], boxed=[False, True] * 4)


def _draw(
    rng: np.random.Generator,
    labels: Sequence[NDArray[np.int32]],
    chosen: list[int],
    *,
    points: Sequence[int],
    boxed: Sequence[bool],
) -> Prompts:
    """``P`` prompts, on the images in turn: each of ``points[p]`` points, and a box if ``boxed[p]``."""
    image_index = (np.arange(len(points)) + 1) % len(chosen)
    coords = np.zeros((len(points), max(points), 2), np.float32)
    kinds = np.full(coords.shape[:2], PADDING, np.int64)
    boxes = np.full((len(points), 4), np.nan, np.float32)
    for prompt, count in enumerate(points):
        instances = labels[chosen[image_index[prompt]]]
        rows, columns = np.nonzero(instances == rng.integers(1, instances.max() + 1))
        for point, pixel in enumerate(rng.integers(0, len(rows), count)):
            coords[prompt, point] = columns[pixel], rows[pixel]
            kinds[prompt, point] = POSITIVE if point % 2 == 0 else NEGATIVE
        if boxed[prompt]:
            boxes[prompt] = columns.min(), rows.min(), columns.max(), rows.max()
    return Prompts(image_index, coords, kinds, boxes)


def _with_masks(tokens: Tokens, side: int) -> Iterable[Tokens]:
    """The prompts without mask prompts, and with one on every second of them."""
    yield tokens
    count = len(tokens.image_index)
    ramp = np.linspace(-8, 8, side, dtype=np.float32)
    mask = np.tile(ramp + np.abs(ramp[:, None]) - 4, (count, 1, 1, 1))
    yield replace(tokens, mask=mask, has_mask=(np.arange(count) % 2 == 0).astype(np.float32))


def _difference(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    if expected.shape != found.shape:
        raise ExportError(f"the exported model's output is {found.shape}, torch's is {expected.shape}", where="parity")
    return float(np.abs(expected - found).max())


def _equal_pixels(expected: NDArray[np.float32], found: NDArray[np.float32], frame: Frame) -> NDArray[np.bool_]:
    """``(T, H, W)``: where ``(T, L, L)`` logits are on the same side of the threshold, original frame."""
    threshold = frame.spec.mask_threshold
    equal: NDArray[np.bool_] = (frame.logits_to_original(expected) > threshold) == (
        frame.logits_to_original(found) > threshold
    )
    return equal

"""The parity gate passes what is equal, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samfast.errors import ExportError
from samfast.export.parity import Parity, measure_parity
from samfast.inference.segmenter import Embedding
from samfast.inference.tokens import Tokens
from samfast.models.segmenter import TorchSegmenter
from samfast.runtime.graphs import Graphs


def remember(model: Any, *names: str) -> Any:
    """``model`` with methods that compute once for each input: only what a test changes is computed again."""
    for name in names:
        setattr(model, name, _remembered(getattr(model, name)))
    return model


def _remembered(method: Callable) -> Callable:
    answers: dict[Any, Any] = {}

    def call(*arguments: Any) -> Any:
        key = tuple(_bytes(value) for value in arguments)
        if key not in answers:
            answers[key] = method(*arguments)
        return answers[key]

    return call


def _bytes(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        return tuple(_bytes(entry) for entry in value)
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    if isinstance(value, Embedding):
        return _bytes(value.features["image_embeddings"])
    return tuple(_bytes(array) for array in vars(value).values())


@pytest.fixture(scope="session")
def recorded(graph_folder: Path) -> Graphs:
    return remember(Graphs(graph_folder, device="cpu", threads=1), "encode", "decode")


@pytest.fixture(scope="session")
def segmenter(sam: Any) -> TorchSegmenter:
    return remember(TorchSegmenter(sam), "embed", "decode")


def test_equal_models_pass(segmenter: TorchSegmenter, recorded: Graphs) -> None:
    parity = measure_parity(segmenter, recorded)
    parity.check()
    assert parity.logit_deviation > 0.1
    assert parity.prompts >= 20
    assert parity.encoder_batch == 2


class Broken:
    """Graphs with one thing wrong with them."""

    def __init__(self, graphs: Graphs, *, encode: Callable | None = None, tokens: Callable | None = None) -> None:
        self.graphs = graphs
        self.change_images = encode or (lambda images: images)
        self.change_tokens = tokens or (lambda tokens: tokens)

    def encode(self, images: np.ndarray) -> np.ndarray:
        return self.graphs.encode(self.change_images(images))

    def decode(self, embeddings: np.ndarray, tokens: Tokens) -> Any:
        return self.graphs.decode(embeddings, self.change_tokens(tokens))


FAULTS: dict[str, dict[str, Callable]] = {
    "zeroed image": {"encode": np.zeros_like},
    "images of a batch exchanged": {"encode": lambda images: images[::-1].copy()},
    "image index exchanged": {"tokens": lambda t: replace(t, image_index=t.image_index.max() - t.image_index)},
    "image index zeroed": {"tokens": lambda t: replace(t, image_index=np.zeros_like(t.image_index))},
    "zeroed points": {"tokens": lambda t: replace(t, coords=np.zeros_like(t.coords))},
    "points half a pixel off": {"tokens": lambda t: replace(t, coords=t.coords + np.float32(0.5))},
    "x and y exchanged": {"tokens": lambda t: replace(t, coords=t.coords[..., ::-1].copy())},
    "nothing taken for SAM's pad token": {
        "tokens": lambda t: replace(t, labels=np.where(t.labels == -10, -1, t.labels))
    },
    "SAM's pad token left out": {"tokens": lambda t: replace(t, labels=np.where(t.labels == -1, -10, t.labels))},
    "box corners exchanged": {
        "tokens": lambda t: replace(t, labels=np.choose(t.labels + 10, [-10] * 9 + [-1, 0, 1, 3, 2]))
    },
    "background taken for foreground": {"tokens": lambda t: replace(t, labels=np.where(t.labels == 0, 1, t.labels))},
    "masks ignored": {"tokens": lambda t: replace(t, has_mask=np.zeros_like(t.has_mask))},
    "empty masks read": {"tokens": lambda t: replace(t, has_mask=np.ones_like(t.has_mask))},
    "masks mirrored": {"tokens": lambda t: t if t.mask is None else replace(t, mask=t.mask[..., ::-1].copy())},
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_fails_the_gate(fault: str, segmenter: TorchSegmenter, recorded: Graphs) -> None:
    with pytest.raises(ExportError, match="does not predict what the torch model predicts"):
        measure_parity(segmenter, Broken(recorded, **FAULTS[fault])).check()


SOME_DECODER_TENSORS = [
    "mask_decoder.iou_prediction_head.layers.2.bias",
    "mask_decoder.mask_tokens.weight",
    "mask_decoder.output_hypernetworks_mlps.3.layers.2.bias",
    "mask_decoder.output_upscaling.0.bias",
    "mask_decoder.transformer.layers.0.self_attn.q_proj.weight",
    "prompt_encoder.mask_downscaling.0.bias",
    "prompt_encoder.no_mask_embed.weight",
    "prompt_encoder.not_a_point_embed.weight",
    "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    *(f"prompt_encoder.point_embeddings.{label}.weight" for label in range(4)),
]


class TorchGraphs:
    """A torch model called as exported graphs are: a perfect export."""

    def __init__(self, sam: Any) -> None:
        self.segmenter = TorchSegmenter(sam)

    def encode(self, images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.segmenter.sam.encode(torch.from_numpy(images))["image_embeddings"].numpy()

    def decode(self, embeddings: np.ndarray, tokens: Tokens) -> Any:
        return self.segmenter.decode(Embedding({"image_embeddings": embeddings}, ()), tokens)


@pytest.fixture(scope="session")
def drawn(draw_model: Callable) -> Any:
    """Of trained weights some are too small for 1 % of them to matter; here every tensor counts."""
    return draw_model("tiny", 3)


@pytest.fixture(scope="session")
def drawn_graphs(drawn: Any) -> Any:
    return remember(TorchGraphs(drawn), "encode", "decode")


def unseen_tensors(sam: Any, graphs: Any, names: list[str]) -> list[str]:
    """The decoder tensors of which any can grow by 1 % without failing the gate."""
    other = copy.deepcopy(sam)
    segmenter = remember(TorchSegmenter(other), "embed")
    state = other.decoder_state()
    unseen = []
    for name in names:
        before = state[name].clone()
        state[name].mul_(1.01)
        if not fails(measure_parity(segmenter, graphs)):
            unseen.append(name)
        state[name].copy_(before)
    assert not fails(measure_parity(segmenter, graphs))
    return unseen


def test_decoder_tensors_are_seen(drawn: Any, drawn_graphs: Any) -> None:
    assert unseen_tensors(drawn, drawn_graphs, SOME_DECODER_TENSORS) == []


@pytest.mark.slow
def test_every_decoder_tensor_is_seen(drawn: Any, drawn_graphs: Any) -> None:
    # The bias of keys adds the same to every score of a query, and softmax takes it out again.
    names = [name for name in drawn.decoder_state() if not name.endswith("k_proj.bias")]
    assert unseen_tensors(drawn, drawn_graphs, names) == []


def fails(parity: Parity) -> bool:
    try:
        parity.check()
    except ExportError:
        return True
    return False


@pytest.mark.parametrize(
    "name",
    [
        "pos_embed",
        "blocks.5.attn.rel_pos_w",
        "neck.3.bias",
    ],
)
def test_encoder_tensors_are_seen(name: str, drawn: Any, drawn_graphs: Any) -> None:
    other = copy.deepcopy(drawn)
    tensor = dict(other.image_encoder.named_parameters())[name].data
    tensor.mul_(1.05)
    assert fails(measure_parity(TorchSegmenter(other), drawn_graphs))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logit_difference", 1.1e-3),
        ("logit_difference", float("nan")),
        ("mask_agreement", 0.99989),
        ("iou_difference", 1.1e-4),
        ("iou_difference", float("nan")),
    ],
)
def test_each_figure_counts(field: str, value: float) -> None:
    good = Parity(30, 2, 1e-5, 1e-5, 1e-6, 1.0, 3.0)
    good.check()
    with pytest.raises(ExportError, match="nothing was written"):
        replace(good, **{field: value}).check()

"""The graphs take any number of images, prompts and tokens, and are what their names say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from samfast.errors import ExportError
from samfast.export.translate import OPSET, translate_decoder
from samfast.inference.tokens import Tokens
from samfast.runtime.graphs import Graphs

LABELS = np.array([1, 0, 2, 3, -1, -10])


def draw_tokens(images: int, prompts: int, tokens: int, spec: Any, seed: int = 0) -> Tokens:
    rng = np.random.default_rng(seed)
    return Tokens(
        rng.integers(0, images, prompts),
        rng.uniform(0, spec.size, (prompts, tokens, 2)).astype(np.float32),
        rng.choice(LABELS, (prompts, tokens)),
        rng.normal(0, 5, (prompts, 1, spec.low_res, spec.low_res)).astype(np.float32),
        rng.integers(0, 2, prompts).astype(np.float32),
    )


def decode(sam: Any, embeddings: np.ndarray, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    values = (embeddings, tokens.image_index, tokens.coords, tokens.labels, tokens.mask, tokens.has_mask)
    with torch.no_grad():
        logits, ious = sam.decode(*(torch.from_numpy(value) for value in values))
    return logits.numpy(), ious.numpy()


@pytest.fixture(scope="session")
def graphs(graph_folder: Path) -> Graphs:
    return Graphs(graph_folder, device="cpu", threads=1)


@pytest.mark.parametrize("images", [1, 2, 5])
def test_encoder_batches(graphs: Graphs, sam: Any, images: int) -> None:
    batch = np.random.default_rng(images).normal(0, 1, (images, 3, sam.spec.size, sam.spec.size)).astype(np.float32)
    with torch.no_grad():
        expected = sam.encode(torch.from_numpy(batch))["image_embeddings"].numpy()
    np.testing.assert_allclose(graphs.encode(batch), expected, atol=1e-4)
    assert expected.std() > 0.1


@pytest.mark.parametrize(
    ("images", "prompts", "tokens"), [(1, 1, 1), (1, 1, 2), (1, 4, 2), (3, 6, 3), (2, 5, 7), (1, 33, 2), (4, 2, 1)]
)
def test_decoder_batches(graphs: Graphs, sam: Any, images: int, prompts: int, tokens: int) -> None:
    side = sam.spec.embedding
    embeddings = np.random.default_rng(1).normal(0, 1, (images, sam.architecture.prompt_dim, side, side))
    drawn = draw_tokens(images, prompts, tokens, sam.spec)
    found = graphs.decode(embeddings.astype(np.float32), drawn)
    expected = decode(sam, embeddings.astype(np.float32), drawn)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-4)
    assert expected[0].std() > 0.1


def test_filled_up_tokens_take_part_in_nothing(graphs: Graphs, sam: Any) -> None:
    side = sam.spec.embedding
    embeddings = np.random.default_rng(1).normal(0, 1, (1, sam.architecture.prompt_dim, side, side)).astype(np.float32)
    drawn = draw_tokens(1, 3, 2, sam.spec)
    shape = (3, 4)
    labels, pad, nothing = drawn.labels, np.full(shape, -1), np.full(shape, -10)
    coords = np.concatenate([drawn.coords, np.full((*shape, 2), 17, np.float32)], axis=1)
    without = graphs.decode(embeddings, drawn)[0]
    filled, padded = (
        graphs.decode(
            embeddings, dataclasses.replace(drawn, coords=coords, labels=np.concatenate([labels, x], axis=1))
        )[0]
        for x in (nothing, pad)
    )
    np.testing.assert_allclose(filled, without, atol=1e-4)
    assert np.abs(padded - without).max() > 0.01  # SAM's own pad token is another thing


def test_graphs_are_valid_onnx(graph_folder: Path) -> None:
    assert sorted(path.name for path in graph_folder.iterdir()) == ["decoder.onnx", "encoder.onnx"]
    for path in graph_folder.iterdir():
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert [entry.version for entry in model.opset_import] == [OPSET]


def axes(values: Any) -> dict[str, list[Any]]:
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values
    }


def test_inputs_and_outputs(graph_folder: Path) -> None:
    encoder, decoder = (onnx.load(graph_folder / name).graph for name in ("encoder.onnx", "decoder.onnx"))
    assert axes(encoder.input) == {"image": ["B", 3, 256, 256]}
    assert axes(encoder.output) == {"image_embeddings": ["B", 128, 32, 32]}
    assert axes(decoder.input) == {
        "image_embeddings": ["I", 128, 32, 32],
        "image_index": ["P"],
        "point_coords": ["P", "N", 2],
        "point_labels": ["P", "N"],
        "mask_input": ["P", 1, 128, 128],
        "has_mask_input": ["P"],
    }
    outputs = axes(decoder.output)
    assert outputs == {"low_res_masks": ["P", 4, 128, 128], "iou_predictions": ["P", 4]}
    integer = onnx.TensorProto.INT64
    assert {value.name for value in decoder.input if value.type.tensor_type.elem_type == integer} == {
        "image_index",
        "point_labels",
    }


def test_nothing_of_this_machine_is_in_the_files(graph_folder: Path) -> None:
    for path in graph_folder.iterdir():
        content = path.read_bytes()
        for trace in (b"stack_trace", b"site-packages", b"/python", b"torch/nn", str(Path.home()).encode() + b"/"):
            assert trace not in content, trace


def test_a_model_that_cannot_be_translated(
    draw_model: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no such thing\nand more")

    sam = draw_model("tiny", 0)
    monkeypatch.setattr(sam, "decode", fail)
    with pytest.raises(ExportError, match="cannot translate the decoder to ONNX: no such thing"):
        translate_decoder(sam, tmp_path)

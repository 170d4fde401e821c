"""From torch to ONNX: the encoder and the decoder of a SAM as two graphs with dynamic batches."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samfast.errors import ExportError, RuntimeUnavailableError
from samfast.models.sam import Sam
from samfast.runtime.graphs import (
    DECODER_FILE,
    DECODER_INPUTS,
    DECODER_OUTPUTS,
    EMBEDDINGS,
    ENCODER_FILE,
    ENCODER_INPUT,
)

OPSET = 18
"""Has LayerNormalization as one operator; the CUDA provider lacks kernels for some operators of later opsets."""
EXPORTER = "torch.export"
"""It computes shapes only. The tracer of TorchScript runs the model and keeps every intermediate result: 19 GB for the
encoder of ``vit_b``. What they write is equally fast in ONNX Runtime, within 20 % either way."""
PACKAGES = ("onnx", "onnxscript")
LARGEST_MESSAGE_BYTES = 2**31
"""What one protobuf message may hold; weights above that lie in a file of their own."""

Shape = tuple[int | str, ...]
"""Sizes, and names of sizes that are left open: B and I images, P prompts, N tokens a prompt."""
EXAMPLE = {"B": 2, "I": 2, "P": 3, "N": 4}
"""Sizes to export with. None is 1, which would be taken for an axis that is broadcast."""
INTEGERS = ("image_index", "point_labels")


class EncoderGraph(nn.Module):
    """``encode`` with positional tensors."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, size, size)`` to ``(B, C, g, g)``."""
        return self.sam.encode(image)[EMBEDDINGS]


class DecoderGraph(nn.Module):
    """``decode`` with positional tensors, in the order of ``DECODER_INPUTS``."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam

    def forward(
        self, embeddings: Tensor, image_index: Tensor, coords: Tensor, labels: Tensor, mask: Tensor, has_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``(P, 4, L, L)`` logits and ``(P, 4)`` predicted IoU of all mask tokens."""
        return self.sam.decode(embeddings, image_index, coords, labels, mask, has_mask)


def translate_encoder(sam: Sam, folder: Path) -> Path:
    """Write ``encoder.onnx``: dynamic in the number of images."""
    size, side = sam.spec.size, sam.spec.embedding
    return _translate(
        EncoderGraph(sam),
        folder / ENCODER_FILE,
        inputs={ENCODER_INPUT: ("B", 3, size, size)},
        outputs={EMBEDDINGS: ("B", sam.architecture.prompt_dim, side, side)},
    )


def translate_decoder(sam: Sam, folder: Path) -> Path:
    """Write ``decoder.onnx``: dynamic in the number of images, of prompts and of tokens a prompt."""
    side, low_res = sam.spec.embedding, sam.spec.low_res
    tokens = sam.mask_decoder.num_mask_tokens
    embeddings: Shape = ("I", sam.architecture.prompt_dim, side, side)
    inputs: list[Shape] = [embeddings, ("P",), ("P", "N", 2), ("P", "N"), ("P", 1, low_res, low_res), ("P",)]
    outputs: list[Shape] = [("P", tokens, low_res, low_res), ("P", tokens)]
    return _translate(
        DecoderGraph(sam),
        folder / DECODER_FILE,
        inputs=dict(zip(DECODER_INPUTS, inputs, strict=True)),
        outputs=dict(zip(DECODER_OUTPUTS, outputs, strict=True)),
    )


def _translate(graph: nn.Module, path: Path, *, inputs: dict[str, Shape], outputs: dict[str, Shape]) -> Path:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise RuntimeUnavailableError(f"export needs {' and '.join(missing)}", fix="pip install 'samfast[export]'")
    open_sizes = {name: torch.export.Dim(name) for name in EXAMPLE}
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                graph.eval(),
                tuple(_example(name, shape) for name, shape in inputs.items()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=tuple(
                    {axis: open_sizes[size] for axis, size in enumerate(shape) if isinstance(size, str)}
                    for shape in inputs.values()
                ),
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever the model's code made it trip over
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise ExportError(
            f"torch {torch.__version__} cannot translate the {path.stem} to ONNX: {reason}",
            fix="if it is a model of your own, check that torch.export.export takes its encode and decode",
        ) from error
    assert program is not None
    _remove_traces(program.model)
    weights_bytes = sum(tensor.nbytes for tensor in graph.state_dict().values())
    program.save(path, external_data=weights_bytes > LARGEST_MESSAGE_BYTES * 0.9)
    return path


def _remove_traces(model: Any) -> None:
    """Remove what the exporter notes at each node: stack traces with the paths of the machine it ran on."""
    model.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()


def _example(name: str, shape: Shape) -> Tensor:
    sizes = [EXAMPLE[size] if isinstance(size, str) else size for size in shape]
    return torch.zeros(sizes, dtype=torch.int64 if name in INTEGERS else torch.float32)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the exporter warns about is its own workings; the parity check judges the outcome."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

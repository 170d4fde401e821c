"""From torch to ONNX: the encoder and the decoder of a SAM as two graphs with dynamic batches."""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

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
from samfast.runtime.onnxfile import external_data

OPSET = 18
"""Has LayerNormalization as one operator; the CUDA provider lacks kernels for some operators of later opsets."""
EXPORTER = "torch.onnx (TorchScript)"
"""Against the exporter based on ``torch.export``: the same outputs, a tenth of its time to export, and decoders that
run up to a quarter faster on a CPU, because ONNX Runtime recognises GELU in what it writes."""


Shape = tuple[int | str, ...]
"""Sizes, and names of sizes that are left open: B and I images, P prompts, N tokens a prompt."""
EXAMPLE = {"B": 2, "I": 2, "P": 3, "N": 4}
"""Sizes to trace with. None is 1: such an axis may be traced as one that is broadcast."""
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
    try:
        import onnx
    except ImportError:
        raise RuntimeUnavailableError("export needs the onnx package", fix="pip install 'samfast[export]'") from None
    scratch = path.with_suffix(".parts")
    scratch.mkdir()
    traced = scratch / path.name
    try:
        with torch.no_grad(), _quiet():
            torch.onnx.export(
                graph.eval(),
                tuple(_example(name, shape) for name, shape in inputs.items()),
                str(traced),
                dynamo=False,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={
                    name: {axis: size for axis, size in enumerate(shape) if isinstance(size, str)}
                    for name, shape in {**inputs, **outputs}.items()
                },
            )
    except OSError:
        raise
    except Exception as error:  # the tracer raises whatever the model's code made it trip over
        reason = str(error).partition("\n")[0]
        raise ExportError(
            f"torch {torch.__version__} cannot translate the {path.stem} to ONNX: {reason}",
            fix="if it is a model of your own, check that its encode and decode can be traced",
        ) from error
    model = onnx.load(traced)
    for output in model.graph.output:  # the tracer forgets the sizes that are known
        for size, axis in zip(outputs[output.name], output.type.tensor_type.shape.dim, strict=True):
            if isinstance(size, int):
                axis.dim_value = size
    # Above 2 GB, what one protobuf message may hold, the tracer writes each weight to a file of its own.
    is_large = len(list(scratch.iterdir())) > 1
    onnx.save_model(model, path, save_as_external_data=is_large, location=external_data(path).name)
    shutil.rmtree(scratch)
    return path


def _example(name: str, shape: Shape) -> Tensor:
    sizes = [EXAMPLE[size] if isinstance(size, str) else size for size in shape]
    return torch.zeros(sizes, dtype=torch.int64 if name in INTEGERS else torch.float32)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Tracing warns about each size it reads from ``segment_anything``'s code; the parity check judges the outcome."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

"""From torch to ONNX: the encoder and the decoder of a SAM as two graphs with dynamic batches."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
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
from samfast.runtime.onnxfile import external_data

OPSET = 18
"""Has LayerNormalization as one operator; the CUDA provider lacks kernels for some operators of later opsets."""
EXPORTER = "torch.onnx (TorchScript)"
"""Against the exporter based on ``torch.export``: the same outputs, a tenth of its time to export, and decoders that
run up to a quarter faster on a CPU, because ONNX Runtime recognises GELU in what it writes."""


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
    size = sam.spec.size
    return _translate(
        EncoderGraph(sam),
        (torch.zeros(2, 3, size, size),),
        folder / ENCODER_FILE,
        inputs={ENCODER_INPUT: {0: "B"}},
        outputs={EMBEDDINGS: {0: "B"}},
    )


def translate_decoder(sam: Sam, folder: Path) -> Path:
    """Write ``decoder.onnx``: dynamic in the number of images, of prompts and of tokens a prompt."""
    spec = sam.spec
    images, prompts, tokens = 2, 3, 4  # all different, and none 1: a tracer may take equal sizes for one size
    example = (
        torch.zeros(images, sam.architecture.prompt_dim, spec.embedding, spec.embedding),
        torch.zeros(prompts, dtype=torch.int64),
        torch.zeros(prompts, tokens, 2),
        torch.zeros(prompts, tokens, dtype=torch.int64),
        torch.zeros(prompts, 1, spec.low_res, spec.low_res),
        torch.zeros(prompts),
    )
    axes: list[dict[int, str]] = [{0: "I"}, {0: "P"}, {0: "P", 1: "N"}, {0: "P", 1: "N"}, {0: "P"}, {0: "P"}]
    return _translate(
        DecoderGraph(sam),
        example,
        folder / DECODER_FILE,
        inputs=dict(zip(DECODER_INPUTS, axes, strict=True)),
        outputs={name: {0: "P"} for name in DECODER_OUTPUTS},
    )


def _translate(
    graph: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    *,
    inputs: dict[str, dict[int, str]],
    outputs: dict[str, dict[int, str]],
) -> Path:
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
                example,
                str(traced),
                dynamo=False,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={**inputs, **outputs},
            )
    except OSError:
        raise
    except Exception as error:  # the tracer raises whatever the model's code made it trip over
        raise ExportError(
            f"torch {torch.__version__} cannot translate the {path.stem} to ONNX: {str(error).splitlines()[0]}",
            fix="if it is a model of your own, check that its encode and decode can be traced",
        ) from error
    if len(list(scratch.iterdir())) == 1:
        traced.replace(path)
    else:  # above 2 GB, what one protobuf message may hold, each weight was written to a file of its own
        _gather(onnx, traced, path)
    for leftover in scratch.iterdir():
        leftover.unlink()
    scratch.rmdir()
    return path


def _gather(onnx: Any, traced: Path, path: Path) -> None:
    """Write a graph whose weights lie in many files as one ``.onnx`` and one ``.onnx.data``."""
    model = onnx.load(traced)
    onnx.save_model(
        model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=external_data(path).name
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Tracing warns about each size it reads from ``segment_anything``'s code; the parity check judges the outcome."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

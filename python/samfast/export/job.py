"""export_onnx: from a run or a model to an ONNX bundle that was seen to predict the same masks."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import torch

import samfast
from samfast.export.folder import check_free, whole_folder
from samfast.export.parity import Parity, measure_parity
from samfast.export.source import Source, open_source
from samfast.export.translate import EXPORTER, OPSET, translate_decoder, translate_encoder
from samfast.models.allocator import keep_heap
from samfast.models.fingerprint import encoder_fingerprint_parts, hash_tensors
from samfast.models.sam import Sam
from samfast.models.segmenter import TorchSegmenter
from samfast.progress import Stopwatch, bar, say
from samfast.runtime.bundle import SUFFIX, OnnxBundle
from samfast.runtime.graphs import DECODER_FILE, ENCODER_FILE, Graphs
from samfast.runtime.metadata import GraphMetadata, Part
from samfast.runtime.onnxfile import append_metadata, external_data, graph_sha256
from samfast.runtime.sessions import import_runtime
from samfast.train.run import Run

DTYPE = "float32"
FILES = tuple(
    str(external_data(Path(name)) if large else name) for name in (ENCODER_FILE, DECODER_FILE) for large in (0, 1)
)
"""What a bundle may hold."""


def export_onnx(
    model: Run | Sam | str | Path,
    *,
    out: str | Path | None = None,
    checkpoint: str | Path | None = None,
    overwrite: bool = False,
) -> OnnxBundle:
    """Export a model as ONNX: ``encoder.onnx`` and ``decoder.onnx`` in one folder, all metadata in the files.

    Before anything gets its name, both graphs run in ONNX Runtime on the CPU against torch, on landscape, portrait and
    square images and on every kind of prompt; the differences are printed and stored.

    Args:
        model: a :class:`~samfast.train.Run` or its folder; the name of a model; or a loaded
            :class:`~samfast.models.sam.Sam`.
        out: the bundle's folder; ``NAME.onnxbundle`` beside the run, or in the working directory, by default.
        checkpoint: of the base model; for a run, the one it was started with by default.
        overwrite: replace a bundle that is there.

    Raises:
        ConfigError: there is no such model, or it is decoder-only.
        RunError: there is no such run, or it has no weights.
        CheckpointError: the base model's checkpoint is missing, damaged, or not the one the run was trained on.
        OutputExistsError: ``out`` exists.
        RuntimeUnavailableError: ``onnx`` or ONNX Runtime is not installed.
        ExportError: the model cannot be translated, the graphs do not predict what torch predicts, or the disk is full.
    """
    watch = Stopwatch()
    import_runtime()
    if out is not None:
        check_free(Path(out).expanduser(), files=FILES, overwrite=overwrite)
    source = open_source(model, checkpoint)
    path = source.place(out, SUFFIX)
    keep_heap()
    with whole_folder(path, files=FILES, overwrite=overwrite) as folder:
        parity = _write(source, folder)
    bundle = OnnxBundle(path)
    megabytes = bundle.info()["size_bytes"] / 1e6
    say(f"exported {path}: {megabytes:.0f} MB in {watch.seconds:.0f} s\n  against torch: {parity}")
    return bundle


def _write(source: Source, folder: Path) -> Parity:
    """Write both graphs, measure them, and complete them with their metadata."""
    sam = source.sam.eval()
    with bar("exporting", total=3, unit="steps") as steps:
        paths: dict[Part, Path] = {"encoder": translate_encoder(sam, folder)}
        steps.advance()
        paths["decoder"] = translate_decoder(sam, folder)
        steps.advance()
        graphs = Graphs(folder, device="cpu", keeps_memory=False)  # a large encoder takes what torch has just freed
        parity = measure_parity(TorchSegmenter(sam, source.contract), graphs)
        steps.advance()
    parity.check()
    parts = encoder_fingerprint_parts(sam, DTYPE)
    encoder = GraphMetadata(
        part="encoder",
        model=sam.name,
        spec=sam.spec,
        encoder=parts,
        weights_sha256=parts["weights"],
        graph_sha256=graph_sha256(paths["encoder"]),
        dtype=DTYPE,
        opset=OPSET,
        exporter=EXPORTER,
        versions=_versions(),
        parity=parity.to_dict(),
    )
    decoder = replace(
        encoder,
        part="decoder",
        weights_sha256=hash_tensors(sam.decoder_state()),
        graph_sha256=graph_sha256(paths["decoder"]),
        contract=source.contract,
        classes=source.classes,
        run=source.run,
    )
    for metadata in (encoder, decoder):
        append_metadata(paths[metadata.part], metadata.to_props())
    return parity


def _versions() -> dict[str, str]:
    return {
        "samfast": samfast.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": import_runtime().__version__,
    }

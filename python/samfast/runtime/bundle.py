"""The ONNX bundle: a folder of two graphs that say what they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from samfast.errors import CheckpointError, ConfigError
from samfast.frames import PreprocessSpec
from samfast.inference.contract import OutputContract
from samfast.runtime.graphs import DECODER_FILE, ENCODER_FILE
from samfast.runtime.metadata import GraphMetadata, Part
from samfast.runtime.onnxfile import external_data, graph_sha256, read_metadata

if TYPE_CHECKING:
    from samfast.evaluation import Report

SUFFIX = ".onnxbundle"


class OnnxBundle:
    """A segmentation model as ``encoder.onnx`` and ``decoder.onnx``. Opening it reads the metadata, not the weights.

    Args:
        path: the folder, ``NAME.onnxbundle``.

    Attributes:
        path: the folder.
        encoder: what the encoder says about itself.
        decoder: what the decoder says about itself, the fine-tune's contract and classes included.

    Raises:
        CheckpointError: the folder or a file is missing, damaged, or not samfast's, or the two graphs are of different
            models.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        if not self.path.is_dir():
            raise CheckpointError(
                "an ONNX bundle is a folder, this is a file" if self.path.exists() else "there is no such ONNX bundle",
                where=self.path,
                fix=f"pass the folder NAME{SUFFIX} that samfast.export_onnx wrote",
            )
        self.encoder = self._read(ENCODER_FILE, "encoder")
        self.decoder = self._read(DECODER_FILE, "decoder")
        self._check_pair()

    def __repr__(self) -> str:
        return f"OnnxBundle({str(self.path)!r}, model={self.model!r}, name={self.name!r})"

    @property
    def model(self) -> str:
        """Name of the architecture."""
        return self.decoder.model

    @property
    def name(self) -> str:
        """As tables show it: the run's name, or the base model's."""
        run = self.decoder.run
        return f"{run['name'] if run else self.model} (onnx)"

    @property
    def spec(self) -> PreprocessSpec:
        """How images reach the model, and the geometry of what comes out."""
        return self.decoder.spec

    @property
    def contract(self) -> OutputContract:
        """Which mask tokens training has taught."""
        return self.decoder.contract

    @property
    def classes(self) -> tuple[str, ...]:
        """What was annotated in the training data; () for a base model."""
        return self.decoder.classes

    def verify(self) -> None:
        """Read every byte of both graphs and compare it with what was written.

        Raises:
            CheckpointError: a graph is not the one that was exported.
        """
        for file, metadata in ((ENCODER_FILE, self.encoder), (DECODER_FILE, self.decoder)):
            found = graph_sha256(self.path / file)
            expected = metadata.graph_sha256
            if found != expected:
                raise CheckpointError(
                    f"the graph was changed or damaged: SHA-256 {found[:12]}..., written {expected[:12]}...",
                    where=self.path / file,
                    fix="copy the bundle again, or export the model again",
                )

    def info(self) -> dict[str, Any]:
        """What the bundle is, JSON-ready."""
        files = [self.path / name for name in (ENCODER_FILE, DECODER_FILE)]
        files += [external_data(file) for file in files if external_data(file).exists()]
        return {
            "kind": "ONNX bundle",
            "path": str(self.path),
            "name": self.name,
            "model": self.model,
            "size_bytes": sum(file.stat().st_size for file in files),
            "spec": self.spec.to_dict(),
            "contract": self.contract.to_dict(),
            "classes": list(self.classes),
            "run": self.decoder.run,
            "encoder_fingerprint": self.encoder.encoder,
            "dtype": self.decoder.dtype,
            "opset": self.decoder.opset,
            "exporter": self.decoder.exporter,
            "versions": self.decoder.versions,
            "parity": self.decoder.parity,
        }

    def predict(self, images: Any, **options: Any) -> Any:
        """Segment images: :func:`samfast.predict` with this bundle as the model."""
        from samfast.predictions import predict

        return predict(self, images, **options)

    def evaluate(self, on: str = "test", *, data: Any = None, **options: Any) -> Report:
        """Judge the bundle on a set of ``data``: :func:`samfast.evaluate` with this bundle as the model.

        Raises:
            ConfigError: no ``data``; a bundle does not know the data it was trained on.
        """
        from samfast.evaluation import evaluate

        if data is None:
            raise ConfigError(
                "there is no data to judge on: a bundle does not keep where its training data lies",
                where="data",
                fix="pass data=, a folder or a data set",
            )
        return evaluate([self], data, on=on, **options)

    def _read(self, name: str, part: Part) -> GraphMetadata:
        path = self.path / name
        if not path.is_file():
            raise CheckpointError(f"the bundle lacks {name}", where=self.path, fix="copy it again, or export again")
        metadata = GraphMetadata.from_props(read_metadata(path), path)
        if metadata.part != part:
            raise CheckpointError(f"this is the {metadata.part} graph, where the {part} belongs", where=path)
        return metadata

    def _check_pair(self) -> None:
        """The decoder must be of the encoder's model: on embeddings of another one it would fail without an error."""
        ours, theirs = self.decoder.encoder, self.encoder.encoder
        differing = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        if (self.decoder.model, self.decoder.spec) != (self.encoder.model, self.encoder.spec):
            differing.append("model")
        if differing:
            raise CheckpointError(
                f"{DECODER_FILE} decodes the embeddings of another encoder than {ENCODER_FILE} (they differ in:"
                f" {', '.join(differing)})",
                where=self.path,
                fix="put the two files of one export together again, or export the model again",
            )

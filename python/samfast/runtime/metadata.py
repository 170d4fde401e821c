"""What an exported graph says about itself: the metadata in every ONNX file samfast writes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from samfast.errors import CheckpointError, ConfigError
from samfast.frames import PreprocessSpec
from samfast.inference.contract import OutputContract

SCHEMA = 1
"""Version of the metadata and of the graphs' inputs and outputs; raised when older readers would misread them."""
PREFIX = "samfast."

Part = Literal["encoder", "decoder"]


@dataclass(frozen=True)
class GraphMetadata:
    """The metadata of one graph of a bundle. In the file each field is one JSON string, ``samfast.<field>``.

    Attributes:
        part: which graph this is.
        model: name of the architecture.
        spec: how images reach the encoder, the geometry of what comes out, and the mask threshold.
        encoder: fingerprint parts of the encoder (``samfast.models.fingerprint``). A decoder names the encoder whose
            embeddings it takes: two graphs work together exactly if these are equal.
        weights_sha256: over the torch parameters and buffers of this part.
        graph_sha256: over the graph as it stands in the file.
        dtype: of the inputs, weights and outputs.
        opset: of the graph.
        exporter: what translated torch into this graph.
        versions: of the packages that took part.
        parity: how far the graph's output was from torch's at export, and on how many cases.
        contract: which mask tokens training has taught; a decoder's.
        classes: what was annotated in the training data; a decoder's, () for a base model.
        run: what the fine-tune was; a decoder's, None for a base model.
    """

    part: Part
    model: str
    spec: PreprocessSpec
    encoder: dict[str, Any]
    weights_sha256: str
    graph_sha256: str
    dtype: str
    opset: int
    exporter: str
    versions: dict[str, str]
    parity: dict[str, float]
    contract: OutputContract = field(default_factory=OutputContract)
    classes: tuple[str, ...] = ()
    run: dict[str, Any] | None = None

    def to_props(self) -> dict[str, str]:
        """Name to string, as ONNX files hold it; the inverse of :meth:`from_props`."""
        values: dict[str, Any] = {
            **vars(self),
            "schema": SCHEMA,
            "spec": self.spec.to_dict(),
            "contract": self.contract.to_dict(),
        }
        return {PREFIX + name: json.dumps(values[name]) for name in sorted(values)}

    @classmethod
    def from_props(cls, props: Mapping[str, str], where: Path) -> GraphMetadata:
        """The metadata of the ONNX file ``where``.

        Raises:
            CheckpointError: the file was not written by samfast, or by a newer samfast, or a field is missing.
        """
        if PREFIX + "schema" not in props:
            raise CheckpointError(
                "this ONNX file was not exported by samfast: it does not say how its images are prepared",
                where=where,
                fix="export the model with samfast.export_onnx or samfast export",
            )
        try:
            values = {name.removeprefix(PREFIX): json.loads(props[name]) for name in props if name.startswith(PREFIX)}
            schema = int(values.pop("schema"))
            if schema > SCHEMA:
                raise CheckpointError(
                    f"the file has metadata of version {schema}, this samfast reads up to version {SCHEMA}",
                    where=where,
                    fix="upgrade samfast, or export the model again",
                )
            values["spec"] = PreprocessSpec.from_dict(values["spec"])
            values["contract"] = OutputContract.from_dict(values["contract"])
            values["classes"] = tuple(values["classes"])
            return cls(**values)
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise CheckpointError(
                f"the file's metadata are incomplete or damaged: {error}", where=where, fix="export the model again"
            ) from None

"""Reading and writing metadata without onnx, held against onnx itself."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from samfast.errors import CheckpointError
from samfast.runtime.onnxfile import append_metadata, graph_sha256, read_metadata

VALUES = {"samfast.a": "1", "ключ": "значение " * 5000, "empty": "", "line": "one\ntwo"}


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    shape = [TensorProto.FLOAT, ["B", 3]]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", *shape)],
        [helper.make_tensor_value_info("y", *shape)],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def test_onnx_reads_what_was_appended(onnx_file: Path) -> None:
    before = onnx.load(onnx_file)
    append_metadata(onnx_file, VALUES)
    after = onnx.load(onnx_file)
    onnx.checker.check_model(after)
    assert {entry.key: entry.value for entry in after.metadata_props} == VALUES
    assert after.graph == before.graph


def test_what_onnx_wrote_is_read(onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    helper.set_model_props(model, VALUES)
    onnx.save(model, onnx_file)
    assert read_metadata(onnx_file) == VALUES


def test_metadata_leave_the_graph_as_it_is(onnx_file: Path) -> None:
    before = graph_sha256(onnx_file)
    append_metadata(onnx_file, VALUES)
    assert graph_sha256(onnx_file) == before
    content = bytearray(onnx_file.read_bytes())
    content[content.index(b"Relu")] ^= 1
    onnx_file.write_bytes(content)
    assert graph_sha256(onnx_file) != before


def test_external_weights_count(onnx_file: Path) -> None:
    before = graph_sha256(onnx_file)
    onnx_file.with_name("model.onnx.data").write_bytes(b"weights")
    assert graph_sha256(onnx_file) != before


def test_a_file_cut_anywhere_is_an_error_or_lacks_metadata(onnx_file: Path, tmp_path: Path) -> None:
    append_metadata(onnx_file, VALUES)
    content = onnx_file.read_bytes()
    cut = tmp_path / "cut.onnx"
    outcomes = set()
    for length in [*range(min(400, len(content))), *range(400, len(content), 997), len(content) - 1]:
        cut.write_bytes(content[:length])
        try:
            outcomes.add(read_metadata(cut) == VALUES)
        except CheckpointError as error:
            outcomes.add(error.where)
    assert outcomes == {False, str(cut)}


@pytest.mark.parametrize(
    "content", [b"", b"hello, world", b"\xff" * 200, b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"<!doctype html>"]
)
def test_other_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"encoder\.onnx"):
        read_metadata(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        read_metadata(tmp_path / "none.onnx")

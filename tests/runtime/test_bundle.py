"""What a bundle says about itself, and what is refused as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import samfast
from samfast.errors import CheckpointError
from samfast.inference.contract import OutputContract
from samfast.models.fingerprint import encoder_fingerprint_parts
from samfast.runtime import OnnxBundle, OnnxPredictor
from samfast.runtime.onnxfile import append_metadata

NO_TORCH_NO_ONNX = """
import sys
for name in ("torch", "onnx", "onnxscript", "segment_anything", "cv2", "torchvision"):
    sys.modules[name] = None  # importing it fails
import numpy as np
from samfast import OnnxBundle, OnnxPredictor
bundle = OnnxBundle(sys.argv[1])
bundle.verify()
assert "onnxruntime" not in sys.modules
predictor = OnnxPredictor(bundle, device="cpu", threads=1)
predictor.set_image(np.load(sys.argv[2]))
masks, ious, low_res = predictor.predict(box=np.array([20, 30, 120, 140]), multimask_output=False)
np.save(sys.argv[3], low_res)
"""


def test_what_it_says(bundle: OnnxBundle, sam: Any) -> None:
    assert bundle.model == "tiny"
    assert bundle.name == "tiny (onnx)"
    assert bundle.spec == sam.spec
    assert bundle.contract == OutputContract()
    assert bundle.encoder.encoder == encoder_fingerprint_parts(sam, "float32")
    assert bundle.encoder.encoder == bundle.decoder.encoder
    assert bundle.encoder.weights_sha256 != bundle.decoder.weights_sha256
    assert bundle.decoder.parity["logit_difference"] < 1e-3
    bundle.verify()
    info = bundle.info()
    assert json.loads(json.dumps(info))["spec"]["size"] == sam.spec.size
    assert info["size_bytes"] == sum(file.stat().st_size for file in bundle.path.iterdir())
    assert sorted(os.listdir(bundle.path)) == ["decoder.onnx", "encoder.onnx"]


def test_onnxruntime_reads_the_same_metadata(bundle: OnnxBundle) -> None:
    for metadata, name in ((bundle.encoder, "encoder.onnx"), (bundle.decoder, "decoder.onnx")):
        session = onnxruntime.InferenceSession(str(bundle.path / name), providers=["CPUExecutionProvider"])
        assert session.get_modelmeta().custom_metadata_map == metadata.to_props()


def test_it_runs_without_torch_and_onnx(bundle: OnnxBundle, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (150, 180, 3), np.uint8)
    np.save(tmp_path / "image.npy", image)
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH_NO_ONNX, bundle.path, tmp_path / "image.npy", tmp_path / "low_res.npy"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(samfast.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    predictor = OnnxPredictor(bundle, device="cpu", threads=1)
    predictor.set_image(image)
    expected = predictor.predict(box=np.array([20, 30, 120, 140]), multimask_output=False)[2]
    np.testing.assert_array_equal(np.load(tmp_path / "low_res.npy"), expected)


def test_graphs_of_two_models_are_refused(own_bundle: Path, draw_model: Callable) -> None:
    other = encoder_fingerprint_parts(draw_model("tiny", 4), "float32")
    append_metadata(own_bundle / "decoder.onnx", {"samfast.encoder": json.dumps(other)})
    with pytest.raises(CheckpointError, match=r"another encoder.*differ in: weights"):
        OnnxPredictor(own_bundle)


def test_another_decoder_on_the_same_encoder_is_fine(own_bundle: Path) -> None:
    append_metadata(own_bundle / "decoder.onnx", {"samfast.weights_sha256": '"of a fine-tune"'})
    assert OnnxBundle(own_bundle).decoder.weights_sha256 == "of a fine-tune"


def test_swapped_files_are_refused(own_bundle: Path) -> None:
    (own_bundle / "encoder.onnx").rename(own_bundle / "x")
    (own_bundle / "decoder.onnx").rename(own_bundle / "encoder.onnx")
    (own_bundle / "x").rename(own_bundle / "decoder.onnx")
    with pytest.raises(CheckpointError, match="this is the decoder graph, where the encoder belongs"):
        OnnxBundle(own_bundle)


def test_a_missing_file_is_named(own_bundle: Path) -> None:
    (own_bundle / "decoder.onnx").unlink()
    with pytest.raises(CheckpointError, match=r"lacks decoder\.onnx"):
        OnnxBundle(own_bundle)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such ONNX bundle"):
        OnnxBundle(tmp_path / "none")
    (tmp_path / "file.onnxbundle").write_text("")
    with pytest.raises(CheckpointError, match="this is a file"):
        OnnxBundle(tmp_path / "file.onnxbundle")


def test_a_truncated_graph_is_refused(own_bundle: Path) -> None:
    path = own_bundle / "encoder.onnx"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CheckpointError, match="truncated"):
        OnnxBundle(own_bundle)


def test_one_changed_byte_is_found(own_bundle: Path) -> None:
    path = own_bundle / "encoder.onnx"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    bundle = OnnxBundle(own_bundle)
    with pytest.raises(CheckpointError, match="changed or damaged"):
        bundle.verify()


def test_a_graph_onnxruntime_cannot_read(own_bundle: Path) -> None:
    path = own_bundle / "decoder.onnx"
    content = path.read_bytes().replace(b"MatMul", b"NotAnO")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="ONNX Runtime cannot open the file"):
        OnnxPredictor(own_bundle, device="cpu")


@pytest.mark.parametrize(
    ("props", "message"),
    [
        ({"samfast.schema": "99"}, "upgrade samfast"),
        ({"samfast.schema": "one"}, "incomplete or damaged"),
        ({"samfast.spec": "{}"}, "incomplete or damaged"),
        ({"samfast.contract": "null"}, "incomplete or damaged"),
        ({"samfast.unknown": "1"}, "incomplete or damaged"),
    ],
)
def test_damaged_metadata(own_bundle: Path, props: dict[str, str], message: str) -> None:
    append_metadata(own_bundle / "decoder.onnx", props)  # of two entries of one name, the last one counts
    with pytest.raises(CheckpointError, match=message):
        OnnxBundle(own_bundle)


def test_a_foreign_onnx_file(own_bundle: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    onnx.save(helper.make_model(helper.make_graph([], "g", [], [])), own_bundle / "encoder.onnx")
    with pytest.raises(CheckpointError, match="not exported by samfast"):
        OnnxBundle(own_bundle)

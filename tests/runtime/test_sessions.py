"""A session runs where it was asked to run, or says why not."""

from __future__ import annotations

import sys
import types

import onnxruntime
import pytest

from samfast.errors import ConfigError, RuntimeUnavailableError
from samfast.runtime import OnnxBundle, OnnxPredictor, OnnxSegmenter, sessions

without_gpu = pytest.mark.skipif(sessions.count_gpus() > 0, reason="there is an NVIDIA GPU: nothing is missing here")
with_gpu = pytest.mark.skipif(sessions.count_gpus() == 0, reason="NO NVIDIA GPU: nothing is proven on CUDA here")


@without_gpu
def test_cuda_without_a_gpu_is_an_error(bundle: OnnxBundle) -> None:
    for make in (OnnxPredictor, OnnxSegmenter):
        with pytest.raises(RuntimeUnavailableError, match="device='cuda' was asked for, but no NVIDIA GPU"):
            make(bundle, device="cuda")


@without_gpu
def test_auto_without_a_gpu_is_the_cpu(bundle: OnnxBundle, capfd: pytest.CaptureFixture[str]) -> None:
    predictor = OnnxPredictor(bundle)
    assert predictor.device == "cpu"
    assert "device='cpu'" in repr(predictor)
    assert capfd.readouterr() == ("", "")


@without_gpu
@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="a build without CUDA: see below"
)
def test_libraries_that_do_not_load(
    bundle: OnnxBundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sessions, "count_gpus", lambda: 1)
    with pytest.raises(RuntimeUnavailableError, match="could not load its CUDA libraries"):
        OnnxPredictor(bundle, device="cuda")
    assert capfd.readouterr() == ("", "")
    assert OnnxPredictor(bundle, device="auto").device == "cpu"
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("running on the CPU although there is an NVIDIA GPU: ")
    assert len(err.splitlines()) == 1


def test_a_build_without_cuda(bundle: OnnxBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(sessions, "_installed_builds", lambda: ["onnxruntime 1.31.1"])
    with pytest.raises(RuntimeUnavailableError, match=r"a build without CUDA \(samfast\[gpu\]"):
        OnnxPredictor(bundle, device="cuda")
    monkeypatch.setattr(sessions, "_installed_builds", lambda: ["onnxruntime 1.31.1", "onnxruntime-gpu 1.31.1"])
    with pytest.raises(RuntimeUnavailableError, match="both installed"):
        OnnxPredictor(bundle, device="cuda")


def test_no_onnxruntime(bundle: OnnxBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeUnavailableError, match=r"(?s)not installed.*samfast\[gpu\].*samfast\[cpu\]"):
        OnnxPredictor(bundle)


def test_a_hollow_onnxruntime(bundle: OnnxBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(RuntimeUnavailableError, match="broken"):
        OnnxPredictor(bundle)


def test_no_such_device(bundle: OnnxBundle) -> None:
    with pytest.raises(ConfigError, match="device='tpu'"):
        OnnxPredictor(bundle, device="tpu")
    with pytest.raises(ConfigError, match="threads=0"):
        OnnxPredictor(bundle, threads=0)


@with_gpu
def test_cuda_gives_the_masks_of_the_cpu(bundle: OnnxBundle) -> None:
    import numpy as np

    image = np.random.default_rng(0).integers(0, 256, (150, 180, 3), np.uint8)
    low_res = []
    for device in ("cpu", "cuda"):
        predictor = OnnxPredictor(bundle, device=device)
        assert predictor.device == device
        predictor.set_image(image)
        low_res.append(predictor.predict(box=[20, 30, 120, 140])[2])
    np.testing.assert_allclose(*low_res, atol=1e-3)

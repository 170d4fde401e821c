"""Segmenting with an ONNX bundle: numpy, Pillow and ONNX Runtime, never torch."""

from samfast.runtime.bundle import OnnxBundle
from samfast.runtime.predictor import OnnxPredictor
from samfast.runtime.segmenter import OnnxSegmenter

__all__ = ["OnnxBundle", "OnnxPredictor", "OnnxSegmenter"]

"""From torch to an ONNX bundle, with the differences measured."""

from samfast.export.job import export_onnx

__all__ = ["export_onnx"]

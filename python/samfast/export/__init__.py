"""A model as others take it: an ONNX bundle, an official checkpoint, a decoder alone, a ``transformers`` folder."""

from samfast.export.checkpoint import export_checkpoint, export_decoder, with_decoder
from samfast.export.hub import push_to_hub
from samfast.export.huggingface import export_huggingface
from samfast.export.job import export_onnx

__all__ = ["export_checkpoint", "export_decoder", "export_huggingface", "export_onnx", "push_to_hub", "with_decoder"]

"""A fingerprint changes with everything encode reads, and with nothing else."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch

from samfast.errors import ConfigError
from samfast.models.fingerprint import encoder_fingerprint_parts, fingerprint, hash_tensors


@pytest.fixture
def sam(draw_model):
    return draw_model("tiny", seed=1)


def mark(sam, precision="float32"):
    return fingerprint(encoder_fingerprint_parts(sam, precision))


def test_equal_models_have_equal_fingerprints(sam, draw_model):
    assert mark(sam) == mark(draw_model("tiny", seed=1))
    assert mark(sam) != mark(draw_model("tiny", seed=2))


def test_every_encoder_tensor_counts(sam):
    before = mark(sam)
    for name, tensor in sam.encoder_state().items():
        kept = tensor.clone()
        tensor.view(-1)[-1] += 1e-3
        assert mark(sam) != before, name
        tensor.copy_(kept)
    assert mark(sam) == before


def test_the_decoder_does_not_count(sam):
    before = mark(sam)
    for tensor in sam.decoder_state().values():
        tensor.add_(1.0)
    assert mark(sam) == before


def test_buffers_that_no_state_dict_holds_count(sam):
    before = mark(sam)
    sam.image_encoder.register_buffer("scale", torch.ones(1), persistent=False)
    assert mark(sam) != before


def test_preprocessing_precision_adapter_and_shape_count(sam):
    marks = [mark(sam), mark(sam, "bfloat16")]
    sam.spec = replace(sam.spec, antialias=False)
    marks.append(mark(sam))
    sam.adapter = "sam1/2"
    marks.append(mark(sam))
    sam.architecture = replace(sam.architecture, encoder_heads=4)
    marks.append(mark(sam))
    assert len(set(marks)) == len(marks)


def test_parts_survive_a_file(sam):
    parts = encoder_fingerprint_parts(sam, "float32")
    assert json.loads(json.dumps(parts)) == parts
    assert set(parts) == {"weights", "encoder", "adapter", "features", "preprocess", "precision"}


def test_hash_is_what_the_format_says():
    tensors = {"b": torch.arange(6, dtype=torch.int16).reshape(2, 3), "a": torch.tensor(1.5, dtype=torch.bfloat16)}
    wanted = hashlib.sha256()
    wanted.update(b'["a", "bfloat16", [], 2]')
    wanted.update(bytes([0xC0, 0x3F]))
    wanted.update(b'["b", "int16", [2, 3], 12]')
    wanted.update(bytes([0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0]))
    assert hash_tensors(tensors) == wanted.hexdigest()


def test_hash_does_not_depend_on_the_layout_in_memory():
    values = torch.arange(12.0).reshape(3, 4)
    assert hash_tensors({"a": values}) == hash_tensors({"a": values.t().contiguous().t()})
    assert hash_tensors({"a": values}) != hash_tensors({"a": values.reshape(4, 3)})
    assert hash_tensors({"a": values}) != hash_tensors({"a": values.view(torch.int32)})


def test_decoder_only_has_none(draw_model):
    with pytest.raises(ConfigError, match="decoder-only"):
        encoder_fingerprint_parts(draw_model("tiny", decoder_only=True), "float32")

"""The table of shapes against segment_anything's own builders."""

import subprocess
import sys

import pytest
import torch
from segment_anything import sam_model_registry

from samfast.errors import ConfigError
from samfast.models.architecture import ARCHITECTURES, MODEL_NAMES, OFFICIAL_FILES, get_architecture
from samfast.models.sam import Sam


@pytest.mark.parametrize("name", OFFICIAL_FILES)
def test_official_rows_build_what_segment_anything_builds(name):
    with torch.device("meta"):
        official, ours = sam_model_registry[name](), Sam(get_architecture(name))
    shapes = [{key: tensor.shape for key, tensor in model.state_dict().items()} for model in (official, ours)]
    assert shapes[0] == shapes[1]
    assert official.image_encoder.img_size == ours.spec.size
    for theirs, own in zip(official.image_encoder.blocks, ours.image_encoder.blocks, strict=True):
        assert theirs.window_size == own.window_size
        assert theirs.attn.num_heads == own.attn.num_heads
        assert theirs.norm1.eps == own.norm1.eps
    for theirs, own in zip(official.mask_decoder.transformer.layers, ours.mask_decoder.transformer.layers, strict=True):
        assert theirs.self_attn.num_heads == own.self_attn.num_heads
    assert official.prompt_encoder.input_image_size == ours.prompt_encoder.input_image_size
    assert official.prompt_encoder.mask_input_size == (ours.spec.low_res, ours.spec.low_res)


@pytest.mark.parametrize("name", OFFICIAL_FILES)
def test_official_constants(name):
    official = sam_model_registry["vit_b"]()
    spec = get_architecture(name).spec
    assert torch.equal(official.pixel_mean.flatten(), torch.tensor(spec.mean))
    assert torch.equal(official.pixel_std.flatten(), torch.tensor(spec.std))
    assert official.mask_threshold == spec.mask_threshold


def test_tiny_is_small_and_has_its_own_geometry():
    row = get_architecture("tiny")
    assert (row.spec.size, row.spec.embedding, row.spec.low_res) == (256, 32, 128)
    with torch.device("meta"):
        tensors = Sam(row).state_dict().values()
    assert 2 * sum(tensor.numel() for tensor in tensors) < 10e6


def test_unknown_name():
    with pytest.raises(ConfigError, match="vit_x"):
        get_architecture("vit_x")


def test_names_are_the_table():
    assert tuple(ARCHITECTURES) == MODEL_NAMES
    assert all(name == row.name for name, row in ARCHITECTURES.items())


def test_the_table_needs_no_torch():
    code = "import sys, samfast.models.architecture; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

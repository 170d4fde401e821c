"""Every file that is not the asked model's checkpoint is refused, and the message says what it is."""

import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from segment_anything import sam_model_registry

from samfast.errors import CheckpointError, ConfigError
from samfast.models import checkpoints
from samfast.models.architecture import OFFICIAL_FILES
from samfast.models.checkpoints import decoder_only, describe_state, load_model


@pytest.fixture(scope="module")
def tiny(draw_model):
    return draw_model("tiny", seed=7)


@pytest.fixture
def state(tiny):
    return OrderedDict((key, tensor.clone()) for key, tensor in tiny.state_dict().items())


@pytest.fixture
def saved(tmp_path):
    def save(content, name="model.pth", **options):
        path = tmp_path / name
        torch.save(content, path, **options)
        return path

    return save


def same(model, state):
    found = model.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[key], state[key]) for key in state)


def meta_state(name):
    with torch.device("meta"):
        return sam_model_registry[name]().state_dict()


# --- what loads ---------------------------------------------------------------------------------------------------


def test_official_format_round_trips(official_checkpoint, draw_model):
    model = load_model("tiny", checkpoint=official_checkpoint("tiny", 3))
    assert same(model, draw_model("tiny", 3).state_dict())
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_loads_into_segment_anything_loads_here(official_checkpoint):
    path = official_checkpoint("vit_b")
    assert same(load_model("vit_b", checkpoint=str(path)), sam_model_registry["vit_b"](path).state_dict())


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state_dict"])
def test_training_wrappers(saved, state, wrapper):
    assert same(load_model("tiny", checkpoint=saved({wrapper: state, "epoch": 3, "optimizer": {"lr": 0.1}})), state)


@pytest.mark.parametrize("prefix", ["module.", "model.", "model.module."])
def test_wrappers_names_and_constants(saved, state, prefix):
    wrapped = {f"{prefix}{key}": tensor for key, tensor in state.items()} | {
        f"{prefix}pixel_mean": torch.zeros(3, 1, 1)
    }
    assert same(load_model("tiny", checkpoint=saved(wrapped)), state)


def test_old_pickle_format(saved, state):
    assert same(load_model("tiny", checkpoint=saved(state, _use_new_zipfile_serialization=False)), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_safetensors_of_any_float_become_float32(tmp_path, state, dtype):
    path = tmp_path / "model.bin"  # told by content
    save_file({key: tensor.to(dtype) for key, tensor in state.items()}, path)
    model = load_model("tiny", checkpoint=path)
    assert same(model, {key: tensor.to(dtype).float() for key, tensor in state.items()})


def test_loaded_weights_outlive_the_file(saved, state):
    path = saved(state)
    model = load_model("tiny", checkpoint=path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert same(model, state)


def test_decoder_only_round_trips(tiny):
    model = decoder_only("tiny", tiny.decoder_state())
    assert model.image_encoder is None
    assert same(model, tiny.decoder_state())


def test_encoder_and_decoder_state_are_all_there_is(tiny):
    both = {**tiny.encoder_state(), **tiny.decoder_state()}
    assert both.keys() == tiny.state_dict().keys()
    assert list(tiny.encoder_state()) == sorted(tiny.encoder_state())


# --- what does not ------------------------------------------------------------------------------------------------


def refused(name, path, match):
    with pytest.raises(CheckpointError, match=match) as caught:
        load_model(name, checkpoint=path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", OFFICIAL_FILES)
def test_official_models_need_a_file_and_say_which(name):
    with pytest.raises(CheckpointError, match=OFFICIAL_FILES[name]) as caught:
        load_model(name)
    assert "--checkpoint" in str(caught.value)


def test_unknown_model_is_told_before_the_file_is_read():
    with pytest.raises(ConfigError, match="vit_b"):
        load_model("sam_b", checkpoint="nowhere.pth")


def test_missing_file(tmp_path):
    refused("tiny", tmp_path / "none.pth", "no such checkpoint")


def test_folder(tmp_path):
    refused("tiny", tmp_path, "folder")


def test_unreadable_file(saved, state):
    refused("tiny", saved(state) / "below_a_file.pth", "cannot be read")


def test_empty_file(tmp_path):
    path = tmp_path / "empty.pth"
    path.touch()
    refused("tiny", path, "empty file")


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>not found</html>", b"hi", bytes(range(1, 200))])
def test_another_kind_of_file(tmp_path, content):
    path = tmp_path / "page.pth"
    path.write_bytes(content)
    refused("tiny", path, "neither a PyTorch nor a safetensors file")


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.01])
@pytest.mark.parametrize("form", ["zip", "pickle", "safetensors"])
def test_truncated_file(tmp_path, saved, state, form, kept):
    if form == "safetensors":
        path = tmp_path / "model.safetensors"
        save_file(state, path)
    else:
        path = saved(state, _use_new_zipfile_serialization=form == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refused("tiny", path, "truncated|damaged")


def test_zip_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "archive.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused("tiny", path, "not a PyTorch checkpoint")


def test_torchscript(tmp_path):
    path = tmp_path / "script.pth"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)
    refused("tiny", path, "TorchScript")


class Payload:
    """Runs code when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("is_zip", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, saved, state, is_zip):
    trace = tmp_path / "ran"
    path = saved({**state, "extra": Payload(trace)}, _use_new_zipfile_serialization=is_zip)
    assert "state_dict" in refused("tiny", path, "run code")
    assert not trace.exists()


def test_a_pickled_module_is_refused(saved, tiny):
    refused("tiny", saved(tiny), "run code")


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {}, {"epoch": 3}, {"model": {}}])
def test_no_named_tensors(saved, content):
    refused("tiny", saved(content), "not named tensors|no named tensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["image_encoder.blocks.3.attn.qkv.weight", "mask_decoder.iou_token.weight"])
def test_weights_that_are_not_finite(saved, state, key, value):
    state[key].view(-1)[-1] = value
    refused("tiny", saved(state), f"{key} holds values that are not finite")


def test_integer_weights(saved, state):
    state["mask_decoder.iou_token.weight"] = torch.ones(1, 128, dtype=torch.int8)
    refused("tiny", saved(state), "int8")


def test_a_missing_an_unknown_and_a_misshapen_tensor(saved, state):
    del state["mask_decoder.iou_token.weight"]
    state["surplus"] = torch.zeros(1)
    state["prompt_encoder.no_mask_embed.weight"] = torch.zeros(1, 64)
    message = refused("tiny", saved(state), "not those of tiny")
    assert all(word in message for word in ("iou_token", "surplus", "no_mask_embed"))


def test_another_size_of_sam_is_named(official_checkpoint):
    message = refused("vit_l", official_checkpoint("vit_b"), "this is a vit_b checkpoint, not vit_l")
    assert "--model vit_b" in message
    refused("vit_b", official_checkpoint("tiny"), "this is a tiny checkpoint, not vit_b")


@pytest.mark.parametrize("name", OFFICIAL_FILES)
def test_official_states_are_told_apart(name):
    assert describe_state(meta_state(name)) == f"a {name} checkpoint"


RELATIVES = {
    "SAM 2": ["image_encoder.trunk.pos_embed", "memory_attention.layers.0.norm1.weight"],
    "HQ-SAM": [*meta_state("vit_b"), "mask_decoder.hf_token.weight"],
    "MobileSAM": ["image_encoder.layers.0.blocks.0.conv1.c.weight", "prompt_encoder.no_mask_embed.weight"],
    "transformers": ["vision_encoder.pos_embed", "shared_image_embedding.positional_embedding"],
    "SAM-Med2D": [*meta_state("vit_b"), "image_encoder.blocks.0.Adapter.channel.0.weight"],
    "LoRA": ["w_a_000", "w_b_000", "image_encoder.blocks.0.attn.qkv.linear_a_q.weight"],
    "another image encoder": ["image_encoder.stem.weight", "prompt_encoder.no_mask_embed.weight"],
    "decoder without": ["mask_decoder.iou_token.weight", "prompt_encoder.no_mask_embed.weight"],
    "no SAM checkpoint": ["layer1.0.conv1.weight", "fc.bias"],
}


@pytest.mark.parametrize("what", RELATIVES)
def test_relatives_are_named(saved, what):
    refused("vit_b", saved({key: torch.zeros(1) for key in RELATIVES[what]}), f"this is .*{what}.*, not vit_b")


def test_decoder_only_of_another_width_is_refused(tiny):
    with pytest.raises(CheckpointError, match="not those of vit_b"):
        decoder_only("vit_b", tiny.decoder_state(), where="decoder.safetensors")


def test_an_installation_without_the_shipped_weights(monkeypatch):
    monkeypatch.setattr(checkpoints, "SHIPPED", "absent.safetensors")
    with pytest.raises(CheckpointError, match="absent"):
        load_model("tiny")

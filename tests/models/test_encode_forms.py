"""Every form of the encoder's attention against segment_anything's, and where in-place work is not allowed."""

import copy
from functools import partial

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention
from torch import nn

from samfast.models import attention, products
from samfast.models.encoder import encode

TOLERANCE = 1e-5
CPU_FORMS = [attention.explicit, attention.masked, attention.folded, attention.in_blocks]


def randomised(module, seed):
    """Draw every parameter anew: fresh modules have tables and biases of zero, which hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for value in module.parameters():
        value.data.normal_(0, 0.5 / max(value[0].numel(), 1) ** 0.5 if value.ndim > 1 else 0.3, generator=generator)
    return module.eval()


def relative(found, wanted):
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.fixture(scope="module", params=[6, 14], ids="side {}".format)
def case(request):
    """segment_anything's attention of 3 windows and 4 heads: query, key, value, tables, and its answer."""
    side, heads, width = request.param, 4, 8
    official = randomised(Attention(heads * width, heads, use_rel_pos=True, input_size=(side, side)), seed=side)
    official.rel_pos_h.data.mul_(3)
    official.rel_pos_w.data.mul_(3)
    official.proj = nn.Identity()
    x = torch.randn(3, side, side, heads * width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        qkv = official.qkv(x).flatten(1, 2).unflatten(-1, (3, heads, width)).permute(2, 0, 3, 1, 4)
        answer = official(x).flatten(1, 2).unflatten(-1, (heads, width)).transpose(1, 2)
        return [*qkv.unbind(), official.rel_pos_h.detach(), official.rel_pos_w.detach()], answer


@pytest.mark.parametrize("form", CPU_FORMS)
def test_each_form_equals_segment_anything(case, form):
    inputs, answer = case
    assert relative(form(*inputs), answer) < TOLERANCE


@pytest.mark.parametrize("scores", [1, 50, 36 * 36, 36 * 36 * 3, 2**22], ids="{} at once".format)
def test_blocks_of_any_size_equal_segment_anything(case, scores, monkeypatch):
    inputs, answer = case
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", scores)
    assert relative(attention.in_blocks(*inputs), answer) < TOLERANCE


@pytest.mark.parametrize("form", CPU_FORMS)
def test_exchanged_and_missing_tables_are_noticed(case, form):
    (query, key, value, rows, columns), answer = case
    for tables in ((columns, rows), (rows * 0, columns), (rows, columns.flip(0))):
        assert relative(form(query, key, value, *tables), answer) > 1000 * TOLERANCE


def test_every_form_of_the_table_is_tested():
    assert set(attention.FORMS.values()) <= set(CPU_FORMS)


def vit(window, *, global_layers=(1,), seed=7):
    """A small image encoder of 10 x 10 patches."""
    encoder = ImageEncoderViT(
        img_size=80,
        patch_size=8,
        embed_dim=32,
        depth=3,
        num_heads=4,
        out_chans=16,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=window,
        global_attn_indexes=global_layers,
    )
    return randomised(encoder, seed)


IMAGES = torch.randn(2, 3, 80, 80, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
@pytest.mark.parametrize("window", [0, 1, 3, 4, 5, 10, 14], ids="window {}".format)
def test_windows_that_fit_and_that_do_not_equal_segment_anything(window):
    encoder = vit(window)
    wanted = encoder(IMAGES)
    assert wanted.std() > 0.1
    assert relative(encode(encoder, IMAGES), wanted) < TOLERANCE


@torch.no_grad()
def test_windows_filled_up_with_zeros_are_noticed():
    encoder = vit(4)
    wanted, other = encoder(IMAGES), copy.deepcopy(encoder)
    for block in other.blocks:
        block.attn.qkv.bias.data.zero_()
    assert relative(encode(other, IMAGES), wanted) > 1000 * TOLERANCE


class Adapter(nn.Module):
    """A low-rank update around a linear layer, as LoRA has it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.update = nn.Sequential(nn.Linear(layer.in_features, 2), nn.Linear(2, layer.out_features))

    def forward(self, x):
        return self.layer(x) + self.update(x)


@torch.no_grad()
@pytest.mark.parametrize("place", ["attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2"])
def test_what_is_put_around_a_layer_takes_part(place):
    encoder = vit(4)
    bare = encode(encoder, IMAGES)
    room, name = place.split(".")
    for seed, block in enumerate(encoder.blocks):
        parent = getattr(block, room)
        setattr(parent, name, randomised(Adapter(getattr(parent, name)), seed))
    assert relative(encode(encoder, IMAGES), encoder(IMAGES)) < TOLERANCE
    assert relative(encode(encoder, IMAGES), bare) > 1000 * TOLERANCE


@torch.no_grad()
def test_hooks_on_a_layer_are_called():
    encoder, seen = vit(4), []
    encoder.blocks[0].mlp.lin1.register_forward_hook(lambda *_: seen.append("after"))
    encoder.blocks[0].attn.proj.register_forward_pre_hook(lambda *_: seen.append("before"))
    encode(encoder, IMAGES)
    assert seen == ["before", "after"]


def test_gradients_equal_segment_anythings():
    encoder = vit(4)
    gradients = []
    for forward in (partial(encode, encoder), encoder):
        encoder.zero_grad()
        images = IMAGES.clone().requires_grad_()
        forward(images).tanh().mean().backward()
        gradients.append({"images": images.grad, **{name: value.grad for name, value in encoder.named_parameters()}})
    ours, official = gradients
    for name, wanted in official.items():
        assert wanted.abs().max() > 0, name
        assert torch.allclose(ours[name], wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max())), name


@pytest.mark.parametrize("trained", ["qkv.weight", "rel_pos_h", "rel_pos_w", "proj.bias", "lin1.weight"])
def test_any_parameter_may_be_trained_alone(trained):
    encoder = vit(4).requires_grad_(False)
    for name, value in encoder.named_parameters():
        value.requires_grad_(name.endswith(trained))
    gradients = []
    for forward in (partial(encode, encoder), encoder):
        encoder.zero_grad()
        forward(IMAGES).tanh().mean().backward()
        gradients.append([value.grad for value in encoder.parameters() if value.requires_grad])
    for found, wanted in zip(*gradients, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_images_alone_that_want_gradients_get_them():
    """A frozen encoder under something that is trained."""
    encoder = vit(4).requires_grad_(False)
    images = [IMAGES.clone().requires_grad_() for _ in range(2)]
    for forward, x in zip((partial(encode, encoder), encoder), images, strict=True):
        forward(x).square().mean().backward()
    assert torch.allclose(images[0].grad, images[1].grad, rtol=1e-3, atol=1e-4 * float(images[1].grad.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_stays_as_close_as_segment_anything_does(dtype):
    encoder = vit(4)
    exact = encoder(IMAGES)
    with torch.autocast("cpu", dtype=dtype):
        ours, official = encode(encoder, IMAGES).float(), encoder(IMAGES).float()
    assert 0 < relative(ours, exact) < 2 * relative(official, exact)


@torch.no_grad()
def test_half_precision_weights_encode():
    encoder = vit(4)
    exact = encoder(IMAGES)
    rough = encode(encoder.bfloat16(), IMAGES.bfloat16())
    assert rough.dtype == torch.bfloat16
    assert relative(rough.float(), exact) < 0.05


@torch.no_grad()
def test_an_export_holds_ordinary_operators_and_says_the_same():
    encoder = vit(4)

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, images):
            return encode(self.encoder, images)

    program = torch.export.export(Encoder().eval(), (IMAGES,))
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not [name for name in names if "mkldnn" in name or "out" in name.split(".")]
    assert relative(program.module()(IMAGES), encoder(IMAGES)) < TOLERANCE


@torch.no_grad()
def test_products_are_the_same_with_and_without_onednn(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    x, weight, bias = (torch.randn(size, generator=generator) for size in ((2, 5, 7), (11, 7), (11,)))
    for gelu in (False, True):
        for given in (bias, None):
            fused = products.linear(x, weight, given, gelu=gelu)
            with monkeypatch.context() as patch:
                patch.setattr(products, "_ONEDNN", None)
                plain = products.linear(x, weight, given, gelu=gelu)
            assert relative(fused, plain) < TOLERANCE
    assert products.linear(x[:0], weight, bias).shape == (0, 5, 11)
    assert relative(products.linear(x.transpose(0, 1), weight, bias), x.transpose(0, 1) @ weight.t() + bias) < TOLERANCE


@torch.no_grad()
def test_plain_products_go_to_onednn_where_it_is_there(monkeypatch):
    if products._ONEDNN is None:
        pytest.skip("this build of PyTorch has no oneDNN")
    calls = []
    monkeypatch.setattr(products, "_ONEDNN", lambda x, weight, bias, *_: calls.append(1) or x @ weight.t() + bias)
    layer = nn.Linear(3, 2)
    products.apply(layer, torch.ones(4, 3))
    assert calls == [1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        products.apply(layer, torch.ones(4, 3))
    with torch.enable_grad():
        products.apply(layer, torch.ones(4, 3))
    products.apply(layer.double(), torch.ones(4, 3, dtype=torch.float64))
    assert calls == [1]

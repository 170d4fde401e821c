"""A mask token a class against segment_anything's own modules, asked by their pad token alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from samfast.errors import CheckpointError, ConfigError
from samfast.inference.classes import class_tokens
from samfast.models.checkpoints import decoder_only
from samfast.models.classes import with_classes
from samfast.models.sam import Sam

TOLERANCE = 1e-5


def asked(sam: Sam, images: int) -> dict[str, torch.Tensor]:
    tokens = class_tokens(images)
    return {name: torch.from_numpy(getattr(tokens, name)) for name in ("image_index", "coords", "labels")}


def official_classes(oracle, count: int, token: int = 0) -> nn.Module:
    """``segment_anything``'s mask decoder with ``count`` tokens, all of which are one of the four it had."""
    decoder = copy.deepcopy(oracle.mask_decoder)
    decoder.num_mask_tokens, decoder.num_multimask_outputs = count, count - 1
    decoder.mask_tokens = nn.Embedding.from_pretrained(decoder.mask_tokens.weight[[token] * count])
    decoder.output_hypernetworks_mlps = nn.ModuleList([decoder.output_hypernetworks_mlps[token]] * count)
    head = decoder.iou_prediction_head.layers[-1]
    head.weight, head.bias = (nn.Parameter(values[[token] * count]) for values in (head.weight, head.bias))
    return decoder


def official_answers(oracle, decoder: nn.Module, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    pad = torch.zeros(1, 1, 2), torch.full((1, 1), -1)
    sparse, dense = oracle.prompt_encoder(points=pad, boxes=torch.zeros(1, 4), masks=None)  # a box: no second pad token
    answers = [
        decoder.predict_masks(
            image_embeddings=embedding[None],
            image_pe=oracle.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse[:, :1],  # without the box's corners
            dense_prompt_embeddings=dense,
        )
        for embedding in embeddings
    ]
    logits, ious = zip(*answers, strict=True)
    return torch.cat(logits), torch.cat(ious)


@pytest.fixture(scope="module", params=["tiny", "vit_b"])
def world(request, draw_model, official):
    sam = draw_model(request.param, seed=3, decoder_only=True)
    shape = sam.architecture
    size = (2, shape.prompt_dim, shape.embedding, shape.embedding)
    return sam, torch.randn(size, generator=torch.Generator().manual_seed(1)), official(sam)


@pytest.mark.parametrize("count", [1, 3])
@torch.no_grad()
def test_every_class_starts_as_segment_anythings_token_0(world, count) -> None:
    sam, embeddings, oracle = world
    logits, ious = with_classes(sam, count).decode(embeddings, **asked(sam, 2))
    wanted_logits, wanted_ious = official_answers(oracle, official_classes(oracle, count), embeddings)
    assert logits.shape == (2, count, sam.spec.low_res, sam.spec.low_res)
    scale = max(1.0, float(wanted_logits.abs().max()))
    assert float((logits - wanted_logits).abs().max()) / scale < TOLERANCE
    assert float((ious - wanted_ious).abs().max()) < TOLERANCE
    assert float((logits - logits[:, :1]).abs().max()) / scale < TOLERANCE
    assert wanted_logits.std() > 0.1  # an oracle that says nothing would agree with anything

    of_token_1, _ = official_answers(oracle, official_classes(oracle, count, token=1), embeddings)
    unasked = asked(sam, 2) | {"labels": torch.full((2, 1), -10)}
    without_pad, _ = with_classes(sam, count).decode(embeddings, **unasked)
    for other in (of_token_1, without_pad, logits.flip(0)):
        assert float((other - wanted_logits).abs().max()) / scale > 100 * TOLERANCE


def test_the_model_it_is_made_of_stays_as_it_was_and_lends_its_encoder(draw_model) -> None:
    sam = draw_model("tiny", seed=1)
    before = {name: value.clone() for name, value in sam.state_dict().items()}
    made = with_classes(sam, 2)
    with torch.no_grad():
        for parameter in made.decoder_state().values():
            parameter.add_(1)
    assert made.image_encoder is sam.image_encoder
    assert all(torch.equal(before[name], value) for name, value in sam.state_dict().items())
    assert set(before) - set(made.state_dict()) == {  # fewer tokens; no other name
        name for name in before if "output_hypernetworks_mlps.2" in name or "output_hypernetworks_mlps.3" in name
    }


def test_its_weights_load_where_as_many_tokens_are_expected(draw_model) -> None:
    made = with_classes(draw_model("tiny", seed=1, decoder_only=True), 3)
    again = decoder_only("tiny", made.decoder_state(), mask_tokens=3)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in made.state_dict().items())
    with pytest.raises(CheckpointError, match=r"lacks .*output_hypernetworks_mlps\.3"):
        decoder_only("tiny", made.decoder_state())


def test_no_classes_are_refused(draw_model) -> None:
    with pytest.raises(ConfigError, match="at least one class"):
        with_classes(draw_model("tiny", seed=1, decoder_only=True), 0)

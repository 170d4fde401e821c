"""The one decode: SAM 1's prompt encoder and mask decoder, run over their own parameters for ragged batches of prompts.

``segment_anything`` decodes the prompts of one image at a time, all with the same number of points. Here prompts of
several images and of different lengths share a batch: each prompt names its image, and tokens labelled -10 are masked
out of attention. The modules stay ``segment_anything``'s, so checkpoints fit; only the forward pass is this file's.

Letters in shape comments: P prompts, M prompt tokens, T = 1 IoU token + K mask tokens + M, C channels, g embedding
side, N = g * g positions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samfast.models.products import is_graph

if TYPE_CHECKING:
    from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
    from segment_anything.modeling.transformer import Attention

NOTHING = -10
"""Label of a token that is not there."""
MASKED = -1e4
"""Added to the attention scores of tokens that are not there: zero weight in every float type, fp16 included."""


def position_code(matrix: Tensor, xy: Tensor) -> Tensor:
    """Random Fourier features of positions in [0, 1] (Tancik et al., 2020), ``PositionEmbeddingRandom``.

    Args:
        matrix: ``(2, C / 2)`` float32 frequencies.
        xy: ``(..., 2)`` float32.

    Returns:
        ``(..., C)`` float32. Written without a matrix product, which autocast would run in half precision.
    """
    xy = 2 * xy - 1
    angle = 2 * math.pi * (xy[..., :1] * matrix[0] + xy[..., 1:] * matrix[1])
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def grid_code(matrix: Tensor, side: int) -> Tensor:
    """``(side * side, C)`` :func:`position_code` of the cell centres of a square grid, row by row."""
    centres = (torch.arange(side, device=matrix.device, dtype=matrix.dtype) + 0.5) / side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return position_code(matrix, torch.stack([x, y], dim=-1).flatten(0, 1))


def prompt_tokens(encoder: PromptEncoder, coords: Tensor, labels: Tensor) -> Tensor:
    """Embed points and box corners.

    Args:
        encoder: ``segment_anything``'s.
        coords: ``(P, M, 2)`` float32 (x, y), model frame, pixel indices.
        labels: ``(P, M)`` integers: 0, 1 points; 2, 3 box corners; -1 SAM's pad token; -10 nothing.

    Returns:
        ``(P, M, C)`` tokens; zeros where there is nothing.
    """
    height, width = encoder.input_image_size
    x, y = (coords + 0.5).unbind(-1)
    code = position_code(
        encoder.pe_layer.positional_encoding_gaussian_matrix, torch.stack([x / width, y / height], dim=-1)
    )
    rows = [encoder.not_a_point_embed.weight, *(row.weight for row in encoder.point_embeddings)]
    meaning = torch.cat(rows)[(labels + 1).clamp(min=0)]  # (P, M, C)
    tokens = torch.where((labels >= 0)[..., None], code + meaning, meaning)
    return torch.where((labels == NOTHING)[..., None], torch.zeros_like(tokens), tokens)


def dense_prompts(encoder: PromptEncoder, mask: Tensor | None, has_mask: Tensor | None) -> Tensor:
    """Embed mask prompts: ``(P, 1, L, L)`` logits and ``(P,)`` flags to ``(P or 1, N, C)``."""
    no_mask: Tensor = encoder.no_mask_embed.weight[None]  # (1, 1, C)
    if mask is None or has_mask is None:
        return no_mask
    embedded: Tensor = encoder.mask_downscaling(mask).flatten(2).transpose(1, 2)  # (P, N, C)
    return torch.where(has_mask.bool()[:, None, None], embedded, no_mask.to(embedded.dtype))


def decode(
    prompt_encoder: PromptEncoder,
    mask_decoder: MaskDecoder,
    *,
    image_embeddings: Tensor,
    image_index: Tensor,
    coords: Tensor,
    labels: Tensor,
    mask: Tensor | None,
    has_mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """See :meth:`samfast.models.sam.Sam.decode`."""
    side = image_embeddings.shape[-1]
    positions = grid_code(prompt_encoder.pe_layer.positional_encoding_gaussian_matrix, side)  # (N, C)
    images = image_embeddings.flatten(2).transpose(1, 2).contiguous().index_select(0, image_index)  # (P, N, C)
    images = images + dense_prompts(prompt_encoder, mask, has_mask)

    asked = prompt_tokens(prompt_encoder, coords, labels)  # (P, M, C)
    own = torch.cat([mask_decoder.iou_token.weight, mask_decoder.mask_tokens.weight])  # (1 + K, C)
    tokens = torch.cat([own.expand(asked.shape[0], -1, -1), asked], dim=1)  # (P, T, C)
    absent = F.pad((labels == NOTHING).to(tokens.dtype), (own.shape[0], 0))  # (P, T)

    tokens, images = two_way(mask_decoder.transformer, tokens, images, positions, absent[:, None] * MASKED)
    logits = mask_logits(mask_decoder, tokens[:, 1 : own.shape[0]], images, side)
    return logits, mask_decoder.iou_prediction_head(tokens[:, 0])


def two_way(
    transformer: TwoWayTransformer, prompts: Tensor, images: Tensor, positions: Tensor, key_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """``TwoWayTransformer``: tokens attend to themselves and to the image, the image attends to tokens.

    Args:
        transformer: ``segment_anything``'s.
        prompts: ``(P, T, C)``, both the first queries and the queries' position code.
        images: ``(P, N, C)``.
        positions: ``(N, C)``.
        key_bias: ``(P, 1, T)``, added to the attention scores wherever tokens are keys.
    """
    tokens = prompts
    for block in transformer.layers:
        if block.skip_first_layer_pe:
            tokens = attend(block.self_attn, tokens, tokens, tokens, key_bias)
        else:
            placed = tokens + prompts
            tokens = tokens + attend(block.self_attn, placed, placed, tokens, key_bias)
        tokens = block.norm1(tokens)
        tokens = tokens + tokens_to_image(block.cross_attn_token_to_image, tokens + prompts, images, positions)
        tokens = block.norm2(tokens)
        tokens = block.norm3(tokens + block.mlp(tokens))
        news = image_to_tokens(block.cross_attn_image_to_token, images, positions, tokens + prompts, tokens, key_bias)
        images = block.norm4(images + news)
    tokens = tokens + tokens_to_image(transformer.final_attn_token_to_image, tokens + prompts, images, positions)
    return transformer.norm_final_attn(tokens), images


def attend(attention: Attention, query: Tensor, key: Tensor, value: Tensor, key_bias: Tensor | None) -> Tensor:
    """Attention as ``segment_anything`` orders it.

    Args:
        attention: the projections.
        query: ``(P, L, C)``.
        key: ``(P, S, C)``.
        value: ``(P, S, C)``.
        key_bias: ``(P, 1, S)``, added to the scores.

    Returns:
        ``(P, L, C)``.
    """
    q, k = _heads(attention.q_proj(query), attention), _heads(attention.k_proj(key), attention)
    v = _heads(attention.v_proj(value), attention)
    bias = None if key_bias is None else key_bias[:, None].to(q.dtype)  # (P, 1, 1, S)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    out: Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return out


# Between a handful of tokens and thousands of positions, the products are taken in the order in which the long side is
# never projected: (q Wk) x^T instead of q (x Wk)^T, and (A x) Wv instead of A (x Wv). The position code is the same for
# all prompts, so that it alone is projected. Many tokens are attended to in the usual order.


def tokens_to_image(attention: Attention, placed: Tensor, images: Tensor, positions: Tensor) -> Tensor:
    """Cross-attention of ``(P, T, C)`` tokens, with their position code, to ``(P, N, C)`` images."""
    if is_image_projected(attention, placed):
        return attend(attention, placed, images + positions, images, None)
    scores = _scores(_heads(attention.q_proj(placed), attention), attention.k_proj, images, positions)
    seen = scores.softmax(dim=-1).flatten(1, 2) @ images  # (P, heads * T, C)
    values = _by_head(attention.v_proj.weight, attention)
    mixed = seen.unflatten(1, (attention.num_heads, -1)) @ values.transpose(1, 2)  # (P, heads, T, d)
    out: Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2) + attention.v_proj.bias)
    return out


def image_to_tokens(
    attention: Attention, images: Tensor, positions: Tensor, placed: Tensor, tokens: Tensor, key_bias: Tensor
) -> Tensor:
    """Cross-attention of ``(P, N, C)`` images to ``(P, T, C)`` tokens; ``placed``: with their position code."""
    if is_image_projected(attention, placed):
        return attend(attention, images + positions, placed, tokens, key_bias)
    scores = _scores(_heads(attention.k_proj(placed), attention), attention.q_proj, images, positions)
    weights = (scores + key_bias[..., None]).softmax(dim=2).flatten(1, 2)  # (P, heads * T, N)
    told = _heads(attention.v_proj(tokens), attention) @ _by_head(attention.out_proj.weight.t(), attention)
    news: Tensor = weights.transpose(1, 2) @ told.flatten(1, 2) + attention.out_proj.bias  # (P, N, C)
    return news


def is_image_projected(attention: Attention, tokens: Tensor) -> bool:
    """Whether ``(P, T, C)`` tokens are so many that it takes fewer products to project the image.

    With h heads of d channels, projecting to keys and values takes ``2 C h d`` products a position, and doing without
    takes ``2 C h T``. A graph holds for any number of tokens, and is made for few.
    """
    width = attention.internal_dim // attention.num_heads
    return not is_graph() and tokens.shape[1] > width


def _scores(tokens: Tensor, projection: nn.Linear, images: Tensor, positions: Tensor) -> Tensor:
    """Scaled products of projected ``(P, heads, T, d)`` tokens and ``projection(images + positions)``.

    Returns:
        ``(P, heads, T, N)``.
    """
    heads, width = tokens.shape[1], tokens.shape[-1]
    tokens = tokens * width**-0.5
    weight = projection.weight.unflatten(0, (heads, width))  # (heads, d, C)
    of_images = (tokens @ weight).flatten(1, 2) @ images.transpose(1, 2)  # (P, heads * T, N)
    placed = projection(positions).unflatten(1, (heads, width))  # (N, heads, d)
    of_positions = torch.einsum("phtd,nhd->phtn", tokens, placed)
    scores: Tensor = of_images.unflatten(1, (heads, -1)) + of_positions
    return scores


def _heads(x: Tensor, attention: Attention) -> Tensor:
    """``(P, T, heads * d)`` to ``(P, heads, T, d)``."""
    split: Tensor = x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
    return split


def _by_head(weight: Tensor, attention: Attention) -> Tensor:
    """``(heads * d, C)`` to ``(heads, d, C)``."""
    split: Tensor = weight.unflatten(0, (attention.num_heads, -1))
    return split


def mask_logits(decoder: MaskDecoder, tokens: Tensor, images: Tensor, side: int) -> Tensor:
    """Upscale the image twice and take its product with each mask token's filter.

    A transposed convolution whose stride is its kernel is a matrix product per position. The sub-pixels stay in axes of
    their own, channels last, until only the logits are left to be put in order.

    Args:
        decoder: ``segment_anything``'s.
        tokens: ``(P, K, C)``.
        images: ``(P, N, C)``.
        side: g.

    Returns:
        ``(P, K, 4 g, 4 g)``.
    """
    up1, norm, gelu, up2, _ = decoder.output_upscaling
    fine = _subpixels(images, up1.weight, up1.bias)  # (P, N, 4, C / 4)
    fine = gelu(F.layer_norm(fine, norm.weight.shape, norm.weight, norm.bias, norm.eps))
    fine = gelu(_subpixels(fine, up2.weight, up2.bias)).flatten(1, 3)  # (P, N * 16, C / 8)
    mlps = decoder.output_hypernetworks_mlps
    filters = torch.stack([mlp(tokens[:, k]) for k, mlp in enumerate(mlps)], dim=1)  # (P, K, C / 8)
    logits: Tensor = filters @ fine.transpose(1, 2)  # (P, K, N * 16)
    logits = logits.unflatten(2, (side, side, 2, 2, 2, 2))  # (P, K, y, x, dy1, dx1, dy2, dx2)
    return logits.permute(0, 1, 2, 4, 6, 3, 5, 7).flatten(5).flatten(2, 4)  # no size read: an export stays dynamic


def _subpixels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 2x2 stride-2 ``ConvTranspose2d`` on ``(..., C)`` positions: ``(..., 4, C')``, sub-pixels row by row."""
    weight = weight.permute(2, 3, 1, 0).flatten(0, 2)  # (C, C', 2, 2) to (4 * C', C)
    fine: Tensor = F.linear(x, weight, bias.repeat(4)).unflatten(-1, (4, -1))
    return fine

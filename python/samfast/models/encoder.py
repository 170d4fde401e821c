"""The one encode: SAM 1's image encoder, run over its own parameters.

The modules stay ``segment_anything``'s, so checkpoints fit; the forward pass is this file's. It computes nothing for
positions that only fill up a window: ``segment_anything`` pads with zeros behind the norm, so that their query, key and
value are the bias of the projection, known beforehand, and what they attend to is thrown away.

Letters in shape comments: B images, g embedding side, C channels, h heads, d = C / h, w window side, n windows a side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from samfast.models.attention import attend
from samfast.models.products import apply

if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT
    from segment_anything.modeling.image_encoder import Attention, Block


def encode(encoder: ImageEncoderViT, images: Tensor) -> Tensor:
    """Encode images.

    Args:
        encoder: ``segment_anything``'s.
        images: ``(B, 3, size, size)`` float32, model frame, normalised.

    Returns:
        ``(B, C', g, g)``.
    """
    x = encoder.patch_embed(images) + encoder.pos_embed  # (B, g, g, C)
    for block in encoder.blocks:
        x = x + _attention(block, block.norm1(x))
        x = x + apply(block.mlp.lin2, apply(block.mlp.lin1, block.norm2(x), gelu=True))
    embeddings: Tensor = encoder.neck(x.permute(0, 3, 1, 2))
    return embeddings


def _attention(block: Block, x: Tensor) -> Tensor:
    """``(B, g, g, C)`` to the same, within windows or over the whole image."""
    attention: Attention = block.attn
    qkv = apply(attention.qkv, x)  # (B, g, g, 3 C)
    side = x.shape[1]
    window = block.window_size or side
    windows = _split(qkv, attention.qkv(torch.zeros_like(x[0, 0, 0])), window)  # (B n n, w w, 3 C)
    query, key, value = windows.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    mixed = attend(query, key, value, attention.rel_pos_h, attention.rel_pos_w)  # (B n n, h, w w, d)
    together = _join(mixed.transpose(1, 2).flatten(2), window, side)
    return apply(attention.proj, together)


def _split(qkv: Tensor, of_nothing: Tensor, window: int) -> Tensor:
    """``(B, g, g, 3 C)`` to windows ``(B n n, w w, 3 C)``, filled up with ``of_nothing`` on the right and below."""
    side = qkv.shape[1]
    lacking = -side % window
    if lacking:
        fill = of_nothing.to(qkv.dtype).expand(qkv.shape[0], side + lacking, lacking, -1)
        qkv = torch.cat([qkv, fill[:, :side]], dim=2)
        qkv = torch.cat([qkv, fill.transpose(1, 2)], dim=1)
    split = qkv.unflatten(2, (-1, window)).unflatten(1, (-1, window))  # (B, n, w, n, w, 3 C)
    windows: Tensor = split.transpose(2, 3).flatten(3, 4).flatten(0, 2)
    return windows


def _join(windows: Tensor, window: int, side: int) -> Tensor:
    """``(B n n, w w, C)`` to ``(B, g, g, C)``, what had filled up left out."""
    count = -(-side // window)
    grid = windows.unflatten(1, (window, window)).unflatten(0, (-1, count, count))  # (B, n, n, w, w, C)
    whole: Tensor = grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (B, n w, n w, C)
    return whole[:, :side, :side]

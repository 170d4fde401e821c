"""Attention of the image encoder, in the forms that suit different machines; all of them compute the same.

Every position attends to every other of its window, or of the image. To each score are added two terms that say how
far the key lies from the query, by rows and by columns, each a product of the query and a learned table (Li et al.,
MViTv2, 2022). With N positions and d channels a head, the scores are the largest thing in the encoder; the forms differ
in whether, and where, they exist.

Letters in shape comments: B windows, h heads, N = side * side positions, d channels a head.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from samfast.models.products import is_graph, is_recorded, linear

Form = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""The signature of :func:`attend`."""

SCORES_AT_ONCE = 2**22
"""Scores that exist at a time in :func:`in_blocks`: what they take stays in the last cache of a CPU."""


def distances(query: Tensor, table_h: Tensor, table_w: Tensor) -> tuple[Tensor, Tensor]:
    """How a query takes to keys of each row and of each column of its grid: two of ``(B, h, N, side)``."""
    side = (len(table_h) + 1) // 2
    index = torch.arange(side, device=query.device)
    index = index[:, None] - index + side - 1  # (side, side), query by key
    grid = query.unflatten(2, (side, side))  # (B, h, y, x, d)
    of_rows = torch.einsum("bhyxd,ykd->bhyxk", grid, table_h[index])
    of_columns = torch.einsum("bhyxd,xkd->bhyxk", grid, table_w[index])
    return of_rows.flatten(2, 3), of_columns.flatten(2, 3)


def explicit(query: Tensor, key: Tensor, value: Tensor, table_h: Tensor, table_w: Tensor) -> Tensor:
    """All scores at once, as ``segment_anything`` has it."""
    of_rows, of_columns = distances(query, table_h, table_w)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)  # (B, h, N, N)
    side = of_rows.shape[-1]
    scores = scores.unflatten(-1, (side, side)) + of_rows[..., :, None] + of_columns[..., None, :]
    mixed: Tensor = scores.flatten(-2).softmax(dim=-1) @ value
    return mixed


def masked(query: Tensor, key: Tensor, value: Tensor, table_h: Tensor, table_w: Tensor) -> Tensor:
    """PyTorch's fused attention, the distances as its additive mask; the scores never exist, the mask does."""
    of_rows, of_columns = distances(query, table_h, table_w)
    mask = (of_rows[..., :, None] + of_columns[..., None, :]).flatten(-2)  # (B, h, N, N)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def folded(query: Tensor, key: Tensor, value: Tensor, table_h: Tensor, table_w: Tensor) -> Tensor:
    """PyTorch's fused attention without a mask: the distances join the query's channels, one-hot places the key's.

    Nothing of N x N exists, at the price of ``d + 2 side`` channels instead of d.
    """
    of_rows, of_columns = distances(query, table_h, table_w)
    side, width = of_rows.shape[-1], query.shape[-1]
    one = torch.eye(side, dtype=key.dtype, device=key.device)
    places = torch.cat([one.repeat_interleave(side, 0), one.repeat(side, 1)], dim=-1)  # (N, 2 side)
    places = places.expand(*key.shape[:2], -1, -1)
    asked = torch.cat([query * width**-0.5, of_rows, of_columns], dim=-1)
    told = F.pad(value, (0, 2 * side))
    return F.scaled_dot_product_attention(asked, torch.cat([key, places], -1), told, scale=1.0)[..., :width]


def in_blocks(query: Tensor, key: Tensor, value: Tensor, table_h: Tensor, table_w: Tensor) -> Tensor:
    """Scores of some heads and queries at a time, made and used in place. Without gradients, for CPUs.

    Large products at full speed, and none of the scores leaves the cache.
    """
    of_rows, of_columns = distances(query, table_h, table_w)
    windows, heads, positions, width = query.shape
    side = of_rows.shape[-1]
    rows = min(positions, max(1, SCORES_AT_ONCE // positions))
    together = max(1, min(heads, SCORES_AT_ONCE // (rows * positions)))
    told = value.transpose(2, 3).contiguous()  # (B, h, d, N)
    buffer = query.new_empty(together, rows, positions)
    out = query.new_empty(windows, positions, heads, width)
    for window in range(windows):
        for head in range(0, heads, together):
            some = slice(head, head + together)
            q, k, v = (x[window, some] for x in (query, key, told))
            for start in range(0, positions, rows):
                part = slice(start, start + rows)
                asked = q[:, part]
                scores = buffer[: asked.shape[0], : asked.shape[1]]
                by_row, by_column = (x[window, some, part] for x in (of_rows, of_columns))
                grid = scores.unflatten(-1, (side, side))
                torch.add(by_row[..., :, None], by_column[..., None, :], out=grid)
                scores.baddbmm_(asked, k.transpose(1, 2), alpha=width**-0.5)
                torch.softmax(scores, dim=-1, out=scores)
                out[window, part, some] = _mix(scores, v).transpose(0, 1)
    return out.transpose(1, 2)


def _mix(weights: Tensor, told: Tensor) -> Tensor:
    """``(H, n, d)``, from ``(H, n, N)`` weights and ``(H, d, N)`` values."""
    if len(weights) == 1:
        return linear(weights[0], told[0])[None]
    return weights @ told.transpose(1, 2)


FORMS: dict[tuple[str, torch.dtype], Form] = {
    ("cpu", torch.float32): in_blocks,
    ("cpu", torch.bfloat16): in_blocks,
    ("cuda", torch.float32): masked,
    ("cuda", torch.bfloat16): folded,
    ("cuda", torch.float16): folded,
}
"""The form by device type and dtype: on CPUs the fastest of those that ``benches/models.py`` measures. On GPUs they are
yet to be measured: in half precision the one without a mask."""


def attend(query: Tensor, key: Tensor, value: Tensor, table_h: Tensor, table_w: Tensor) -> Tensor:
    """Attention of positions on a square grid, in the form that suits the device.

    Args:
        query: ``(B, h, N, d)``.
        key: ``(B, h, N, d)``.
        value: ``(B, h, N, d)``.
        table_h: ``(2 side - 1, d)``, the key's row minus the query's, backwards.
        table_w: likewise of columns.

    Returns:
        ``(B, h, N, d)``.
    """
    form = FORMS.get((query.device.type, query.dtype), explicit)
    if is_graph() or (form is in_blocks and is_recorded(query, key, value, table_h, table_w)):
        form = explicit
    return form(query, key, value, table_h.to(query.dtype), table_w.to(query.dtype))

"""The oracle: segment_anything's own Sam, holding the same tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from segment_anything.modeling import Sam as OfficialSam


@pytest.fixture(autouse=True)
def _few_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def official() -> Callable[[Any], OfficialSam]:
    """``official(sam)``: segment_anything's Sam over the same modules, run by its own forward methods."""

    def wrap(sam: Any) -> OfficialSam:
        encoder = sam.image_encoder if sam.image_encoder is not None else torch.nn.Identity()
        return OfficialSam(
            encoder,
            sam.prompt_encoder,
            sam.mask_decoder,
            pixel_mean=sam.architecture.mean,
            pixel_std=sam.architecture.std,
        ).eval()

    return wrap

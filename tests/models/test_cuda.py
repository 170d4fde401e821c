"""encode and decode on a GPU against segment_anything on a CPU."""

from __future__ import annotations

import pytest
import torch

from samfast.models import attention

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device")
TOLERANCE = 1e-4
"""Sums are taken in another order than on a CPU."""


@pytest.fixture(autouse=True)
def _float32_is_float32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def relative(found, wanted):
    return float((found.float().cpu() - wanted).abs().max() / wanted.abs().max())


@pytest.fixture(scope="module")
def case(draw_model):
    sam = draw_model("tiny", seed=21)
    images = torch.randn(3, 3, sam.spec.size, sam.spec.size, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        return sam, images, sam.image_encoder(images)


@torch.inference_mode()
@pytest.mark.parametrize("form", [attention.explicit, attention.masked, attention.folded])
def test_every_form_equals_segment_anything_in_float32(case, form, monkeypatch):
    sam, images, wanted = case
    monkeypatch.setitem(attention.FORMS, ("cuda", torch.float32), form)
    found = sam.cuda().encode(images.cuda())["image_embeddings"]
    assert relative(found, wanted) < TOLERANCE
    assert relative(found.roll(1, 0), wanted) > 100 * TOLERANCE


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", [attention.explicit, attention.masked, attention.folded])
def test_half_precision_stays_as_close_as_segment_anything_does(case, form, dtype, monkeypatch):
    sam, images, wanted = case
    monkeypatch.setitem(attention.FORMS, ("cuda", dtype), form)
    sam.cuda()
    with torch.autocast("cuda", dtype=dtype):
        ours, official = sam.encode(images.cuda())["image_embeddings"], sam.image_encoder(images.cuda())
    assert 0 < relative(ours, wanted) < 2 * relative(official, wanted)


@torch.inference_mode()
@pytest.mark.parametrize("points", [1, 30])
def test_decode_equals_the_cpus(case, points):
    sam, _, embeddings = case
    generator = torch.Generator().manual_seed(5)
    asked = {
        "image_embeddings": embeddings,
        "image_index": torch.tensor([2, 0, 1, 1]),
        "coords": torch.rand(4, points + 1, 2, generator=generator) * sam.spec.size,
        "labels": torch.tensor([1, 0, 2, 3, -1, -10])[torch.randint(0, 6, (4, points + 1), generator=generator)],
        "mask": torch.randn(4, 1, sam.spec.low_res, sam.spec.low_res, generator=generator),
        "has_mask": torch.tensor([0.0, 1.0, 0.0, 1.0]),
    }
    wanted = sam.cpu().decode(**asked)
    found = sam.cuda().decode(**{name: values.cuda() for name, values in asked.items()})
    for ours, cpus in zip(found, wanted, strict=True):
        assert relative(ours, cpus) < TOLERANCE

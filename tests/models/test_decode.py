"""decode against segment_anything's own prompt encoder and mask decoder, one prompt at a time."""

import pytest
import torch

from samfast.models import decoder

TOLERANCE = 1e-5
NOTHING = -10


class Case:
    """One prompt as users say it; ``official`` and ``tokens`` are the two ways to ask it."""

    def __init__(self, image=0, points=(), labels=(), box=None, mask=None):
        self.image, self.points, self.labels, self.box, self.mask = image, points, labels, box, mask

    def official(self, oracle, embeddings):
        points = (torch.tensor([self.points]), torch.tensor([self.labels])) if self.labels else None
        sparse, dense = oracle.prompt_encoder(
            points=points,
            boxes=None if self.box is None else torch.tensor([self.box]),
            masks=None if self.mask is None else self.mask[None],
        )
        return oracle.mask_decoder.predict_masks(
            image_embeddings=embeddings[self.image : self.image + 1],
            image_pe=oracle.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )

    def tokens(self):
        coords, labels = [list(point) for point in self.points], list(self.labels)
        if self.box is not None:
            coords += [list(self.box[:2]), list(self.box[2:])]
            labels += [2, 3]
        elif self.labels:
            coords.append([0.0, 0.0])
            labels.append(-1)
        return coords, labels


def batch(cases, low_res, filler=NOTHING):
    """Lay prompts out as one ragged batch, the short ones filled up."""
    longest = max(len(case.tokens()[1]) for case in cases)
    coords, labels = torch.zeros(len(cases), longest, 2), torch.full((len(cases), longest), filler)
    mask, has_mask = torch.zeros(len(cases), 1, low_res, low_res), torch.zeros(len(cases))
    for row, case in enumerate(cases):
        xy, meaning = case.tokens()
        if meaning:
            coords[row, : len(meaning)], labels[row, : len(meaning)] = torch.tensor(xy), torch.tensor(meaning)
        if case.mask is not None:
            mask[row], has_mask[row] = case.mask, 1.0
    return {
        "image_index": torch.tensor([case.image for case in cases]),
        "coords": coords,
        "labels": labels,
        "mask": mask,
        "has_mask": has_mask,
    }


def cases_for(architecture):
    """Every kind of prompt, on three images."""
    size, low_res = architecture.image_size, architecture.low_res
    generator = torch.Generator().manual_seed(5)

    def points(count):
        return (torch.rand(count, 2, generator=generator) * size).tolist()

    def box():
        low, high = torch.rand(2, 2, generator=generator).sort(dim=0).values * size
        return [*low.tolist(), *high.tolist()]

    def mask():
        return torch.randn(1, low_res, low_res, generator=generator) * 4

    return {
        "one point": Case(0, points(1), [1]),
        "one negative": Case(1, points(1), [0]),
        "points with negatives": Case(2, points(5), [1, 0, 1, 0, 0]),
        "box": Case(1, box=box()),
        "point and box": Case(0, points(1), [1], box=box()),
        "points and box": Case(2, points(3), [0, 1, 1], box=box()),
        "mask": Case(1, mask=mask()),
        "point and mask": Case(2, points(1), [1], mask=mask()),
        "box and mask": Case(0, box=box(), mask=mask()),
        "corners of the frame": Case(0, [[0.0, 0.0], [size - 1.0, size - 1.0]], [1, 1]),
        "many points": Case(1, points(30), [1, 0, 1] * 10),
    }


KINDS = [
    "one point",
    "one negative",
    "points with negatives",
    "box",
    "point and box",
    "points and box",
    "mask",
    "point and mask",
    "box and mask",
    "corners of the frame",
    "many points",
]


@pytest.fixture(scope="module", params=["tiny", "vit_b"])
def world(request, draw_model, official):
    """A drawn decoder, three embeddings, and every kind of prompt with the oracle's answer."""
    sam = draw_model(request.param, seed=3, decoder_only=True)
    shape = sam.architecture
    embeddings = torch.randn(
        3, shape.prompt_dim, shape.embedding, shape.embedding, generator=torch.Generator().manual_seed(1)
    )
    oracle, cases = official(sam), cases_for(shape)
    with torch.no_grad():
        for case in cases.values():
            case.answer = case.official(oracle, embeddings)
    return sam, embeddings, cases


@torch.no_grad()
def largest_difference(world, cases, **changes):
    sam, embeddings, _ = world
    asked = batch(cases, sam.architecture.low_res, filler=changes.pop("filler", NOTHING)) | changes
    logits, ious = sam.decode(embeddings, **asked)
    wanted_logits, wanted_ious = (torch.cat(parts) for parts in zip(*(case.answer for case in cases), strict=True))
    assert logits.shape == wanted_logits.shape
    assert wanted_logits.std() > 0.1  # an oracle that says nothing would agree with anything
    scale = max(1.0, float(wanted_logits.abs().max()))
    return max(float((logits - wanted_logits).abs().max()) / scale, float((ious - wanted_ious).abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_prompt_equals_segment_anything(world, kind):
    assert largest_difference(world, [world[2][kind]]) < TOLERANCE


@pytest.fixture(params=["projected", "reassociated", "as shipped"])
def order(request, monkeypatch):
    """How tokens and image attend to each other, whatever their number."""
    if request.param != "as shipped":
        monkeypatch.setattr(decoder, "is_image_projected", lambda *_: request.param == "projected")


@pytest.mark.usefixtures("order")
def test_ragged_batch_over_several_images_equals_segment_anything(world):
    assert largest_difference(world, list(world[2].values())) < TOLERANCE


def test_many_tokens_project_the_image_and_few_do_not(world, monkeypatch):
    sam, _, cases = world
    lengths = []
    attend = decoder.attend

    def spy(attention, query, key, value, bias):
        lengths.append(max(query.shape[1], key.shape[1]))
        return attend(attention, query, key, value, bias)

    monkeypatch.setattr(decoder, "attend", spy)
    positions = sam.spec.embedding**2
    largest_difference(world, [cases["box"]])
    assert lengths == [7, 7]
    largest_difference(world, [cases["many points"]])
    assert lengths.count(positions) == 5


def test_a_neighbours_embedding_is_noticed(world):
    cases = list(world[2].values())
    neighbours = torch.tensor([(case.image + 1) % 3 for case in cases])
    assert largest_difference(world, cases, image_index=neighbours) > 100 * TOLERANCE


def test_padding_with_sams_own_pad_token_is_noticed(world):
    assert largest_difference(world, list(world[2].values()), filler=-1) > 100 * TOLERANCE


def test_has_mask_decides_and_not_the_values(world):
    sam, embeddings, cases = world
    asked = batch([cases["one point"], cases["box"]], sam.architecture.low_res)
    with torch.no_grad():
        plain, _ = sam.decode(embeddings, **asked)
        noise, _ = sam.decode(embeddings, **asked | {"mask": torch.randn_like(asked["mask"])})
        absent, _ = sam.decode(embeddings, **asked | {"mask": None, "has_mask": None})
        used, _ = sam.decode(embeddings, **asked | {"has_mask": torch.ones(2)})
    assert torch.equal(plain, noise)
    assert torch.allclose(plain, absent, atol=1e-6)
    assert not torch.allclose(plain, used, atol=1e-2)


def test_every_decoder_parameter_gets_a_gradient(draw_model):
    sam = draw_model("tiny", seed=4, decoder_only=True)
    asked = batch(list(cases_for(sam.architecture).values()), sam.architecture.low_res)
    embeddings = torch.randn(3, sam.architecture.prompt_dim, sam.architecture.embedding, sam.architecture.embedding)
    logits, ious = sam.decode(embeddings, **asked)
    (logits.square().mean() + ious.sum()).backward()
    # The bias of a key projection shifts all scores of a query alike: softmax is blind to it.
    silent = [name for name, p in sam.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert [name for name in silent if not name.endswith("k_proj.bias")] == []


@pytest.mark.usefixtures("order")
def test_gradients_equal_segment_anythings(draw_model, official):
    sam = draw_model("tiny", seed=5, decoder_only=True)
    oracle = official(sam)
    cases = list(cases_for(sam.architecture).values())
    shape = sam.architecture
    embeddings = torch.randn(3, shape.prompt_dim, shape.embedding, shape.embedding)
    gradients = []
    for road in ("ours", "official"):
        sam.zero_grad()
        if road == "ours":
            logits, ious = sam.decode(embeddings, **batch(cases, shape.low_res))
        else:
            logits, ious = (
                torch.cat(parts) for parts in zip(*(case.official(oracle, embeddings) for case in cases), strict=True)
            )
        (logits.tanh().mean() + ious.tanh().mean()).backward()
        gradients.append({name: p.grad.clone() for name, p in sam.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, wanted in gradients[1].items():
        assert torch.allclose(gradients[0][name], wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()) + 1e-7), name


def test_no_prompts_are_no_masks(world):
    sam, embeddings, cases = world
    asked = {name: values[:0] for name, values in batch([cases["box"]], sam.architecture.low_res).items()}
    logits, ious = sam.decode(embeddings, **asked)
    assert logits.shape == (0, 4, sam.spec.low_res, sam.spec.low_res)
    assert ious.shape == (0, 4)


def test_autocast_stays_close_and_trains(draw_model):
    sam = draw_model("tiny", seed=6, decoder_only=True)
    shape = sam.architecture
    embeddings = torch.randn(3, shape.prompt_dim, shape.embedding, shape.embedding)
    asked = batch(list(cases_for(shape).values()), shape.low_res)
    exact = sam.decode(embeddings, **asked)[0].detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, ious = sam.decode(embeddings, **asked)
    assert float((rough.detach().float() - exact).abs().mean()) < 0.05 * float(exact.abs().mean())
    (rough.float().mean() + ious.float().mean()).backward()
    assert all(p.grad.isfinite().all() for p in sam.parameters() if p.grad is not None)

"""decode leaves as a graph: exported with free numbers of images, prompts and tokens, and traced."""

import pytest
import torch


class Decoder(torch.nn.Module):
    """decode as a forward."""

    def __init__(self, sam):
        super().__init__()
        self.sam = sam

    def forward(self, image_embeddings, image_index, coords, labels, mask, has_mask):
        return self.sam.decode(image_embeddings, image_index, coords, labels, mask, has_mask)


def inputs(shape, images, prompts, tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(size, generator=generator)

    return (
        normal(images, shape.prompt_dim, shape.embedding, shape.embedding),
        torch.randint(0, images, (prompts,), generator=generator),
        torch.rand(prompts, tokens, 2, generator=generator) * shape.image_size,
        torch.tensor([1, 0, 2, 3, -1, -10])[torch.randint(0, 6, (prompts, tokens), generator=generator)],
        normal(prompts, 1, shape.low_res, shape.low_res),
        torch.arange(prompts).remainder(2).float(),
    )


@pytest.fixture(scope="module")
def decoder(draw_model):
    return Decoder(draw_model("tiny", seed=8, decoder_only=True)).requires_grad_(False)


SIZES = [(1, 1, 2), (2, 5, 3), (3, 4, 9), (2, 2, 30)]


def test_torch_export_with_free_sizes(decoder):
    shape = decoder.sam.architecture
    images, prompts, tokens = (torch.export.Dim(name, min=1, max=512) for name in ("images", "prompts", "tokens"))
    sizes = ({0: images}, {0: prompts}, {0: prompts, 1: tokens}, {0: prompts, 1: tokens}, {0: prompts}, {0: prompts})
    program = torch.export.export(decoder, inputs(shape, 2, 3, 4), dynamic_shapes=sizes).module()
    for size in SIZES:
        given = inputs(shape, *size)
        for found, wanted in zip(program(*given), decoder(*given), strict=True):
            assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_tracing_bakes_nothing_in(decoder):
    shape = decoder.sam.architecture
    traced = torch.jit.trace(decoder, inputs(shape, 2, 3, 4), check_trace=False)
    for size in SIZES:
        given = inputs(shape, *size, seed=1)
        for found, wanted in zip(traced(*given), decoder(*given), strict=True):
            assert torch.allclose(found, wanted, atol=1e-5)

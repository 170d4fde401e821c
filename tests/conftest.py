"""Fixtures that several rooms share."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TABLES = re.compile(r"(_embed|_token|_tokens|point_embeddings\.\d)\.weight$|pos_embed$|rel_pos_[hw]$")
NORMS = re.compile(r"norm|neck\.[13]|mask_downscaling\.[14]|output_upscaling\.1")
BENCHES = Path(__file__).resolve().parents[1] / "benches"
REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets beside the repository."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"REAL DATA ABSENT: {REAL_DATA} does not exist, so nothing is proven on real images here")
    return REAL_DATA


@pytest.fixture(scope="module")
def benches_are_importable() -> Iterator[None]:
    """The benchmarks' modules, as a script that lies beside them sees them."""
    sys.path.insert(0, str(BENCHES))
    yield
    sys.path.remove(str(BENCHES))


@pytest.fixture(scope="session")
def draw_model() -> Callable:
    """``draw_model(name, seed=0, decoder_only=False)``: a Sam with every parameter and buffer drawn.

    ``segment_anything`` initialises its position tables to zero, which would hide whatever goes wrong with them.
    """
    import torch

    from samfast.models.architecture import get_architecture
    from samfast.models.sam import Sam, empty_sam

    def draw(name: str, seed: int = 0, *, decoder_only: bool = False) -> Sam:
        sam = empty_sam(get_architecture(name), decoder_only=decoder_only)
        generator = torch.Generator().manual_seed(seed)
        for key, tensor in sorted(sam.state_dict().items()):
            noise = torch.randn(tensor.shape, generator=generator)
            if key.endswith("gaussian_matrix"):
                tensor.copy_(noise)
            elif TABLES.search(key):
                tensor.copy_(0.3 * noise)
            elif tensor.ndim >= 2:
                # A transposed convolution's inputs are its first axis.
                inputs = len(tensor) if "output_upscaling" in key else tensor[0].numel()
                tensor.copy_(noise * inputs**-0.5)
            else:
                is_scale = NORMS.search(key) and key.endswith("weight")
                tensor.copy_(0.2 * noise + (1.0 if is_scale else 0.0))
        return sam

    return draw


@pytest.fixture(scope="session")
def official_checkpoint(tmp_path_factory: pytest.TempPathFactory, draw_model: Callable) -> Callable[..., Path]:
    """``official_checkpoint(name, seed=0)``: the path of a drawn model in the format of the official ``.pth`` files."""
    import torch

    folder = tmp_path_factory.mktemp("checkpoints")

    def write(name: str, seed: int = 0) -> Path:
        path = folder / f"sam_{name}_{seed}.pth"
        if not path.exists():
            torch.save(draw_model(name, seed).state_dict(), path)
        return path

    return write

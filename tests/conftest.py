"""Fixtures that several rooms share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets beside the repository."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"REAL DATA ABSENT: {REAL_DATA} does not exist, so nothing is proven on real images here")
    return REAL_DATA


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
            is_table = any(part in key for part in ("embed", "token", "rel_pos", "gaussian"))
            if "gaussian" in key or (is_table and "patch_embed" not in key):
                scale, shift = (1.0, 0.0) if "gaussian" in key else (0.3, 0.0)
            elif tensor.ndim >= 2:
                fan_in = tensor.shape[0] if "output_upscaling" in key else tensor[0].numel()
                scale, shift = fan_in**-0.5, 0.0
            else:
                scale, shift = 0.2, float("norm" in key or key.endswith(("neck.1.weight", "neck.3.weight")))
                if key.endswith("bias"):
                    shift = 0.0
            tensor.copy_(noise * scale + shift)
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

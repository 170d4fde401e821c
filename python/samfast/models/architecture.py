"""The shapes of the models samfast knows: a table, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from samfast.errors import ConfigError
from samfast.frames import PreprocessSpec

ADAPTER = "sam1/1"
"""Family and version of the code that encodes: part of a cache's fingerprint, raised when its output changes by more
than rounding."""


@dataclass(frozen=True)
class Architecture:
    """The shape of one SAM 1 model (Kirillov et al., Segment Anything, 2023).

    Attributes:
        name: as users write it.
        image_size: side of the square model input, in pixels.
        patch_size: side of one patch, in pixels.
        encoder_dim: width of the image encoder.
        encoder_depth: its transformer blocks.
        encoder_heads: attention heads of each block.
        encoder_global_layers: blocks that attend over the whole image; the others attend within windows.
        encoder_window: side of a window, in patches.
        prompt_dim: channels of the embedding, the prompt tokens and the decoder.
        decoder_mlp_dim: hidden width of the decoder's token MLPs.
        decoder_heads: attention heads of the decoder.
        iou_head_depth: layers of the head that predicts each mask's IoU.
        iou_head_dim: its hidden width.
        mask_channels: hidden channels of the mask prompt's encoder.
        mean: per-channel mean of RGB values in [0, 255].
        std: per-channel divisor after the mean.
    """

    name: str
    image_size: int
    patch_size: int
    encoder_dim: int
    encoder_depth: int
    encoder_heads: int
    encoder_global_layers: tuple[int, ...]
    encoder_window: int
    prompt_dim: int
    decoder_mlp_dim: int
    decoder_heads: int = 8
    iou_head_depth: int = 3
    iou_head_dim: int = 256
    mask_channels: int = 16
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    @property
    def embedding(self) -> int:
        """Side of the embedding grid, in patches."""
        return self.image_size // self.patch_size

    @property
    def low_res(self) -> int:
        """Side of the logits: the decoder doubles the embedding grid twice."""
        return 4 * self.embedding

    @property
    def spec(self) -> PreprocessSpec:
        """How images reach this model, and the geometry of what comes out."""
        return PreprocessSpec(self.image_size, self.embedding, self.low_res, self.mean, self.std)


def _official(name: str, dim: int, depth: int, heads: int, global_layers: tuple[int, ...]) -> Architecture:
    return Architecture(name, 1024, 16, dim, depth, heads, global_layers, 14, 256, 2048)


ARCHITECTURES = {
    row.name: row
    for row in (
        Architecture("tiny", 256, 8, 160, 6, 5, (2, 5), 8, 128, 512, iou_head_dim=128),
        _official("vit_b", 768, 12, 12, (2, 5, 8, 11)),
        _official("vit_l", 1024, 24, 16, (5, 11, 17, 23)),
        _official("vit_h", 1280, 32, 16, (7, 15, 23, 31)),
    )
}

MODEL_NAMES = ("tiny", "vit_b", "vit_l", "vit_h")

OFFICIAL_FILES = {
    "vit_b": "sam_vit_b_01ec64.pth",
    "vit_l": "sam_vit_l_0b3195.pth",
    "vit_h": "sam_vit_h_4b8939.pth",
}
"""The names under which the authors of segment_anything publish their checkpoints."""


def get_architecture(name: str) -> Architecture:
    """The row of ``name``.

    >>> get_architecture("vit_b").spec.low_res
    256

    Raises:
        ConfigError: there is no such model.
    """
    if name not in ARCHITECTURES:
        raise ConfigError(f"there is no model {name!r}", where="model", fix=f"choose one of {', '.join(MODEL_NAMES)}")
    return ARCHITECTURES[name]

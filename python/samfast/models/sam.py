"""SAM 1 as one module: ``segment_anything``'s own classes, encode, and the one decode."""

from __future__ import annotations

from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import Tensor, nn

from samfast.errors import ConfigError
from samfast.models.architecture import ADAPTER, Architecture
from samfast.models.decoder import decode
from samfast.models.encoder import encode

ENCODER_DIMS_PER_MLP = 4
MASK_TOKENS = 4
"""Of the official models: token 0, and three for prompts that may mean several objects."""
DECODER_DEPTH = 2


class Sam(nn.Module):
    """A SAM 1 model, of the shape its architecture says, with parameters named as in the official checkpoints.

    Attributes:
        architecture: the shape.
        name: the architecture's name.
        spec: how images reach the model.
        adapter: family and version of ``encode``.
        image_encoder: ``segment_anything``'s ``ImageEncoderViT``, None in a decoder-only model.
        prompt_encoder: ``segment_anything``'s ``PromptEncoder``.
        mask_decoder: ``segment_anything``'s ``MaskDecoder``.

    Args:
        architecture: the shape.
        decoder_only: leave the image encoder out.
        mask_tokens: of the mask decoder; another number than the official models' is one token for each class.
    """

    adapter = ADAPTER

    def __init__(
        self, architecture: Architecture, *, decoder_only: bool = False, mask_tokens: int = MASK_TOKENS
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.name = architecture.name
        self.spec = architecture.spec
        self.image_encoder = None if decoder_only else _image_encoder(architecture)
        self.prompt_encoder = PromptEncoder(
            embed_dim=architecture.prompt_dim,
            image_embedding_size=(architecture.embedding, architecture.embedding),
            input_image_size=(architecture.image_size, architecture.image_size),
            mask_in_chans=architecture.mask_channels,
        )
        self.mask_decoder = MaskDecoder(
            num_multimask_outputs=mask_tokens - 1,
            transformer=TwoWayTransformer(
                depth=DECODER_DEPTH,
                embedding_dim=architecture.prompt_dim,
                mlp_dim=architecture.decoder_mlp_dim,
                num_heads=architecture.decoder_heads,
            ),
            transformer_dim=architecture.prompt_dim,
            iou_head_depth=architecture.iou_head_depth,
            iou_head_hidden_dim=architecture.iou_head_dim,
        )

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        """Encode preprocessed images.

        Args:
            images: ``(B, 3, size, size)`` float32, model frame, as ``PreprocessSpec.preprocess`` makes them.

        Returns:
            ``{"image_embeddings": (B, C, g, g)}``.

        Raises:
            ConfigError: this model is decoder-only.
        """
        if self.image_encoder is None:
            raise ConfigError(f"this {self.name} is decoder-only: it decodes cached embeddings, and encodes no images")
        return {"image_embeddings": encode(self.image_encoder, images)}

    def decode(
        self,
        image_embeddings: Tensor,
        image_index: Tensor,
        coords: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        has_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode ``P`` prompts on ``I`` images; differentiable, exportable, equal to ``segment_anything`` per prompt.

        Args:
            image_embeddings: ``(I, C, g, g)``.
            image_index: ``(P,)`` int64, the image each prompt is about.
            coords: ``(P, M, 2)`` float32 (x, y), model frame, pixel indices (half a pixel is added here).
            labels: ``(P, M)`` int64: 1, 0 points; 2, 3 box corners; -1 SAM's pad token; -10 nothing, masked out.
            mask: ``(P, 1, low_res, low_res)`` float logits; None where no prompt has one.
            has_mask: ``(P,)``, not 0 where ``mask`` is a prompt; None with ``mask``.

        Returns:
            ``(P, K, low_res, low_res)`` logits and ``(P, K)`` predicted IoU of the ``K`` mask tokens, 4 in official
            models.
        """
        return decode(
            self.prompt_encoder,
            self.mask_decoder,
            image_embeddings=image_embeddings,
            image_index=image_index,
            coords=coords,
            labels=labels,
            mask=mask,
            has_mask=has_mask,
        )

    def encoder_state(self) -> dict[str, Tensor]:
        """Every parameter and buffer that :meth:`encode` reads, by name, sorted.

        Raises:
            ConfigError: this model is decoder-only.
        """
        if self.image_encoder is None:
            raise ConfigError(f"this {self.name} is decoder-only: it has no encoder to describe")
        return _tensors(self, ("image_encoder.",))

    def decoder_state(self) -> dict[str, Tensor]:
        """Every parameter and buffer that :meth:`decode` reads, by name, sorted."""
        return _tensors(self, ("mask_decoder.", "prompt_encoder."))


def _image_encoder(architecture: Architecture) -> ImageEncoderViT:
    return ImageEncoderViT(
        img_size=architecture.image_size,
        patch_size=architecture.patch_size,
        embed_dim=architecture.encoder_dim,
        depth=architecture.encoder_depth,
        num_heads=architecture.encoder_heads,
        mlp_ratio=ENCODER_DIMS_PER_MLP,
        out_chans=architecture.prompt_dim,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=architecture.encoder_window,
        global_attn_indexes=architecture.encoder_global_layers,
    )


def _tensors(module: nn.Module, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """Parameters and buffers below ``prefixes``, those left out of ``state_dict`` included."""
    named: dict[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: named[name].detach() for name in sorted(named) if name.startswith(prefixes)}


def empty_sam(architecture: Architecture, *, decoder_only: bool = False, mask_tokens: int = MASK_TOKENS) -> Sam:
    """A model whose parameters hold no values yet: made without the seconds that drawing them costs."""
    with torch.device("meta"):
        model = Sam(architecture, decoder_only=decoder_only, mask_tokens=mask_tokens)
    return model.to_empty(device="cpu").eval()

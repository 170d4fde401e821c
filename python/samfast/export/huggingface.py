"""A model as ``transformers`` has it: a folder that ``SamModel.from_pretrained`` and ``SamProcessor`` load."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from samfast.errors import ExportError, RuntimeUnavailableError
from samfast.export.card import model_card
from samfast.export.folder import check_free, whole_folder
from samfast.export.source import open_source
from samfast.models.architecture import Architecture
from samfast.models.sam import Sam
from samfast.progress import say
from samfast.train.run import Run

FILES = ("config.json", "model.safetensors", "processor_config.json", "preprocessor_config.json", "README.md")
"""What a folder may hold."""

_RENAMED = (
    (r"^image_encoder\.patch_embed\.proj", "vision_encoder.patch_embed.projection"),
    (r"^image_encoder\.blocks\.(\d+)\.norm([12])", r"vision_encoder.layers.\1.layer_norm\2"),
    (r"^image_encoder\.blocks", "vision_encoder.layers"),
    (r"^image_encoder\.neck\.0", "vision_encoder.neck.conv1"),
    (r"^image_encoder\.neck\.1", "vision_encoder.neck.layer_norm1"),
    (r"^image_encoder\.neck\.2", "vision_encoder.neck.conv2"),
    (r"^image_encoder\.neck\.3", "vision_encoder.neck.layer_norm2"),
    (r"^image_encoder", "vision_encoder"),
    (r"^prompt_encoder\.point_embeddings", "prompt_encoder.point_embed"),
    (r"^prompt_encoder\.mask_downscaling\.0", "prompt_encoder.mask_embed.conv1"),
    (r"^prompt_encoder\.mask_downscaling\.1", "prompt_encoder.mask_embed.layer_norm1"),
    (r"^prompt_encoder\.mask_downscaling\.3", "prompt_encoder.mask_embed.conv2"),
    (r"^prompt_encoder\.mask_downscaling\.4", "prompt_encoder.mask_embed.layer_norm2"),
    (r"^prompt_encoder\.mask_downscaling\.6", "prompt_encoder.mask_embed.conv3"),
    (r"^mask_decoder\.transformer\.layers\.(\d+)\.norm", r"mask_decoder.transformer.layers.\1.layer_norm"),
    (r"^mask_decoder\.transformer\.norm_final_attn", "mask_decoder.transformer.layer_norm_final_attn"),
    (r"^mask_decoder\.output_upscaling\.0", "mask_decoder.upscale_conv1"),
    (r"^mask_decoder\.output_upscaling\.1", "mask_decoder.upscale_layer_norm"),
    (r"^mask_decoder\.output_upscaling\.3", "mask_decoder.upscale_conv2"),
)
"""``segment_anything``'s names as ``transformers`` spells them: the first pattern that fits."""
_HEADS = re.compile(r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.(\d+)\.(.*)")


def export_huggingface(
    model: Run | Sam | str | Path,
    *,
    out: str | Path | None = None,
    checkpoint: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model as a folder for Hugging Face's ``transformers``, with its processor and a model card.

    ``SamModel.from_pretrained(folder)`` and ``SamProcessor.from_pretrained(folder)`` load it, and
    ``push_to_hub`` of either publishes it.

    Args:
        model: a run or its folder; the name of a model; or a loaded model.
        out: the folder; ``NAME-hf`` beside the run, or in the working directory, by default.
        checkpoint: of the base model; for a run, the one it was started with by default.
        overwrite: replace a folder that is there.

    Returns:
        the folder.

    Raises:
        ConfigError: there is no such model, it is decoder-only, or it is one that is asked without prompts.
        RunError: there is no such run, or it has no weights.
        CheckpointError: the base model's checkpoint is missing, damaged, or not the one the run was trained on.
        OutputExistsError: ``out`` exists.
        RuntimeUnavailableError: ``transformers`` is not installed.
        ExportError: the disk is full.
    """
    library = _import_library()
    if out is not None:
        check_free(Path(out).expanduser(), files=FILES, overwrite=overwrite)
    source = open_source(model, checkpoint)
    source.require_official()
    path = source.place(out, "-hf")
    sam = source.sam
    found = library.SamModel(_config(library, sam.architecture))
    try:
        found.load_state_dict(renamed(sam.state_dict(), heads=sam.architecture.iou_head_depth))
    except RuntimeError as error:
        raise ExportError(f"transformers' SamModel takes other weights: {error}", where=path) from None
    with whole_folder(path, files=FILES, overwrite=overwrite) as folder:
        found.save_pretrained(folder)
        library.SamProcessor(_image_processor(library, sam)).save_pretrained(folder)
        (folder / "README.md").write_text(model_card(source), encoding="utf-8")
    say(f"exported {path}")
    return path


def renamed(state: dict[str, Tensor], *, heads: int) -> dict[str, Tensor]:
    """A state dict under ``transformers``' names.

    Args:
        state: with ``segment_anything``'s names.
        heads: layers of each head: ``transformers`` names the first and the last apart.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if name == "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix":
            found["shared_image_embedding.positional_embedding"] = value
            found["prompt_encoder.shared_embedding.positional_embedding"] = value
        elif head := _HEADS.match(name):
            number = int(head[2])
            layer = "proj_in" if number == 0 else "proj_out" if number == heads - 1 else f"layers.{number - 1}"
            found[f"{head[1]}.{layer}.{head[3]}"] = value
        else:
            new = next((re.sub(old, to, name) for old, to in _RENAMED if re.search(old, name)), name)
            found[new] = value
    return found


def _config(library: Any, shape: Architecture) -> Any:
    side, patch = shape.image_size, shape.patch_size
    return library.SamConfig(
        vision_config={
            "hidden_size": shape.encoder_dim,
            "output_channels": shape.prompt_dim,
            "num_hidden_layers": shape.encoder_depth,
            "num_attention_heads": shape.encoder_heads,
            "image_size": side,
            "patch_size": patch,
            "window_size": shape.encoder_window,
            "global_attn_indexes": list(shape.encoder_global_layers),
            "num_pos_feats": shape.prompt_dim // 2,
            "mlp_dim": 4 * shape.encoder_dim,
        },
        prompt_encoder_config={
            "hidden_size": shape.prompt_dim,
            "image_size": side,
            "patch_size": patch,
            "mask_input_channels": shape.mask_channels,
        },
        mask_decoder_config={
            "hidden_size": shape.prompt_dim,
            "mlp_dim": shape.decoder_mlp_dim,
            "num_attention_heads": shape.decoder_heads,
            "iou_head_depth": shape.iou_head_depth,
            "iou_head_hidden_dim": shape.iou_head_dim,
        },
    )


def _image_processor(library: Any, sam: Sam) -> Any:
    spec = sam.spec
    return library.SamImageProcessor(
        size={"longest_edge": spec.size},
        pad_size={"height": spec.size, "width": spec.size},
        mask_size={"longest_edge": spec.low_res},
        mask_pad_size={"height": spec.low_res, "width": spec.low_res},
        image_mean=[value / 255 for value in spec.mean],
        image_std=[value / 255 for value in spec.std],
    )


def _import_library() -> Any:
    try:
        import transformers
    except ImportError:
        raise RuntimeUnavailableError(
            "transformers is not installed", where="export", fix="pip install 'samfast[hf]'"
        ) from None
    return transformers

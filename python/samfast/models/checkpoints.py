"""Checkpoints: what a file holds is established before anything is loaded from it."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from samfast.errors import CheckpointError
from samfast.models.architecture import ARCHITECTURES, OFFICIAL_FILES, Architecture, get_architecture
from samfast.models.sam import MASK_TOKENS, Sam, empty_sam

SHIPPED = "tiny.safetensors"

_STRANGERS = (
    (r"vision_encoder\.|shared_image_embedding", "a Hugging Face transformers SAM checkpoint"),
    (r"mask_decoder\.(hf_token|hf_mlp|compress_vit_feat|embedding_maskfeature)", "an HQ-SAM checkpoint"),
    (r"detector\.|tracker\.", "a SAM 3 checkpoint"),
    (r"image_encoder\.trunk\.|memory_attention\.|memory_encoder\.|sam_mask_decoder\.", "a SAM 2 checkpoint"),
    (r"image_encoder\.(layers\.|patch_embed\.seq)", "a MobileSAM checkpoint"),
    (r"image_encoder\.blocks\.\d+\.Adapter", "a SAM-Med2D checkpoint (adapters in the encoder)"),
    (r".*\b(lora_|linear_a_|linear_b_|w_a_)", "a LoRA checkpoint; its updates must be merged into the weights"),
    (r"image_encoder\.(backbone|stages|stem)", "a SAM with another image encoder (EdgeSAM, EfficientViT-SAM)"),
)
"""How the state dicts of SAM's relatives are told by the names of their tensors."""


def load_model(name: str, *, checkpoint: str | Path | None = None) -> Sam:
    """Load a model.

    Args:
        name: one of :data:`~samfast.models.architecture.MODEL_NAMES`.
        checkpoint: an official ``.pth`` (or one whose tensors bear the same names: MedSAM, fine-tuned SAM 1), also
            wrapped as ``{"model": ...}``, or the same names as ``.safetensors``. ``tiny`` comes with the package.

    Returns:
        the model on the CPU, float32, in eval mode.

    Raises:
        ConfigError: there is no such model.
        CheckpointError: the file is missing, unreadable, damaged, or holds another model; it says which.
    """
    architecture = get_architecture(name)
    if checkpoint is not None:
        path = Path(checkpoint).expanduser()
        return _build(architecture, _find_state(read_checkpoint(path), path), where=path)
    if name in OFFICIAL_FILES:
        raise CheckpointError(
            f"{name} needs its checkpoint file, which samfast neither ships nor downloads",
            where="checkpoint",
            fix=f"download {OFFICIAL_FILES[name]} from the segment-anything project's model checkpoints"
            " (github.com/facebookresearch/segment-anything) and pass its path as checkpoint= or --checkpoint",
        )
    shipped = resources.files("samfast.models").joinpath(SHIPPED)
    if not shipped.is_file():
        raise CheckpointError(
            f"this installation lacks the weights of {name}",
            where=SHIPPED,
            fix="reinstall samfast, or pass checkpoint=",
        )
    with resources.as_file(shipped) as path:
        return _build(architecture, read_checkpoint(path), where=path)


def decoder_only(
    name: str, state: Mapping[str, Tensor], *, where: str | Path | None = None, mask_tokens: int = MASK_TOKENS
) -> Sam:
    """A model without an image encoder.

    Args:
        name: of the architecture.
        state: ``prompt_encoder.*`` and ``mask_decoder.*``, as :meth:`Sam.decoder_state` gives them.
        where: the file they come from, for error messages.
        mask_tokens: of the mask decoder.

    Raises:
        ConfigError: there is no such model.
        CheckpointError: the tensors are not exactly those of this decoder.
    """
    model = empty_sam(get_architecture(name), decoder_only=True, mask_tokens=mask_tokens)
    return _filled(model, state, where=where)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a ``.pth`` or ``.safetensors`` file, told apart by content, running no code from it.

    Raises:
        CheckpointError: missing, a folder, truncated, of another format, or in need of code to load.
    """
    if path.is_dir():
        raise CheckpointError("the checkpoint is a folder", where=path, fix="pass the .pth or .safetensors file in it")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise CheckpointError("there is no such checkpoint", where=path, fix="check the path") from None
    except OSError as error:
        raise CheckpointError(f"the checkpoint cannot be read: {error.strerror}", where=path) from None
    if len(head) > 8 and head[8:9] == b"{":
        return _read_safetensors(path)
    if head.startswith(b"PK\x03\x04"):
        return _read_torch_zip(path)
    if head.startswith(b"\x80"):
        return _read_pickle(path, mmap=False)
    raise CheckpointError(
        "this is neither a PyTorch nor a safetensors file" if head else "the checkpoint is an empty file",
        where=path,
        fix="download it again; a saved web page instead of the file is the usual cause",
    )


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(load_file(path))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"the safetensors file is damaged: {error}", where=path, fix=_AGAIN) from None


def _read_torch_zip(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"the checkpoint is truncated: it ends after {path.stat().st_size} bytes", where=path, fix=_AGAIN
        )
    with zipfile.ZipFile(path) as archive:
        members = {name.rpartition("/")[2] for name in archive.namelist()}
    if "data.pkl" not in members:
        raise CheckpointError("this is a zip archive, but not a PyTorch checkpoint", where=path, fix="unpack it first")
    if "constants.pkl" in members:
        raise CheckpointError("this is a TorchScript program, not a checkpoint", where=path, fix=_RESAVE)
    return _read_pickle(path, mmap=True)


def _read_pickle(path: Path, *, mmap: bool) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if re.search(r"unsupported|global", str(error), re.IGNORECASE):
            raise CheckpointError(
                "the checkpoint holds Python objects beside tensors; loading them would run code from the file",
                where=path,
                fix=_RESAVE,
            ) from None
        raise CheckpointError("the checkpoint is damaged or not a PyTorch file", where=path, fix=_AGAIN) from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"the checkpoint is damaged: {reason}", where=path, fix=_AGAIN) from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"the checkpoint holds a {type(content).__name__}, not named tensors", where=path, fix=_RESAVE
        )
    return content


_IGNORED = {"pixel_mean", "pixel_std"}
"""Constants of ``segment_anything``'s ``Sam`` that some programs save; the spec holds them."""
_SAM1 = f"samfast loads SAM 1 checkpoints: {', '.join(OFFICIAL_FILES.values())}, and fine-tuned ones of the same names"
_ANCHOR = "mask_decoder.iou_token.weight"
_AGAIN = "download or copy the file again"
_RESAVE = "in the program that made it, save the weights alone: torch.save(model.state_dict(), path)"


def _find_state(content: Mapping[str, Any], where: Path) -> dict[str, Tensor]:
    """The state dict in a file's content: the content itself, or what training scripts wrap it in."""
    for wrapper in ("model", "state_dict", "model_state_dict"):
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not state:
        keys = ", ".join(str(key) for key in list(content)[:5]) or "nothing"
        raise CheckpointError(f"the checkpoint holds no named tensors (it holds: {keys})", where=where, fix=_RESAVE)
    # Parallel and training wrappers put their own name before every tensor's.
    anchor = next((key for key in state if key.endswith(_ANCHOR)), _ANCHOR)
    prefix = anchor.removesuffix(_ANCHOR)
    return {key.removeprefix(prefix): value for key, value in state.items()}


def describe_state(state: Mapping[str, Tensor]) -> str:
    """What a state dict is, in words: the name of a known architecture, one of SAM's relatives, or what is known of it.

    >>> describe_state({"memory_attention.norm.weight": torch.zeros(1)})
    'a SAM 2 checkpoint'
    """
    for pattern, what in _STRANGERS:
        if any(re.match(pattern, key) for key in state):
            return what
    position, patches = state.get("image_encoder.pos_embed"), state.get("image_encoder.patch_embed.proj.weight")
    if position is None or patches is None or position.ndim != 4 or patches.ndim != 4:
        if not any(key.startswith(("image_encoder.", "prompt_encoder.", "mask_decoder.")) for key in state):
            return f"no SAM checkpoint (its first tensor is {next(iter(sorted(state)), 'missing')!r})"
        if not any(key.startswith("image_encoder.") for key in state):
            return "a SAM decoder without its image encoder"
        return "a SAM checkpoint with another image encoder"
    blocks = {match[1] for key in state if (match := re.match(r"image_encoder\.blocks\.(\d+)\.", key))}
    found = (position.shape[-1], len(blocks), position.shape[1], patches.shape[-1])
    for row in ARCHITECTURES.values():
        if found == (row.encoder_dim, row.encoder_depth, row.embedding, row.patch_size):
            return f"a {row.name} checkpoint"
    dim, depth, side, patch = found
    return (
        f"a SAM checkpoint of an unknown shape (width {dim}, {depth} blocks, {side}x{side} patches of {patch} pixels)"
    )


def _build(architecture: Architecture, state: Mapping[str, Tensor], *, where: str | Path | None) -> Sam:
    return _filled(empty_sam(architecture), state, where=where)


def _filled(model: Sam, state: Mapping[str, Tensor], *, where: str | Path | None) -> Sam:
    """A model that :func:`empty_sam` made, with its values in it."""
    expected = model.state_dict()
    _check_state(model.name, expected, state, where=where)
    model.load_state_dict({key: state[key] for key in expected})
    return model


def _check_state(
    name: str, expected: Mapping[str, Tensor], state: Mapping[str, Tensor], *, where: str | Path | None
) -> None:
    """Raise unless ``state`` holds exactly the tensors ``expected``, in their shapes, of finite floats."""
    faults = {
        "lacks": sorted(set(expected) - set(state)),
        "does not know": sorted(set(state) - set(expected) - _IGNORED),
        "expects another shape for": sorted(
            key for key in expected if key in state and state[key].shape != expected[key].shape
        ),
    }
    if any(faults.values()):
        found = describe_state(state)
        known = next((row for row in ARCHITECTURES if found == f"a {row} checkpoint"), None)
        if known == name or not any(key.startswith("image_encoder.") for key in expected):
            listed = "; ".join(f"it {verb} {len(keys)} ({keys[0]})" for verb, keys in faults.items() if keys)
            raise CheckpointError(f"the tensors are not those of {name}: {listed}", where=where, fix=_SAM1)
        fix = f"use --model {known}, or pass the checkpoint of {name}" if known else _SAM1
        raise CheckpointError(f"this is {found}, not {name}", where=where, fix=fix)
    for key in expected:
        if not state[key].is_floating_point():
            raise CheckpointError(f"{key} is of type {state[key].dtype}, not of a float type", where=where, fix=_RESAVE)
        if not bool(state[key].isfinite().all()):
            raise CheckpointError(
                f"{key} holds values that are not finite", where=where, fix="the training that wrote it diverged"
            )

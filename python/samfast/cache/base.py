"""``decoder.safetensors``: the prompt encoder and mask decoder that belong to the encoder of a cache."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from samfast.cache.atomic import write_new
from samfast.cache.format import DECODER, Manifest
from samfast.errors import CheckpointError, CorruptCacheError
from samfast.models.checkpoints import decoder_only
from samfast.models.fingerprint import hash_tensors
from samfast.models.sam import Sam


def decoder_hash(sam: Sam) -> str:
    """Hex SHA-256 of the decoder's float32 tensors."""
    return hash_tensors({name: tensor.float() for name, tensor in sam.decoder_state().items()})


def save_decoder(folder: Path, sam: Sam) -> None:
    """Write the decoder of ``sam`` beside the embeddings of its encoder."""
    state = {name: tensor.float().cpu().contiguous() for name, tensor in sam.decoder_state().items()}
    write_new(folder / DECODER, [save(state)])


def load_decoder(folder: Path, manifest: Manifest) -> Sam:
    """The decoder-only model of a cache, float32.

    Raises:
        CorruptCacheError: the file is gone, damaged, or not the one that was written.
    """
    path = folder / DECODER
    fix = "run `samfast cache` again: it writes the file anew"
    try:
        state = load(path.read_bytes())  # by its path only where that is UTF-8
        intact = hash_tensors(state) == manifest.decoder
        sam = decoder_only(manifest.model, state, where=path)
    except FileNotFoundError:
        raise CorruptCacheError("the decoder is gone", where=path, fix=fix) from None
    except (OSError, SafetensorError, CheckpointError, ValueError) as error:
        raise CorruptCacheError(f"the decoder is damaged: {error}", where=path, fix=fix) from None
    if not intact:
        raise CorruptCacheError("the decoder is not the one that was written", where=path, fix=fix)
    return sam

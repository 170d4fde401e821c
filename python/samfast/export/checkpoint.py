"""A model's weights as files: whole in the official format, or what fine-tuning moved alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from samfast.cache.outputs import write_output
from samfast.errors import CheckpointError, OutputExistsError
from samfast.export.source import Source, open_source
from samfast.inference.contract import OutputContract
from samfast.models.classes import with_classes
from samfast.models.fingerprint import encoder_fingerprint_parts
from samfast.models.sam import Sam
from samfast.progress import say
from samfast.train.run import Run

FORMAT = "samfast-decoder"


def export_checkpoint(
    model: Run | Sam | str | Path,
    *,
    out: str | Path | None = None,
    checkpoint: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model as a ``.pth`` of the official format, which ``segment_anything`` loads unchanged.

    Args:
        model: a run or its folder; the name of a model; or a loaded model.
        out: the file; ``NAME.pth`` beside the run, or in the working directory, by default.
        checkpoint: of the base model; for a run, the one it was started with by default.
        overwrite: replace a file that is there.

    Returns:
        the file.

    Raises:
        ConfigError: there is no such model, it is decoder-only, or it is one that is asked without prompts.
        RunError: there is no such run, or it has no weights.
        CheckpointError: the base model's checkpoint is missing, damaged, or not the one the run was trained on.
        OutputExistsError: ``out`` exists.
        SamfastError: the disk is full, or cannot be written.
    """
    source = open_source(model, checkpoint)
    source.require_official()
    buffer = io.BytesIO()
    torch.save({name: value.detach().clone() for name, value in source.sam.state_dict().items()}, buffer)
    return _written(source.place(out, ".pth"), buffer.getbuffer(), overwrite=overwrite)


def export_decoder(
    model: Run | Sam | str | Path,
    *,
    out: str | Path | None = None,
    checkpoint: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the prompt encoder and mask decoder alone, in float16: what a fine-tune adds to its base model.

    :func:`with_decoder` puts it into the base model again. Arguments and errors are those of
    :func:`export_checkpoint`, but that it takes models that are asked without prompts as well; the file is
    ``NAME.decoder.safetensors`` by default.
    """
    source = open_source(model, checkpoint)
    halves = {name: value.detach().half().contiguous() for name, value in source.sam.decoder_state().items()}
    largest = max(float(value.abs().max()) for value in source.sam.decoder_state().values())
    if largest > torch.finfo(torch.float16).max:
        raise CheckpointError(
            f"a weight of the decoder is {largest:.4g}, beyond what float16 can hold",
            where=source.out,
            fix="write the whole model with export_checkpoint",
        )
    content = save(halves, metadata=_about(source))
    return _written(source.place(out, ".decoder.safetensors"), content, overwrite=overwrite)


def with_decoder(sam: Sam, path: str | Path) -> Sam:
    """Put a decoder that :func:`export_decoder` wrote into its base model.

    Args:
        sam: the base model; changed in place where the decoder answers prompts.
        path: the file.

    Returns:
        ``sam``; or, of a decoder with a mask token for each class, a new model that shares the encoder of ``sam``. What
        its tokens answer is the file's :func:`decoder_contract`.

    Raises:
        CheckpointError: the file is damaged or something else, or the decoder belongs to another encoder.
    """
    about, state = _read_decoder(path)
    weights = encoder_fingerprint_parts(sam, "float32")["weights"]
    if (about["model"], about["encoder"]) != (sam.name, weights):
        raise CheckpointError(
            f"this decoder belongs to another {about['model']} than this {sam.name}: its encoder differs",
            where=path,
            fix="load the checkpoint that the decoder was tuned on",
        )
    classes = decoder_contract(path).classes
    tuned = with_classes(sam, len(classes)) if classes else sam
    tuned.load_state_dict({name: value.float() for name, value in state.items()}, strict=False)
    return tuned


def decoder_contract(path: str | Path) -> OutputContract:
    """What the mask tokens of a decoder that :func:`export_decoder` wrote answer, and of which classes.

    Raises:
        CheckpointError: the file is damaged or something else.
    """
    return OutputContract.from_dict(json.loads(_read_decoder(path)[0]["contract"]))


def _read_decoder(path: str | Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """What a decoder's file says of itself, and its tensors."""
    path = Path(path).expanduser()
    try:
        with safe_open(path, framework="pt") as file:
            about, state = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"the decoder cannot be read: {error}", where=path) from None
    if about.get("format") != FORMAT:
        raise CheckpointError("this is no decoder that samfast wrote", where=path, fix="write one with export_decoder")
    return about, state


def _about(source: Source) -> dict[str, str]:
    return {
        "format": FORMAT,
        "model": source.sam.name,
        "encoder": encoder_fingerprint_parts(source.sam, "float32")["weights"],
        "contract": json.dumps(source.contract.to_dict()),
        "run": json.dumps(source.run),
    }


def _written(path: Path, content: bytes | memoryview, *, overwrite: bool) -> Path:
    if path.exists() and not (overwrite and path.is_file()):
        raise OutputExistsError("it exists", where=path, fix="choose another out, or pass overwrite=True (--overwrite)")
    write_output(path, content)
    say(f"exported {path}: {len(content) / 1e6:.1f} MB")
    return path

"""Use a model: prompts on new images, masks out, as overlays, PNG masks and COCO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from samfast.artifacts import contract_of, open_segmenter
from samfast.cache.outputs import checked_folder
from samfast.data.images import DecodeSpec, check_image, decode_image, read_bytes
from samfast.data.readers.base import below, image_files
from samfast.errors import ConfigError, DataError
from samfast.inference.classes import segment_classes
from samfast.inference.contract import NO_PROMPT, Selection
from samfast.inference.prompt_files import (
    FILE_HELP,
    Prompt,
    check_within,
    from_lists,
    from_mapping,
    read_prompt_file,
    to_prompts,
)
from samfast.inference.prompt_kinds import prompt_kind
from samfast.inference.segmenter import Prediction, segment
from samfast.models.allocator import keep_heap
from samfast.prediction_files import Save, Writer
from samfast.progress import say, track

LISTED = 20

ASK = f"pass box= or point= (--box x,y,x,y or --point x,y), or prompts= (--prompts): {FILE_HELP}"
NO_FILE = (NO_PROMPT, "auto")
"""What people pass as prompts where a file is needed, beside the kinds that evaluation takes."""

Array = NDArray[np.uint8]


@dataclass(frozen=True)
class Predicted:
    """One image, segmented.

    Attributes:
        name: of the image, below the folder it was found in.
        prediction: masks and scores in the order of the prompts. Its logits are kept only where nothing was saved, so
            that a folder of any size fits in memory.
        saved: the files written for it.
    """

    name: str
    prediction: Prediction
    saved: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Source:
    """An image to segment: a file, or pixels that are in memory."""

    name: str
    size: tuple[int, int]
    path: Path | None = None
    pixels: Array | None = field(default=None, repr=False)

    def decode(self) -> Array:
        if self.pixels is not None:
            return self.pixels
        assert self.path is not None
        return decode_image(self.path, DecodeSpec())


def predict(
    model: Any,
    images: Any,
    *,
    prompts: str | Path | Mapping[str, Any] | None = None,
    box: Any = None,
    point: Any = None,
    save: Sequence[str] | str = ("overlay",),
    out: str | Path | None = None,
    opacity: float = 0.5,
    checkpoint: str | Path | None = None,
    selection: Selection = "single",
    device: str = "auto",
    overwrite: bool = False,
) -> list[Predicted]:
    """Segment images by boxes or points; or, with a model that takes no prompts, into its classes.

    Files that are no images, or cannot be decoded, are listed and left out; the others are finished. Prompts are
    checked against every image before the first one is segmented.

    Args:
        model: a model's name, a run, an ONNX bundle, their folders, or a
            :class:`~samfast.inference.segmenter.Segmenter`.
        images: a file, a folder (with its subfolders, told by content), an ``(H, W, 3)`` uint8 RGB array, or a list of
            these.
        prompts: what is asked of each image: a CSV or JSON file, or a mapping, as
            :mod:`samfast.inference.prompt_files` reads them. Images are named by path below the folder, by file name,
            or by stem; arrays are ``image-1``, ``image-2`` and so on. Nothing, or ``"none"``, for a model that was
            trained without prompts.
        box: [xmin, ymin, xmax, ymax], or several, asked of every image; original frame, pixel indices, inclusive.
        point: [x, y], or several, asked of every image; each is a prompt of its own.
        save: any of ``"overlay"`` (``overlays/NAME.png``), ``"png"`` (``masks/NAME.png``: 0 and 255 for one object or
            class; for several an instance map 0, 1, 2 ..., or a class map in the order of the model's classes) and
            ``"coco"`` (one ``predictions.coco.json``); () for nothing.
        out: the folder to write to; ``predictions-MODEL`` by default.
        opacity: of the overlay, 0 to 1.
        checkpoint: of the base model.
        selection: which mask token answers.
        device: where torch models compute.
        overwrite: replace earlier predictions.

    Returns:
        one :class:`Predicted` an image that could be read and has prompts, or needs none.

    Raises:
        ConfigError: no prompts, prompts for a model that takes none, a prompt that is not on its image, prompts for
            images that are not there.
        DataError: none of the images can be used.
        OutputExistsError: an output exists, or ``out`` is a file.
        SamfastError: an output cannot be written.
    """
    formats = _formats(save)
    if not 0.0 <= opacity <= 1.0:
        raise ConfigError(f"an opacity of {opacity} is not within 0 and 1", where="opacity")
    contract = contract_of(model)
    for_all = from_lists(box, point)
    named = {} if contract.classes and _asks_nothing(prompts) else _named(prompts)
    is_asked = bool(for_all) or any(named.values())
    if contract.classes and (is_asked or (prompts is not None and not _asks_nothing(prompts))):
        contract.require_prompts("this model")
    if not contract.classes and not is_asked:
        raise ConfigError("there are no prompts: a model is asked about a box or a point", where="prompts", fix=ASK)
    sources, bad = _sources(images)
    asked = [(source, list[Prompt]()) for source in sources] if contract.classes else _match(sources, named, for_all)
    segmenter = open_segmenter(model, checkpoint=checkpoint, device=device)
    writer = None
    if formats:
        folder = _default_folder(segmenter.name) if out is None else checked_folder(out)
        names = [source.name for source, _ in asked]
        writer = Writer(formats, folder, names, opacity, classes=contract.classes, overwrite=overwrite)
    keep_heap()
    results = []
    for source, mine in track(asked, "predict"):
        try:
            image = source.decode()
        except DataError as error:
            bad.append(error)
            continue
        embedding = segmenter.embed([image])
        if contract.classes:
            prediction = segment_classes(segmenter, embedding)
        else:
            prediction = segment(segmenter, embedding, to_prompts(mine), selection=selection)
        if writer is None:
            results.append(Predicted(source.name, prediction))
        else:
            saved = writer.write(source.name, image, prediction)
            results.append(Predicted(source.name, replace(prediction, low_res=prediction.low_res[:, :0, :0]), saved))
    if writer is not None:
        writer.finish()
        say(f"predictions: {writer.folder}")
    _tell("unreadable", [str(error) for error in bad])
    return results


def _formats(save: Sequence[str] | str) -> tuple[Save, ...]:
    chosen = tuple(dict.fromkeys([save] if isinstance(save, str) else save))
    for name in chosen:
        if name not in get_args(Save):
            raise ConfigError(
                f"save={name!r} is not known", where="save", fix=f"choose from {', '.join(get_args(Save))}"
            )
    return chosen  # type: ignore[return-value]


def _named(prompts: str | Path | Mapping[str, Any] | None) -> dict[str, list[Prompt]]:
    if prompts is None:
        return {}
    if isinstance(prompts, Mapping):
        return from_mapping(prompts)
    if _is_kind(str(prompts)) and not Path(prompts).exists():
        raise ConfigError(
            f"{str(prompts)!r} is no file: a model is asked about a box or a point", where="prompts", fix=ASK
        )
    return read_prompt_file(prompts)


def _asks_nothing(prompts: str | Path | Mapping[str, Any] | None) -> bool:
    return prompts is None or (not isinstance(prompts, Mapping) and str(prompts) == NO_PROMPT)


def _is_kind(name: str) -> bool:
    if name in NO_FILE:
        return True
    with suppress(ConfigError):
        return bool(prompt_kind(name))
    return False


def _sources(images: Any) -> tuple[list[_Source], list[DataError]]:
    """The usable images in order, by name, and what is wrong with the others."""
    single = isinstance(images, str | Path | np.ndarray)
    sources: list[_Source] = []
    bad: list[DataError] = []
    arrays = 0
    for entry in [images] if single else images:
        if isinstance(entry, np.ndarray):
            arrays += 1
            sources.append(_from_array(entry, f"image-{arrays}"))
            continue
        for path, name in _files(Path(entry).expanduser()):
            try:
                sources.append(_Source(name, check_image(read_bytes(path), path).size, path))
            except DataError as error:
                bad.append(error)
    if not sources:
        _tell("unreadable", [str(error) for error in bad[1:]])
        raise bad[0] if bad else DataError("there are no images", where=str(images)[:200], fix="check the path")
    uses = Counter(source.name for source in sources)
    named = [
        replace(each, name=each.path.resolve().as_posix()) if each.path is not None and uses[each.name] > 1 else each
        for each in sources
    ]
    return list({source.name: source for source in named}.values()), bad


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    if path.is_dir():
        for file in image_files(path):
            yield file, below(path, file)
    elif path.exists() or path.is_symlink():
        yield path, path.name
    else:
        raise DataError("there is no such file or folder", where=path, fix="check the path")


def _from_array(pixels: NDArray[Any], name: str) -> _Source:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ConfigError(
            f"an array of {pixels.dtype} {pixels.shape} is no image", where=name, fix="pass (H, W, 3) uint8 RGB"
        )
    return _Source(name, (pixels.shape[0], pixels.shape[1]), pixels=pixels)


def _match(
    sources: Sequence[_Source], named: Mapping[str, list[Prompt]], for_all: Sequence[Prompt]
) -> list[tuple[_Source, list[Prompt]]]:
    """Every image that has prompts, with its prompts, checked.

    Raises:
        ConfigError: a name in the prompts that is no image, or more than one.
    """
    by_name: dict[str, list[_Source]] = {}
    for source in sources:
        inner = Path(source.name)
        for name in dict.fromkeys((source.name, inner.name, inner.with_suffix("").as_posix(), inner.stem)):
            by_name.setdefault(name, []).append(source)
    mine: dict[str, list[Prompt]] = {}
    for name, prompts in named.items():
        exact = [source for source in by_name.get(name, ()) if source.name == name]
        found = exact or by_name.get(name, [])
        where = prompts[0].where if prompts else name
        if not found:
            raise ConfigError(
                f"there are prompts for {name!r}, and no such image",
                where=where,
                fix="images are named as in the folder",
            )
        if len(found) > 1:
            raise ConfigError(
                f"{name!r} could be {found[0].name} or {found[1].name}",
                where=where,
                fix="write the path below the folder",
            )
        mine.setdefault(found[0].name, []).extend(prompts)
    asked = [
        (source, check_within([*for_all, *mine.get(source.name, [])], source.size, source.name)) for source in sources
    ]
    _tell("without prompts", [source.name for source, prompts in asked if not prompts])
    return [(source, prompts) for source, prompts in asked if prompts]


def _default_folder(model: str) -> Path:
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in model).strip("-")
    number, folder = 1, Path(f"predictions-{safe}")
    while folder.exists():
        number += 1
        folder = Path(f"predictions-{safe}-{number}")
    return folder


def _tell(what: str, names: Sequence[str]) -> None:
    if names:
        more = f"\n  and {len(names) - LISTED} more" if len(names) > LISTED else ""
        listing = "\n".join(f"  {name}" for name in names[:LISTED])
        say(f"{what}, left out: {len(names)} {'image' if len(names) == 1 else 'images'}\n{listing}{more}")

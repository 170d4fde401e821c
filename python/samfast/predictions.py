"""Use a model: prompts on new images, masks out, as overlays, PNG masks and COCO."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samfast.artifacts import open_segmenter
from samfast.cache.outputs import checked_folder, write_output
from samfast.data.images import DecodeSpec, check_image, decode_image, read_bytes
from samfast.data.readers.base import below, image_files
from samfast.errors import ConfigError, DataError, OutputExistsError
from samfast.inference.contract import Selection
from samfast.inference.draw import overlay
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
from samfast.progress import say, track

Save = Literal["overlay", "png", "coco"]

OVERLAYS, MASKS, COCO = "overlays", "masks", "predictions.coco.json"
"""What is written below ``out``."""
LISTED = 20

ASK = f"pass box= or point= (--box x,y,x,y or --point x,y), or prompts= (--prompts): {FILE_HELP}"
NO_FILE = ("none", "auto")
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
    """Segment images by boxes or points.

    Files that are no images, or cannot be decoded, are listed and left out; the others are finished. Prompts are
    checked against every image before the first one is segmented.

    Args:
        model: a model's name, a run, an ONNX bundle, their folders, or a
            :class:`~samfast.inference.segmenter.Segmenter`.
        images: a file, a folder (with its subfolders, told by content), an ``(H, W, 3)`` uint8 RGB array, or a list of
            these.
        prompts: what is asked of each image: a CSV or JSON file, or a mapping, as
            :mod:`samfast.inference.prompt_files` reads them. Images are named by path below the folder, by file name,
            or by stem; arrays are ``image-1``, ``image-2`` and so on.
        box: [xmin, ymin, xmax, ymax], or several, asked of every image; original frame, pixel indices, inclusive.
        point: [x, y], or several, asked of every image; each is a prompt of its own.
        save: any of ``"overlay"`` (``overlays/NAME.png``), ``"png"`` (``masks/NAME.png``: 0 and 255 for one object, an
            instance map 0, 1, 2 ... for several) and ``"coco"`` (one ``predictions.coco.json``); () for nothing.
        out: the folder to write to; ``predictions-MODEL`` by default.
        opacity: of the overlay, 0 to 1.
        checkpoint: of the base model.
        selection: which mask token answers.
        device: where torch models compute.
        overwrite: replace earlier predictions.

    Returns:
        one :class:`Predicted` an image that could be read and has prompts.

    Raises:
        ConfigError: no prompts, a prompt that is not on its image, prompts for images that are not there.
        DataError: none of the images can be used.
        OutputExistsError: an output exists, or ``out`` is a file.
        SamfastError: an output cannot be written.
    """
    formats = _formats(save)
    if not 0.0 <= opacity <= 1.0:
        raise ConfigError(f"an opacity of {opacity} is not within 0 and 1", where="opacity")
    for_all = from_lists(box, point)
    named = _named(prompts)
    if not for_all and not any(named.values()):
        raise ConfigError("there are no prompts: a model is asked about a box or a point", where="prompts", fix=ASK)
    sources, bad = _sources(images)
    asked = _match(sources, named, for_all)
    segmenter = open_segmenter(model, checkpoint=checkpoint, device=device)
    writer = _Writer(formats, out, segmenter.name, asked, opacity, overwrite=overwrite) if formats else None
    keep_heap()
    results = []
    for source, mine in track(asked, "predict"):
        try:
            image = source.decode()
        except DataError as error:
            bad.append(error)
            continue
        prediction = segment(segmenter, segmenter.embed([image]), to_prompts(mine), selection=selection)
        if writer is None:
            results.append(Predicted(source.name, prediction))
        else:
            saved = writer.write(source, image, prediction)
            results.append(Predicted(source.name, replace(prediction, low_res=prediction.low_res[:, :0, :0]), saved))
    if writer is not None:
        writer.finish()
        say(f"predictions: {writer.folder}")
    _tell("unreadable", [str(error) for error in bad])
    return results


class _Writer:
    """Writes one image's predictions at a time; claims all its files before the first."""

    def __init__(
        self,
        formats: tuple[Save, ...],
        out: str | Path | None,
        model: str,
        asked: Sequence[tuple[_Source, list[Prompt]]],
        opacity: float,
        *,
        overwrite: bool,
    ) -> None:
        self._formats = formats
        self._opacity = opacity
        self._files = _file_names([source.name for source, _ in asked])
        self.folder = _default_folder(model) if out is None else checked_folder(out)
        targets = [self._path(kind, source.name) for source, _ in asked for kind in formats]
        taken = next((path for path in targets if path.exists()), None)
        if taken is not None and not overwrite:
            raise OutputExistsError(
                "this prediction exists", where=taken, fix="choose another out, or pass overwrite=True (--overwrite)"
            )
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def write(self, source: _Source, image: Array, prediction: Prediction) -> tuple[Path, ...]:
        saved = []
        for kind in self._formats:
            path = self._path(kind, source.name)
            if kind == "overlay":
                _write_png(path, overlay(image, prediction.masks, self._opacity, prediction.prompts))
            elif kind == "png":
                _write_png(path, label_map(prediction))
            else:
                self._collect(source, prediction)
            saved.append(path)
        return tuple(saved)

    def finish(self) -> None:
        """Write what is one file for all images."""
        if "coco" in self._formats:
            content = {
                "info": {"description": "written by samfast"},
                "images": self._images,
                "annotations": self._annotations,
                "categories": [{"id": 1, "name": "object"}],
            }
            write_output(self.folder / COCO, json.dumps(content, ensure_ascii=False).encode())

    def _collect(self, source: _Source, prediction: Prediction) -> None:
        image_id = len(self._images) + 1
        height, width = source.size
        self._images.append({"id": image_id, "file_name": source.name, "height": height, "width": width})
        masks = prediction.masks
        rows = zip(masks.rle(), masks.boxes().tolist(), masks.area().tolist(), prediction.scores.tolist(), strict=True)
        for rle, (xmin, ymin, xmax, ymax), area, score in rows:
            counts = rle["counts"]
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "segmentation": {"size": [height, width], "counts": _text(counts)},
                    "area": int(area),
                    "bbox": [xmin, ymin, max(xmax - xmin + 1, 0.0), max(ymax - ymin + 1, 0.0)],
                    "iscrowd": 0,
                    "score": float(score),
                }
            )

    def _path(self, kind: Save, name: str) -> Path:
        if kind == "coco":
            return self.folder / COCO
        return self.folder / (OVERLAYS if kind == "overlay" else MASKS) / f"{self._files[name]}.png"


def label_map(prediction: Prediction) -> NDArray[Any]:
    """``(H, W)`` mask image: 0 and 255 of one object; 0, 1, 2 ... of several, uint16 above 255 of them.

    Where masks overlap the smaller one is on top.
    """
    masks = prediction.masks
    if len(masks) == 1:
        return np.where(masks.numpy()[0], np.uint8(255), np.uint8(0))
    labels = np.zeros((masks.height, masks.width), np.uint8 if len(masks) < 256 else np.uint16)
    for index in np.argsort(-masks.area(), kind="stable"):
        labels[masks[int(index)].numpy()[0]] = index + 1
    return labels


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


def _file_names(names: Sequence[str]) -> dict[str, str]:
    """Image name to the name of its outputs: without the suffix, unless two images would then be one."""
    inner = {name: Path(name).relative_to(Path(name).anchor) for name in names}
    uses = Counter(path.with_suffix("").as_posix().casefold() for path in inner.values())
    return {
        name: (path if uses[path.with_suffix("").as_posix().casefold()] > 1 else path.with_suffix("")).as_posix()
        for name, path in inner.items()
    }


def _default_folder(model: str) -> Path:
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in model).strip("-")
    number, folder = 1, Path(f"predictions-{safe}")
    while folder.exists():
        number += 1
        folder = Path(f"predictions-{safe}-{number}")
    return folder


def _write_png(path: Path, pixels: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    write_output(path, buffer.getbuffer())


def _text(counts: Any) -> Any:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts


def _tell(what: str, names: Sequence[str]) -> None:
    if names:
        more = f"\n  and {len(names) - LISTED} more" if len(names) > LISTED else ""
        listing = "\n".join(f"  {name}" for name in names[:LISTED])
        say(f"{what}, left out: {len(names)} {'image' if len(names) == 1 else 'images'}\n{listing}{more}")

"""What predictions are written as: overlays, PNG masks and COCO."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samfast.cache.outputs import write_output
from samfast.errors import OutputExistsError
from samfast.inference.draw import overlay
from samfast.inference.segmenter import Prediction

Save = Literal["overlay", "png", "coco"]

OVERLAYS, MASKS, COCO = "overlays", "masks", "predictions.coco.json"
"""What is written below ``out``."""


class Writer:
    """Writes one image's predictions at a time; claims all its files before the first.

    Args:
        formats: what to write.
        folder: where to.
        names: of all images.
        opacity: of the overlay.
        classes: that the masks of an image are of, in their order; () where they answer prompts.
        overwrite: replace files that are there.

    Raises:
        OutputExistsError: one of the files exists.
    """

    def __init__(
        self,
        formats: tuple[Save, ...],
        folder: Path,
        names: Sequence[str],
        opacity: float,
        *,
        classes: Sequence[str],
        overwrite: bool,
    ) -> None:
        self._formats = formats
        self._opacity = opacity
        self._files = _file_names(names)
        self._classes = classes
        self.folder = folder
        targets = [self._path(kind, name) for name in names for kind in formats]
        taken = next((path for path in targets if path.exists()), None)
        if taken is not None and not overwrite:
            raise OutputExistsError(
                "this prediction exists", where=taken, fix="choose another out, or pass overwrite=True (--overwrite)"
            )
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def write(self, name: str, image: NDArray[np.uint8], prediction: Prediction) -> tuple[Path, ...]:
        """Write what is a file for each image, and return all files that say something of this one."""
        saved = []
        for kind in self._formats:
            path = self._path(kind, name)
            if kind == "overlay":
                _write_png(path, overlay(image, prediction.masks, self._opacity, prediction.prompts))
            elif kind == "png":
                _write_png(path, label_map(prediction))
            else:
                self._collect(name, prediction)
            saved.append(path)
        return tuple(saved)

    def finish(self) -> None:
        """Write what is one file for all images."""
        if "coco" in self._formats:
            content = {
                "info": {"description": "written by samfast"},
                "images": self._images,
                "annotations": self._annotations,
                "categories": [{"id": id_, "name": name} for id_, name in enumerate(self._classes or ("object",), 1)],
            }
            write_output(self.folder / COCO, json.dumps(content, ensure_ascii=False).encode())

    def _collect(self, name: str, prediction: Prediction) -> None:
        image_id = len(self._images) + 1
        masks = prediction.masks
        height, width = masks.height, masks.width
        self._images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        rows = zip(masks.rle(), masks.boxes().tolist(), masks.area().tolist(), prediction.scores.tolist(), strict=True)
        for number, (rle, (xmin, ymin, xmax, ymax), area, score) in enumerate(rows, 1):
            if self._classes and area == 0:  # the image holds nothing of the class
                continue
            counts = rle["counts"]
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image_id,
                    "category_id": number if self._classes else 1,
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


def _file_names(names: Sequence[str]) -> dict[str, str]:
    """Image name to the name of its outputs: without the suffix, unless two images would then be one."""
    inner = {name: Path(name).relative_to(Path(name).anchor) for name in names}
    uses = Counter(path.with_suffix("").as_posix().casefold() for path in inner.values())
    return {
        name: (path if uses[path.with_suffix("").as_posix().casefold()] > 1 else path.with_suffix("")).as_posix()
        for name, path in inner.items()
    }


def _write_png(path: Path, pixels: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    write_output(path, buffer.getbuffer())


def _text(counts: Any) -> Any:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts

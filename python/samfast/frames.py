"""Coordinate frames: how an image reaches a model, and how points, boxes and logits travel between the frames.

Three frames, all with x to the right, y down and (x, y) order:

* *original*: the decoded, EXIF-transposed image, ``H x W``;
* *model*: the model's square input after its family's resize, ``size x size``, padded to the right and at the bottom;
* *low-res*: the grid the decoder predicts logits on, ``low_res x low_res``.

Pixel (0, 0) covers the square [0, 1) x [0, 1). Prompt coordinates are pixel indices, exactly as ``SamPredictor`` takes
them; the model adds its own half pixel.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samfast.errors import ConfigError


@dataclass(frozen=True)
class PreprocessSpec:
    """How a model family turns an RGB image into its input, and the geometry of what comes out.

    Stored in caches, runs and ONNX metadata, and compared there: two artifacts fit together only if their specs are
    equal.

    Attributes:
        size: side of the square model input, in pixels.
        embedding: side of the embedding grid.
        low_res: side of the decoder's output grid.
        mean: per-channel mean subtracted from RGB values in [0, 255].
        std: per-channel divisor applied after the mean.
        resize: ``"longest"`` scales the longest side to ``size`` and pads (SAM 1); ``"stretch"`` fills the square.
        antialias: whether downscaling filters (Pillow's bilinear does).
        pad: ``"zeros-after-normalize"``, the order in which SAM 1 pads.
        mask_threshold: the logit above which a pixel is foreground.
    """

    size: int
    embedding: int
    low_res: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["longest", "stretch"] = "longest"
    antialias: bool = True
    pad: Literal["zeros-after-normalize"] = "zeros-after-normalize"
    mask_threshold: float = 0.0

    def frame(self, height: int, width: int) -> Frame:
        """The :class:`Frame` of an image of ``height x width`` original pixels."""
        return Frame(height, width, self)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in model pixels that an original image of this size is resized to, before padding.

        >>> sam = PreprocessSpec(1024, 64, 256, (0, 0, 0), (1, 1, 1))
        >>> sam.resized(551, 893)
        (632, 1024)
        """
        if self.resize == "stretch":
            return self.size, self.size
        scale = self.size / max(height, width)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def resize_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize an ``(H, W, 3)`` RGB uint8 image to :meth:`resized` as ``segment_anything`` does: Pillow bilinear."""
        height, width = self.resized(*image.shape[:2])
        if image.shape[:2] == (height, width):
            return image
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))

    def preprocess(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn an ``(H, W, 3)`` RGB uint8 image into the ``(3, size, size)`` float32 model input.

        Resize, normalise, then pad with zeros, in that order (``Sam.preprocess`` of ``segment_anything``).
        """
        resized = self.resize_image(image)
        height, width = resized.shape[:2]
        out = np.zeros((3, self.size, self.size), np.float32)
        mean = np.asarray(self.mean, np.float32)
        std = np.asarray(self.std, np.float32)
        out[:, :height, :width] = ((resized.astype(np.float32) - mean) / std).transpose(2, 0, 1)
        return out

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict, the inverse of :meth:`from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> PreprocessSpec:
        """The spec :meth:`to_dict` wrote.

        Raises:
            ConfigError: a field is missing or unknown.
        """
        try:
            return cls(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
        except (KeyError, TypeError) as error:
            raise ConfigError(f"this is not a preprocessing spec: {error}", where="preprocess") from None


@dataclass(frozen=True)
class Frame:
    """One image's place in a model: its original size and the maps between the three frames.

    Attributes:
        height: of the original image, in pixels.
        width: of the original image, in pixels.
        spec: the model's preprocessing.
    """

    height: int
    width: int
    spec: PreprocessSpec

    @cached_property
    def resized(self) -> tuple[int, int]:
        """(height, width) of the image in the model frame, before padding."""
        return self.spec.resized(self.height, self.width)

    def points_to_model(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map ``(..., 2)`` (x, y) points, original frame, pixel indices, to the model frame (``apply_coords``)."""
        height, width = self.resized
        scale = np.array([width / self.width, height / self.height])
        return np.asarray(points * scale, dtype=np.float32)

    def boxes_to_model(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map ``(..., 4)`` [xmin, ymin, xmax, ymax] boxes of pixel indices from the original to the model frame."""
        boxes = np.asarray(boxes)
        corners = boxes.reshape(*boxes.shape[:-1], 2, 2)
        mapped: NDArray[np.float32] = self.points_to_model(corners).reshape(boxes.shape)
        return mapped

    @property
    def cell(self) -> tuple[float, float]:
        """(height, width) of one low-res cell, in original pixels."""
        side = self.spec.size / self.spec.low_res
        height, width = self.resized
        return side * self.height / height, side * self.width / width

    def coverage(self) -> NDArray[np.float32]:
        """``(low_res, low_res)`` float32: the fraction of each low-res cell that lies on the image."""
        side = self.spec.size / self.spec.low_res
        starts = np.arange(self.spec.low_res) * side
        rows, columns = (np.clip((length - starts) / side, 0.0, 1.0) for length in self.resized)
        return np.outer(rows, columns).astype(np.float32)

    def logits_to_original(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Upscale ``(..., low_res, low_res)`` logits to ``(..., H, W)`` float32 in the original frame.

        Equal to ``Sam.postprocess_masks``: bilinear to the model frame, crop the padding, bilinear to the original
        size. Each step is linear and separable, so both together are one matrix per axis.
        """
        rows, columns = self._upscale
        return np.asarray(rows @ logits @ columns.T, dtype=np.float32)

    @cached_property
    def _upscale(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        spec = self.spec
        to_model = _bilinear_matrix(spec.low_res, spec.size)
        (height, width) = self.resized
        rows = _bilinear_matrix(height, self.height) @ to_model[:height]
        columns = _bilinear_matrix(width, self.width) @ to_model[:width]
        return rows.astype(np.float32), columns.astype(np.float32)


def _bilinear_matrix(source: int, target: int) -> NDArray[np.float64]:
    """The ``(target, source)`` matrix of ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``.

    Positions are float32, as they are there: in float64 they would be off by up to 1e-4 of a pixel from the reference.
    """
    scale = np.float32(source) / np.float32(target)
    position = np.maximum((np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5), 0)
    low = np.minimum(position.astype(np.int64), source - 1)
    high = np.minimum(low + 1, source - 1)
    weight = position - low.astype(np.float32)
    matrix = np.zeros((target, source))
    index = np.arange(target)
    np.add.at(matrix, (index, low), 1.0 - weight)
    np.add.at(matrix, (index, high), weight)
    return matrix

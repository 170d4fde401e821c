"""Interactive segmentation with an ONNX bundle, called as ``segment_anything``'s ``SamPredictor`` is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from samfast.data.images import decode_image, to_rgb
from samfast.errors import ConfigError, DataError
from samfast.inference.classes import segment_classes
from samfast.inference.contract import MULTIMASK, SINGLE
from samfast.inference.segmenter import Embedding
from samfast.inference.tokens import tokenize
from samfast.masks import Masks
from samfast.prompts import NEGATIVE, POSITIVE, Prompts
from samfast.runtime.bundle import OnnxBundle
from samfast.runtime.graphs import EMBEDDINGS
from samfast.runtime.segmenter import OnnxSegmenter
from samfast.runtime.sessions import Device


class OnnxPredictor:
    """``SamPredictor`` (segment_anything) on an ONNX bundle: the same arguments, the same masks, no torch.

    ::

        predictor = OnnxPredictor("potholes.onnxbundle")
        predictor.set_image("street.jpg")
        masks, ious, low_res = predictor.predict(box=np.array([40, 60, 300, 200]))

    Args:
        bundle: an :class:`~samfast.runtime.bundle.OnnxBundle` or its folder.
        device: ``"cpu"``; ``"cuda"``, or an error; ``"auto"``, CUDA where it works.
        threads: CPU threads of one inference; None for one a core.

    Attributes:
        bundle: what is run.
        device: ``"cuda"`` or ``"cpu"``, where it really runs.

    Raises:
        CheckpointError: the bundle is missing, damaged, or mixed from two models.
        RuntimeUnavailableError: ONNX Runtime or the device asked for is not there.
    """

    def __init__(self, bundle: OnnxBundle | str | Path, *, device: Device = "auto", threads: int | None = None) -> None:
        self._segmenter = OnnxSegmenter(bundle, device=device, threads=threads)
        self._segmenter.graphs.open_encoder()
        self._embedding: Embedding | None = None
        self.bundle = self._segmenter.bundle
        self.device = self._segmenter.device

    def __repr__(self) -> str:
        return f"OnnxPredictor({self.bundle.name!r}, device={self.device!r})"

    @property
    def is_image_set(self) -> bool:
        """Whether there is an image to predict on."""
        return self._embedding is not None

    def set_image(
        self, image: NDArray[np.uint8] | Image.Image | str | Path, image_format: Literal["RGB", "BGR"] = "RGB"
    ) -> None:
        """Encode the image that the following prompts are about.

        Args:
            image: ``(H, W, 3)`` uint8 array; or a Pillow image or an image file, turned as its EXIF orientation says.
            image_format: channel order of an array, ``"RGB"`` or ``"BGR"``.

        Raises:
            DataError: the array is no such image, or the file cannot be read.
            ConfigError: there is no such channel order.
        """
        self._embedding = self._segmenter.embed([_as_rgb(image, image_format)])

    def reset_image(self) -> None:
        """Forget the image."""
        self._embedding = None

    def get_image_embedding(self) -> NDArray[np.float32]:
        """``(1, C, g, g)`` float32: the embedding of the image.

        Raises:
            ConfigError: no image is set.
        """
        embedding: NDArray[np.float32] = self._image().features[EMBEDDINGS]
        return embedding

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: NDArray[np.float32] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]:
        """Masks of one object, as ``SamPredictor.predict`` gives them.

        A model that was trained without prompts is asked without, and gives a mask for each of ``bundle.classes``:
        ``C`` is their number, and ``multimask_output`` says nothing.

        Args:
            point_coords: ``(N, 2)`` (x, y), original frame, pixel indices.
            point_labels: ``(N,)``: 1 foreground, 0 background.
            box: ``(4,)`` [xmin, ymin, xmax, ymax], original frame, inclusive pixel indices.
            mask_input: ``(1, low_res, low_res)`` float logits, low-res frame, such as an earlier third result.
            multimask_output: three masks, of the tokens made for ambiguous prompts; or the one of token 0.
            return_logits: give logits and not masks.

        Returns:
            ``C`` = 3 or 1 masks, ``(C, H, W)`` bool, original frame (float32 logits with ``return_logits``); their
            predicted IoU, ``(C,)`` float32; and their logits, ``(C, low_res, low_res)`` float32, low-res frame.

        Raises:
            ConfigError: no image is set, a prompt has the wrong shape or values, or the model takes no prompts.

        Warns:
            UserWarning: training has not taught the tokens that are asked for.
        """
        embedding = self._image()
        frame = embedding.frames[0]
        given = [each is not None for each in (point_coords, point_labels, box, mask_input)]
        if self.bundle.contract.classes:
            if any(given):
                self.bundle.contract.require_prompts(self.bundle.name)
            found = segment_classes(self._segmenter, embedding)
            masks = frame.logits_to_original(found.low_res) if return_logits else found.masks.numpy()
            return masks, found.scores, found.low_res
        prompts = _prompts(point_coords, point_labels, box, mask_input, frame.spec.low_res)
        tokens = MULTIMASK if multimask_output else SINGLE
        self.bundle.contract.warn_untrained(tokens)
        logits, ious = self._segmenter.decode(embedding, tokenize(prompts, embedding.frames))
        low_res = logits[0, list(tokens)]
        masks = frame.logits_to_original(low_res) if return_logits else Masks.from_logits(low_res, frame).numpy()
        return masks, ious[0, list(tokens)], low_res

    def _image(self) -> Embedding:
        if self._embedding is None:
            raise ConfigError("no image is set", fix="call set_image(...) first")
        return self._embedding


def _as_rgb(image: NDArray[np.uint8] | Image.Image | str | Path, image_format: str) -> NDArray[np.uint8]:
    """``(H, W, 3)`` uint8 RGB, original frame."""
    if image_format not in ("RGB", "BGR"):
        raise ConfigError(f"image_format={image_format!r} is neither 'RGB' nor 'BGR'", where="image_format")
    if isinstance(image, str | Path):
        return decode_image(image)
    if isinstance(image, Image.Image):
        return to_rgb(image)
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise DataError(
            f"an image is an (H, W, 3) uint8 array, this one is {array.shape} {array.dtype}",
            where="image",
            fix="pass 8-bit RGB pixels; PIL.Image.fromarray(...).convert('RGB') makes them from grey or RGBA",
        )
    return array if image_format == "RGB" else array[..., ::-1]


def _prompts(
    points: ArrayLike | None,
    labels: ArrayLike | None,
    box: ArrayLike | None,
    mask: NDArray[np.float32] | None,
    low_res: int,
) -> Prompts:
    """One prompt on image 0, original frame."""
    if (points is None) != (labels is None):
        raise ConfigError("point_coords and point_labels come together", where="point_labels")
    coords = _finite(points, "point_coords") if points is not None else np.zeros((0, 2), np.float32)
    kinds = np.asarray(labels if labels is not None else [])
    if coords.ndim != 2 or coords.shape[1] != 2 or kinds.shape != coords.shape[:1]:
        raise ConfigError(
            f"point_coords is (N, 2) and point_labels (N,), these are {coords.shape} and {kinds.shape}",
            where="point_coords",
        )
    if not np.isin(kinds, (NEGATIVE, POSITIVE)).all():
        raise ConfigError(f"point_labels are 1 (foreground) or 0 (background), these are {kinds}", where="point_labels")
    corners = _finite(box, "box") if box is not None else np.full(4, np.nan, np.float32)
    if corners.shape not in ((4,), (1, 4)):
        raise ConfigError(f"a box is (4,) numbers, this one is {corners.shape}", where="box")
    logits = None if mask is None else _finite(mask, "mask_input")
    if logits is not None and logits.shape != (1, low_res, low_res):
        raise ConfigError(
            f"mask_input is (1, {low_res}, {low_res}) logits, this one is {logits.shape}", where="mask_input"
        )
    return Prompts(
        image_index=np.zeros(1, np.int64),
        points=coords[None],
        labels=kinds.astype(np.int64)[None],
        boxes=corners.reshape(1, 4),
        mask_logits=logits,
    )


def _finite(values: ArrayLike, where: str) -> NDArray[np.float32]:
    array = np.asarray(values, np.float32)
    if not np.isfinite(array).all():
        raise ConfigError(f"{where} holds values that are not finite", where=where)
    return array

"""From the bytes of an image file to RGB pixels, the same way everywhere, and the key that names the result."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from samfast import _rust
from samfast.errors import ConfigError, DataError

EXIF_ORIENTATION = 0x0112
PERCENTILES = (0.1, 99.9)
"""Of the finite pixel values of an image of more than 8 bits: what becomes 0 and what becomes 255."""
JPEG_CHECK_SCALE = 8
"""libjpeg's strongest downscaling: every byte is still entropy-decoded, the pixels almost come for free."""


@dataclass(frozen=True)
class DecodeSpec:
    """How the bytes of an image file become RGB; part of every cache row's key.

    Attributes:
        version: of this module's behaviour; raised when the same bytes would decode to other pixels.
        exif: the orientation tag is applied, as every viewer does.
        alpha: the alpha channel is dropped, as OpenCV and Pillow do; colour below transparency stays what it is.
        intensity: 16-bit, 32-bit and float greys are stretched linearly, image by image, between their 0.1 and 99.9
            percentiles, as microscope viewers do: 12-bit data in 16-bit files is dark otherwise. 16-bit *colour* is
            reduced to its high byte by Pillow.
        frame: of a file with several frames or pages.
    """

    version: int = 1
    exif: Literal["transpose"] = "transpose"
    alpha: Literal["drop"] = "drop"
    intensity: Literal["percentile"] = "percentile"
    frame: Literal["first"] = "first"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict, the inverse of :meth:`from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> DecodeSpec:
        """The spec :meth:`to_dict` wrote.

        Raises:
            ConfigError: a field is unknown, or holds what this version of samfast cannot do.

        >>> DecodeSpec.from_dict(DecodeSpec().to_dict()) == DecodeSpec()
        True
        """
        known = cls().to_dict()
        for name, value in fields.items():
            if name not in known or value != known[name]:
                raise ConfigError(f"decode spec: {name}={value!r} is not known to this version", where="decode")
        return cls(**fields)


def decode_image(source: bytes | str | Path, spec: DecodeSpec | None = None) -> NDArray[np.uint8]:
    """Decode an image by its content, whatever its extension says.

    Args:
        source: the file, or its bytes.
        spec: the decode policies; None for the default ones.

    Returns:
        ``(H, W, 3)`` uint8 RGB, original frame.

    Raises:
        DataError: the file is missing, empty, truncated, corrupt, no image, or implausibly large.
    """
    where = None if isinstance(source, bytes) else source
    data = source if isinstance(source, bytes) else read_bytes(Path(source))
    with open_image(data, where) as image:
        return to_rgb(image)


def image_key(data: bytes, spec: DecodeSpec, view: int = 0) -> str:
    """Hex SHA-256 of an image file's bytes, the decode spec, the tile (the whole image) and the view.

    >>> image_key(b"bytes", DecodeSpec()) == image_key(b"bytes", DecodeSpec(), view=1)
    False
    """
    place = json.dumps({"decode": spec.to_dict(), "tile": None, "view": view}, sort_keys=True)
    return _rust.sha256([len(data).to_bytes(8, "little"), data, place.encode()])


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file says about its pixels.

    Attributes:
        size: (height, width) of the original frame, EXIF orientation applied.
        stored_size: (height, width) of the pixels as they lie in the file.
    """

    size: tuple[int, int]
    stored_size: tuple[int, int]


def check_image(data: bytes, where: str | Path | None = None) -> ImageHeader:
    """Read an image's size and prove that all its pixels can be decoded, as cheaply as its format allows.

    Raises:
        DataError: as :func:`decode_image`.
    """
    with open_image(data, where) as image:
        stored = (image.height, image.width)
        image.draft(None, (max(1, image.width // JPEG_CHECK_SCALE), max(1, image.height // JPEG_CHECK_SCALE)))
        image.load()
        turned = image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)  # TIFF is turned by load(), untagged
    return ImageHeader((stored[1], stored[0]) if turned else stored, stored)


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file.

    Raises:
        DataError: there is no such file, it is no regular file, or it may not be read.
    """
    if not os.path.isfile(path):  # unlike Path, no OSError for names longer than the system's
        missing = "broken symbolic link" if os.path.islink(path) else "no such file"
        reason = "not a file" if os.path.exists(path) else missing
        raise DataError(f"{reason}: {path.name}", where=path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=path) from None


@contextmanager
def open_image(data: bytes, where: str | Path | None = None) -> Iterator[Image.Image]:
    """A Pillow image over ``data``; whatever goes wrong in the block's decoding leaves as a :class:`DataError`."""
    if not data:
        raise DataError("the file is empty (0 bytes)", where=where)
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise DataError(f"too many pixels for a plausible image: {error}", where=where) from None
    except Exception:  # Pillow's parsers raise whatever their input made them trip over
        raise DataError(f"not an image, or its header is corrupt (begins with {data[:8]!r})", where=where) from None
    with image:
        try:
            yield image
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"truncated or corrupt {image.format} image: {error}", where=where) from None


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """A Pillow image as ``(H, W, 3)`` uint8 RGB, original frame: turned as its EXIF orientation says."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = stretch(np.asarray(image))
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # keeps the palette's colours, whose meaning per-entry transparency obscures
    return np.array(image.convert("RGB"))


def stretch(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """Map ``(H, W)`` grey values of any range linearly to uint8, between the percentiles :data:`PERCENTILES`.

    NaN and infinities become 0, and so does an image of a single value.

    >>> stretch(np.array([[100, 200], [300, 4000]], np.uint16))
    array([[  0,   7],
           [ 13, 255]], dtype=uint8)
    """
    values = grey.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(grey.shape, np.uint8)
    low, high = np.percentile(values[finite], PERCENTILES)
    if high <= low:
        low, high = values[finite].min(), values[finite].max()
    scaled = np.where(finite, values - low, 0.0) * (255.0 / (high - low) if high > low else 0.0)
    return np.clip(scaled + 0.5, 0, 255).astype(np.uint8)

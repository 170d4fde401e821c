"""Images through the frozen encoder: decoded and preprocessed ahead by threads, encoded in batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from samfast.cache.format import Features, Manifest
from samfast.data.images import DecodeSpec, decode_image, image_key, read_bytes
from samfast.data.parallel import prefetch, thread_count
from samfast.errors import CacheError, ConfigError, DataError
from samfast.frames import PreprocessSpec
from samfast.models.compiling import why_refused
from samfast.models.sam import Sam
from samfast.progress import say
from samfast.views import Views, ViewSample

MOST_AT_ONCE = 16
MEMORY_FOR_ONE = 4 << 30
"""Bytes of a GPU that one image of the largest encoder may take."""


def batch_for(device: torch.device) -> int:
    """Images to encode at once: as many as a GPU has room for; one elsewhere, where more bring memory and no speed."""
    if device.type != "cuda":
        return 1
    memory = torch.cuda.get_device_properties(device).total_memory
    return int(max(1, min(MOST_AT_ONCE, memory // MEMORY_FOR_ONE)))


def prepared(
    samples: Iterable[ViewSample], views: Views, spec: PreprocessSpec, decode: DecodeSpec, *, ahead: int
) -> Generator[tuple[ViewSample, NDArray[np.float32] | DataError], None, None]:
    """Read, decode and preprocess images in threads, as their views show them; a file is read once for all its views.

    Args:
        samples: what to read, in this order; taken from it no sooner than they are prepared.
        views: what is made of them.
        spec: the model's preprocessing.
        decode: how files become pixels.
        ahead: images prepared, or being prepared, before they are asked for; bounds memory.

    Yields:
        each sample with its ``(3, size, size)`` float32 model input, or with the error that it made.
    """

    threads = thread_count()
    images = _Images(decode, at_once=threads)

    def prepare(sample: ViewSample) -> tuple[ViewSample, NDArray[np.float32] | DataError]:
        try:
            return sample, spec.preprocess(views.image(images.get(sample), sample, spec))
        except DataError as error:
            return sample, error

    return prefetch(prepare, samples, threads=threads, ahead=ahead)


class _Images:
    """Decoded images, each kept while threads make its views, which come one after the other.

    Args:
        decode: how files become pixels.
        at_once: images kept.
    """

    def __init__(self, decode: DecodeSpec, *, at_once: int) -> None:
        self._decode = decode
        self._at_once = at_once
        self._lock = Lock()
        self._kept: dict[str, Future[NDArray[np.uint8]]] = {}

    def get(self, sample: ViewSample) -> NDArray[np.uint8]:
        """``(H, W, 3)`` uint8 RGB; decoded by the thread that asks first, waited for by the others.

        Raises:
            DataError: it cannot be decoded, or is not what it was when the data set was opened.
        """
        with self._lock:
            image = self._kept.get(sample.image_key)
            is_first = image is None
            if image is None:
                image = self._kept[sample.image_key] = Future()
                if len(self._kept) > self._at_once:
                    del self._kept[next(iter(self._kept))]
        if is_first:
            try:
                image.set_result(self._read(sample))
            except BaseException as error:
                image.set_exception(error)
        return image.result()

    def _read(self, sample: ViewSample) -> NDArray[np.uint8]:
        data = read_bytes(sample.path)
        if image_key(data, self._decode) != sample.image_key:
            raise DataError(
                "the file has changed since the data set was opened", where=sample.path, fix="open it again"
            )
        return decode_image(data, self._decode)


class Encoder:
    """The image encoder at one precision, on one device.

    Images that are too many for the device's memory are halved in number until they fit, for this call and all later.

    Args:
        sam: moved to ``device``.
        manifest: how it computes, and how its output is stored.
        device: to compute on.
        compile: let ``torch.compile`` make a faster encoder first, which takes a minute or more.

    Attributes:
        is_warm: whether the first call takes about as long as others.
    """

    def __init__(self, sam: Sam, manifest: Manifest, device: torch.device, *, compile: bool = False) -> None:
        self.device = device
        self.is_warm = device.type == "cpu" and not compile
        sam = sam.to(device).eval()
        self._encode: Callable[[torch.Tensor], dict[str, torch.Tensor]] = (
            torch.compile(sam.encode) if compile else sam.encode
        )
        self._storage = {name: getattr(torch, dtype) for name, dtype in manifest.storage.items()}
        self._compute: torch.dtype = getattr(torch, manifest.parts["precision"])
        self._most = 2**31

    @torch.inference_mode()
    def __call__(self, samples: Sequence[ViewSample], images: NDArray[np.float32]) -> Features:
        """Encode ``(B, 3, size, size)`` images, model frame; features in their storage dtypes.

        Raises:
            CacheError: one image alone is too large for the device, or the features are not finite in the storage.
            ConfigError: the encoder cannot be compiled here.
        """
        parts: list[Features] = []
        start = 0
        while start < len(images):
            piece = slice(start, start + self._most)
            features = self._features(samples[piece], images[piece])
            if features is None:
                self._halve(len(images[piece]))
                continue
            parts.append(features)
            start += len(images[piece])
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _features(self, samples: Sequence[ViewSample], images: NDArray[np.float32]) -> Features | None:
        """The features, or None if they do not fit into memory."""
        is_low = self._compute != torch.float32
        try:
            with _exact_float32(), torch.autocast(self.device.type, self._compute, enabled=is_low):
                features = self._encode(torch.from_numpy(images).to(self.device))
            stored = {name: tensor.to(self._storage[name]) for name, tensor in features.items()}
            for name, tensor in stored.items():
                if not bool(tensor.isfinite().all()):
                    self._explain_overflow(samples, name, features[name], tensor)
            return {name: tensor.cpu().numpy() for name, tensor in stored.items()}
        except RuntimeError as error:
            if _is_out_of_memory(error):
                return None
            if (reason := why_refused(error)) is not None:
                raise ConfigError(
                    f"the encoder cannot be compiled: {reason}",
                    where="compile",
                    fix="encode without compile (--compile)",
                ) from error
            raise

    def _halve(self, images: int) -> None:
        # Only here, outside the handler, has the error let go of the tensors that were half made.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if images == 1:
            raise CacheError(
                f"{self.device} has not enough memory to encode one image",
                where="device",
                fix="end what else uses it, or encode on another device; what is encoded stays",
            )
        self._most = images // 2
        say(f"  {self.device} has not enough memory for {images} images at once: going on with {self._most}")

    def _explain_overflow(
        self, samples: Sequence[ViewSample], name: str, computed: torch.Tensor, stored: torch.Tensor
    ) -> None:
        first = next(index for index, row in enumerate(stored) if not bool(row.isfinite().all()))
        where = samples[first].name
        if not bool(computed[first].isfinite().all()):
            fix = "check the checkpoint: its weights are damaged"
            if self._compute == torch.float16:
                fix = 'float16 ends at 65504: use precision="bf16" or "fp32" and another out='
            raise CacheError(f"the encoder's {name} are not finite", where=where, fix=fix)
        largest = float(computed[first].abs().max())
        raise CacheError(
            f"{name} reach {largest:.4g}, beyond what float16 can hold",
            where=where,
            fix='use storage="float32" and another out=',
        )


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out: PyTorch says so by type on a GPU, its CPU allocator and cuBLAS say it in words."""
    words = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


@contextmanager
def _exact_float32() -> Iterator[None]:
    """Float32 in float32: not in TensorFloat-32 or bfloat16, as a process may be told to and no fingerprint tells."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions

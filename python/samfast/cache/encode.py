"""Images through the frozen encoder: decoded and preprocessed ahead by threads, encoded in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from samfast.cache.format import Features, Manifest
from samfast.data.images import DecodeSpec, decode_image, image_key, read_bytes
from samfast.data.parallel import thread_count
from samfast.data.types import Sample
from samfast.errors import CacheError, DataError
from samfast.frames import PreprocessSpec
from samfast.models.sam import Sam


def prepared(
    samples: Sequence[Sample], spec: PreprocessSpec, decode: DecodeSpec, *, ahead: int
) -> Generator[tuple[Sample, NDArray[np.float32] | DataError], None, None]:
    """Read, decode and preprocess images in threads.

    Args:
        samples: what to read, in this order.
        spec: the model's preprocessing.
        decode: how files become pixels.
        ahead: images prepared, or being prepared, before they are asked for; bounds memory.

    Yields:
        each sample with its ``(3, size, size)`` float32 model input, or with the error that it made.
    """
    executor = ThreadPoolExecutor(thread_count(), "samfast-prepare")
    waiting: deque[tuple[Sample, Future[NDArray[np.float32] | DataError]]] = deque()
    try:
        for sample in samples:
            waiting.append((sample, executor.submit(_prepare, sample, spec, decode)))
            if len(waiting) > ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _prepare(sample: Sample, spec: PreprocessSpec, decode: DecodeSpec) -> NDArray[np.float32] | DataError:
    try:
        data = read_bytes(sample.path)
        if image_key(data, decode) != sample.key:
            return DataError(
                "the file has changed since the data set was opened", where=sample.path, fix="open it again"
            )
        return spec.preprocess(decode_image(data, decode))
    except DataError as error:
        return error


class Encoder:
    """The image encoder at one precision, on one device.

    Args:
        sam: moved to ``device``.
        manifest: how its output is stored.
        device: to compute on.
    """

    def __init__(self, sam: Sam, manifest: Manifest, device: torch.device) -> None:
        self.device = device
        self._sam = sam.to(device).eval()
        self._storage = {name: getattr(torch, dtype) for name, dtype in manifest.storage.items()}
        self._is_bfloat16 = manifest.parts["precision"] == "bfloat16"

    @torch.inference_mode()
    def __call__(self, samples: Sequence[Sample], images: NDArray[np.float32]) -> Features:
        """Encode ``(B, 3, size, size)`` images, model frame; features in their storage dtypes."""
        try:
            with _exact_float32(), torch.autocast(self.device.type, torch.bfloat16, enabled=self._is_bfloat16):
                features = self._sam.encode(torch.from_numpy(images).to(self.device))
        except torch.OutOfMemoryError:
            raise CacheError(
                f"{self.device} has not enough memory to encode {len(images)} images at once",
                where="batch_size",
                fix="give a smaller batch_size and run again: it continues",
            ) from None
        stored = {name: tensor.to(self._storage[name]) for name, tensor in features.items()}
        for name, tensor in stored.items():
            if not bool(tensor.isfinite().all()):
                _explain_overflow(samples, name, features[name], tensor)
        return {name: tensor.cpu().numpy() for name, tensor in stored.items()}


def _explain_overflow(samples: Sequence[Sample], name: str, computed: torch.Tensor, stored: torch.Tensor) -> None:
    first = next(index for index, row in enumerate(stored) if not bool(row.isfinite().all()))
    where = samples[first].name
    if not bool(computed[first].isfinite().all()):
        raise CacheError(
            f"the encoder's {name} are not finite", where=where, fix="check the checkpoint: its weights are damaged"
        )
    largest = float(computed[first].abs().max())
    raise CacheError(
        f"{name} reach {largest:.4g}, beyond what float16 can hold",
        where=where,
        fix='use storage="float32" and another out=',
    )


@contextmanager
def _exact_float32() -> Iterator[None]:
    """Float32 convolutions without TensorFloat-32, which cuDNN would use and the fingerprint would not tell."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before

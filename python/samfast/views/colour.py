"""Steps that change colour, sharpness and noise. Torchvision computes what it has; the draws are the step's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samfast.views.recipe import Image

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Colour:
    """Brightness, contrast, saturation, hue and gamma, as ``torchvision.transforms.v2.ColorJitter`` and gamma.

    Attributes:
        brightness: the factor is within 1 - this and 1 + this, uniform; and so for contrast and saturation.
        contrast: see ``brightness``.
        saturation: see ``brightness``.
        hue: the largest shift to either side, of the whole circle.
        gamma: the exponent is within 1 / (1 + this) and 1 + this, log-uniform.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gamma: float = 0.0

    name: ClassVar[str] = "colour"
    version: ClassVar[int] = 1

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """``(H, W, 3)`` uint8 RGB to the same."""
        import torchvision.transforms.v2.functional as v2

        spread = 2 * rng.random(5) - 1
        tensor = _to_tensor(image)
        if self.brightness:
            tensor = v2.adjust_brightness(tensor, 1 + self.brightness * spread[0])
        if self.contrast:
            tensor = v2.adjust_contrast(tensor, 1 + self.contrast * spread[1])
        if self.saturation:
            tensor = v2.adjust_saturation(tensor, 1 + self.saturation * spread[2])
        if self.hue:
            tensor = v2.adjust_hue(tensor, self.hue * spread[3])
        if self.gamma:
            tensor = v2.adjust_gamma(tensor, (1 + self.gamma) ** spread[4])
        return _to_image(tensor)


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur.

    Attributes:
        sigma: the largest, as a fraction of the image's longest side, so that it looks alike at every size; uniform
            from none.
        probability: that there is any.
    """

    sigma: float = 0.002
    probability: float = 0.5

    name: ClassVar[str] = "blur"
    version: ClassVar[int] = 1

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """``(H, W, 3)`` uint8 RGB to the same."""
        import torchvision.transforms.v2.functional as v2

        chance, share = rng.random(2)
        sigma_px = float(self.sigma * share * max(image.shape))
        reach = math.ceil(3 * sigma_px)
        if chance >= self.probability or not 0 < reach < min(image.shape[:2]):
            return image
        tensor = _to_tensor(image)
        for kernel in (
            [2 * reach + 1, 1],
            [1, 2 * reach + 1],
        ):  # one axis after the other: torchvision's is not separable
            tensor = v2.gaussian_blur(tensor, kernel, [sigma_px, sigma_px])
        return _to_image(tensor)


@dataclass(frozen=True)
class Noise:
    """Gaussian noise, independent in every pixel and channel.

    Torchvision's draws from a generator that all threads share; this one is the view's.

    Attributes:
        sigma: the largest, in grey levels of 255; uniform from none.
        probability: that there is any.
    """

    sigma: float = 8.0
    probability: float = 0.5

    name: ClassVar[str] = "noise"
    version: ClassVar[int] = 1

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """``(H, W, 3)`` uint8 RGB to the same."""
        chance, share = rng.random(2)
        if chance >= self.probability:
            return image
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(self.sigma * share)
        return np.clip(image + noise + 0.5, 0, 255).astype(np.uint8)


def _to_tensor(image: Image) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _to_image(tensor: Tensor) -> Image:
    image: Image = np.ascontiguousarray(tensor.numpy().transpose(1, 2, 0))
    return image

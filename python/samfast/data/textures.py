"""Procedural textures for the generated images: band-limited noise and surfaces made from it.

Everything draws from the generator it is given and from nothing else, in float32 on a 0..255 scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from samfast.errors import RuntimeUnavailableError

FloatImage = NDArray[np.float32]
"""``(H, W)`` or ``(H, W, 3)`` float32."""


def need_opencv() -> None:
    """Say what to install where OpenCV is missing.

    Raises:
        RuntimeUnavailableError: OpenCV is not installed.
    """
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"generating images needs OpenCV: {error}", fix="pip install 'samfast[train]'"
        ) from None


def rgb(values: Sequence[float] | Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """One colour, or one a row, as float32."""
    return np.asarray(values, np.float32)


def fractal_noise(
    rng: np.random.Generator, height: int, width: int, cell_px: float, *, octaves: int = 4, roughness: float = 0.55
) -> FloatImage:
    """``(H, W)`` smooth noise of about zero mean and unit deviation.

    Args:
        rng: the only source of randomness.
        height: of the result, pixels.
        width: of the result, pixels.
        cell_px: size of the largest features, pixels.
        octaves: how many times the features are halved (never below two pixels).
        roughness: amplitude of each octave relative to the one before.
    """
    import cv2

    out = np.zeros((height, width), np.float32)
    amplitude, power = 1.0, 0.0
    for _ in range(octaves):
        rows, columns = int(height / cell_px) + 4, int(width / cell_px) + 4
        grid = rng.standard_normal((rows, columns), dtype=np.float32)
        shift_y, shift_x = rng.random(2) + 1.0
        to_grid = np.array([[1 / cell_px, 0, shift_x], [0, 1 / cell_px, shift_y]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        if cell_px > 3:  # bicubic hides the lattice where cells are wide
            flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        layer = cv2.warpAffine(grid, to_grid, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)
        out += np.float32(amplitude) * layer
        power += amplitude**2
        amplitude *= roughness
        cell_px /= 2
        if cell_px < 1.5:
            break
    return np.asarray(out / np.float32(0.65 * power**0.5), np.float32)


def stripes(
    rng: np.random.Generator, height: int, width: int, period_px: float, *, angle: float, warp_px: float = 0.0
) -> FloatImage:
    """``(H, W)`` waves in -1..1 across direction ``angle`` (radians), bent by noise of ``warp_px``."""
    y = np.arange(height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    x = np.arange(width, dtype=np.float32)[None, :] * np.float32(np.cos(angle))
    phase = x + y
    if warp_px > 0:
        phase = phase + np.float32(warp_px) * fractal_noise(rng, height, width, max(height, width) / 3, octaves=2)
    return np.asarray(np.sin(phase * np.float32(2 * np.pi / period_px) + np.float32(rng.random() * 6.28)), np.float32)


KINDS = ("flat", "clouds", "stripes", "rows", "gradient", "speckle", "patches", "ridges", "bumps")


def surface(
    rng: np.random.Generator,
    height: int,
    width: int,
    colour: NDArray[np.float32],
    *,
    kind: str | None = None,
    strength: float = 20.0,
) -> FloatImage:
    """``(H, W, 3)`` patch of a textured surface around ``colour`` (RGB, 0..255), modulated by about ``strength``."""
    kind = KINDS[rng.integers(len(KINDS))] if kind is None else kind
    side = max(height, width)
    cell_px = float(np.exp(rng.uniform(np.log(3.0), np.log(max(6.0, side / 2)))))
    angle, period_px = rng.uniform(0, np.pi), float(rng.uniform(3, 4 + min(side, 256) / 8))
    if kind == "flat":
        field = np.zeros((height, width), np.float32)
    elif kind == "clouds":
        field = fractal_noise(rng, height, width, cell_px, roughness=float(rng.uniform(0.4, 0.8)))
    elif kind == "stripes":
        field = stripes(rng, height, width, period_px, angle=angle, warp_px=float(rng.uniform(0, 6)))
        if rng.random() < 0.4:
            field = np.sign(field)
    elif kind == "rows":
        field = stripes(rng, height, width, float(rng.uniform(2.5, 8)), angle=angle)
        field = field * np.float32(0.6) + fractal_noise(rng, height, width, max(8.0, cell_px), octaves=3)
    elif kind == "gradient":
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(2 * angle))
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(np.cos(2 * angle))
        field = np.float32(1.5) * (x + y)
    elif kind == "speckle":
        field = fractal_noise(rng, height, width, float(rng.uniform(1.5, 4)), octaves=1)
    elif kind == "patches":
        field = np.sign(fractal_noise(rng, height, width, cell_px, octaves=3) - np.float32(rng.uniform(-0.5, 0.8)))
    elif kind == "ridges":
        field = np.float32(1.2) - np.float32(2) * np.abs(fractal_noise(rng, height, width, cell_px, octaves=3))
    else:  # bumps: clumps with a lit and a shaded side
        relief = fractal_noise(rng, height, width, float(rng.uniform(4, 12)), octaves=2)
        field = np.zeros_like(relief)
        if height > 2 and width > 2:
            field[1:, 1:] = np.float32(3) * (relief[1:, 1:] - relief[:-1, :-1])
    tint = rng.normal(1.0, 0.35, 3).astype(np.float32)
    out = colour[None, None] + np.float32(strength) * field[..., None] * tint
    grain = float(rng.uniform(0, 6))
    if grain > 1:
        out += np.float32(grain) * rng.standard_normal((height, width, 1), dtype=np.float32)
    return np.asarray(out, np.float32)


def photograph(
    rng: np.random.Generator, scene: FloatImage, *, blur_px: float, noise: float, jpeg_quality: int | None
) -> NDArray[np.uint8]:
    """What a camera makes of ``scene``, ``(H, W, 3)`` float32 RGB: blur, sensor noise and JPEG, ``(H, W, 3)`` uint8."""
    import cv2

    if blur_px > 0.2:
        scene = np.asarray(cv2.GaussianBlur(scene, (0, 0), blur_px), np.float32)
    if noise > 0.5:
        scene = scene + np.float32(noise) * rng.standard_normal(scene.shape, dtype=np.float32)
    image = np.clip(scene, 0, 255).astype(np.uint8)
    if jpeg_quality is None:
        return image
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])

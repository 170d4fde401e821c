"""Generated images of class-agnostic objects with exact instance maps: what ``tiny`` is pre-trained and tested on.

An image is a pure function of ``(seed, index, size)``. Half of the images are loose arrangements of shapes, half are
landscape-like: ground divided into plots that differ by texture or tint, crossed by bands and dotted with clutter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from samfast.data.textures import FloatImage, fractal_noise, need_opencv, photograph, rgb, surface

Mask = NDArray[np.bool_]

MAX_OBJECTS = 12
"""Most objects an image has."""
MIN_AREA = 48
"""Objects of which fewer pixels are visible are merged into the background."""

_EARTH = np.array(
    [
        [96, 116, 68], [120, 138, 84], [74, 92, 58], [142, 146, 104], [58, 74, 50], [160, 142, 112], [134, 112, 86],
        [112, 96, 78], [178, 164, 136], [150, 126, 98], [124, 128, 126], [160, 160, 156], [92, 96, 98], [104, 118, 126],
        [132, 142, 148], [176, 184, 186], [150, 96, 78], [84, 82, 66],
    ],
    np.float32,
)  # fmt: skip
"""RGB of ground, crops, soil, asphalt, mud, roofs: the tints of landscape-like images."""


def shape_scene(
    seed: int, index: int, *, size: tuple[int, int] = (256, 256)
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Generate image ``index`` of the stream ``seed``.

    Args:
        seed: names an endless stream of images.
        index: position in the stream; images can be made in any order.
        size: (height, width) in pixels.

    Returns:
        The image, ``(H, W, 3)`` uint8 RGB, and its instance map, ``(H, W)`` int32: 0 is background, 1..n are the
        objects' visible pixels.

    Raises:
        RuntimeUnavailableError: OpenCV is not installed.

    >>> image, labels = shape_scene(0, 7, size=(96, 128))
    >>> image.shape, image.dtype.name, labels.shape, labels.dtype.name
    ((96, 128, 3), 'uint8', (96, 128), 'int32')
    """
    need_opencv()
    rng = np.random.Generator(np.random.PCG64([seed, index]))
    canvas = _Canvas(rng, *size, earthy=rng.random() < 0.55)
    if canvas.earthy:
        _landscape(canvas)
    else:
        _arrangement(canvas)
    return canvas.finish()


class _Canvas:
    """The scene while it is painted: a float image and the instance map under it."""

    def __init__(self, rng: np.random.Generator, height: int, width: int, *, earthy: bool) -> None:
        self.rng, self.height, self.width, self.earthy = rng, height, width, earthy
        self.labels = np.zeros((height, width), np.int32)
        self.count = 0
        self.ground = self.colour()
        self.contrast = float(np.exp(rng.uniform(np.log(12), np.log(110))))
        strength = float(rng.uniform(3, 26))
        self.image = surface(rng, height, width, self.ground, strength=strength)

    @property
    def side(self) -> int:
        return min(self.height, self.width)

    def colour(self) -> NDArray[np.float32]:
        if self.earthy:
            base = _EARTH[self.rng.integers(len(_EARTH))] * np.float32(self.rng.uniform(0.7, 1.25))
            return np.asarray(base + self.rng.normal(0, 8, 3).astype(np.float32), np.float32)
        return self.rng.uniform(10, 245, 3).astype(np.float32)

    def object_colour(self) -> NDArray[np.float32]:
        """A tint at the scene's typical distance from the ground: some scenes are of low contrast throughout."""
        if self.rng.random() < 0.45:
            return self.colour()
        direction = self.rng.standard_normal(3).astype(np.float32)
        if self.earthy:
            direction = direction * np.float32(0.5) + np.float32(self.rng.choice([-1.0, 1.0]))
        direction /= np.float32(np.linalg.norm(direction) + 1e-6)
        return np.clip(self.ground + np.float32(self.contrast) * direction, 4, 250)

    def paint(
        self, mask: Mask, *, labelled: bool = True, colour: NDArray[np.float32] | None = None, shadow: bool = False
    ) -> bool:
        """Fill ``mask`` with a new surface as the next object, or as clutter that belongs to the background."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows) == 0 or (labelled and self.count >= MAX_OBJECTS):
            return False
        if shadow:
            self._cast_shadow(mask)
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        inside = mask[window]
        colour = self.object_colour() if colour is None else colour
        height, width = inside.shape
        fill = surface(self.rng, height, width, colour, strength=float(self.rng.uniform(2, 28)))
        np.copyto(self.image[window], fill, where=inside[..., None])
        self.count += labelled
        self.labels[window][inside] = self.count if labelled else 0
        return True

    def _cast_shadow(self, mask: Mask) -> None:
        dy, dx = (int(step) for step in self.rng.integers(-self.side // 32, self.side // 32 + 1, 2))
        shifted = np.zeros_like(mask)
        height, width = mask.shape
        shifted[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = mask[
            max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
        ]
        self.image[shifted] *= np.float32(self.rng.uniform(0.35, 0.8))

    def finish(self) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        rng = self.rng
        image = self.image
        if rng.random() < 0.6:  # uneven light
            light = fractal_noise(rng, self.height, self.width, max(self.height, self.width) * 0.7, octaves=2)
            image = image * (1 + np.float32(rng.uniform(0.03, 0.16)) * light)[..., None]
        if rng.random() < 0.3:  # haze
            haze = np.float32(rng.uniform(0.1, 0.45))
            image = image * (1 - haze) + haze * rng.uniform(120, 220, 3).astype(np.float32)
        blur_px = float(rng.uniform(0.3, 1.3)) if rng.random() < 0.85 else 0.0
        quality = int(rng.integers(35, 96)) if rng.random() < 0.6 else None
        photo = photograph(rng, image, blur_px=blur_px, noise=float(rng.uniform(0, 7)), jpeg_quality=quality)
        areas = np.bincount(self.labels.ravel(), minlength=self.count + 1)
        kept = areas >= MIN_AREA
        kept[0] = False
        renumber = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
        return photo, renumber[self.labels]


def _arrangement(canvas: _Canvas) -> None:
    """Shapes of any kind on a ground, overlapping and nested, among unlabelled look-alikes."""
    rng = canvas.rng
    if rng.random() < 0.4:
        canvas.paint(_region(canvas), labelled=rng.random() < 0.5)
    for _ in range(int(rng.integers(1, MAX_OBJECTS + 1))):
        mask = _any_shape(canvas, float(np.exp(rng.uniform(np.log(0.035), np.log(0.45)))))
        canvas.paint(mask, shadow=rng.random() < 0.25)
        if rng.random() < 0.15:  # a smaller one on top of it
            canvas.paint(_any_shape(canvas, float(rng.uniform(0.03, 0.1)), centre=_pixel_of(rng, mask)))
    if rng.random() < 0.2:
        _clutter(canvas, labelled_hosts=True)


def _landscape(canvas: _Canvas) -> None:
    """Plots, wide regions with ragged edges, bands and small things, told apart by texture as much as by tint."""
    rng = canvas.rng
    if rng.random() < 0.6:
        plots = _plots(canvas, int(rng.integers(2, 9)))
        for plot in range(plots.max() + 1):
            canvas.paint(plots == plot, labelled=rng.random() < 0.6)
    for _ in range(int(rng.integers(1, 4))):
        canvas.paint(_region(canvas))
    for _ in range(int(rng.integers(0, 3))):
        canvas.paint(_band(canvas, float(rng.uniform(0.008, 0.05))), labelled=rng.random() < 0.7)
    for _ in range(int(rng.integers(0, 6))):
        mask = _any_shape(canvas, float(np.exp(rng.uniform(np.log(0.025), np.log(0.14)))))
        canvas.paint(mask, shadow=rng.random() < 0.6)
    if rng.random() < 0.7:
        _clutter(canvas, labelled_hosts=rng.random() < 0.8)


def _clutter(canvas: _Canvas, *, labelled_hosts: bool) -> None:
    """Small alike things strewn about; what they hide is no longer part of the object under them."""
    import cv2

    rng = canvas.rng
    dots = np.zeros((canvas.height, canvas.width), np.uint8)
    centre, spread = rng.random(2), rng.uniform(0.05, 0.5)
    radius_px = rng.uniform(0.008, 0.03) * canvas.side
    for _ in range(int(rng.integers(3, 40))):
        x, y = (centre + spread * rng.standard_normal(2)) * (canvas.width, canvas.height)
        axes = np.maximum(1, radius_px * rng.uniform(0.6, 1.5, 2)).astype(int)
        cv2.ellipse(dots, (int(x), int(y)), (int(axes[0]), int(axes[1])), float(rng.uniform(0, 180)), 0, 360, 1, -1)
    mask = dots.astype(bool)
    if not labelled_hosts:
        mask &= canvas.labels == 0
    canvas.paint(mask, labelled=False, shadow=rng.random() < 0.5)


def _plots(canvas: _Canvas, count: int) -> NDArray[np.int64]:
    """``(H, W)`` index of the nearest of ``count`` seeds under a sheared, slightly bent metric."""
    rng = canvas.rng
    height, width = canvas.height, canvas.width
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    if rng.random() < 0.5:
        bend_px = np.float32(rng.uniform(0.005, 0.05) * canvas.side)
        x = x + bend_px * fractal_noise(rng, height, width, canvas.side / 4, octaves=3)
    angle = rng.uniform(0, np.pi)
    u = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    v = np.float32(np.cos(angle)) * y - np.float32(np.sin(angle)) * x
    seeds = rng.random((count, 2)).astype(np.float32) * rgb([width, height])
    stretch = np.float32(rng.uniform(0.4, 2.5))
    best = np.full((height, width), np.inf, np.float32)
    nearest = np.zeros((height, width), np.int64)
    manhattan = rng.random() < 0.5
    for i, (seed_x, seed_y) in enumerate(seeds):
        du = u - np.float32(np.cos(angle) * seed_x + np.sin(angle) * seed_y)
        dv = (v - np.float32(np.cos(angle) * seed_y - np.sin(angle) * seed_x)) * stretch
        distance = np.maximum(np.abs(du), np.abs(dv)) if manhattan else du * du + dv * dv
        closer = distance < best
        best[closer] = distance[closer]
        nearest[closer] = i
    return nearest


def _region(canvas: _Canvas) -> Mask:
    """A wide area with a ragged shore: where noise over a slope is high. May come in pieces and with holes."""
    rng = canvas.rng
    height, width = canvas.height, canvas.width
    field = fractal_noise(
        rng,
        height,
        width,
        canvas.side * float(rng.uniform(0.2, 0.9)),
        octaves=6,
        roughness=float(rng.uniform(0.3, 0.6)),
    )
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.float32(rng.uniform(0, 2.5))
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(np.cos(angle))
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    field = np.asarray(field + slope * (x + y), np.float32)
    mask = field > np.quantile(field[::4, ::4], 1 - rng.uniform(0.06, 0.6))
    return mask if rng.random() < 0.3 else _largest_piece(mask)


def _largest_piece(mask: Mask) -> Mask:
    import cv2

    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    if count < 2:
        return mask
    return np.asarray(pieces == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])), np.bool_)


def _pixel_of(rng: np.random.Generator, mask: Mask) -> tuple[float, float] | None:
    pixels = np.flatnonzero(mask)
    if len(pixels) == 0:
        return None
    y, x = divmod(int(pixels[rng.integers(len(pixels))]), mask.shape[1])
    return float(x), float(y)


def _any_shape(canvas: _Canvas, extent: float, *, centre: tuple[float, float] | None = None) -> Mask:
    """A shape of a random kind of about ``extent`` times the image's side in radius."""
    kinds = (_blob, _blob, _polygon, _polygon, _ellipse, _ring, _strip, _arc, _glyphs, _holed)
    rng = canvas.rng
    if centre is None:
        x, y = rng.uniform(-0.02, 1.02, 2) * (canvas.width, canvas.height)
        centre = (float(x), float(y))
    stamp = np.zeros((canvas.height, canvas.width), np.uint8)
    kinds[rng.integers(len(kinds))](rng, stamp, centre, max(4.0, extent * canvas.side))
    return stamp.view(np.bool_)


def _fill(stamp: NDArray[np.uint8], outline: NDArray[np.floating], value: int = 1) -> None:
    import cv2

    cv2.fillPoly(stamp, [np.round(outline).astype(np.int32)], value)


def _turned(rng: np.random.Generator, points: NDArray[np.floating], centre: tuple[float, float]) -> FloatImage:
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(points @ turn.T + np.asarray(centre), np.float32)


def _blob(rng: np.random.Generator, stamp: NDArray[np.uint8], centre: tuple[float, float], radius_px: float) -> None:
    theta = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = np.ones_like(theta)
    for k in range(2, int(rng.integers(4, 10))):
        radius += rng.normal(0, 0.45 / k) * np.cos(k * theta + rng.uniform(0, 2 * np.pi))
    radius = radius_px * np.maximum(radius, 0.15)
    outline = np.stack([radius * np.cos(theta) * rng.uniform(0.5, 1.3), radius * np.sin(theta)], axis=1)
    _fill(stamp, _turned(rng, outline, centre))


def _polygon(rng: np.random.Generator, stamp: NDArray[np.uint8], centre: tuple[float, float], radius_px: float) -> None:
    kind = rng.random()
    if kind < 0.45:  # rectangle
        half = radius_px * np.array([1.0, rng.uniform(0.25, 1.0)])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    elif kind < 0.65:  # L
        a, b = rng.uniform(0.25, 0.75, 2)
        corners = radius_px * (np.array([[0, 0], [2, 0], [2, 2 * a], [2 * b, 2 * a], [2 * b, 2], [0, 2]]) - 1)
    else:  # star-shaped, convex or spiky
        theta = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 10))))
        radius = radius_px * rng.uniform(rng.uniform(0.3, 1.0), 1.1, len(theta))
        corners = np.stack([radius * np.cos(theta), radius * np.sin(theta)], axis=1)
    _fill(stamp, _turned(rng, corners, centre))


def _ellipse(rng: np.random.Generator, stamp: NDArray[np.uint8], centre: tuple[float, float], radius_px: float) -> None:
    theta = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    outline = radius_px * np.stack([np.cos(theta), rng.uniform(0.3, 1.0) * np.sin(theta)], axis=1)
    _fill(stamp, _turned(rng, outline, centre))


def _ring(rng: np.random.Generator, stamp: NDArray[np.uint8], centre: tuple[float, float], radius_px: float) -> None:
    theta = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    outline = radius_px * np.stack([np.cos(theta), rng.uniform(0.5, 1.0) * np.sin(theta)], axis=1)
    placed = _turned(rng, outline, centre)
    _fill(stamp, placed)
    _fill(stamp, (placed - np.asarray(centre)) * rng.uniform(0.4, 0.8) + np.asarray(centre), 0)


def _strip(rng: np.random.Generator, stamp: NDArray[np.uint8], centre: tuple[float, float], radius_px: float) -> None:
    half = radius_px * np.array([rng.uniform(1.5, 3.0), rng.uniform(0.08, 0.3)])
    _fill(stamp, _turned(rng, np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half, centre))


def _arc(rng: np.random.Generator, stamp: NDArray[np.uint8], centre: tuple[float, float], radius_px: float) -> None:
    theta = np.linspace(0, rng.uniform(1.2, 5.0), 48)
    outer = radius_px * rng.uniform(0.9, 1.4) * (1 + rng.uniform(-0.08, 0.08) * theta)
    inner = outer - radius_px * rng.uniform(0.2, 0.45)
    ray = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    _fill(stamp, _turned(rng, np.concatenate([ray * outer[:, None], (ray * inner[:, None])[::-1]]), centre))


def _glyphs(rng: np.random.Generator, stamp: NDArray[np.uint8], centre: tuple[float, float], radius_px: float) -> None:
    import cv2

    text = "".join(chr(65 + int(rng.integers(26))) for _ in range(int(rng.integers(1, 4))))
    scale = radius_px / 14
    thickness = max(2, int(scale * rng.uniform(2.5, 6)))
    origin = (int(centre[0] - radius_px * 0.7 * len(text)), int(centre[1] + radius_px * 0.7))
    cv2.putText(stamp, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, 1, thickness)


def _holed(rng: np.random.Generator, stamp: NDArray[np.uint8], centre: tuple[float, float], radius_px: float) -> None:
    (_polygon if rng.random() < 0.5 else _blob)(rng, stamp, centre, radius_px)
    for _ in range(int(rng.integers(1, 5))):
        at = np.asarray(centre) + rng.normal(0, 0.4 * radius_px, 2)
        hole = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * radius_px * rng.uniform(0.08, 0.25, 2)
        _fill(stamp, _turned(rng, hole, (float(at[0]), float(at[1]))), 0)


def _band(canvas: _Canvas, half_width: float) -> Mask:
    """A road or river: a smooth line from side to side, ``half_width`` in units of the image's side."""
    import cv2

    rng = canvas.rng
    t = np.linspace(-0.2, 1.2, 40)
    bend = rng.normal(0, 0.25) * np.sin(2 * np.pi * t * rng.uniform(0.4, 1.2) + rng.uniform(0, 6.28))
    across = rng.uniform(0.1, 0.9) + rng.normal(0, 0.4) * (t - 0.5) + bend * (rng.random() < 0.7)
    line = np.stack([t, across], axis=1)
    if rng.random() < 0.5:
        line = line[:, ::-1]
    line = line * (canvas.width, canvas.height)
    stamp = np.zeros((canvas.height, canvas.width), np.uint8)
    thickness = max(2, round(2 * half_width * canvas.side))
    cv2.polylines(stamp, [np.round(line).astype(np.int32)], isClosed=False, color=1, thickness=thickness)
    return stamp.view(np.bool_)

"""Generated farmland seen from above: terrain, fields, roads, villages and trees, painted layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from samfast.data.textures import FloatImage, fractal_noise, rgb

Mask = NDArray[np.bool_]

CROPS = rgb(
    [[98, 118, 66], [122, 136, 82], [78, 98, 58], [142, 142, 92], [166, 152, 104], [86, 108, 74], [112, 122, 88]]
)
"""RGB of growing, ripe and cut fields."""
SOILS = rgb([[132, 112, 86], [112, 94, 74], [150, 130, 102], [94, 84, 68], [122, 108, 94]])
"""RGB of bare and wet fields."""
ROOFS = rgb(
    [[148, 84, 66], [124, 78, 66], [112, 108, 104], [84, 84, 88], [176, 172, 164], [156, 128, 104], [96, 120, 140]]
)
"""RGB of roofs."""
LEAVES = rgb([[56, 78, 42], [68, 88, 50], [46, 66, 40], [84, 96, 56], [62, 72, 52]])
"""RGB of tree crowns."""


@dataclass
class Landscape:
    """The scene while it is painted. Lengths of things on the ground are metres times ``metre_px``.

    Attributes:
        image: ``(H, W, 3)`` float32, the ground and all that lies on it.
        ground: ``(H, W)`` float32 height of the terrain, about 0 +- 1.
        water: ``(H, W)`` bool.
        layer: ``(H, W, 3)`` uint8, colours of what stands on the ground.
        standing: ``(H, W)`` uint8, 1 where something stands.
        shade: ``(H, W)`` uint8, 1 where it casts a shadow.
        raised: ``(H, W)`` bool, roads above the flood.
    """

    rng: np.random.Generator
    height: int
    width: int
    metre_px: float
    image: FloatImage = field(init=False)
    ground: FloatImage = field(init=False)
    water: Mask = field(init=False)
    raised: Mask = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.height, self.width)
        self.image = np.zeros((*shape, 3), np.float32)
        self.water, self.raised = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        self.layer = np.zeros((*shape, 3), np.uint8)
        self.standing, self.shade = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        azimuth = self.rng.uniform(0, 2 * np.pi)
        self.sun = np.array([np.cos(azimuth), np.sin(azimuth)])
        self.heading = self.rng.uniform(0, np.pi)
        self.corridors: list[NDArray[np.float64]] = []

    def noise(self, cell_px: float, *, octaves: int = 4, roughness: float = 0.55) -> FloatImage:
        """:func:`fractal_noise` over the scene; without fine octaves it is made small and enlarged."""
        import cv2

        shrink = int(np.clip(cell_px / 2 ** (octaves - 1) / 3, 1, 8))
        rows, columns = -(-self.height // shrink), -(-self.width // shrink)
        small = fractal_noise(self.rng, rows, columns, cell_px / shrink, octaves=octaves, roughness=roughness)
        if shrink == 1:
            return small
        return np.asarray(cv2.resize(small, (self.width, self.height), interpolation=cv2.INTER_LINEAR), np.float32)

    def glow(self, at: NDArray[np.float64], radius_px: float) -> FloatImage:
        """``(H, W)``: 1 at ``at`` (x, y), falling off as a Gaussian of ``radius_px``."""
        x, y = np.arange(self.width) - at[0], np.arange(self.height) - at[1]
        return np.outer(np.exp(-((y / radius_px) ** 2)), np.exp(-((x / radius_px) ** 2))).astype(np.float32)

    def anywhere(self) -> NDArray[np.float64]:
        """A random place, (x, y) in pixels."""
        return self.rng.random(2) * (self.width, self.height)

    def pick(self, palette: NDArray[np.float32], spread: float = 4.0) -> NDArray[np.float32]:
        """A colour near one of the palette's."""
        colour = palette[self.rng.integers(len(palette))] * np.float32(self.rng.uniform(0.85, 1.15))
        return np.asarray(colour + self.rng.normal(0, spread, 3), np.float32)


def farmland(rng: np.random.Generator, height: int, width: int, *, metre_px: float) -> Landscape:
    """Dry land of ``height`` x ``width`` pixels. What stands on it is kept apart, for water to come in between."""
    scene = Landscape(rng, height, width, metre_px)
    _terrain(scene)
    _fields(scene)
    _roads(scene)
    _settle(scene)
    _plant(scene)
    return scene


def _terrain(scene: Landscape) -> None:
    """Rolling ground with a slope, and in some scenes a valley along a winding line."""
    rng = scene.rng
    long_px = max(scene.height, scene.width)
    ground = scene.noise(long_px * float(rng.uniform(0.3, 0.8)), octaves=6, roughness=float(rng.uniform(0.35, 0.5)))
    x = np.linspace(-1, 1, scene.width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, scene.height, dtype=np.float32)[:, None]
    along, across = (x, y) if rng.random() < 0.5 else (y, x)
    ground = ground + np.float32(rng.normal(0, 0.7)) * x + np.float32(rng.normal(0, 0.7)) * y
    if rng.random() < 0.45:
        bed = rng.uniform(-0.5, 0.5) + rng.uniform(0.1, 0.4) * np.sin(rng.uniform(1, 4) * along + rng.uniform(0, 6.28))
        ground = ground - np.float32(2.5) * np.exp(-(((across - bed) / rng.uniform(0.1, 0.3)) ** 2))
    scene.ground = np.asarray(ground, np.float32)


def _fields(scene: Landscape) -> None:
    """A patchwork of fields: lit patches of crop or soil, each with its own rows, tracks and damp spots."""
    rng = scene.rng
    height, width = scene.height, scene.width
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    bend = scene.noise(40 * scene.metre_px, octaves=3)
    cos, sin = np.float32(np.cos(scene.heading)), np.float32(np.sin(scene.heading))
    u = cos * x + sin * y + np.float32(rng.uniform(0, 4) * scene.metre_px) * bend
    v = cos * y - sin * x
    plot = _grid_of_plots(rng, u, v, scene.metre_px)
    count = int(plot.max()) + 1
    tint = np.stack([scene.pick(SOILS if rng.random() < 0.3 else CROPS) for _ in range(count)])
    dampness = rng.random(count) < 0.18  # smooth dark fields that look like water
    tint[dampness] *= np.float32(0.68)
    waves = rng.uniform(0, 9, count).astype(np.float32)
    waves[dampness] *= np.float32(0.25)
    across = rng.random(count) < 0.5
    phase = np.where(across[plot], u, v) * np.float32(2 * np.pi / max(2.6, rng.uniform(1.2, 4) * scene.metre_px))
    fine = scene.noise(max(3.0, 3 * scene.metre_px), octaves=3)
    broad = scene.noise(60 * scene.metre_px, octaves=4)
    relief = waves[plot] * np.sin(phase) + np.where(dampness, 2, 7).astype(np.float32)[plot] * fine + 8 * broad
    scene.image = tint[plot] + relief[..., None] * rgb([1.0, 1.0, 0.85])
    edge = np.zeros((height, width), np.bool_)
    edge[:, 1:] |= plot[:, 1:] != plot[:, :-1]
    edge[1:] |= plot[1:] != plot[:-1]
    scene.image[edge] *= np.float32(rng.uniform(0.75, 1.1))
    pixels = np.flatnonzero(edge)
    scene.corridors.append(np.stack(np.divmod(pixels, width)[::-1], axis=1).astype(np.float64))


def _grid_of_plots(rng: np.random.Generator, u: FloatImage, v: FloatImage, metre_px: float) -> NDArray[np.int64]:
    """Rows of fields of uneven depth, each cut at its own places: ``(H, W)`` index."""

    def cuts(low: float, high: float, size_m: tuple[float, float]) -> NDArray[np.float64]:
        steps = rng.uniform(*size_m, int((high - low) / (size_m[0] * metre_px)) + 2) * metre_px
        return low + np.cumsum(steps)

    rows = np.searchsorted(cuts(float(v.min()), float(v.max()), (45, 150)), v)
    plot = np.zeros(u.shape, np.int64)
    first = 0
    for row in range(int(rows.max()) + 1):
        inside = rows == row
        if inside.any():
            columns = np.searchsorted(cuts(float(u.min()), float(u.max()), (40, 220)), u[inside])
            plot[inside] = first + columns
            first += int(columns.max()) + 1
    return plot


def _roads(scene: Landscape) -> None:
    import cv2

    rng = scene.rng
    for _ in range(int(rng.integers(0, 4))):
        width_m = rng.uniform(3, 9)
        t = np.linspace(-0.3, 1.3, 40)
        reach = max(scene.height, scene.width)
        direction = scene.heading + rng.choice([0, np.pi / 2]) + rng.normal(0, 0.15)
        along = np.array([np.cos(direction), np.sin(direction)])
        sway = rng.normal(0, 0.05) * np.sin(2 * np.pi * t * rng.uniform(0.3, 1.2) + rng.uniform(0, 6.28))
        line = scene.anywhere() + reach * ((t[:, None] - 0.5) * along + sway[:, None] * along[::-1] * (1, -1))
        stamp = np.zeros((scene.height, scene.width), np.uint8)
        points = [np.round(line).astype(np.int32)]
        cv2.polylines(stamp, points, False, 1, max(2, round(width_m * scene.metre_px)))
        road = stamp.view(np.bool_)
        colour = rgb([118, 116, 114]) if width_m > 5 else rgb([158, 142, 116])
        texture = 5 * rng.standard_normal(int(road.sum()), dtype=np.float32)
        scene.image[road] = colour * np.float32(rng.uniform(0.75, 1.25)) + texture[:, None]
        if width_m > 6.5 and scene.metre_px > 1.2:
            stamp[:] = 0
            cv2.polylines(stamp, points, False, 1, 1)
            scene.image[stamp.view(np.bool_)] += np.float32(55)
        if rng.random() < 0.45:
            scene.raised |= road
        scene.corridors.append(line)


def _settle(scene: Landscape) -> None:
    """Farms and villages: roofs in groups, turned about alike, with a lit and a shaded slope."""
    rng = scene.rng
    area_m2 = scene.height * scene.width / scene.metre_px**2
    for _ in range(int(rng.integers(0, 5))):
        centre, heading = scene.anywhere(), scene.heading + rng.normal(0, 0.2)
        spread_m = rng.uniform(15, 80)
        yard = np.float32(0.6) * scene.glow(centre, (spread_m + 5) * scene.metre_px)[..., None]
        scene.image += yard * (rgb([150, 140, 122]) - scene.image)
        roofs = rng.integers(30, 110) if rng.random() < 0.3 else rng.integers(2, 26)
        for _ in range(min(int(roofs), int(area_m2 / 700))):
            at = centre + rng.normal(0, spread_m, 2) * scene.metre_px
            half_m = np.array([rng.uniform(4, 9), rng.uniform(3, 5)]) * (3 if rng.random() < 0.07 else 1)
            _roof(scene, at, half_m * scene.metre_px, heading + rng.choice([0, np.pi / 2]))


def _roof(scene: Landscape, at: NDArray[np.float64], half_px: NDArray[np.float64], heading: float) -> None:
    import cv2

    rng = scene.rng
    along, across = np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])

    def quad(low: float, high: float) -> NDArray[np.int32]:
        corners = [(-1.0, low), (1.0, low), (1.0, high), (-1.0, high)]
        return np.round([at + a * half_px[0] * along + b * half_px[1] * across for a, b in corners]).astype(np.int32)

    shadow = np.round(-scene.sun * rng.uniform(2, 5) * scene.metre_px).astype(np.int32)
    for step in (0.4, 1.0):
        cv2.fillConvexPoly(scene.shade, quad(-1, 1) + (shadow * step).astype(np.int32), 1)
    colour = scene.pick(ROOFS)
    lean = float(across @ scene.sun) * rng.uniform(0.15, 0.3)
    for low, high, light in ((-1.0, 0.0, 1 - lean), (0.0, 1.0, 1 + lean)):
        tone = tuple(int(c) for c in np.clip(colour * light, 0, 255))
        cv2.fillConvexPoly(scene.layer, quad(low, high), tone)
        cv2.fillConvexPoly(scene.standing, quad(low, high), 1)


def _plant(scene: Landscape) -> None:
    """Woods, hedgerows along field edges and roads, and single trees."""
    rng = scene.rng
    metre_px = scene.metre_px
    view_m = np.array([scene.width, scene.height]) / metre_px
    spots = [rng.random((int(rng.integers(3, 25)), 2)) * view_m * metre_px]
    for _ in range(int(rng.integers(0, 4))):
        spread = rng.uniform(8, 45, 2) * metre_px
        spots.append(scene.anywhere() + rng.normal(0, 1, (int(rng.integers(10, 90)), 2)) * spread)
    for corridor in scene.corridors:
        if len(corridor) and rng.random() < 0.7:
            start = corridor[rng.integers(len(corridor), size=int(rng.integers(1, 5)))]
            for seed in start:
                near = corridor[np.hypot(*(corridor - seed).T) < rng.uniform(20, 80) * metre_px]
                picked = near[rng.integers(len(near), size=min(40, len(near)))]
                spots.append(picked + rng.normal(0, 1.5, picked.shape) * metre_px)
    size_m = rng.uniform(1.5, 3.5)
    for at in np.concatenate(spots)[:420]:
        _tree(scene, at, max(1.5, size_m * float(np.exp(rng.normal(0, 0.35))) * metre_px))


def _tree(scene: Landscape, at: NDArray[np.float64], radius_px: float) -> None:
    """A crown of a few overlapping discs, brighter towards the sun."""
    import cv2

    rng = scene.rng
    sub = 4  # drawing coordinates in quarter pixels
    colour = scene.pick(LEAVES, 5)
    offset = -scene.sun * radius_px * 1.1
    discs = [(at, radius_px)]
    if radius_px > 3:
        discs += [(at + rng.normal(0, 0.45, 2) * radius_px, radius_px * rng.uniform(0.5, 0.8)) for _ in range(3)]

    def disc(image: NDArray[np.uint8], centre: NDArray[np.float64], radius: float, value: tuple[int, ...]) -> None:
        place = (round(centre[0] * sub), round(centre[1] * sub))
        cv2.circle(image, place, max(sub, round(radius * sub)), value, -1, cv2.LINE_8, 2)

    for centre, radius in discs:
        disc(scene.shade, centre + offset, radius, (1,))
        disc(scene.standing, centre, radius, (1,))
        disc(scene.layer, centre, radius, tuple(int(c) for c in np.clip(colour * 0.72, 0, 255)))
    for centre, radius in discs:
        lit = centre + scene.sun * radius * 0.3
        disc(scene.layer, lit, radius * 0.6, tuple(int(c) for c in np.clip(colour * rng.uniform(0.95, 1.35), 0, 255)))

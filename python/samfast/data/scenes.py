"""Generated aerial pictures of flooded land with exact water masks: data to try the whole road on without a download.

A scene is a pure function of ``(seed, index)``: terrain is filled with water up to a level, over fields, tracks, houses
and trees. What stands out of the water (roofs, crowns, raised roads) is not water. Muddy water takes the tints of bare
soil, wet fields those of water, and shallow water shows the ground below, so that no threshold on colour solves it.
"""

from __future__ import annotations

import csv
import shutil
import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samfast.data.landscape import Landscape, Mask, farmland
from samfast.data.textures import FloatImage, fractal_noise, need_opencv, photograph, rgb, stripes
from samfast.errors import ConfigError, OutputExistsError
from samfast.progress import track

IMAGE_FOLDER, MASK_FOLDER, TABLE = "Image", "Mask", "metadata.csv"

LEAST_WATER = 0.02
"""Scenes of which a smaller share is water are drawn anew."""
WATERS = rgb(
    [[146, 126, 98], [128, 112, 90], [120, 116, 98], [104, 106, 94], [96, 106, 106], [152, 140, 116], [78, 88, 86]]
)
"""RGB of flood water, from muddy to clear."""


def flood_scene(seed: int, index: int) -> tuple[NDArray[np.uint8], Mask]:
    """Generate one scene of the stream ``seed``.

    Args:
        seed: names an endless stream of scenes.
        index: position in the stream; scenes can be made in any order.

    Returns:
        The photo, ``(H, W, 3)`` uint8 RGB with sides of about 240 to 900 pixels, and its water, ``(H, W)`` bool.

    Raises:
        RuntimeUnavailableError: OpenCV is not installed.

    >>> photo, water = flood_scene(0, 3)
    >>> photo.shape[:2] == water.shape, bool(0.02 <= water.mean() < 0.95)
    (True, True)
    """
    need_opencv()
    attempt = 0
    while True:
        rng = np.random.Generator(np.random.PCG64([seed, index, attempt]))
        photo, water = _scene(rng)
        if water.mean() >= LEAST_WATER:
            return photo, water
        attempt += 1


def _scene(rng: np.random.Generator) -> tuple[NDArray[np.uint8], Mask]:
    aspect = rng.choice([4 / 3, 3 / 2, 16 / 9, 1.0, 3 / 4, 2 / 3], p=[0.32, 0.22, 0.18, 0.12, 0.1, 0.06])
    long_px = int(rng.integers(420, 901))
    width = long_px if aspect >= 1 else round(long_px * aspect)
    height = round(long_px / aspect) if aspect >= 1 else long_px
    oblique = rng.random() < 0.5
    scene = farmland(rng, height, width, metre_px=long_px / float(np.exp(rng.uniform(np.log(140), np.log(620)))))
    _fill_with_water(scene)
    _stand_out(scene)
    if oblique:
        _tilt(scene)
    return _expose(scene, oblique=oblique), scene.water


def write_flood_scenes(
    root: str | Path, count: int, *, seed: int = 0, jpeg_quality: tuple[int, int] = (78, 95)
) -> Path:
    """Write ``count`` scenes as a data set of photos and masks: ``Image/*.jpg``, ``Mask/*.png``, ``metadata.csv``.

    Args:
        root: folder to create; an empty one is taken as it is.
        count: number of scenes.
        seed: names the stream; scenes 0..count - 1 of it are written.
        jpeg_quality: (lowest, highest) quality of the written photos.

    Returns:
        ``root`` as a path. Masks are 8-bit grey, 255 for water and 0 elsewhere, of their photo's size.

    Raises:
        ConfigError: ``count`` or ``jpeg_quality`` makes no sense.
        OutputExistsError: ``root`` holds something already.
        RuntimeUnavailableError: OpenCV is not installed.
    """
    root = Path(root)
    low, high = jpeg_quality
    if count < 1:
        raise ConfigError(f"count={count} writes no scene", where="count", fix="ask for at least one")
    if not 1 <= low <= high <= 100:
        raise ConfigError(f"jpeg_quality={jpeg_quality} is no range within 1..100", where="jpeg_quality")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise OutputExistsError("there is something in the output folder", where=root, fix="choose an empty folder")
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = root.with_name(f".{root.name}.{uuid.uuid4().hex}.tmp")
    try:
        _write(partial, count, seed, jpeg_quality)
        if root.exists():
            root.rmdir()
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def _write(root: Path, count: int, seed: int, jpeg_quality: tuple[int, int]) -> None:
    import cv2

    for folder in (IMAGE_FOLDER, MASK_FOLDER):
        (root / folder).mkdir(parents=True)
    names = [(f"scene_{index:04d}.jpg", f"scene_{index:04d}.png") for index in range(count)]
    for index in track(range(count), "generating flood scenes", total=count):
        photo, water = flood_scene(seed, index)
        low, high = jpeg_quality
        quality = int(np.random.default_rng([seed, index, 1]).integers(low, high + 1))
        _, jpeg = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        _, png = cv2.imencode(".png", water.astype(np.uint8) * 255)
        (root / IMAGE_FOLDER / names[index][0]).write_bytes(jpeg.tobytes())
        (root / MASK_FOLDER / names[index][1]).write_bytes(png.tobytes())
    with (root / TABLE).open("w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([(IMAGE_FOLDER, MASK_FOLDER), *names])


def _fill_with_water(scene: Landscape) -> None:
    """Flood all ground below a level, and some hollows above it; the ground shows through where it is shallow."""
    rng, ground = scene.rng, scene.ground
    share = float(rng.uniform(0.1, 0.65))
    above = ground - np.float32(np.quantile(ground[::4, ::4], share))
    depth = -above + np.float32(0.03) * scene.noise(6 * scene.metre_px, octaves=3)
    x = np.arange(scene.width, dtype=np.float32)[None, :]
    y = np.arange(scene.height, dtype=np.float32)[:, None]
    for _ in range(int(rng.integers(0, 4))):  # ponds
        at, radius_px = scene.anywhere(), rng.uniform(6, 30) * scene.metre_px
        bowl = 0.25 * (1 - (((x - at[0]) / radius_px) ** 2 + ((y - at[1]) / (radius_px * rng.uniform(0.5, 1))) ** 2))
        depth = np.maximum(depth, bowl.astype(np.float32) + np.float32(0.09) * scene.noise(radius_px))
    scene.water = _without_specks(depth > 0, round(25 * scene.metre_px**2) + 20) & ~scene.raised
    depth = np.maximum(depth, 0)

    wet = np.clip(1 - above / np.float32(0.12), 0, 1)
    scene.image *= (1 - np.float32(rng.uniform(0.05, 0.35)) * wet)[..., None]  # a soaked margin around the water

    colour = _water_colour(scene)
    clear = float(np.exp(rng.uniform(np.log(0.01), np.log(0.25))))
    opaque = np.float32(1) - np.float32(rng.uniform(0.25, 0.6)) * np.exp(-depth / np.float32(clear))
    if rng.random() < 0.5:  # crops and grass that reach the surface
        growth = scene.noise(12 * scene.metre_px, octaves=3) - depth * np.float32(rng.uniform(2, 6))
        opaque = opaque - np.float32(0.35) * (growth > rng.uniform(0.2, 0.9))
    scene.image += (colour - scene.image) * (opaque * scene.water)[..., None]


def _water_colour(scene: Landscape) -> FloatImage:
    """``(H, W, 3)`` of deep water: silt in plumes, the sky mirrored to one side, ripples, and sometimes glitter."""
    rng = scene.rng
    x = np.arange(scene.width, dtype=np.float32)[None, :]
    y = np.arange(scene.height, dtype=np.float32)[:, None]
    body, other = scene.pick(WATERS), scene.pick(WATERS)
    plume = np.clip(0.5 + 0.5 * scene.noise(max(scene.height, scene.width) / 3), 0, 1)[..., None]
    colour = body + np.float32(0.5) * (other - body) * plume
    sky = rgb([186, 200, 212]) * np.float32(rng.uniform(0.7, 1.1))
    slant = rng.uniform(0, 2 * np.pi)
    towards = np.cos(slant) * (x / scene.width - 0.5) + np.sin(slant) * (y / scene.height - 0.5)
    mirror = np.clip(rng.uniform(-0.15, 0.35) + rng.uniform(0, 0.7) * towards, 0, 0.75).astype(np.float32)
    mirror = mirror * np.clip(1 + 0.25 * scene.noise(25 * scene.metre_px), 0, 1.3)
    colour += (sky - colour) * mirror[..., None]
    ripple = stripes(rng, scene.height, scene.width, float(rng.uniform(4, 12)), angle=slant, warp_px=8)
    fine = scene.noise(float(rng.uniform(2.5, 6)), octaves=2)
    colour += (np.float32(rng.uniform(0, 5)) * fine + np.float32(rng.uniform(0, 2)) * ripple)[..., None]
    if rng.random() < 0.25:  # sun glitter
        at, reach_px = scene.anywhere(), rng.uniform(0.1, 0.3) * max(scene.height, scene.width)
        colour += (scene.glow(at, reach_px) * np.clip(fine + 0.5, 0, 2) * np.float32(rng.uniform(25, 80)))[..., None]
    return np.asarray(colour, np.float32)


def _without_specks(mask: Mask, min_area: int) -> Mask:
    """``mask`` without pieces and holes of fewer than ``min_area`` pixels."""
    import cv2

    for value in (True, False):
        count, pieces, stats, _ = cv2.connectedComponentsWithStats((mask == value).astype(np.uint8), connectivity=4)
        small = stats[:, cv2.CC_STAT_AREA] < min_area
        small[0] = False
        mask = np.where(small[pieces], not value, mask) if count > 1 else mask
    return np.asarray(mask, np.bool_)


def _stand_out(scene: Landscape) -> None:
    """Shadows, then roofs and crowns: they cover ground and water alike, and are not water."""
    import cv2

    rng = scene.rng
    shade = cv2.GaussianBlur(scene.shade.astype(np.float32), (0, 0), 0.6 + 0.15 * scene.metre_px)
    dark = np.where(scene.water, rng.uniform(0.15, 0.4), rng.uniform(0.35, 0.6)).astype(np.float32)
    scene.image *= (1 - dark * shade)[..., None]
    standing = scene.standing.view(np.bool_)
    grain = np.float32(rng.uniform(4, 9)) * scene.noise(float(rng.uniform(2, 4)), octaves=2)
    np.copyto(scene.image, scene.layer + grain[..., None], where=standing[..., None])
    scene.water &= ~standing


def _tilt(scene: Landscape) -> None:
    """Look at the ground from the side: what is far away shrinks towards the top."""
    import cv2

    rng = scene.rng
    height, width = scene.height, scene.width
    inset = float(rng.uniform(0.12, 0.3)) * width
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    whole = np.asarray(corners, np.float32)
    near = whole + np.asarray([(0, 0), (0, 0), (-inset, 0), (inset, 0)], np.float32)
    view = cv2.getPerspectiveTransform(near, whole)
    image = cv2.warpPerspective(scene.image, view, (width, height), borderMode=cv2.BORDER_REFLECT)
    scene.image = np.asarray(image, np.float32)
    water = cv2.warpPerspective(
        scene.water.view(np.uint8), view, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT
    )
    scene.water = water.view(np.bool_)


def _expose(scene: Landscape, *, oblique: bool) -> NDArray[np.uint8]:
    """Clouds, haze, white balance, and the camera."""
    rng = scene.rng
    height, width = scene.height, scene.width
    image = scene.image
    if rng.random() < 0.4:  # shadows of clouds
        cloud = np.clip(scene.noise(max(height, width) * float(rng.uniform(0.3, 0.8))), 0, 1)
        image = image * (1 - np.float32(rng.uniform(0.15, 0.45)) * cloud)[..., None]
    far = np.linspace(1, 0, height, dtype=np.float32)[:, None, None]
    if oblique:
        haze = np.float32(rng.uniform(0.1, 0.6)) * far ** np.float32(rng.uniform(1.5, 4))
        image = image * (1 - haze) + haze * rgb([190, 198, 204])
        if rng.random() < 0.45:
            image = _sky(scene, image)
    gain = rng.normal(1, 0.03, 3) * rng.uniform(0.75, 1.2)
    lift = rng.uniform(0, 28)
    image = np.asarray(image * gain.astype(np.float32) + np.float32(lift), np.float32)
    return photograph(
        rng,
        image,
        blur_px=float(rng.uniform(0.3, 1.0)),
        noise=float(rng.uniform(0, 5)),
        jpeg_quality=int(rng.integers(60, 96)),
    )


def _sky(scene: Landscape, image: FloatImage) -> FloatImage:
    """A strip of cloudy sky above a far tree line; neither is water."""
    rng = scene.rng
    horizon = rng.uniform(0.06, 0.24) * scene.height
    ridge = fractal_noise(rng, 4, scene.width, scene.width / 8, octaves=6)[0]
    line = horizon + np.float32(0.006 * scene.height) * ridge
    rows = np.arange(scene.height, dtype=np.float32)[:, None]
    sky = rows < line
    trees = ~sky & (rows < line + rng.uniform(0.004, 0.02) * scene.height)
    cloud = scene.noise(scene.width / 4)[..., None]
    blue = rgb([168, 192, 216]) + np.float32(rng.uniform(4, 16)) * cloud + np.float32(20) * rows[..., None] / horizon
    image = np.where(sky[..., None], blue, image)
    image = np.where(trees[..., None], image * np.float32(0.2) + rgb([78, 92, 84]), image)
    scene.water &= ~(sky | trees)
    return np.asarray(image, np.float32)

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samfast.data import scenes as module
from samfast.data.scenes import flood_scene, write_flood_scenes
from samfast.errors import ConfigError, OutputExistsError


@pytest.fixture(scope="module")
def drawn() -> list[tuple[np.ndarray, np.ndarray]]:
    return [flood_scene(11, index) for index in range(24)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flood_scenes(tmp_path_factory.mktemp("made") / "flood", 6, seed=2, jpeg_quality=(60, 95))


def test_photos_and_masks_have_the_promised_types_and_shapes(drawn) -> None:
    for photo, water in drawn:
        assert photo.dtype == np.uint8
        assert photo.shape[2] == 3
        assert water.dtype == np.bool_
        assert water.shape == photo.shape[:2]
        assert 200 <= min(water.shape) <= max(water.shape) <= 900


def test_a_scene_depends_on_its_seed_and_index_alone() -> None:
    first = flood_scene(3, 5)
    flood_scene(3, 6)
    again = flood_scene(3, 5)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    for other in (flood_scene(3, 6), flood_scene(4, 5)):
        assert first[0].shape != other[0].shape or not np.array_equal(first[0], other[0])


def test_scenes_vary_in_size_aspect_and_amount_of_water(drawn) -> None:
    aspects = np.array([water.shape[1] / water.shape[0] for _, water in drawn])
    assert (aspects > 1.1).any()
    assert (aspects < 0.9).any()
    assert (np.abs(aspects - 1) < 0.1).any()
    shares = np.array([water.mean() for _, water in drawn])
    assert (shares >= 0.02).all()
    assert (shares < 0.95).all()
    assert shares.std() > 0.08


def test_the_mask_is_exactly_the_pixels_painted_as_water(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an impossible water colour, no camera and no light, the mask can be read off the photo."""
    violet = np.float32([250, 0, 250])

    def flat_water(scene) -> np.ndarray:
        return np.broadcast_to(violet, scene.image.shape)

    def as_is(rng, image, **_):
        return np.clip(image, 0, 255).astype(np.uint8)

    monkeypatch.setattr(module, "_water_colour", flat_water)
    monkeypatch.setattr(module, "photograph", as_is)
    monkeypatch.setattr(module, "_expose", lambda scene, oblique: as_is(None, scene.image))
    wet_pixels = 0
    for index in range(8):
        photo, water = flood_scene(21, index)
        violetness = photo[..., [0, 2]].astype(int).min(axis=2) - photo[..., 1]
        land, wet = violetness[~water], violetness[water]
        # Tilting blends the pixels on the very edge.
        assert (land < 60).mean() > 0.985
        assert np.quantile(wet, 0.03) > 20
        wet_pixels += len(wet)
    assert wet_pixels > 50_000


def test_water_cannot_be_told_by_colour_alone(drawn) -> None:
    """The best threshold on any one channel, chosen for each photo by its own mask, stays far from the mask."""
    best = []
    for photo, water in drawn:
        grey = photo.astype(int)
        channels = [*grey.transpose(2, 0, 1), grey.sum(2) // 3, grey[..., 0] - grey[..., 2] + 128]
        found = []
        for channel in channels:
            for level in np.quantile(channel, np.linspace(0.05, 0.95, 19)):
                for mask in (channel > level, channel <= level):
                    found.append((mask & water).sum() / (mask | water).sum())
        best.append(max(found))
    assert np.mean(best) < 0.75


def test_the_folder_is_laid_out_as_the_public_flood_set(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == ["Image", "Mask", "metadata.csv"]
    with (written / "metadata.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 6
    assert list(rows[0]) == ["Image", "Mask"]
    for index, row in enumerate(rows):
        with Image.open(written / "Image" / row["Image"]) as photo, Image.open(written / "Mask" / row["Mask"]) as mask:
            assert (photo.format, photo.mode) == ("JPEG", "RGB")
            assert (mask.format, mask.mode) == ("PNG", "L")
            assert photo.size == mask.size
            values = np.asarray(mask)
            expected = flood_scene(2, index)
            assert set(np.unique(values)) <= {0, 255}
            assert np.array_equal(values == 255, expected[1])
            assert np.abs(np.asarray(photo).astype(int) - expected[0]).mean() < 8


def test_what_is_in_the_way_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="something in the output folder"):
        write_flood_scenes(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(OutputExistsError):
        write_flood_scenes(tmp_path / "notes.txt", 1)


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert write_flood_scenes(tmp_path, 1) == tmp_path
    assert (tmp_path / "metadata.csv").is_file()


def test_nothing_is_left_of_an_interrupted_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(seed: int, index: int):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "flood_scene", stop)
    with pytest.raises(KeyboardInterrupt):
        write_flood_scenes(tmp_path / "flood", 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("count", "quality"), [(0, (80, 90)), (-1, (80, 90)), (1, (90, 80)), (1, (0, 90)), (1, (5, 101))]
)
def test_senseless_options_are_refused_before_anything_is_written(tmp_path: Path, count: int, quality) -> None:
    with pytest.raises(ConfigError):
        write_flood_scenes(tmp_path / "flood", count, jpeg_quality=quality)
    assert not (tmp_path / "flood").exists()


def test_a_missing_opencv_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from samfast.errors import RuntimeUnavailableError

    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(RuntimeUnavailableError, match="pip install"):
        flood_scene(0, 0)

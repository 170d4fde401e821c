"""The picture of views: every view of every image in its place, and its masks where they belong."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samfast.cli import main
from samfast.data import load_dataset
from samfast.errors import DataError
from samfast.frames import PreprocessSpec
from samfast.inference.draw import colour
from samfast.views import Geometry, Recipe, Views, get_recipe
from samfast.views.sheet import CAPTION_PX, GAP_PX, PANEL_PX, view_sheet

SPEC = PreprocessSpec(320, 20, 80, (120.0, 110.0, 100.0), (50.0, 60.0, 70.0))


def write(root: Path) -> Path:
    """Grey images of 120 x 160 with two objects that touch nothing."""
    mask = np.zeros((120, 160), np.uint8)
    mask[20:60, 10:50], mask[70:100, 90:150] = 255, 255
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(6):
        Image.fromarray(np.full((120, 160, 3), 60 + number, np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    return root


def panels(png: bytes) -> list[list[np.ndarray]]:
    sheet = np.asarray(Image.open(io.BytesIO(png)))
    height, width = 240 + CAPTION_PX + GAP_PX, PANEL_PX + GAP_PX
    assert sheet.shape[0] % height == sheet.shape[1] % width == 0
    rows = sheet.reshape(-1, height, sheet.shape[1] // width, width, 3).swapaxes(1, 2)
    return [list(row) for row in rows[:, :, CAPTION_PX : CAPTION_PX + 240, :PANEL_PX]]


def test_masks_lie_where_the_view_shows_their_objects(tmp_path: Path) -> None:
    data = load_dataset(write(tmp_path), target="component")
    flip = Views(Recipe("flip", Geometry(flip_horizontal=1)), 2)
    rows = panels(view_sheet(data, flip, SPEC, most_images=3))
    assert [len(row) for row in rows] == [2, 2, 2]
    for plain, flipped in rows:
        for panel, other in ((plain, flipped), (flipped, plain)):
            difference = np.abs(panel[:, ::-1].astype(int) - other)
            assert (difference.max(-1) > 40).mean() < 0.01  # but for outlines
        for index, (y, x) in enumerate([(80, 60), (170, 240)]):
            expected = 0.35 * np.array(colour(index)) + 0.65 * plain[10, 200]
            np.testing.assert_allclose(plain[y, x], expected, atol=2)
            np.testing.assert_allclose(flipped[y, 320 - x], expected, atol=2)


def test_an_object_keeps_its_colour_where_another_is_dropped(tmp_path: Path) -> None:
    data = load_dataset(write(tmp_path), target="component")
    zoomed = Views(Recipe("zoom", Geometry(zoom=(3, 3))), 9)
    seen = set()
    for row in panels(view_sheet(data, zoomed, SPEC)):
        grey = row[0][10, 200].astype(float)
        for panel in row[1:]:
            for index in (0, 1):
                fill = 0.35 * np.array(colour(index)) + 0.65 * grey
                if (np.abs(panel - fill).max(-1) < 3).mean() > 0.01:
                    seen.add(index)
                other = 0.35 * np.array(colour(index + 2)) + 0.65 * grey
                assert (np.abs(panel - other).max(-1) < 3).mean() < 0.01
    assert seen == {0, 1}


def test_no_annotation_is_nothing_to_see(tmp_path: Path) -> None:
    data = load_dataset(write(tmp_path))
    missing = replace(data, samples=tuple(replace(one, state="missing") for one in data.samples))
    with pytest.raises(DataError, match="annotated"):
        view_sheet(missing, Views(get_recipe("light"), 2), SPEC)


def test_the_command_writes_the_picture_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "grey")
    monkeypatch.chdir(tmp_path)
    for arguments, code in (
        (["data", "grey", "--views", "3", "--augment", "aerial", "--model", "tiny"], 0),
        (["data", "grey", "--views", "3", "--augment", "aerial", "--model", "tiny"], 1),
        (["data", "grey", "--views", "3", "--augment", "aerial", "--model", "tiny", "--overwrite"], 0),
        (["data", "grey", "--views", "3", "--augment", "heavy"], 1),
    ):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == code
    assert [path.name for path in tmp_path.glob("*.png")] == ["grey-aerial-views.png"]
    assert "grey-aerial-views.png" in capsys.readouterr().out

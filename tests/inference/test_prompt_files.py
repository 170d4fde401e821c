"""Prompts as people write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samfast.errors import ConfigError
from samfast.inference.prompt_files import Prompt, check_within, from_lists, from_mapping, read_prompt_file, to_prompts


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def plain(prompts: list[Prompt]) -> list[Any]:
    return [(prompt.points, prompt.box) for prompt in prompts]


def test_csv_rows_are_prompts_unless_they_share_an_object(tmp_path: Path) -> None:
    path = write(
        tmp_path / "prompts.csv",
        "\ufeffimage,object,x,y,label,xmin,ymin,xmax,ymax\n"
        "a.png,,1,2,,,,,\n"
        "a.png,,,,,3,4,5.5,6\n"
        "b.png,house,7,8,1,,,,\n"
        "b.png,tree,1,1,,,,,\n"
        "b.png,house,9,10,0,0,0,20,20\n",
    )
    found = read_prompt_file(path)
    assert plain(found["a.png"]) == [(((1, 2, 1),), None), ((), (3, 4, 5.5, 6))]
    assert plain(found["b.png"]) == [(((7, 8, 1), (9, 10, 0)), (0, 0, 20, 20)), (((1, 1, 1),), None)]
    assert found["a.png"][1].where.endswith("line 3")


def test_csv_with_semicolons_and_fewer_columns(tmp_path: Path) -> None:
    found = read_prompt_file(write(tmp_path / "p.csv", "image;x;y\na b.png; 1;2\n"))
    assert plain(found["a b.png"]) == [(((1, 2, 1),), None)]


def test_json_and_mapping_agree(tmp_path: Path) -> None:
    content = {
        "a.png": [[1, 2, 3, 4], {"points": [[5, 6], [7, 8]], "labels": [1, 0], "box": [0, 0, 9, 9]}],
        "b.png": {"point": [1, 2], "label": 0},
        "c.png": [3, 4],
        "d.png": [],
    }
    found = from_mapping(content)
    assert plain(found["a.png"]) == [((), (1, 2, 3, 4)), (((5, 6, 1), (7, 8, 0)), (0, 0, 9, 9))]
    assert plain(found["b.png"]) == [(((1, 2, 0),), None)]
    assert plain(found["c.png"]) == [(((3, 4, 1),), None)]
    assert found["d.png"] == []
    read = read_prompt_file(write(tmp_path / "p.json", json.dumps(content)))
    assert {name: plain(prompts) for name, prompts in read.items()} == {name: plain(p) for name, p in found.items()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,x\na,1\n", "columns are image, x"),
        ("x,y\n1,2\n", "columns are x, y"),
        ("image,x,y,colour\na,1,2,red\n", "colour"),
        ("image,x,y\na,1\n", "more or fewer"),
        ("image,x,y\na,1,2,3\n", "more or fewer"),
        ("image,x,y\n,1,2\n", "names no image"),
        ("image,x,y\na,,\n", "neither a point nor a box"),
        ("image,x,y\na,1,north\n", "is not a point"),
        ("image,x,y,label\na,1,2,7\n", "label of '7'"),
        ("image,xmin,ymin,xmax,ymax\na,1,2,,4\n", "is not a box"),
        ("image,object,xmin,ymin,xmax,ymax\na,1,1,2,3,4\na,1,1,2,3,5\n", "two boxes"),
        ("{not json", "no JSON"),
        ("[1, 2]", "holds a list"),
        ('{"a": "box"}', "is no prompt"),
        ('{"a": [{"bbox": [1, 2, 3, 4]}]}', "is no prompt"),
        ('{"a": [{"points": [[1, 2]], "labels": []}]}', "1 points have 0 labels"),
        ('{"a": [[1, 2, 3]]}', "is not a point"),
        ("", "columns are none"),
    ],
)
def test_bad_files_name_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "prompts.txt", text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_prompt_file(path)
    assert str(path) in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_prompt_file(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_prompt_file(tmp_path / "x.csv")


def test_lists() -> None:
    assert plain(from_lists(box=(1, 2, 3, 4))) == [((), (1, 2, 3, 4))]
    assert plain(from_lists(box=np.array([[1, 2, 3, 4], [5, 6, 7, 8]]))) == [((), (1, 2, 3, 4)), ((), (5, 6, 7, 8))]
    assert plain(from_lists(point=[5, 6])) == [(((5, 6, 1),), None)]
    assert from_lists() == []
    with pytest.raises(ConfigError, match="is not a box"):
        from_lists(box=[1, 2, 3])
    with pytest.raises(ConfigError, match="is not a point"):
        from_lists(point=["a", "b"])


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([0, 0, 30, 10], "not on the image"),
        ([-1, 0, 5, 5], "not on the image"),
        ([20, 0, 20, 5], "not on the image"),
        ([0, 0, float("nan"), 5], "not finite"),
        ([5, 0, 4, 5], "wrong way round"),
        ([0, 5, 5, 4], "wrong way round"),
    ],
)
def test_boxes_off_the_image_are_refused(box: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_within(from_lists(box=box), (10, 20), "photo.jpg")
    assert "photo.jpg is 20 wide and 10 high" in str(caught.value)
    assert f"{box[2]:g}" in str(caught.value)


@pytest.mark.parametrize("point", [[20, 5], [5, 10], [-0.1, 5], [float("nan"), 5], [float("inf"), 5]])
def test_points_off_the_image_are_refused(point: list[float]) -> None:
    with pytest.raises(ConfigError, match="not on the image"):
        check_within(from_lists(point=point), (10, 20), "photo.jpg")


def test_far_edge_of_other_tools_is_the_last_pixel() -> None:
    assert plain(check_within(from_lists(box=[0, 0, 20, 10]), (10, 20), "a")) == [((), (0, 0, 19, 9))]
    assert plain(check_within(from_lists(box=[0, 0, 19, 9]), (10, 20), "a")) == [((), (0, 0, 19, 9))]


def test_prompts_are_padded() -> None:
    prompts = to_prompts([Prompt(((1, 2, 1), (3, 4, 0))), Prompt(((5, 6, 1),), (0, 0, 9, 9)), Prompt(box=(1, 1, 2, 2))])
    np.testing.assert_array_equal(prompts.labels, [[1, 0], [1, -10], [-10, -10]])
    np.testing.assert_array_equal(prompts.has_box, [False, True, True])
    np.testing.assert_array_equal(prompts.points[0], [[1, 2], [3, 4]])
    assert prompts.image_index.tolist() == [0, 0, 0]
    assert len(to_prompts([])) == 0

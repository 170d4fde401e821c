"""Training on the prompts of a file: whom they ask for, that they stay as they are, and what is said of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samfast.data.types import Sample, Target
from samfast.errors import ConfigError, DataError, OutputExistsError
from samfast.inference.contract import OutputContract
from samfast.inference.given import names_of, read_given
from samfast.masks import Masks
from samfast.prompts import draw_keys
from samfast.train import Run, TrainConfig, train_decoder
from samfast.train.batches import make_batch
from samfast.train.engine import Trainer
from samfast.train.regimes import get_regime
from samfast.train.targets import visible

SETTINGS = {"epochs": 2, "batch_size": 3, "device": "cpu", "lr": 1e-3, "seed": 3}
SAMPLE = Sample("a/one.png", "/x", "ab" * 32, (40, 60), "train", "g", "labelled", ("left", "right", "inner"))


def target() -> Target:
    masks = np.zeros((3, 40, 60), bool)
    masks[0, 5:25, 5:25] = True
    masks[1, 5:25, 35:55] = True
    masks[2, 10:14, 40:44] = True  # within the second
    return Target(
        Masks.from_numpy(masks), np.zeros(3, np.int64), SAMPLE.annotation_ids, Masks.empty(40, 60), "instance"
    )


def asked(tmp_path: Path, text: str) -> list[tuple[str, int]]:
    """(annotation id, number of prompts) of each object that a file asks for."""
    (tmp_path / "p.csv").write_text(text)
    found = read_given(tmp_path / "p.csv").attach(target(), SAMPLE)
    assert found.given is not None
    return [(name, len(mine)) for name, mine in zip(found.ids, found.given, strict=True)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["one,,10,10,,,,"], [("left", 1)]),
        (["one,,37,7,,,,"], [("right", 1)]),
        (["one,,41,11,,,,"], []),  # in two objects alike
        (["one,a,41,11,1,,,,", "one,a,50,20,1,,,,"], [("right", 1)]),
        (["one,a,41,11,1,,,,", "one,a,37,7,0,,,,"], [("inner", 1)]),
        (["one,,30,30,,,,"], []),
        (["one,,,,,36,6,56,26"], [("right", 1)]),
        (["one,,,,,40,10,43,13"], [("inner", 1)]),
        (["one,,,,,5,5,50,25"], []),
        (["one,,10,10,,,,", "one,,12,12,,,,", "one,,,,,6,6,25,25", "other,,1,1,,,,"], [("left", 3)]),
        (["one,a,41,11,1,36,6,56,26"], [("right", 1)]),
    ],
)  # fmt: skip
def test_whom_a_prompt_asks_for(tmp_path, rows, expected) -> None:
    lines = [",".join((row.split(",") + [""] * 9)[:9]) for row in rows]
    assert asked(tmp_path, "image,object,x,y,label,xmin,ymin,xmax,ymax\n" + "\n".join(lines)) == expected


def test_what_is_no_file_of_prompts_says_so(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("image,x,y\none,1,1\n")
    for regime in (f"csv:{tmp_path}", "csv:"):
        with pytest.raises(ConfigError, match=r"(?s)cannot be read: Is a directory.*CSV or JSON"):
            TrainConfig.make(regime=regime)
    for regime in ("box+csv:{}", "point&csv:{}", "box+point&csv:{}"):
        with pytest.raises(ConfigError, match="a regime of their own"):
            TrainConfig.make(regime=regime.format(tmp_path / "p.csv"))


def test_the_names_of_an_image() -> None:
    assert names_of(SAMPLE) == ("a/one.png", "one.png", "a/one", "one")


def write(path: Path, dataset: Any, *, rows: str = "box", drop: int = 0) -> Path:
    """A prompt for each object of a data set but for the first ``drop`` of each image."""
    lines = ["image,x,y,xmin,ymin,xmax,ymax"]
    for sample in dataset.samples:
        masks = visible(dataset.target(sample)).masks
        for index, (xmin, ymin, xmax, ymax) in enumerate(masks.boxes().tolist()):
            if index < drop:
                continue
            if rows == "box" or (rows == "both" and index % 2):
                lines.append(f"{sample.name},,,{xmin},{ymin},{xmax},{ymax}")
            else:
                y, x = np.argwhere(masks[index].numpy()[0])[0]
                lines.append(f"{sample.name},{x},{y},,,,")
    path.write_text("\n".join(lines))
    return path


def test_tight_boxes_of_a_file_train_as_boxes_do(dataset, cache, tmp_path) -> None:
    """The file holds what ``box~0%`` draws: the same bits come out, and noise would show."""
    path = write(tmp_path / "boxes.csv", dataset)
    given = train_decoder(dataset, cache=cache, out=tmp_path / "csv", regime=f"csv:{path}", **SETTINGS)
    drawn = train_decoder(dataset, cache=cache, out=tmp_path / "box", regime="box~0%", **SETTINGS)
    noisy = train_decoder(dataset, cache=cache, out=tmp_path / "noisy", regime="box", **SETTINGS)
    losses = [[line["loss"] for line in run.metrics] for run in (given, drawn, noisy)]
    assert losses[0] == losses[1] != losses[2]
    assert [line["val_iou"] for line in given.metrics] == [line["val_iou"] for line in drawn.metrics]
    assert given.contract == OutputContract(one_point=(), other=(0,))
    assert "val_iou_csv:boxes.csv" in given.metrics[0]
    report = given.evaluate("val", data=dataset, prompts=[f"csv:{path}", "box"], device="cpu", baselines=False)
    assert [row.iou for row in report.rows if row.prompt == "box"] == [
        row.iou for row in report.rows if row.prompt != "box"
    ]


@pytest.mark.parametrize(
    ("rows", "contract"), [("point", OutputContract((0, 1, 2, 3), ())), ("both", OutputContract((0, 1, 2, 3), (0,)))]
)
def test_the_contract_is_that_of_the_file(dataset, tmp_path, rows, contract) -> None:
    assert get_regime(f"csv:{write(tmp_path / 'p.csv', dataset, rows=rows)}").contract == contract


def test_prompts_are_the_same_in_every_epoch_and_objects_without_are_left_out(dataset, cache, tmp_path) -> None:
    path = write(tmp_path / "p.csv", dataset, drop=1)
    config = TrainConfig.make(regime=f"csv:{path}", max_prompts=100, prompts_per_object=1, seed=3)
    sample = next(each for each in dataset.of("train") if len(each.annotation_ids) > 2)
    batches = [make_batch(dataset, [sample], cache.read, config, cache.spec, epoch=epoch) for epoch in (1, 2)]
    assert len(batches[0]) == len(visible(dataset.target(sample)).masks) - 1
    np.testing.assert_array_equal(batches[0].tokens.coords, batches[1].tokens.coords)
    boxes = config.replace(regime="box")
    drawn = [make_batch(dataset, [sample], cache.read, boxes, cache.spec, epoch=epoch) for epoch in (1, 2)]
    assert (drawn[0].tokens.coords != drawn[1].tokens.coords).any()


def test_several_prompts_of_an_object_take_turns(tmp_path) -> None:
    (tmp_path / "p.csv").write_text("image,x,y\none,10,10\none,20,20\n")
    regime = get_regime(f"csv:{tmp_path / 'p.csv'}")
    attached = regime.askable(target(), SAMPLE)
    seen = {
        tuple(regime.draw(attached, None, draw_keys(0, SAMPLE.key, attached.ids, epoch=epoch)).points[0, 0])  # type: ignore[arg-type]
        for epoch in range(20)
    }
    assert seen == {(10.0, 10.0), (20.0, 20.0)}


def test_what_is_of_no_use_is_said(dataset, cache, tmp_path, capsys) -> None:
    path = write(tmp_path / "p.csv", dataset)
    with path.open("a") as file:
        file.write("\nelsewhere.png,,,1,1,5,5\nimages/00.png,,,0,0,1,1")
    train_decoder(dataset, cache=cache, out=tmp_path / "run", regime=f"csv:{path}", **{**SETTINGS, "epochs": 1})
    said = capsys.readouterr().err
    assert "p.csv: 1 of 10 names are no images of the data: elsewhere.png" in said
    lines = len(path.read_text().splitlines())
    assert f"1 of {lines - 2} prompts ask for no object, or for several alike: {path}, line {lines}" in said


def test_files_that_cannot_be_trained_on(dataset, cache, tmp_path) -> None:
    def train(text: str, **settings: Any) -> None:
        (tmp_path / "p.csv").write_text(text)
        train_decoder(
            dataset, cache=cache, out=tmp_path / "run", regime=f"csv:{tmp_path / 'p.csv'}", **{**SETTINGS, **settings}
        )

    with pytest.raises(ConfigError, match="cannot be read"):
        train_decoder(dataset, cache=cache, regime="csv:absent.csv")
    with pytest.raises(ConfigError, match="holds no prompt"):
        train("image,x,y\n")
    with pytest.raises(ConfigError, match=r"not on the image[\s\S]*line 2"):
        train("image,x,y\n00.png,4000,3\n")
    with pytest.raises(DataError, match="asks for no object of the train set"):
        train("image,x,y\nelsewhere,3,3\n")
    with pytest.raises(ConfigError, match="views=2"):
        train("image,x,y\n00,3,3\n", views=2)
    assert not (tmp_path / "run").exists()


def test_a_name_that_could_be_two_images(tmp_path) -> None:
    from dataclasses import replace

    from samfast.inference.given import check_names

    (tmp_path / "p.csv").write_text("image,x,y\none,3,3\nb/one.png,3,3\nnone,1,1\n")
    given = read_given(tmp_path / "p.csv")
    assert check_names(given, [SAMPLE]) == ["b/one.png", "none"]
    with pytest.raises(ConfigError, match=r"'one' could be a/one.png or b/one.png[\s\S]*line 2"):
        check_names(given, [SAMPLE, replace(SAMPLE, name="b/one.png")])


def test_a_run_is_not_continued_with_another_file(dataset, cache, tmp_path, monkeypatch) -> None:
    path = write(tmp_path / "p.csv", dataset)
    monkeypatch.chdir(tmp_path)
    arguments = {"cache": cache, "out": tmp_path / "run", "regime": "csv:p.csv", **SETTINGS}
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_decoder(dataset, **arguments)
    assert Run(tmp_path / "run").config.regime == f"csv:{path.resolve()}"
    write(path, dataset, drop=1)
    with pytest.raises(OutputExistsError, match=r"prompts: .* there, .* now"):
        train_decoder(dataset, **arguments)

"""The report page: self-contained, escaped, and saying what the figures say."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samfast.data import Dataset
from samfast.data.types import Problem
from samfast.evaluation import Report, evaluate, judge
from samfast.evaluation.contenders import Contender, Encoder
from samfast.evaluation.page import headline, render, verdicts
from samfast.evaluation.rows import Row, summarise

EVIL = "<script>alert('x')</script>&\"$\\frac{1}{2}$"
METRICS = [{"epoch": 0, "loss": None, "val_iou": 0.3, "val_iou_box": 0.3}] + [
    {"epoch": epoch, "loss": 1 / epoch, "val_iou": 0.5, "val_iou_box": 0.6} for epoch in (1, 2, 3)
]


class Reader(HTMLParser):
    """Collects what a browser would load, and whether every element is closed."""

    VOID = frozenset({"meta", "img", "br", "link", "path", "use", "rect", "line", "input", "hr", "polygon", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "poster")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


@pytest.fixture
def report(numbered: Dataset, reader: Any, monkeypatch: pytest.MonkeyPatch) -> Report:
    """A base model and the run that was tuned from it."""
    base, run = reader(6, name="base"), reader(1, name="run")
    encoder = Encoder(lambda: base)
    contenders = [
        Contender("base", "zero-shot", base, encoder),
        Contender("run", "tuned", run, encoder, base="base"),
    ]
    monkeypatch.setattr(judge, "line_up", lambda *_, **__: contenders)
    found = evaluate("base", numbered)
    assert base.embedded + run.embedded == 4, "they share their embeddings"
    config = {"lr": 0.001, "note": EVIL}
    tuned = replace(found.judged[1], trained_parameters=250, parameters=1000, metrics=tuple(METRICS), config=config)
    return replace(found, judged=(found.judged[0], tuned))


def test_page_loads_nothing_from_elsewhere(report: Report, tmp_path: Path) -> None:
    html = report.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    page = read(html)
    assert page.loaded
    assert all(address.startswith(("data:image/", "#")) for address in page.loaded)
    without_names = re.sub(r'xmlns(:\w+)?="http://www\.w3\.org/[^"]*"', "", html)
    assert not re.search(r"https?://|@import|url\((?!#)", without_names)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert len(page.ids) == len(set(page.ids)), "ids of several figures must not clash"
    assert {address[1:] for address in page.loaded if address[0] == "#"} <= set(page.ids)
    assert len(html) < 4_000_000


def test_page_shows_all_that_was_asked(report: Report) -> None:
    page = read(render(report))
    for line in report.summary:
        assert f"{line.mean['iou']:.3f}" in page.text
    assert "250 of 1,000 parameters trained (25.00 %)" in page.text
    for words in (
        "all-foreground",
        "fill-box",
        "single-component ceiling",
        "component: one connected piece",
        "single: mask",
    ):
        assert words in page.text
    assert page.tags.count("svg") == 3, "bars, histograms, curves"
    assert "0.001" in page.text


def test_worst_cases_are_the_worst_and_are_drawn(numbered: Dataset, report: Report) -> None:
    for prompt in ("point", "box"):
        for when, model in (("before", "base"), ("after", "run")):
            cases = [case for case in report.cases if (case.prompt, case.when) == (prompt, when)]
            ious = sorted(row.iou for row in report.rows if (row.model, row.prompt) == (model, prompt))
            shown = [case.iou_before if when == "before" else case.iou_after for case in cases]
            assert shown == ious[: len(shown)]
            assert len(shown) == 4
    case = report.cases[0]
    sample = next(one for one in numbered.samples if one.name == case.image)
    image = numbered.image(sample).astype(int)
    truth = numbered.target(sample).masks.numpy().any(axis=0)
    moved = np.abs(np.asarray(Image.open(io.BytesIO(case.truth)), int) - image).mean(axis=2)
    assert moved.shape == sample.size
    assert moved[truth].mean() > 1.5 * moved[~truth].mean(), "the annotation is drawn"
    pictures = {address for address in read(render(report)).loaded if address.startswith("data:image/jpeg")}
    for jpeg in (case.truth, case.before, case.after):
        assert jpeg is not None
        assert f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" in pictures


def test_user_strings_are_escaped(report: Report) -> None:
    rows = tuple(replace(row, image=f"{EVIL}{row.image}", model=row.model.replace("run", EVIL)) for row in report.rows)
    evil = replace(
        report,
        rows=rows,
        summary=summarise(rows, {EVIL: "base"}),
        asked=replace(report.asked, data=EVIL, classes=(EVIL,), caveat=EVIL),
        judged=(report.judged[0], replace(report.judged[1], label=EVIL, path=EVIL)),
        problems=(Problem(EVIL, EVIL, EVIL, excluded=True), Problem("b", "remark", EVIL, excluded=False)),
        cases=tuple(replace(case, image=EVIL, pair=replace(case.pair, model=EVIL)) for case in report.cases),
        environment={EVIL: EVIL},
    )
    html = render(evil)
    assert "<script" not in html
    page = read(html)
    assert EVIL in page.text
    assert "1 file left out" in page.text


def test_headline_and_verdicts_follow_the_figures(report: Report) -> None:
    def with_ious(base: float, tuned: float, floor: float) -> Report:
        rows = [
            Row("a", "test", "base", "zero-shot", "box", 1, base, base, base, base),
            Row("a", "test", "run", "tuned", "box", 1, tuned, tuned, tuned, tuned),
            Row("a", "test", "fill-box", "floor", "", 1, floor, floor, floor, floor),
        ]
        return replace(report, rows=tuple(rows), summary=summarise(rows, {"run": "base"}))

    better = with_ious(0.4, 0.6, 0.5)
    assert headline(better) == "Tuning raised the mean IoU from 0.400 to 0.600 by box (+50 %)."
    assert verdicts(better) == [("good", "run by box (0.600) beats fill-box (0.500)")]
    worse = with_ious(0.6, 0.3, 0.5)
    assert headline(worse) == "Tuning lowered the mean IoU from 0.600 to 0.300 by box (-50 %)."
    assert [kind for kind, _ in verdicts(worse)] == ["bad", "bad"]
    assert "does not beat fill-box" in verdicts(worse)[0][1]
    from_nothing = with_ious(0.0, 0.3, 0.2)
    assert headline(from_nothing) == "Tuning raised the mean IoU from 0.000 to 0.300 by box."
    assert "+0.300, better on 1 of 1" in from_nothing.table()


def test_of_several_runs_the_best_one_makes_the_headline(report: Report) -> None:
    rows = [
        Row("a", "test", model, role, "box", 1, iou, iou, iou, iou)
        for model, role, iou in (("base", "zero-shot", 0.4), ("x", "tuned", 0.5), ("y", "tuned", 0.6))
    ]
    both = replace(report, rows=tuple(rows), summary=summarise(rows, {"x": "base", "y": "base"}))
    assert headline(both) == "y is the best of 2 runs. Tuning raised the mean IoU from 0.400 to 0.600 by box (+50 %)."


def test_gains_are_over_the_same_images(report: Report) -> None:
    line = report.line("run", "box")
    base = report.line("base", "box")
    assert line.gain is not None
    assert base.gain is None
    for metric in ("iou", "dice", "precision", "recall"):
        assert line.gain.absolute[metric] == pytest.approx(line.mean[metric] - base.mean[metric])
        assert line.gain.relative[metric] == pytest.approx(line.gain.absolute[metric] / base.mean[metric])
    before = {row.image: row.iou for row in report.rows if (row.model, row.prompt) == ("base", "box")}
    after = {row.image: row.iou for row in report.rows if (row.model, row.prompt) == ("run", "box")}
    assert line.gain.better_images == sum(after[name] > before[name] for name in before)


def test_worst_cases_do_not_grow_with_the_data(numbered: Dataset, reader: Any) -> None:
    report = evaluate([reader(number, name=str(number)) for number in range(4)], numbered, on="train")
    assert len(report.cases) == 4 * 2 * 2, "two a list, where there are many models"


def test_template_is_part_of_the_package() -> None:
    from importlib import resources

    assert resources.files("samfast.evaluation").joinpath("report.html.j2").is_file()

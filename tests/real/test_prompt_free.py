"""Training without prompts on two classes that share one mask: white blood cells, their nucleus and cytoplasm."""

from pathlib import Path

import pytest

from samfast.data import load_dataset
from samfast.train import train_decoder

pytestmark = pytest.mark.real
CLASSES = ("128", "255")
"""Cytoplasm and nucleus, as the masks have them."""


@pytest.fixture(scope="module")
def cells(real_data, tmp_path_factory) -> Path:
    """Twelve of them, in folders of images and of masks."""
    root = tmp_path_factory.mktemp("wbc") / "cells"
    for folder, suffix in (("images", "bmp"), ("masks", "png")):
        (root / folder).mkdir(parents=True)
        for number in range(1, 13):
            file = f"{number:03}.{suffix}"
            (root / folder / file).symlink_to(real_data / "wbc" / "Dataset 1" / file)
    return root


def test_both_classes_are_learned_and_told_apart(cells, tmp_path) -> None:
    dataset = load_dataset(cells)
    assert (dataset.classes, dataset.target_kind) == (CLASSES, "class")
    settings = {"regime": "none", "epochs": 6, "lr": 1e-3, "device": "cpu"}
    run = train_decoder(dataset, cache=tmp_path / "c.samcache", out=tmp_path / "run", **settings)
    untuned, *_, tuned = (line["val_iou"] for line in run.metrics)
    assert tuned > untuned + 0.3
    report = run.evaluate("test", baselines=False)
    found = {line.prompt: line.mean["iou"] for line in report.summary if line.prompt}
    assert found.keys() == {"none", *(f"none: {name}" for name in CLASSES)}
    assert min(found.values()) > 0.5

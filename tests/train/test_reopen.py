"""A run opens its data as it was opened for it, wherever the list of sets lies."""

import shutil

from samfast.data import load_dataset
from samfast.train import Run, train_decoder


def test_a_list_of_sets_above_the_data_is_found_again(scenes, cache, tmp_path, monkeypatch) -> None:
    shutil.copytree(scenes, tmp_path / "outer" / "inner")
    (tmp_path / "outer" / "inner" / "splits.json").rename(tmp_path / "outer" / "splits.json")
    monkeypatch.chdir(tmp_path)
    data = load_dataset("outer", target="component")
    assert data.split_origin == "given"
    run = train_decoder(data, cache=cache, out=tmp_path / "run", regime="point+box", epochs=1, device="cpu")
    monkeypatch.chdir("/")
    again = Run(run.path).dataset()
    splits = {sample.name: sample.split for sample in data.samples}
    assert {sample.name: sample.split for sample in again.samples} == splits
    assert again.split_origin == "given"

"""train_decoder: the run it leaves, how it goes on after an interruption, and what it refuses."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from samfast.cache import atomic
from samfast.data import load_dataset
from samfast.errors import CacheError, ConfigError, DataError, OutputExistsError, RunError, StaleCacheError
from samfast.inference.contract import OutputContract
from samfast.inference.prompt_sets import evaluation_prompts
from samfast.inference.segmenter import Embedding, segment
from samfast.models.sam import Sam
from samfast.train import Run, TrainConfig, folder, train_decoder
from samfast.train.engine import Trainer
from samfast.train.folder import RunFolder

QUICK = {"epochs": 2, "batch_size": 3, "max_prompts": 2, "prompts_per_object": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def run(dataset, cache, tmp_path_factory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "first"
    return train_decoder(dataset, cache=cache, out=out, seed=3, lr=1e-3, regime="box", **QUICK)


def test_a_run_says_what_it_is(run, dataset, cache, sam) -> None:
    assert Run(run.path).record == run.record
    assert run.is_finished
    assert run.model == "tiny"
    assert run.contract == OutputContract(one_point=(), other=(0,))
    info = run.dataset_info
    assert info["annotation_hash"] == dataset.annotation_hash
    assert info["splits"]["val"] == ["images/06.png", "images/07.png"]
    assert (info["split_origin"], info["target_kind"]) == ("given", "component")
    counts = run.record["parameters"]
    assert counts["total"] == sum(p.numel() for p in sam.parameters())
    decoder = [*sam.prompt_encoder.parameters(), *sam.mask_decoder.parameters()]
    assert counts["trainable"] == sum(p.numel() for p in decoder) < counts["total"]
    assert run.record["encoder"]["fingerprint"] == cache.fingerprint
    assert {path.name for path in run.path.iterdir()} == {
        "best.safetensors", "last.safetensors", "config.toml", "metrics.jsonl", "training_metrics.json", "run.json",
        "run.log",
    }  # fmt: skip


def test_the_config_file_reproduces_the_run(run, dataset, cache, tmp_path) -> None:
    written = tomllib.loads((run.path / "config.toml").read_text())
    assert written["data"]["root"] == str(dataset.root)
    again = train_decoder(dataset, cache=cache, recipe=run.path / "config.toml", out=tmp_path / "again")
    assert again.config == run.config
    assert same_weights(run, again)
    assert timeless(again) == timeless(run)
    other = train_decoder(dataset, cache=cache, recipe=run.path / "config.toml", out=tmp_path / "other", seed=4)
    assert timeless(other)[1:] != timeless(run)[1:]


def test_metrics_hold_the_untuned_model_and_every_epoch(run, dataset, cache) -> None:
    metrics = run.metrics
    assert [line["epoch"] for line in metrics] == [0, 1, 2]
    assert metrics[0]["loss"] is None
    for line in metrics[1:]:
        assert line["loss"] == pytest.approx(line["loss_bce"] + line["loss_dice"] + line["loss_iou"])
    assert run.selected_epoch == max(metrics, key=lambda line: line["val_iou"])["epoch"]

    segmenter = run.segmenter(encoder=False, device="cpu")
    means = []
    for sample in dataset.of("val"):
        target = dataset.target(sample)
        embedding = Embedding(cache.read([sample]), (cache.spec.frame(*sample.size),))
        masks = segment(
            segmenter, embedding, evaluation_prompts("box", target, sample, cache.spec, seed=3)
        ).masks.numpy()
        true = target.masks.numpy()
        both, either = (masks & true).sum((1, 2)), (masks | true).sum((1, 2))
        means.append(np.mean(both / either))
    assert metrics[run.selected_epoch]["val_iou_box"] == pytest.approx(np.mean(means), abs=1e-6)


def test_epochs_between_judgements_train_alike_and_are_not_judged(run, dataset, cache, tmp_path) -> None:
    settings = {**QUICK, "epochs": 5, "lr": 1e-3, "regime": "box", "seed": 3}
    every = train_decoder(dataset, cache=cache, out=tmp_path / "every", **settings)
    third = train_decoder(dataset, cache=cache, out=tmp_path / "third", eval_interval=3, **settings)
    assert [line["epoch"] for line in third.metrics if "val_iou" in line] == [0, 3, 5]
    for line, other in zip(every.metrics, third.metrics, strict=True):
        assert line["loss"] == other["loss"]
        assert other.get("val_iou", line["val_iou"]) == line["val_iou"]
    judged = [line for line in third.metrics if "val_iou" in line]
    assert third.selected_epoch == max(judged, key=lambda line: line["val_iou"])["epoch"]


def test_the_whole_model_carries_the_tuned_weights(run, sam, dataset) -> None:
    tuned = run.segmenter(device="cpu").sam
    assert torch.equal(tuned.image_encoder.pos_embed, sam.image_encoder.pos_embed)
    kept = run.decoder_state()
    assert set(kept) == set(sam.decoder_state())
    assert all(tensor.dtype == torch.float32 for tensor in kept.values())
    assert all(
        torch.equal(tuned.state_dict()[name], tensor) for name, tensor in kept.items() if name in tuned.state_dict()
    )
    embedding = run.segmenter(device="cpu").embed([dataset.image(dataset.samples[0])])
    assert embedding.features["image_embeddings"].shape[0] == 1
    with pytest.raises(ConfigError, match="decoder-only"):
        run.segmenter(encoder=False, device="cpu").embed([dataset.image(dataset.samples[0])])


@pytest.mark.parametrize(
    "settings",
    [
        {"regime": "point+box"},
        {"regime": "clicks:3"},
        pytest.param({"regime": "sam"}, marks=pytest.mark.slow),
        {"ema": 0.9, "schedule": "plateau"},
    ],
)
def test_an_interrupted_run_continues_to_the_same_bits(dataset, cache, tmp_path, monkeypatch, capsys, settings) -> None:
    arguments = {**QUICK, "epochs": 3, "lr": 1e-3, **settings}
    states: dict[str, list[dict]] = {}
    keep = RunFolder.save_epoch

    def spy(self, weights, optimizer, metrics) -> None:
        states.setdefault(self.path.name, []).append({name: tensor.clone() for name, tensor in weights.items()})
        keep(self, weights, optimizer, metrics)

    monkeypatch.setattr(RunFolder, "save_epoch", spy)
    whole = train_decoder(dataset, cache=cache, out=tmp_path / "whole", **arguments)

    step = Trainer.step

    def interrupted(self, batch, number):
        if number == 3:  # in the middle of epoch 2
            raise KeyboardInterrupt
        return step(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_decoder(dataset, cache=cache, out=tmp_path / "parts", **arguments)
    assert "continue" in capsys.readouterr().err
    partial = Run(tmp_path / "parts")
    assert not partial.is_finished
    assert [line["epoch"] for line in partial.metrics] == [0, 1]

    resumed = train_decoder(dataset, cache=cache, out=tmp_path / "parts", **arguments)
    assert "continuing after epoch 1 of 3" in capsys.readouterr().err
    assert resumed.is_finished
    assert len(states["parts"]) == len(states["whole"]) == 4
    for before, after in zip(states["whole"], states["parts"], strict=True):
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not all(torch.equal(t, states["whole"][2][n]) for n, t in states["whole"][3].items())
    assert same_weights(whole, resumed)
    assert timeless(resumed) == timeless(whole)


@pytest.mark.parametrize("killed_at", [0, 2, 4, 6, 7, 11, 15])
def test_a_run_killed_at_any_write_continues(run, dataset, cache, tmp_path, monkeypatch, killed_at) -> None:
    arguments = {"cache": cache, "out": tmp_path / "run", "seed": 3, "lr": 1e-3, "regime": "box", **QUICK}
    written: list[Path] = []

    def write_or_die(path: Path, parts) -> None:
        if len(written) == killed_at:
            raise KeyboardInterrupt
        written.append(path)
        atomic.write_new(path, parts)

    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_new", write_or_die)
        with pytest.raises(KeyboardInterrupt):
            train_decoder(dataset, **arguments)
    (tmp_path / "run" / ".0123.tmp").write_bytes(b"half")
    again = train_decoder(dataset, **arguments)
    assert again.is_finished
    assert same_weights(again, run)
    assert again.selected_epoch == run.selected_epoch
    assert timeless(again) == timeless(run)


def test_a_full_disk_keeps_what_was_finished(dataset, cache, tmp_path, monkeypatch) -> None:
    def write_or_fill(path: Path, parts) -> None:
        if path.name == "metrics.jsonl" and path.exists():
            raise CacheError("the disk is full", where=path.parent, fix="make room")
        atomic.write_new(path, parts)

    monkeypatch.setattr(folder, "write_new", write_or_fill)
    with pytest.raises(RunError, match=r"disk is full[\s\S]*make room"):
        train_decoder(dataset, cache=cache, out=tmp_path / "run", **QUICK)
    assert [line["epoch"] for line in Run(tmp_path / "run").metrics] == [0]


def test_an_interrupted_run_of_other_settings_is_not_continued(dataset, cache, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_decoder(dataset, cache=cache, out=tmp_path / "run", **QUICK)
    with pytest.raises(OutputExistsError, match=r"lr: .* there, 0\.5 now"):
        train_decoder(dataset, cache=cache, out=tmp_path / "run", lr=0.5, **QUICK)
    (tmp_path / "run" / "resume.pt").write_bytes(b"PK damaged")
    with pytest.raises(RunError, match=r"damaged[\s\S]*overwrite"):
        train_decoder(dataset, cache=cache, out=tmp_path / "run", **QUICK)


def test_a_finished_run_is_not_touched_unless_asked(run, dataset, cache, tmp_path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(run.path, copied)
    arguments = {"cache": cache, "out": copied, "seed": 3, "lr": 1e-3, "regime": "box", **QUICK}
    with pytest.raises(OutputExistsError, match="finished run"):
        train_decoder(dataset, **arguments)
    assert train_decoder(dataset, keep_finished=True, **arguments).path == copied
    with pytest.raises(OutputExistsError, match="finished run"):
        train_decoder(dataset, keep_finished=True, **{**arguments, "lr": 2e-3})
    (copied / "notes.txt").write_text("mine")
    (copied / "report.html").write_text("of the old weights")
    (copied / "model.onnxbundle").mkdir()
    replaced = train_decoder(dataset, overwrite=True, **{**arguments, "epochs": 1})
    assert len(replaced.metrics) == 2
    assert (copied / "notes.txt").read_text() == "mine"
    assert not (copied / "report.html").exists()
    assert not (copied / "model.onnxbundle").exists()


def test_overwrite_spares_what_is_no_run(dataset, cache, tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="no run"):
            train_decoder(dataset, cache=cache, out=tmp_path, overwrite=overwrite, **QUICK)
    with pytest.raises(OutputExistsError, match="a file"):
        train_decoder(dataset, cache=cache, out=tmp_path / "thesis.txt", overwrite=True, **QUICK)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_one_process_trains_in_a_folder(run, dataset, cache, tmp_path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(run.path, copied)
    arguments = {"cache": cache, "out": copied, **QUICK}
    with folder.RunFolder(copied, run.record, "").held():
        for overwrite in (False, True):
            with pytest.raises(OutputExistsError, match="another process"):
                train_decoder(dataset, overwrite=overwrite, **arguments)
    assert same_weights(Run(copied), run)
    (copied / folder.LOCK).touch()  # left behind by a process that was killed
    assert train_decoder(dataset, overwrite=True, **arguments).is_finished


def test_default_names_count_up(dataset, cache, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {**QUICK, "epochs": 1, "regime": "box"}
    paths = [train_decoder(dataset, cache=cache, **arguments).path for _ in range(2)]
    assert [path.as_posix() for path in paths] == ["runs/scenes-tiny-box", "runs/scenes-tiny-box-2"]
    assert "runs/scenes-tiny-box-2" in capsys.readouterr().err
    again = train_decoder(dataset, cache=cache, overwrite=True, **arguments).path
    assert again == paths[0]
    assert sorted(path.name for path in Path("runs").iterdir()) == ["scenes-tiny-box", "scenes-tiny-box-2"]
    other = train_decoder(dataset, cache=cache, keep_finished=True, **{**arguments, "seed": 5}).path
    assert other.as_posix() == "runs/scenes-tiny-box-3", "a run of other settings is no reason not to train"
    assert train_decoder(dataset, cache=cache, keep_finished=True, **{**arguments, "seed": 5}).path == other


def test_labels_are_live(scenes, cache, run, sam, tmp_path, monkeypatch) -> None:
    edited = tmp_path / "scenes"
    shutil.copytree(scenes, edited)
    path = edited / "masks" / "00.png"
    mask = np.array(Image.open(path))
    mask[: mask.shape[0] // 2] = 0
    Image.fromarray(mask).save(path)

    encoded = []
    monkeypatch.setattr(Sam, "encode", lambda self, images: encoded.append(images))
    data = load_dataset(edited, target="component")
    arguments = {"cache": cache, "seed": 3, "lr": 1e-3, "regime": "box", **QUICK}
    after = train_decoder(data, out=tmp_path / "after", **arguments)
    assert encoded == []
    assert after.dataset_info["annotation_hash"] != run.dataset_info["annotation_hash"]
    assert after.metrics[1]["loss"] != run.metrics[1]["loss"]
    sam.encode(torch.zeros(1))
    assert len(encoded) == 1  # the count counts


def test_without_a_cache_the_images_are_encoded_once(scenes, sam, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {**QUICK, "epochs": 1, "regime": "box"}
    first = train_decoder(scenes, model=sam, **arguments)
    assert "9 to encode" in capsys.readouterr().err
    second = train_decoder(scenes, model=sam, **arguments)
    assert "to encode" not in capsys.readouterr().err
    assert first.record["cache"] == second.record["cache"] == str(tmp_path / "scenes-tiny.samcache")
    assert timeless(first) == timeless(second)


def test_nan_keeps_the_last_good_epoch(dataset, cache, tmp_path, monkeypatch) -> None:
    rounds = Trainer._rounds

    def diverging(self, *arguments):
        for found in rounds(self, *arguments):
            if self.optimizer.state and next(iter(self.optimizer.state.values()))["step"] >= 3:
                found["loss"] = found["loss"] * torch.nan
            yield found

    monkeypatch.setattr(Trainer, "_rounds", diverging)
    with pytest.raises(RunError, match=r"epoch 2: the loss became nan at step 4[\s\S]*lr"):
        train_decoder(dataset, cache=cache, out=tmp_path / "run", **QUICK)
    kept = Run(tmp_path / "run")
    assert [line["epoch"] for line in kept.metrics] == [0, 1]
    assert all(tensor.isfinite().all() for tensor in load_file(kept.path / "best.safetensors").values())


def test_a_cache_that_does_not_fit_is_refused(dataset, cache, scenes, tmp_path, draw_model) -> None:
    with pytest.raises(StaleCacheError, match="of tiny, not of vit_b"):
        train_decoder(dataset, model="vit_b", cache=cache, out=tmp_path / "run")
    other = tmp_path / "other.pth"
    torch.save(draw_model("tiny", 1).state_dict(), other)
    with pytest.raises(StaleCacheError, match="weights, decoder differ"):
        train_decoder(dataset, cache=cache, checkpoint=other, out=tmp_path / "run")
    more = tmp_path / "more"
    shutil.copytree(scenes, more)
    image = Image.open(more / "images" / "00.png").rotate(90, expand=True)
    image.save(more / "images" / "00.png")
    mask = Image.open(more / "masks" / "00.png").rotate(90, expand=True)
    mask.save(more / "masks" / "00.png")
    with pytest.raises(CacheError, match=r"lacks 1 of 8 images, such as images/00.png[\s\S]*samfast cache"):
        train_decoder(more, cache=cache, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_nothing_to_train_on_or_to_judge_on(scenes, cache, tmp_path) -> None:
    data = load_dataset(scenes)
    with pytest.raises(DataError, match="val set"):
        train_decoder(data.split(val=0.0, test=0.2), cache=cache, out=tmp_path / "run")
    black = tmp_path / "black"
    shutil.copytree(scenes, black)
    for number in range(6):
        path = black / "masks" / f"{number:02}.png"
        Image.fromarray(np.zeros_like(np.array(Image.open(path)))).save(path)
    with pytest.raises(DataError, match="train set"):
        train_decoder(black, cache=cache, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wrong_settings_are_found_before_the_data_is_read(tmp_path) -> None:
    with pytest.raises(ConfigError, match="lasso"):
        train_decoder(tmp_path / "absent", regime="lasso")
    with pytest.raises(ConfigError, match="cuda:77"):
        train_decoder(tmp_path / "absent", device="cuda:77")


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": "other"}', '{"format": "samfast-run", "version": 9}'])
def test_a_folder_that_is_no_run_says_so(tmp_path: Path, content) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError) as caught:
        Run(tmp_path)
    assert "run.json" in str(caught.value)
    with pytest.raises(RunError, match="no such run"):
        Run(tmp_path / "absent")


def test_a_run_opens_its_data_again(scenes, cache, tmp_path) -> None:
    shutil.copytree(scenes, tmp_path / "scenes")
    (tmp_path / "scenes" / "splits.json").unlink()
    data = load_dataset(tmp_path / "scenes", target="component").split(val=0.25, test=0.25, seed=5)
    run = train_decoder(data, cache=cache, out=tmp_path / "run", **{**QUICK, "epochs": 1})
    again = Run(run.path).dataset()
    assert again.samples == data.samples
    assert again.annotation_hash == data.annotation_hash
    (tmp_path / "scenes" / "splits.json").write_text((scenes / "splits.json").read_text())
    record = json.loads((run.path / "run.json").read_text())
    del record["dataset"]["options"]["split"]
    (run.path / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="not any more"):
        Run(run.path).dataset()


def test_from_dict_reads_what_is_stored(run) -> None:
    assert TrainConfig.from_dict(run.record["config"]) == run.config


def same_weights(one: Run, other: Run) -> bool:
    a, b = one.decoder_state(), other.decoder_state()
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def timeless(run: Run) -> list[dict]:
    return [{name: value for name, value in line.items() if "seconds" not in name} for line in run.metrics]


def test_the_later_stages_are_one_call_away(run, dataset, monkeypatch) -> None:
    asked: list = []
    monkeypatch.setattr("samfast.evaluation.evaluate", lambda *a, **k: asked.append((a, k)))
    monkeypatch.setattr("samfast.predictions.predict", lambda *a, **k: asked.append((a, k)))
    run.evaluate("val", data=dataset, baselines=False)
    run.predict("photos/", save="coco")
    assert asked == [
        (([run], dataset), {"on": "val", "baselines": False}),
        ((run, "photos/"), {"save": "coco"}),
    ]

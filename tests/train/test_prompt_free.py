"""Runs without prompts, from the data to what is shipped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import samfast
from samfast.cache import EmbeddingCache, cache_embeddings
from samfast.data import Dataset, load_dataset
from samfast.data.shapes import shape_scene
from samfast.errors import ConfigError, OutputExistsError
from samfast.export.checkpoint import decoder_contract, with_decoder
from samfast.inference.contract import OutputContract
from samfast.models.checkpoints import load_model
from samfast.models.classes import with_classes
from samfast.models.segmenter import TorchSegmenter
from samfast.train import Run, TrainConfig, folder, train_decoder
from samfast.train.batch_size import fitting_batch_size
from samfast.train.batches import make_batch
from samfast.train.targets import LOSS_FRAMES, target_spec

QUICK = {"regime": "none", "epochs": 2, "batch_size": 3, "device": "cpu", "lr": 1e-3, "seed": 3}
CLASSES = ("1", "2")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Ten images: class 1 left, class 2 right of the middle, a border that is ignored; every fifth image is empty."""
    root = tmp_path_factory.mktemp("classes") / "scenes"
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number in range(10):
        image, labels = shape_scene(7, number, size=(96, 120))
        mask = (labels > 0) * np.where(np.arange(120) < 60, 1, 2).astype(np.uint8)
        if number % 5 == 4:
            image, mask = np.full_like(image, 90 + number), np.zeros_like(mask)
        else:
            mask[:, :4] = 255
        Image.fromarray(image).save(root / f"images/{number}.png")
        Image.fromarray(mask.astype(np.uint8)).save(root / f"masks/{number}.png")
        splits["train" if number < 6 else "val" if number < 8 else "test"].append(f"images/{number}.png")
    (root / "splits.json").write_text(json.dumps(splits))
    return root


@pytest.fixture(scope="module")
def dataset(scenes) -> Dataset:
    return load_dataset(scenes, target="class")


@pytest.fixture(scope="module")
def cache(dataset, tmp_path_factory, sam) -> EmbeddingCache:
    out = tmp_path_factory.mktemp("caches") / "c.samcache"
    return cache_embeddings(dataset, model=sam, out=out, storage="float32", device="cpu")


@pytest.fixture(scope="module")
def run(dataset, cache, tmp_path_factory) -> Run:
    return train_decoder(dataset, cache=cache, out=tmp_path_factory.mktemp("runs") / "classes", **QUICK)


def losses(run: Run) -> list[float]:
    return [line["loss"] for line in run.metrics[1:]]


def last_weights(run: Run) -> dict[str, torch.Tensor]:
    return Run(run.path, which="last").decoder_state()


def equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_run_says_which_class_each_token_answers(run) -> None:
    assert run.contract == OutputContract((), (), CLASSES)
    assert run.metrics[0].keys() >= {"val_iou", "val_iou_none", "val_dice_none"}
    first, second = losses(run)
    assert second < 0.95 * first
    decoder = run.decoder_state()
    assert decoder["mask_decoder.mask_tokens.weight"].shape[0] == 2
    tokens = decoder["mask_decoder.mask_tokens.weight"]
    assert not torch.equal(tokens[0], tokens[1])  # they were the same, and were taught different classes


def test_a_step_shows_all_of_each_class_on_every_annotated_image(dataset, cache, sam) -> None:
    samples = [one for one in dataset.of("train") if one.state != "missing"]
    assert {one.state for one in samples} == {"labelled", "empty"}
    batch = make_batch(dataset, samples, cache.read, TrainConfig.make(**QUICK, loss_frame="low-res"), sam.spec, epoch=1)
    assert batch.target.shape == (6, 2, sam.spec.low_res, sam.spec.low_res)
    assert (batch.tokens.labels == -1).all()
    for index, sample in enumerate(samples):
        target = dataset.target(sample)
        for label in (0, 1):
            mine = target.masks[np.flatnonzero(target.classes == label)].union()
            on_image = batch.target[index, label] * sam.spec.frame(*sample.size).coverage()
            area = on_image.sum() * np.prod(sam.spec.frame(*sample.size).cell)
            assert area == pytest.approx(mine.area()[0], rel=0.02)
    ignored = sam.spec.frame(*samples[0].size).coverage() - batch.weight[0]
    assert ignored[:, 0].max() == 1
    assert ignored[:, 12:].max() == 0
    assert np.abs(batch.target[4]).max() == 0


def test_it_is_resumed_exactly_and_not_with_another_class_map(run, dataset, cache, tmp_path, monkeypatch) -> None:
    saved = folder.RunFolder.save_epoch
    monkeypatch.setattr(
        folder.RunFolder, "save_epoch", lambda self, *args: (saved(self, *args), 1 / (len(args[2]) - 2))
    )
    out = tmp_path / "again"
    with pytest.raises(ZeroDivisionError):
        train_decoder(dataset, cache=cache, out=out, **QUICK)
    monkeypatch.undo()
    renamed = load_dataset(dataset.root, target="class", merge={"flat": ["1"]})
    with pytest.raises(OutputExistsError, match=r"classes: \['1', '2'\] there"):
        train_decoder(renamed, cache=cache, out=out, **QUICK)
    resumed = train_decoder(dataset, cache=cache, out=out, **QUICK)
    assert all(torch.equal(value, resumed.decoder_state()[name]) for name, value in run.decoder_state().items())


@pytest.mark.parametrize(("seed", "is_equal"), [(3, True), (4, False)])
def test_a_run_is_that_of_its_seed(run, dataset, cache, tmp_path, seed, is_equal) -> None:
    again = train_decoder(dataset, cache=cache, out=tmp_path / "run", **{**QUICK, "seed": seed})
    assert equal(last_weights(again), last_weights(run)) == is_equal
    assert (losses(again) == losses(run)) == is_equal


def test_an_average_of_the_weights_takes_their_place(run, dataset, cache, tmp_path) -> None:
    found = train_decoder(dataset, cache=cache, out=tmp_path / "run", ema=0.5, **QUICK)
    assert losses(found) == losses(run)
    assert not equal(last_weights(found), last_weights(run))


def test_the_loss_may_be_taken_in_either_frame(run, dataset, cache, sam, tmp_path) -> None:
    (other,) = {*LOSS_FRAMES} - {run.config.loss_frame}
    found = train_decoder(dataset, cache=cache, out=tmp_path / "run", loss_frame=other, **QUICK)
    assert losses(found) != losses(run)
    assert losses(found) == pytest.approx(losses(run), rel=0.05)
    sides = {frame: target_spec(sam.spec, frame).low_res for frame in LOSS_FRAMES}
    for frame, side in sides.items():
        config = TrainConfig.make(**QUICK, loss_frame=frame)
        batch = make_batch(dataset, dataset.of("train")[:1], cache.read, config, sam.spec, epoch=1)
        assert batch.target.shape == (1, 2, side, side)
    assert len({*sides.values()}) == 2


def test_each_epoch_shows_another_view(run, dataset, sam, tmp_path) -> None:
    views = {"views": 2, "augment": "aerial"}
    cache = cache_embeddings(dataset, model=sam, out=tmp_path / "v.samcache", storage="float32", device="cpu", **views)
    found = train_decoder(dataset, cache=cache, out=tmp_path / "run", **views, **QUICK)
    assert all(one != other for one, other in zip(losses(found), losses(run), strict=True))


def test_classes_may_overlap(run, dataset, cache, tmp_path) -> None:
    settings = {**QUICK, "multilabel": True, "loss": "focal+dice+iou"}
    found = train_decoder(dataset, cache=cache, out=tmp_path / "run", **settings)
    assert found.contract == OutputContract((), (), CLASSES, multilabel=True)
    assert {"loss_focal", "loss_dice", "loss_iou"} < found.metrics[1].keys()
    shared_out = train_decoder(dataset, cache=cache, out=tmp_path / "other", **{**settings, "multilabel": False})
    assert all(one != other for one, other in zip(losses(found), losses(shared_out), strict=True))


def test_its_batch_size_is_what_is_decoded_at_once(dataset, cache, sam, tmp_path, monkeypatch) -> None:
    """An image is one question, however many classes and objects it has."""
    config = TrainConfig.make(**{**QUICK, "batch_size": "auto", "max_prompts": 2, "prompts_per_object": 2})
    images = [one for one in dataset.of("train") if one.state != "missing"]
    model = with_classes(cache.decoder(), 2)
    about = {"device": torch.device("cpu"), "precision": "fp32"}
    for chunk in (8, 32):
        monkeypatch.setattr("samfast.train.engine.CHUNK_POSITIONS_ELSEWHERE", chunk * sam.spec.embedding**2)
        assert fitting_batch_size(model, dataset, images * 500, cache.read, config, **about) == chunk
    found = train_decoder(dataset, cache=cache, out=tmp_path / "run", **{**QUICK, "epochs": 1, "batch_size": "auto"})
    assert found.config.batch_size == 1  # six images are a few updates


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(dataset, cache, tmp_path) -> None:
    settings = {**QUICK, "batch_size": 5, "clip_norm": 0.5}  # of six images: the second batch holds one
    alone = train_decoder(dataset, cache=cache, out=tmp_path / "alone", **settings)
    both = train_decoder(dataset, cache=cache, out=tmp_path / "both", devices=2, **settings)
    other = train_decoder(dataset, cache=cache, out=tmp_path / "other", **{**settings, "batch_size": 3})
    assert losses(both) == pytest.approx(losses(alone), rel=1e-4)
    assert losses(other) != pytest.approx(losses(alone), rel=1e-4)
    for line, wanted in zip(both.metrics, alone.metrics, strict=True):
        assert line["val_iou"] == pytest.approx(wanted["val_iou"], abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"regime": "none", "balance": "class"}, "weighs objects by their class"),
        ({"regime": "none", "balance": "size"}, "weighs objects by their size"),
        ({"regime": "box", "multilabel": True}, "multilabel is about classes"),
        ({"regime": "none", "multilabel": "yes"}, "neither true nor false"),
        ({"regime": "none+box"}, "none, alone"),
    ],
)
def test_what_makes_no_sense_without_prompts_is_refused(settings, what) -> None:
    with pytest.raises(ConfigError, match=what):
        TrainConfig.make(**settings)


def test_it_is_judged_by_class_on_empty_images_too(run, dataset, tmp_path) -> None:
    report = samfast.evaluate(run, out=tmp_path)
    assert [line.prompt for line in report.summary] == ["none", "none: 1", "none: 2", ""]
    assert report.asked.prompts == ("none",)
    assert (report.line(run.path.name, "none").images, report.asked.empty_images) == (2, 1)
    assert "all of each class" in report.table()
    assert "all-foreground classes" in (tmp_path / "report.html").read_text()
    mean = report.line(run.path.name, "none").mean["iou"]
    answers = [row for row in report.rows if row.prompt.startswith("none: ")]
    by_image = {row.image: [] for row in report.rows if row.prompt == "none"}
    for row in answers:
        by_image[row.image].append(row.iou)
    assert mean == pytest.approx(np.mean([np.mean(ious or [1.0]) for ious in by_image.values()]))


def test_each_model_is_judged_in_its_own_way(run, dataset) -> None:
    report = samfast.evaluate([run, "tiny"], prompts=["box", "none"], baselines=False)
    assert {(line.model, line.prompt) for line in report.summary} >= {(run.path.name, "none"), ("tiny", "box")}
    assert not any((line.model, line.prompt) == ("tiny", "none") for line in report.summary)
    with pytest.raises(ConfigError, match=r"(?s)takes no prompts.*prompts='none'"):
        samfast.evaluate(run, prompts=["box"])
    with pytest.raises(ConfigError, match=r"(?s)nothing without a prompt.*regime='none'"):
        samfast.evaluate("tiny", dataset, prompts=["none"])
    other = load_dataset(dataset.root, target="class", merge={"flat": ["1"]})
    with pytest.raises(ConfigError, match=r"the model alone has 1; the data alone has flat"):
        samfast.evaluate(run, other)


def test_it_predicts_from_images_alone(run, scenes, tmp_path) -> None:
    (result,) = run.predict(scenes / "images/8.png", save=["png", "coco", "overlay"], out=tmp_path)
    assert len(result.prediction.masks) == 2
    labels = np.asarray(Image.open(tmp_path / "masks/8.png"))
    for index in (0, 1):
        np.testing.assert_array_equal(labels == index + 1, result.prediction.masks.numpy()[index])
    found = json.loads((tmp_path / "predictions.coco.json").read_text())
    assert [each["name"] for each in found["categories"]] == list(CLASSES)
    areas = {each["category_id"]: each["area"] for each in found["annotations"]}
    assert areas == {k + 1: area for k, area in enumerate(result.prediction.masks.area().tolist()) if area}
    assert len(run.predict(scenes / "images", prompts="none", save=())) == 10
    for asked in ({"box": [1, 2, 30, 40]}, {"prompts": {"8": [1, 2, 30, 40]}}, {"prompts": "point"}):
        with pytest.raises(ConfigError):
            run.predict(scenes / "images", save=(), **asked)
    with pytest.raises(ConfigError, match="takes no prompts"):
        run.predict(scenes / "images", save=(), point=[3, 4])


def test_it_is_shipped_as_onnx_and_as_a_decoder_and_not_as_what_it_is_not(run, scenes, tmp_path) -> None:
    bundle = samfast.export_onnx(run, out=tmp_path / "b.onnxbundle")
    assert bundle.contract == run.contract
    image = np.asarray(Image.open(scenes / "images/8.png"))
    (ours,) = run.predict(image, save=())
    (theirs,) = bundle.predict(image, save=())
    assert (ours.prediction.masks.numpy() == theirs.prediction.masks.numpy()).mean() > 0.9999
    predictor = samfast.OnnxPredictor(bundle)
    predictor.set_image(image)
    masks, ious, low_res = predictor.predict()
    np.testing.assert_array_equal(masks, theirs.prediction.masks.numpy())
    assert (ious.shape, low_res.shape) == ((2,), theirs.prediction.low_res.shape)
    with pytest.raises(ConfigError, match="takes no prompts"):
        predictor.predict(box=[1, 2, 30, 40])

    path = samfast.export_decoder(run, out=tmp_path / "d.safetensors")
    loaded = TorchSegmenter(with_decoder(load_model("tiny"), path), decoder_contract(path))
    (halved,) = samfast.predict(loaded, image, save=())
    assert (ours.prediction.masks.numpy() == halved.prediction.masks.numpy()).mean() > 0.999
    for export in (samfast.export_checkpoint, samfast.export_huggingface):
        with pytest.raises(ConfigError, match=r"(?s)a mask token for each of its 2 classes.*export_onnx"):
            export(run, out=tmp_path / "other")

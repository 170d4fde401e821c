"""The benchmarks of training compare the same work, and go on where they were."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from samfast.data import load_dataset

pytestmark = pytest.mark.usefixtures("benches_are_importable")


@pytest.fixture(scope="module")
def drawn_tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of ``tiny`` with every parameter drawn."""
    from contenders.prepare import draw_checkpoint

    return str(draw_checkpoint("tiny", tmp_path_factory.mktemp("weights") / "tiny.pth"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_and_the_loop_over_images_do_the_same_work(drawn_tiny, precision, monkeypatch) -> None:
    import step
    from models import STOCK, Task
    from synthetic import draw_batch

    task = Task("tiny", drawn_tiny, "cpu", 1, 1)
    monkeypatch.setattr(step, "CASES", {"points": (3, 1, "point"), "clicks": (2, 2, "clicks:3")})
    for case in step.CASES:
        assert set(step.measured(task, case, precision)) == {STOCK, step.OURS}

    stock, ours = task.models()
    batch = draw_batch("tiny", 3, 1)
    config = step.TrainConfig.make("flood-study", regime="point", device="cpu")
    other = step.Loop(stock, config.replace(loss=step.TrainConfig.make("sam").loss), precision)
    trainer = step.Trainer(ours, config, steps_per_epoch=1, device=torch.device("cpu"), precision=precision)
    with pytest.raises(AssertionError):
        step.check(trainer, other, batch, has_clicks=False, precision=precision)


def test_the_table_of_steps_goes_on_where_it_was(tmp_path, drawn_tiny, monkeypatch) -> None:
    import step
    from models import STOCK, Task

    asked = []

    def answer(measure, task, case, precision, *, kept) -> dict[str, float]:
        asked.append((case, precision, kept))
        return {STOCK: 0.2 if kept else 0.3, step.OURS: 0.1}

    monkeypatch.setattr(step, "in_process", answer)
    first, *_ = step.CASES
    task = Task("tiny", drawn_tiny, "cpu", 1, 1)
    step.section(task, [first], tmp_path)
    assert len(asked) == 4
    text = step.section(task, list(step.CASES), tmp_path)
    assert len(set(asked)) == len(asked) == 12
    assert "| 300 / 100 (3.00×) | 200 / 100 (2.00×) | 3.00× |" in text


def test_batches_of_noise_are_those_of_a_step() -> None:
    from synthetic import draw_batch

    low, fine = (draw_batch("tiny", 3, 2, regime="clicks:4", loss_frame=frame) for frame in ("low-res", "model"))
    assert len(low) == 6
    assert low.click_keys.shape == (6, 3)
    factor = fine.target.shape[-1] // low.target.shape[-1]
    assert factor > 1
    cells = fine.target.reshape(6, low.target.shape[-1], factor, -1, factor).mean((2, 4))
    assert np.abs(cells - low.target).max() < 0.2
    assert (low.target > 0.5).any((1, 2)).all()
    assert low.share.sum() == pytest.approx(low.whole)


def test_litter_is_where_its_outlines_are(tmp_path) -> None:
    from loss_frame import write_litter

    square = [100, 100, 300, 100, 300, 300, 100, 300]
    moved = [value + 400 for value in square]
    images = [{"id": number, "height": 1000, "width": 2000} for number in range(4)]
    outlines = [[square], [moved], [[value / 2 for value in square]]]
    listed = [{"image_id": number, "segmentation": outline} for number in range(4) for outline in outlines]
    (tmp_path / "taco.json").write_text(json.dumps({"images": images, "annotations": listed[:-1]}))
    root = write_litter(tmp_path / "litter", tmp_path / "taco.json", sets={"train": 1, "valid": 1, "test": 1})
    data = load_dataset(root)
    assert [len(data.of(split)) for split in ("train", "val", "test")] == [1, 1, 1]
    (sample,) = data.of("test")
    assert sample.size == (384, 768)
    inside, whole = data.target(sample).masks.numpy()[0], data.image(sample).astype(float)
    assert inside.sum() == pytest.approx((200 * 768 / 2000) ** 2, rel=0.05)
    assert np.abs(whole[inside].mean(0) - whole[~data.target(sample).masks.numpy().any(0)].mean(0)).max() > 20


def test_prompts_of_the_loops_in_python_lie_where_samfasts_do() -> None:
    from test_training_data import check, looped

    check()
    (points, box), *_ = looped(as_tuples=True)[0]
    assert len(points) == 4
    assert box[0] <= points[0][0] <= box[2]
    assert box[1] <= points[0][1] <= box[3]


def test_a_regime_is_a_row_and_is_measured_once(tmp_path) -> None:
    from regimes import judged, row

    figures = {"tuned": {"point": 0.7, "box": 0.8}, "zero-shot": {"point": 0.3, "box": 0.5}}
    for seed, more in ((0, 0.0), (1, 0.02)):
        tuned = {kind: value + more for kind, value in figures["tuned"].items()}
        (tmp_path / f"point+box, seed {seed}.json").write_text(json.dumps({**figures, "tuned": tuned}))
    found = [judged(tmp_path, tmp_path, "point+box", seed, None, tmp_path) for seed in (0, 1)]
    assert row("point+box", found) == ["point+box", "0.710 ± 0.014 (0.300)", "0.810 ± 0.014 (0.500)", ""]
    own = {"tuned": {"center": 0.71}, "zero-shot": {"center": 0.33}}
    assert row("center", [own]) == ["center", "", "", "center: 0.710 (0.330)"]

"""The benchmarks run, the contenders do the same work, and the tables say what was measured."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from samfast.cache import cache_embeddings
from samfast.data import load_dataset
from samfast.data.scenes import write_flood_scenes
from samfast.masks import Masks
from samfast.models.checkpoints import load_model

BENCHES = Path(__file__).resolve().parents[1] / "benches"

pytestmark = pytest.mark.usefixtures("benches_are_importable")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory):
    """A job on four scenes, and samfast's cache of them."""
    from contenders.job import Job
    from contenders.prepare import write_embeddings, write_records

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("headline")
    root = write_flood_scenes(folder / "scenes", 6)
    dataset = load_dataset(root)
    samples = dataset.of("train", state="labelled")
    cache = cache_embeddings(dataset, model="tiny", out=folder / "scenes.samcache", storage="float32", device="cpu")
    records = write_records(dataset, samples, folder / "records")
    write_embeddings(cache, samples, records)
    return Job(
        contender="encoder", task="time", malloc="system", precision="fp32", device="cpu", threads=1, model="tiny",
        checkpoint=None, data=str(root), limit=None, names=tuple(sample.name for sample in samples),
        records=str(records), cache=str(cache.path), rows=("1 prompt", "8 clicks"), epochs=1, batch_size=2, objects=1,
        encodes=1, encode_into=str(folder / "encoded"), budget_s=0.0, seed=0,
    )  # fmt: skip


def test_the_rivals_see_and_answer_what_samfast_does(job) -> None:
    from dataclasses import replace

    from contenders.scripts import Script

    sam = load_model("tiny")
    live, naive = Script(job), Script(replace(job, contender="naive"))
    for script in (live, naive):
        script.begin("1 prompt")
    record = live.records[0]
    embedding, size = live.embed(record)
    stored, _ = naive.embed(record)
    assert size[0] < size[1] == sam.spec.size
    assert torch.allclose(embedding, stored, atol=1e-4 * float(stored.abs().max()))
    assert not torch.allclose(embedding, naive.embed(live.records[1])[0], atol=0.1)

    masks = naive.masks(record)
    target = naive.low_res(masks)[0]
    expected = Masks.from_numpy(masks).rasterize(sam.spec.frame(*masks.shape[1:]))[0] >= 0.5
    height, width = target.shape
    near = (target == expected[:height, :width]).mean()  # nearest and area average differ at borders
    assert near > 0.95
    assert (np.roll(target, 6, axis=1) == expected[:height, :width]).mean() < near - 0.02
    assert not expected[height:, :].any()
    assert not expected[:, width:].any()

    coords, labels = np.array([[[30.0, 40.0]]]), np.array([[1]])
    frame = sam.spec.frame(*live.masks(record).shape[1:])
    theirs = live.decode(stored, coords, labels, None, None, live.masks(record).shape[1:])
    ours, _ = sam.decode(
        stored,
        torch.zeros(1, dtype=torch.int64),
        torch.from_numpy(np.concatenate([frame.points_to_model(coords[0]), [[0, 0]]])[None]).float(),
        torch.tensor([[1, -1]]),
    )
    assert torch.allclose(theirs[:, 0], ours[:, 0], atol=1e-4)


@pytest.mark.parametrize("contender", ["encoder", "naive"])
@pytest.mark.parametrize("row", ["1 prompt", "8 prompts", "8 clicks"])
def test_the_rivals_train(job, contender, row) -> None:
    from dataclasses import replace

    from contenders.scripts import Script

    script = Script(replace(job, contender=contender, objects=2))
    script.begin(row)
    for group in script.optimizer.param_groups:
        group["lr"] = 3e-4

    def loss() -> float:
        script.rng = np.random.default_rng(1)
        with torch.no_grad():
            return float(np.mean([float(script.loss(*values)) for values in map(inputs, script.records)]))

    def inputs(record: dict):
        embedding, size = script.embed(record)
        return embedding, script.masks(record), size

    before = loss()
    assert [sum(script.epoch(number)) for number in range(1, 5)] == [len(script.records)] * 4
    assert loss() < before


def test_clicks_of_the_rivals_lie_in_the_error_region(job) -> None:
    from contenders.scripts import Script

    script = Script(job)
    script.begin("8 clicks")
    truth = np.zeros((2, 60, 80), bool)
    truth[:, 20:40, 20:40] = True
    answers = np.zeros_like(truth)
    answers[1, 20:40, 20:60] = True  # too much on its right
    for _ in range(20):
        points, labels = script.corrections(answers, truth, (120, 160))
        x, y = ((points + 0.5) / 2 - 0.5).T
        assert labels.tolist() == [1, 0]
        assert ((y >= 20) & (y < 40)).all()
        assert 20 <= x[0] < 40 <= x[1] < 60
    _, labels = script.corrections(truth, truth, (120, 160))
    assert labels.tolist() == [1, 1]


def test_time_is_taken_over_whole_epochs_where_there_are_any() -> None:
    from contenders.job import measure

    def epoch(number: int) -> Iterator[int]:
        yield from (2, 2, 1)

    def long_epoch(number: int) -> Iterator[int]:
        yield from (1,) * 9

    assert measure(epoch, images=5, budget_s=0.0, wait=lambda: None).over == "1 epoch"
    assert measure(long_epoch, images=9, budget_s=0.0, wait=lambda: None).over == "3 steps"
    assert measure(epoch, images=5, budget_s=0.05, wait=lambda: None).over.endswith("epochs")


def test_the_tables_say_what_was_measured() -> None:
    from contenders import table

    def answer(epoch_s: float, over: str, image_s: float | None = None, images: int = 10) -> dict:
        encode = {} if image_s is None else {"encode": {"image_s": image_s, "images": images}}
        if over == "9 epochs":  # samfast
            encode["open_image_s"] = 0.1
        return {**encode, "rows": {"1 prompt": {"epoch_s": epoch_s, "over": over}}}

    answers = {
        ("encoder", "system", "fp32"): answer(100.0, "4 steps"),
        ("encoder", "kept", "fp32"): answer(50.0, "4 steps"),
        ("naive", "system", "fp32"): answer(4.0, "2 epochs", 9.0, 3),
        ("naive", "kept", "fp32"): answer(3.0, "2 epochs", 5.0, 3),
        ("samfast", "kept", "fp32"): answer(1.0, "9 epochs", 2.0),
        ("samfast", "kept", "bf16"): answer(0.5, "9 epochs", 1.0),
    }
    found = table.costs(answers, "1 prompt", "fp32", 10)
    assert len(found) == 5
    lines = table.row_table(found, 10).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert cells[0] == [
        "(a) encoder in every step", "stock", "–", "–", "100.00 s", "4 steps", "1700 s", "1700 s", "44.7×", "94.4×",
    ]  # fmt: skip
    assert cells[2][5] == "2 epochs; cache: 3 images"
    assert cells[4][2:] == ["1.0 s", "20.0 s", "1.00 s", "9 epochs", "38 s", "18 s", "1×", "1×"]
    split = table.split_table(answers, "1 prompt", 10)
    assert [row.count("×") for row in split.splitlines()[2:]] == [0, 2, 2, 2, 2]
    assert "16.7×" in split  # the cache: 50 s to 3 s

    twice = {who: cost.of(2) for who, cost in found.items()}
    assert twice["samfast", "kept"].job == 2 * found["samfast", "kept"].job

    on_gpu = {key: answer for key, answer in answers.items() if key[1] == "kept"}
    assert [row.count("×") for row in table.split_table(on_gpu, "1 prompt", 10).splitlines()[2:]] == [0, 2, 2, 2]

    curves = {"naive": [[0.1, 0.2, 0.3, 0.5]], "samfast": [[0.1, 0.4, 0.4, 0.4]]}
    told = table.curve_table(curves, found)
    assert "Validation IoU 0.395" in told
    epochs = [line.split("|")[3].strip() for line in told.splitlines()[4:]]
    assert epochs == ["3", "3", "3", "3", "1"]


def test_a_section_is_replaced_and_the_rest_kept(tmp_path) -> None:
    from headline import write_section

    page = tmp_path / "RESULTS.md"
    write_section(page, "a", "first")
    write_section(page, "b", "other")
    before = page.read_text()
    write_section(page, "a", "new")
    assert page.read_text() == before.replace("first", "new")
    assert before.index("first") < before.index("other")


@pytest.mark.slow
def test_the_headline_runs(tmp_path) -> None:
    command = [sys.executable, BENCHES / "headline.py", "--quick", "--threads", "1", "--mallocs", "kept"]
    command += ["--rows", "1 prompt,8 clicks", "--bf16-rows", "", "--results", tmp_path / "RESULTS.md"]
    subprocess.run(command, check=True, capture_output=True, timeout=500)
    page = (tmp_path / "RESULTS.md").read_text()
    assert page.count("(a) encoder in every step") == page.count("(c) samfast") == 4
    assert "### 8 clicks, fp32" in page
    assert "equal validation IoU" in page
    assert tempfile.gettempdir() not in page
    assert str(Path.home()) not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--rows", "2 prompts"], "1 prompt"), (["--mallocs", "jemalloc"], "system"), (["--mallocs", "system"], "kept")],
)
def test_what_cannot_be_measured_is_refused_at_once(arguments, message, capsys) -> None:
    from headline import parse

    with pytest.raises(SystemExit):
        parse(arguments, device="cpu")
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_training_takes_little_memory_an_image(tmp_path: Path) -> None:
    """100 000 images may take 200 MB more than 100, which is 2 kB each; and the reading of more of them some room."""
    page = tmp_path / "RESULTS.md"
    command = [sys.executable, BENCHES / "cache_memory.py", "2000", "10000", "--results", page]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    few, many = (float(line.split()[1]) for line in done.stdout.splitlines())
    assert 100 < few < many < few + 8000 * 2e-3 + 15
    assert f"| 10000 | {many:.0f} MB |" in page.read_text()


@pytest.mark.slow
def test_the_comparison_of_models_runs(tmp_path) -> None:
    page = tmp_path / "RESULTS.md"
    command = [sys.executable, BENCHES / "models.py", "--model", "tiny", "--rounds", "1", "--threads", "1"]
    subprocess.run([*command, "--results", page], check=True, capture_output=True, timeout=500)
    assert "<!-- models-tiny-cpu: begin -->" in page.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("transfer", []),
        ("recipes", []),
        ("views", []),
        ("regimes", ["--epochs", "1", "--regimes", "point+box", "mask"]),
        ("loss_frame", ["--epochs", "1"]),
    ],
)
def test_the_comparisons_of_training_run(script, options, tmp_path) -> None:
    root = write_flood_scenes(tmp_path / "scenes", 12)
    page = tmp_path / "RESULTS.md"
    command = [sys.executable, BENCHES / f"{script}.py", root, "--results", page, "--seeds", "0", "1", "--jobs", "1"]
    subprocess.run([*command, *options], check=True, capture_output=True, timeout=900)
    assert "0." in page.read_text()


@pytest.mark.slow
def test_the_cache_on_a_gpu_is_measured_anywhere(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    command = [sys.executable, BENCHES / "gpu_cache.py", "--device", "cpu", "--model", "tiny", "--images", "12"]
    subprocess.run([*command, "--epochs", "2", "--results", page], check=True, capture_output=True, timeout=500)
    assert "of it the decoder waits for a batch" in page.read_text()


@pytest.mark.slow
def test_reads_from_the_disk_are_measured(tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="the cache's peers are in the extra [bench]")
    page = tmp_path / "RESULTS.md"
    command = [sys.executable, BENCHES / "cold_reads.py", "--rounds", "2", "--results", page]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert "| pread, 4 threads |" in page.read_text()


def test_caches_of_noise_are_caches(tmp_path: Path) -> None:
    from synthetic import write_cache

    cache = write_cache(tmp_path / "c", [f"{number}.jpg" for number in range(5)], shape=(2, 3), rows_per_shard=2)
    rows = cache.read(cache.keys)["image_embeddings"]
    assert rows.shape == (5, 2, 3)
    assert len(np.unique(rows)) > 20
    assert cache.info()["shards"] == 3


@pytest.mark.slow
def test_an_epoch_holds_a_few_batches_however_many_rows(tmp_path: Path) -> None:
    """96 MB of rows, in a process of its own; the last line is the control: held on to, they are seen."""
    code = """
        from pathlib import Path
        from cache_memory import resident_mb
        from synthetic import write_cache
        cache = write_cache(Path(sys.argv[1]), [str(number) for number in range(1500)], shape=(32, 32, 32))
        resident = [resident_mb() for _ in cache.loader(cache.keys, 8, epoch=1)]
        held = [features for _, features in cache.loader(cache.keys, 8, epoch=2)]
        print(max(resident[20:]) - resident[10], (resident_mb() - resident[-1]) / len(held))
    """
    script = f"import sys; sys.path.insert(0, {str(BENCHES)!r})\n{textwrap.dedent(code)}"
    command = [sys.executable, "-c", script, tmp_path / "c"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    grown, batch_mb = map(float, done.stdout.split())
    assert grown < 15
    assert batch_mb > 60 / 188

"""The headline: fine-tuning from a cache against the encoder in every step and against a cache made by hand.

    python benches/headline.py DATA --model vit_b --checkpoint sam_vit_b_01ec64.pth

All contenders run on one machine in one go, each in a process of its own: the same images, objects, prompts, threads,
optimizer and batch size, float32 against float32 and bfloat16 autocast against the same. Writes a section of
``benches/RESULTS.md``. ``--quick`` shows in two minutes that it works.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from contenders import table
from contenders.job import ROWS, Job
from contenders.machine import describe, take_cores
from contenders.prepare import draw_checkpoint, write_embeddings, write_records
from results import RESULTS, write_section

from samfast.cache import EmbeddingCache, cache_embeddings
from samfast.data import load_dataset
from samfast.data.scenes import write_flood_scenes
from samfast.data.types import Sample
from samfast.models.architecture import OFFICIAL_FILES
from samfast.progress import say

HERE = Path(__file__).resolve().parent
FLOOD = HERE.parents[1] / "shared" / "data" / "flood"
CURVE_MODEL = "tiny"
"""Whose curves are compared where the model has random weights: a decoder learns nothing from a random encoder."""


def parse(arguments: Sequence[str] | None, *, device: str) -> argparse.Namespace:
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(description=first, epilog=rest, formatter_class=argparse.RawTextHelpFormatter)
    listed = lambda text: [part.strip() for part in text.split(",")]  # noqa: E731
    parser.add_argument("data", nargs="?", type=Path, help="a folder as samfast reads it; else flood photos or scenes")
    parser.add_argument("--model", default="vit_b")
    parser.add_argument("--checkpoint", type=Path, help="official weights; random ones are drawn without")
    parser.add_argument("--device", default=device)
    parser.add_argument("--threads", type=int, help="the machine's cores")
    parser.add_argument("--images", type=int, default=32, help="train images; times of an epoch are of these")
    parser.add_argument("--objects", type=int, default=1, help="objects of an image in an epoch")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rows", type=listed, default=list(ROWS), help="; ".join(ROWS))
    parser.add_argument("--bf16-rows", type=listed, help="rows that are measured in bf16 too; by default the first")
    parser.add_argument("--mallocs", type=listed, default=["system", "kept"], help="system, kept")
    parser.add_argument("--budget", type=float, default=25.0, help="seconds after which no further step is timed")
    parser.add_argument("--encodes", type=int, default=3, help="images encoded where that is timed over a part")
    parser.add_argument("--curve-images", type=int, help="limit of the data that the curves are of")
    parser.add_argument("--curve-seeds", type=int, default=2, help="0 for no curves")
    parser.add_argument("--curve-epochs", type=int, default=table.EPOCHS)
    parser.add_argument("--results", type=Path, help="the page; RESULTS.md, of a quick run none")
    parser.add_argument("--quick", action="store_true", help="tiny on generated scenes, everything short")
    options = parser.parse_args(arguments)
    if options.quick:
        options.model, options.images, options.budget, options.encodes = "tiny", 8, 1.0, 2
        options.curve_seeds, options.curve_epochs = min(options.curve_seeds, 1), 2
    for name, known in (("rows", ROWS), ("bf16_rows", ROWS), ("mallocs", table.HEAP)):
        if unknown := set(getattr(options, name) or ()) - {*known, ""}:
            parser.error(f"--{name.replace('_', '-')}: {', '.join(unknown)}: choose from {', '.join(known)}")
    if "kept" not in options.mallocs:
        parser.error("--mallocs: samfast ships with 'kept', which everything is compared with")
    options.threads = take_cores(options.threads)
    return options


def main(arguments: Sequence[str] | None = None, *, device: str = "cpu") -> None:
    """Measure, and write the section."""
    options = parse(arguments, device=device)
    with tempfile.TemporaryDirectory(prefix="samfast-headline-") as work:
        section = Headline(options, Path(work)).section()
    print(section)
    results = options.results or (None if options.quick else RESULTS)
    if results is not None:
        write_section(results, f"headline-{options.model}-{options.device.split(':')[0]}", section)
        say(f"wrote {results}")


class Headline:
    """One run of the benchmark.

    Args:
        options: see :func:`parse`.
        work: an empty folder.
    """

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work = options, work
        self.jobs = 0
        self.data: Path = options.data or (FLOOD if FLOOD.is_dir() and not options.quick else work / "scenes")
        if self.data == work / "scenes":
            write_flood_scenes(self.data, 2 * options.images)
        self.checkpoint: Path | None = options.checkpoint
        self.has_random_weights = self.checkpoint is None and options.model in OFFICIAL_FILES
        if self.has_random_weights:
            self.checkpoint = draw_checkpoint(options.model, work / "weights.pth")
        self.dataset = load_dataset(self.data)
        self.samples = self.dataset.of("train", state="labelled")[: options.images]

    def section(self) -> str:
        """Run everything: the Markdown of the section."""
        options = self.options
        precisions = {"fp32": options.rows}
        if bf16 := options.rows[:1] if options.bf16_rows is None else [row for row in options.bf16_rows if row]:
            precisions["bf16"] = bf16
        answers = self.times(precisions)
        images = len(self.samples)
        sizes = sorted(sample.size[0] * sample.size[1] for sample in self.samples)
        weights = "random weights" if self.has_random_weights else "trained weights"
        parts = [
            f"## Headline: `{options.model}` on {'a GPU' if options.device.startswith('cuda') else 'a CPU'}",
            f"{describe(options.device, options.threads)}.",
            f"{images} images of `{self.data.name}` (median {np.median(sizes) / 1e6:.2f} MP), at most {options.objects}"
            f" object(s) an image, {options.batch_size} images a step, Adam at 1e-4; {weights}. {NOTES}",
        ]
        for precision, rows in precisions.items():
            for row in rows:
                found = table.costs(answers, row, precision, images)
                parts += [f"### {row}, {precision}", table.row_table(found, images)]
        parts += [f"### Where it comes from: {options.rows[0]}", table.split_table(answers, options.rows[0], images)]
        if options.curve_seeds:
            model, trained, curves = self.curves()
            note = "" if model == options.model else f" Epochs are those that `{model}` needs on this data."
            found = table.costs(answers, options.rows[0], "fp32", images)
            parts += [
                f"### Time to equal validation IoU: {options.rows[0]}, fp32",
                f"On the {trained} images of the train set, whose times are scaled from those above. All contenders see"
                f" the same embeddings: (a)'s time is (b)'s epochs at (a)'s seconds an epoch.{note}",
                table.curve_table(curves, {who: cost.of(trained / images) for who, cost in found.items()}),
            ]
        return "\n\n".join(parts)

    def times(self, precisions: dict[str, list[str]]) -> table.Answers:
        """Every contender on every allocator at every precision; samfast first, whose cache all of them read."""
        records = write_records(self.dataset, self.samples, self.work / "records")
        shared = self.work / "shared.samcache"
        base = self.job(self.samples, records, shared)
        order = [(who, malloc) for who in table.WHO for malloc in self.options.mallocs]
        answers: table.Answers = {}
        for precision, rows in precisions.items():
            for who, malloc in sorted(order, key=lambda each: each != ("samfast", "kept")):
                job = replace(base, contender=who, malloc=malloc, precision=precision, rows=tuple(rows))
                if shared.exists():
                    encodes = min(self.options.encodes, len(self.samples))
                    answers[who, malloc, precision] = self.ask(
                        replace(job, encodes=encodes, encode_into=str(self.work / f"encoded{self.jobs}"))
                    )
                else:
                    answers[who, malloc, precision] = self.ask(job)
                    write_embeddings(EmbeddingCache.open(shared), self.samples, records)
        return {(*each, precision): answers[*each, precision] for precision in precisions for each in order}

    def curves(self) -> tuple[str, int, dict[str, list[list[float]]]]:
        """The model whose curves they are, its train images, and (b)'s and (c)'s curves of every seed."""
        options = self.options
        model = CURVE_MODEL if self.has_random_weights else options.model
        checkpoint = None if self.has_random_weights else options.checkpoint
        dataset = load_dataset(self.data, limit=options.curve_images)
        train = dataset.of("train", state="labelled")
        place = self.work / "curves.samcache"
        cache = cache_embeddings(
            dataset, model=model, checkpoint=checkpoint, out=place, precision="float32", device=options.device
        )
        records = write_records(dataset, train, self.work / "curve-records")
        write_embeddings(cache, train, records)
        base = replace(
            self.job(train, records, place),
            task="curve",
            model=model,
            checkpoint=None if checkpoint is None else str(checkpoint),
            limit=options.curve_images,
            rows=tuple(options.rows[:1]),
        )
        found: dict[str, list[list[float]]] = {"naive": [], "samfast": []}
        for seed in range(options.curve_seeds):
            for who, runs in found.items():
                runs.append(self.ask(replace(base, contender=who, seed=seed))["val_iou"])
        return model, len(train), found

    def job(self, samples: Sequence[Sample], records: Path, cache: Path) -> Job:
        """samfast as it ships, which makes the cache first."""
        options = self.options
        return Job(
            contender="samfast",
            task="time",
            malloc="kept",
            precision="fp32",
            device=options.device,
            threads=options.threads,
            model=options.model,
            checkpoint=None if self.checkpoint is None else str(self.checkpoint),
            data=str(self.data),
            limit=None,
            names=tuple(sample.name for sample in samples),
            records=str(records),
            cache=str(cache),
            rows=tuple(options.rows),
            epochs=options.curve_epochs,
            batch_size=options.batch_size,
            objects=options.objects,
            encodes=len(samples),
            encode_into=str(cache),
            budget_s=options.budget,
            seed=0,
        )

    def ask(self, job: Job) -> dict[str, Any]:
        """A job's answer, from a process of its own."""
        self.jobs += 1
        question, answer = self.work / f"job{self.jobs}.json", self.work / f"answer{self.jobs}.json"
        job.save(question)
        say(f"{job.task}: {job.contender}, malloc {job.malloc}, {job.precision}")
        threads = str(job.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment["PYTHONPATH"] = os.pathsep.join([str(HERE), *sys.path])
        environment.pop("SAMFAST_MALLOC", None)
        subprocess.run([sys.executable, "-m", "contenders.job", question, answer], env=environment, check=True)
        found = json.loads(answer.read_text())
        say(f"  {found}")
        return found


NOTES = """\
(a) and (b) are loops over images with `segment_anything`'s modules, that read mask files in every step and draw prompts
in numpy; (a) takes its loss at the image's original size, (b) at the decoder's resolution, from `torch.save` files;
both teach token 0 alone, (c) also the multimask tokens and the IoU scores. (c) reads and checks the whole data set when
it opens it, which is part of every run. Nobody validates. What was not measured over whole epochs, or over all images,
says so. Factors: how many times faster samfast is as it ships, with its heap kept."""


if __name__ == "__main__":
    main()

"""The judgement: the same frozen prompts to every model, answers compared with annotations at original resolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samfast.artifacts import open_model
from samfast.cache.outputs import checked_folder
from samfast.data import Dataset, load_dataset
from samfast.data.readers.base import subfolders
from samfast.data.types import SPLITS, Sample, Split, Target
from samfast.errors import ConfigError, DataError, OutputExistsError
from samfast.evaluation.baselines import SINGLE_COMPONENT, baseline_counts
from samfast.evaluation.cases import Answer, Pair, WorstCases
from samfast.evaluation.classes import check_classes, class_floor, judge_classes
from samfast.evaluation.contenders import Contender, is_run, line_up, listed
from samfast.evaluation.report import Asked, Judged, Report, environment
from samfast.evaluation.rows import METRICS, OF_NO_MODEL, Role, Row, summarise
from samfast.inference.contract import NO_PROMPT, OutputContract, Selection
from samfast.inference.prompt_kinds import NAMES, prompt_kind
from samfast.inference.prompt_sets import evaluation_prompts
from samfast.inference.segmenter import segment
from samfast.metrics import overlap_counts, scores
from samfast.models.allocator import keep_heap
from samfast.progress import track

if TYPE_CHECKING:
    from samfast.cache import EmbeddingCache

PROMPTS = ("point", "box")
"""The prompt kinds that models are judged by unless others are given."""
REPORT_FILES = ("report.html", "report.csv", "report.json")


def evaluate(
    models: Any,
    data: Dataset | str | Path | None = None,
    *,
    prompts: Sequence[str] | None = None,
    on: str = "test",
    cache: EmbeddingCache | str | Path | None = None,
    checkpoint: str | Path | None = None,
    selection: Selection = "single",
    seed: int = 0,
    out: str | Path | None = None,
    baselines: bool = True,
    device: str = "auto",
    overwrite: bool = False,
) -> Report:
    """Judge models with the same prompts on the same images.

    IoU, Dice, precision and recall are computed for each object at original resolution, ignored pixels left out; an
    image's figure is the mean over its objects, and a line of the table the mean over images. For every run among
    ``models`` its base model is judged too, as ``zero-shot``.

    Without prompts, as ``none``, a model answers all of each class. An image's figure is then the mean over the classes
    that it holds or that were answered, see :func:`~samfast.inference.classes.class_scores`; images annotated as empty
    are judged as well; and of several classes, each has a line of its own, over the images where it is at stake. Each
    model is asked by those of the kinds that it takes.

    Args:
        models: one or several of: a model's name, a :class:`~samfast.train.Run` or its folder, an
            :class:`~samfast.runtime.OnnxBundle` or its folder, a
            :class:`~samfast.inference.segmenter.Segmenter`.
        data: the data set, or its folder; None for the one the first run was trained on. A folder that a run was
            trained on is opened as it was then, with the same classes, target and sets.
        prompts: prompt kinds, see :mod:`samfast.inference.prompt_kinds`, each drawn once from (seed, image, object) and
            put to every model that takes prompts; and ``"none"``. ``"point"`` and ``"box"`` by default, ``"none"`` for
            models that take none.
        on: ``"train"``, ``"val"`` or ``"test"``. Where the test set holds no object, ``"test"`` takes val, and every
            table says so.
        cache: embeddings to read instead of encoding; None for the runs' own caches where they are still there.
        checkpoint: of the base model, for models that are neither ``tiny`` nor wholly in the cache.
        selection: which mask token answers, the same rule for every model.
        seed: of the prompts.
        out: a folder for ``report.html``, ``report.csv`` and ``report.json``; None writes nothing.
        baselines: judge the floors and the single-component ceiling as well.
        device: where torch models compute.
        overwrite: replace an earlier report in ``out``.

    Returns:
        the :class:`~samfast.evaluation.Report`.

    Raises:
        ConfigError: an unknown prompt kind, set or model, a model that can be asked by none of the kinds, or answers
            other classes than the data holds, a kind that asks none of the models, or a cache that fits none of them.
        DataError: there is nothing to judge on.
        OutputExistsError: ``out`` holds a report, or is a file.
        SamfastError: the report cannot be written.
    """
    if prompts is not None:
        checked_kinds(prompts)
    folder = None if out is None else _checked_out(out, overwrite=overwrite)
    dataset = _opened(data, models)
    split, samples = _samples(dataset, on)
    contenders = line_up(models, cache=cache, checkpoint=checkpoint, device=device)
    kinds = askable(prompts, {each.label: each.segmenter.contract for each in contenders})
    for each in contenders:
        check_classes(each, dataset)
    prompted = [kind for kind in kinds if kind != NO_PROMPT]
    if NO_PROMPT in kinds:
        samples = tuple(sample for sample in dataset.of(split) if sample.annotation_ids or sample.state == "empty")
    worst = WorstCases(_pairs(contenders))
    rows: list[Row] = []
    marks: list[Row] = []
    hidden = 0
    keep_heap()
    for sample in track(samples, f"evaluate on {split}"):
        target, unseen = _judgeable(dataset.target(sample))
        hidden += unseen
        if NO_PROMPT in kinds:
            rows += judge_classes(sample, dataset, target, contenders, worst)
            marks += [class_floor(sample, target, len(dataset.classes))] if baselines else []
        if len(target.masks) == 0 or not prompted:
            continue
        if baselines:
            for name, counts in baseline_counts(target).items():
                role: Role = "ceiling" if name == SINGLE_COMPONENT else "floor"
                marks.append(_row(sample, name, role, OF_NO_MODEL, counts))
        for kind in prompted:
            asked_models = [each for each in contenders if each.segmenter.contract.takes(kind)]
            specs = {each.segmenter.spec for each in asked_models}
            truth = prompt_kind(kind).askable(target, sample)
            if len(truth.masks) == 0:
                continue
            asked = {spec: evaluation_prompts(kind, truth, sample, spec, seed=seed) for spec in specs}
            answers = []
            for each in asked_models:
                embedding = each.encoder.embedding(sample, dataset)
                prediction = segment(each.segmenter, embedding, asked[each.segmenter.spec], selection=selection)
                counts = overlap_counts(prediction.masks, truth.masks, truth.ignore)
                row = _row(sample, each.label, each.role, kind, counts, float(prediction.scores.mean()))
                rows.append(row)
                answers.append(Answer(each.label, prediction.masks, row.iou))
            worst.see(kind, sample, truth.masks, asked[asked_models[0].segmenter.spec], answers)
    if not rows:
        raise DataError(
            f"every object of the {split} set lies in the ignored regions, or is not asked for",
            where=dataset.root,
            fix="judge on another set",
        )
    shown = next((row for row in rows if row.prompt in prompted), rows[0])
    first = [row for row in rows if (row.model, row.prompt) == (shown.model, shown.prompt)]
    report = Report(
        rows=(*rows, *marks),
        summary=summarise([*rows, *marks], {each.label: each.base for each in contenders if each.base is not None}),
        asked=Asked(
            data=str(dataset.root),
            on=split,
            caveat=_caveat(dataset, samples, contenders),
            split_origin=dataset.split_origin,
            target_kind=dataset.target_kind,
            classes=dataset.classes,
            prompts=kinds,
            selection=selection,
            seed=seed,
            images=len(first),
            objects=sum(row.objects for row in first),
            empty_images=sum(sample.state == "empty" for sample in dataset.of(split)),
            missing_images=sum(sample.state == "missing" for sample in dataset.of(split)),
            hidden_objects=hidden,
        ),
        judged=tuple(_judged(each) for each in contenders),
        problems=tuple(dataset.problems),
        cases=worst.draw(dataset),
        environment=environment(),
    )
    if folder is not None:
        report.to_csv(folder / "report.csv")
        report.to_json(folder / "report.json")
        report.to_html(folder / "report.html")
    return report


def checked_kinds(prompts: Sequence[str] | str) -> tuple[str, ...]:
    """Prompt kinds, each once; one alone may be a text.

    Raises:
        ConfigError: an unknown one, or none at all.
    """
    kinds = tuple(dict.fromkeys([prompts] if isinstance(prompts, str) else prompts))
    for kind in kinds:
        if kind != NO_PROMPT:
            prompt_kind(kind)
    if not kinds:
        raise ConfigError("there are no prompts to ask with", where="prompts", fix=f"choose from {NAMES}; or none")
    return kinds


def askable(given: Sequence[str] | str | None, contracts: Mapping[str, OutputContract]) -> tuple[str, ...]:
    """The kinds to ask models by: those given, or what suits the models.

    Raises:
        ConfigError: an unknown kind, a model that takes none of them, or a kind that no model takes.
    """
    if given is None:
        suitable = (*PROMPTS, NO_PROMPT)
        return tuple(kind for kind in suitable if any(each.takes(kind) for each in contracts.values()))
    kinds = checked_kinds(given)
    for name, contract in contracts.items():
        if not any(contract.takes(kind) for kind in kinds):
            contract.require(kinds[0], name)
    for kind in kinds:
        if not any(contract.takes(kind) for contract in contracts.values()):
            name, contract = next(iter(contracts.items()))
            contract.require(kind, name)
    return kinds


def _checked_out(out: str | Path, *, overwrite: bool) -> Path:
    folder = checked_folder(out)
    for name in REPORT_FILES:
        if (folder / name).exists() and not overwrite:
            raise OutputExistsError(
                "this folder holds a report",
                where=folder / name,
                fix="choose another out, or pass overwrite=True (--overwrite)",
            )
    return folder


def _opened(data: Dataset | str | Path | None, models: Any) -> Dataset:
    """The data set to judge on: what a run among ``models`` was trained on is opened as it was then."""
    if isinstance(data, Dataset):
        return data
    for model in listed(models):
        run: Any = open_model(model) if isinstance(model, str | Path) else model
        if is_run(run) and (data is None or _lies_in(Path(run.dataset_info["root"]), Path(data))):
            found: Dataset = run.dataset()
            return found
    if data is None:
        raise ConfigError(
            "there is no data to judge on, and no run to take it from",
            where="data",
            fix="pass data= (--data), a folder",
        )
    return load_dataset(data)


def _lies_in(root: Path, folder: Path) -> bool:
    """Whether ``folder`` is ``root``, or holds nothing but it, as an unpacked archive does."""
    folder = folder.expanduser().resolve()
    return root == folder or (folder.is_dir() and list(subfolders(folder).values()) == [root])


def _samples(dataset: Dataset, on: str) -> tuple[Split, tuple[Sample, ...]]:
    """The set to judge on, and its images that hold objects; val stands in for a test set without any."""
    if on not in SPLITS:
        raise ConfigError(f"on={on!r} is no set", where="on", fix=f"choose from {', '.join(SPLITS)}")
    candidates: tuple[Split, ...] = ("test", "val") if on == "test" else (on,)
    for split in candidates:
        samples = tuple(sample for sample in dataset.of(split, state="labelled") if sample.annotation_ids)
        if samples:
            return split, samples
    raise DataError(
        f"the {on} set holds no image with an annotated object",
        where=dataset.root,
        fix="judge on another set with on= (--on), or split the data with load_dataset(...).split(test=0.15)",
    )


def _caveat(dataset: Dataset, samples: Sequence[Sample], contenders: Sequence[Contender]) -> str:
    """What keeps the figures of runs from being those of unseen data; names the runs if it is not all of them."""
    known: dict[str, list[str]] = {}
    runs = [each for each in contenders if each.run is not None]
    for each in runs:
        assert each.run is not None
        for text in _known(each.run.dataset_info, dataset, samples):
            known.setdefault(text, []).append(each.label)
    return ", ".join(
        text if len(labels) == len(runs) else f"{text} ({', '.join(labels)})" for text, labels in known.items()
    )


def _known(trained_on: Mapping[str, Any], dataset: Dataset, samples: Sequence[Sample]) -> Iterator[str]:
    """How a run knew the images, and in what it was taught something else than is judged."""
    same_hash = trained_on["annotation_hash"] == dataset.annotation_hash  # of the same data in another place
    if same_hash or Path(trained_on["root"]) == Path(dataset.root).resolve():
        for split, verb in (("train", "trained"), ("val", "selected")):
            names = set(trained_on["splits"].get(split, ()))
            seen = sum(sample.name in names for sample in samples)
            if seen:
                yield f"{verb} on {'this set' if seen == len(samples) else f'{seen} of these images'}"
    if trained_on["target_kind"] != dataset.target_kind:
        yield f"trained with target {trained_on['target_kind']}"
    if set(trained_on["classes"]) != set(dataset.classes):
        yield f"trained with classes {', '.join(trained_on['classes'])}"


def _pairs(contenders: Sequence[Contender]) -> list[Pair]:
    """Each model with its zero-shot model; base models that nothing is compared with stand alone."""
    bases = {each.base for each in contenders}
    return [Pair(each.base, each.label) for each in contenders if each.label not in bases]


def _judgeable(target: Target) -> tuple[Target, int]:
    """The target's objects that have a pixel outside the ignored regions, and how many have none."""
    visible = target.masks.subtract(target.ignore) if len(target.ignore) else target.masks
    kept = np.flatnonzero(visible.area())
    return target.select(kept), len(target.masks) - len(kept)


def _row(
    sample: Sample,
    model: str,
    role: Role,
    prompt: str,
    counts: NDArray[np.int64],
    predicted_iou: float = float("nan"),
) -> Row:
    """An image's means over its objects; what is 0 of 0, the precision of an empty answer, counts as 0."""
    values = scores(counts, empty=0.0)
    return Row(
        image=sample.name,
        split=sample.split,
        model=model,
        role=role,
        prompt=prompt,
        objects=len(counts),
        **{metric: float(values[metric].mean()) for metric in METRICS},
        predicted_iou=predicted_iou,
    )


def _judged(contender: Contender) -> Judged:
    run = contender.run
    record = {} if run is None else run.record
    numbers = record.get("parameters", {})
    return Judged(
        label=contender.label,
        role=contender.role,
        base=contender.base,
        trained_parameters=numbers.get("trainable"),
        parameters=numbers.get("total"),
        embeddings=contender.encoder.source(),
        metrics=() if run is None else tuple(run.metrics),
        config=None if run is None else run.config.to_dict(),
        kept_epoch=None if run is None else run.selected_epoch,
        path=None if contender.path is None else str(contender.path),
    )

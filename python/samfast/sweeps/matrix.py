"""sweep: every combination of settings trained from one cache, compared on the val set, the winner judged on test."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from samfast.cache import EmbeddingCache, cache_embeddings
from samfast.cache.format import CACHE_JSON
from samfast.cache.outputs import checked_folder
from samfast.data import Dataset, load_dataset
from samfast.data.folds import make_folds
from samfast.errors import ConfigError, OutputExistsError, SamfastError
from samfast.evaluation import Report, evaluate
from samfast.evaluation.judge import checked_kinds
from samfast.inference.contract import NO_PROMPT, check_selection
from samfast.models.segmenter import pick_device
from samfast.progress import Stopwatch, say
from samfast.sweeps.cell import Judging, finished_cell
from samfast.sweeps.grid import Cell, cell_folder, label, make_grid
from samfast.sweeps.pool import LOG, check_sendable, run_tasks
from samfast.sweeps.result import SWEEP_JSON, Sweep, Trained, plain
from samfast.sweeps.worker import Setup, Task
from samfast.train.callbacks import Callback
from samfast.train.loop import check_training
from samfast.train.regimes import get_regime

CONTEXT_BYTES = 700 * 2**20
"""Of device memory, that a process takes beside its tensors."""
PROCESS_BYTES = 3 * 2**29
"""Of main memory, that a process is given where it trains on the CPU."""


def sweep(
    data: Dataset | str | Path,
    axes: Mapping[str, Sequence[Any]] | None = None,
    *,
    seeds: int | Sequence[int] = 1,
    folds: int | None = None,
    model: str | None = None,
    checkpoint: str | Path | None = None,
    cache: EmbeddingCache | str | Path | None = None,
    prompts: Sequence[str] | str | None = None,
    selection: Any = "single",
    seed: int = 0,
    jobs: int | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    callbacks: Sequence[Callback | str] = (),
    **settings: Any,
) -> Sweep:
    """Train every combination of settings, compare them on the val set, and judge the winner alone on the test set.

    The images are encoded once, before; the trainings share the cache, each in a process of its own. One that fails
    does not stop the others: its reason is in the result. Started again, with the same axes or others, everything that
    is finished is kept, and interrupted trainings go on.

    Args:
        data: a data set, or a folder as :func:`samfast.load_dataset` takes it.
        axes: settings to the values each is tried with: any field of :class:`~samfast.train.config.TrainConfig`, parts
            of its loss and schedule (``"loss.gamma"``), and ``"recipe"``.
        seeds: trainings of each combination: how many, or which seeds.
        folds: train each on so many folds of the train and val sets, see :func:`~samfast.data.folds.make_folds`; None
            for the sets as they are.
        model: ``"tiny"`` (default), ``"vit_b"``, ``"vit_l"``, ``"vit_h"``; taken from ``cache`` if that is given.
        checkpoint: the model's official checkpoint; ``tiny`` ships with samfast.
        cache: an embedding cache, or where to make one; None for the default place.
        prompts: the kinds to compare by; by default those that any of the regimes is validated with.
        selection: which mask token answers, see :data:`samfast.inference.contract.Selection`.
        seed: of folds and of the prompts to compare by, which are the same for all.
        jobs: trainings at a time. On a CPU, by default, as many as there are cores, which they share out; on a CUDA
            device one, and then as many as fit beside each other by the memory that it took.
        out: a folder; ``sweeps/<data>-<model>`` by default.
        device: ``"auto"`` or a torch device.
        callbacks: what is told of each training, as :func:`samfast.train_decoder` takes them; they go to other
            processes, so their classes are those of a module.
        **settings: what all trainings share: other fields of :class:`~samfast.train.config.TrainConfig`.

    Returns:
        the sweep; its folder holds ``sweep.json``, ``sweep.csv``, ``sweep.md`` and the runs.

    Raises:
        ConfigError: an axis that is none, or a combination that cannot be trained.
        DataError: there is nothing to train on, or nothing to compare on.
        OutputExistsError: ``out`` holds something else.
    """
    place = cache.path if isinstance(cache, EmbeddingCache) else None if cache is None else Path(cache).expanduser()
    if place is not None and (place / CACHE_JSON).exists():
        model = model or EmbeddingCache.open(place).model
    wanted = list(range(seeds) if isinstance(seeds, int) else dict.fromkeys(seeds))
    if not wanted or (jobs is not None and jobs < 1):
        raise ConfigError(f"seeds={seeds!r}, jobs={jobs!r}: at least one", where="seeds, jobs")
    settings = {name: value for name, value in settings.items() if value is not None}
    fixed = settings if model is None else {**settings, "model": model}
    cells = make_grid(axes or {}, seeds=wanted, folds=folds, fixed=fixed)
    model = cells[0].config.model
    check_selection(selection)
    kinds = [kind for cell in cells for kind in get_regime(cell.config.regime).kinds]
    judging = Judging(checked_kinds(kinds if prompts is None else prompts), selection, seed)
    free = {get_regime(cell.config.regime).is_prompt_free for cell in cells}
    if len(free | {kind == NO_PROMPT for kind in judging.prompts}) > 1:
        raise ConfigError(
            "what is trained without prompts, and judged without, cannot be compared with what is asked by prompts",
            where="regime, prompts",
            fix="a sweep of its own for regime=none; `samfast evaluate` puts runs of both into one table",
        )
    check_sendable(callbacks)
    compute = pick_device(device)
    dataset = data if isinstance(data, Dataset) else load_dataset(data, seed=seed)
    datasets = (dataset,) if folds is None else make_folds(dataset, folds, seed=seed)
    for each in datasets:
        check_training(each, callbacks=callbacks)
    path = _checked(out or Path("sweeps") / f"{dataset.root.resolve().name}-{model}")

    embeddings = _encoded(dataset, cells, model, checkpoint, place, device)
    asked = {
        "data": dataset.options,
        "axes": axes or {},
        "settings": settings,
        "seeds": wanted,
        "folds": folds,
        "prompts": judging.prompts,
        "selection": selection,
        "seed": seed,
        "model": model,
        "cache": embeddings.path,
    }
    varied = [name for name, values in (axes or {}).items() if len(values) > 1]
    states = []
    for cell in cells:
        key = cell.key(datasets[cell.fold or 0], embeddings.fingerprint)
        folder = cell_folder(path / "runs", label(cell, varied), key)
        states.append(Trained(cell.settings, cell.seed, cell.fold, folder, finished_cell(folder, judging)))
    found = Sweep(path, plain(asked), tuple(states))
    found.to_json(path / SWEEP_JSON)

    todo = [number for number, state in enumerate(states) if state.found is None]
    if len(todo) < len(cells):
        say(f"{len(cells) - len(todo)} of {len(cells)} cells are finished already")
    first, then = _room(compute, jobs, len(todo))
    setup = Setup(datasets, embeddings.path, checkpoint, judging, str(compute), max(1, _cores() // (jobs or first)))
    tasks = [
        Task(states[number].path, cells[number].fold or 0, {**cells[number].given, "callbacks": callbacks})
        for number in todo
    ]
    watch = Stopwatch()
    try:
        for count, (task, answer) in enumerate(run_tasks(tasks, setup, first=first, then=then, log=path / LOG), 1):
            number = todo[task]
            states[number] = replace(states[number], found=answer.found, error=answer.error)
            found = replace(found, cells=tuple(states))
            found.to_json(path / SWEEP_JSON)
            say(_line(found, states[number], len(cells) - len(todo) + count, watch.seconds / count, len(todo) - count))
    except KeyboardInterrupt:
        say(f"interrupted; {path} holds what was finished. Start it again with the same arguments to continue.")
        raise
    found.to_csv(path / "sweep.csv")
    try:
        found = replace(found, test=_judged(found, dataset, embeddings, judging, checkpoint, device))
    except SamfastError as error:  # what was trained, and found on val, holds all the same
        found = replace(found, test_error=error.what)
    found.to_json(path / SWEEP_JSON)
    found.to_markdown(path / "sweep.md")
    return found


def _checked(out: str | Path) -> Path:
    path = checked_folder(out)
    if path.exists() and any(path.iterdir()) and not (path / SWEEP_JSON).exists():
        raise OutputExistsError("this folder holds something that is no sweep", where=path, fix="choose another out")
    return path


def _encoded(
    dataset: Dataset, cells: Sequence[Cell], model: str, checkpoint: str | Path | None, place: Path | None, device: str
) -> EmbeddingCache:
    """The cache with everything that any of the cells trains on."""
    if place is not None and (place / CACHE_JSON).exists() and all(cell.config.views == 1 for cell in cells):
        opened = EmbeddingCache.open(place)
        if opened.model == model and not opened.missing(dataset.samples):
            return opened
    shown = {
        (cell.config.views, cell.config.augment, cell.config.seed if cell.config.views > 1 else 0): None
        for cell in cells
    }
    for views, augment, seed in shown:
        made = cache_embeddings(
            dataset,
            model=model,
            checkpoint=checkpoint,
            out=place,
            device=device,
            views=views,
            augment=augment,
            seed=seed,
        )
        place = made.path
    return made


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _room(device: torch.device, jobs: int | None, cells: int) -> tuple[int, Callable[[int], int]]:
    """How many processes to begin with, and how many there may be by the device memory that a cell took."""
    most = max(1, min(jobs or _cores(), cells))
    if jobs is not None or device.type != "cuda":
        count = most if jobs is not None else max(1, min(most, _free_memory() // PROCESS_BYTES))
        return count, lambda _: count
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info(device)[0]
    return 1, lambda taken: max(1, min(most, int(0.9 * free) // (taken + CONTEXT_BYTES)))


def _free_memory() -> int:
    """Bytes of main memory that are to be had; without bound where the system does not say."""
    with suppress(OSError, StopIteration, ValueError), Path("/proc/meminfo").open() as lines:
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return 2**63


def _line(found: Sweep, cell: Trained, done: int, seconds: float, left: int) -> str:
    """A cell in a line for people, with the rate and the time left."""
    name = label(cell, found.varied)
    told = f"failed: {cell.error}" if cell.found is None else f"val IoU {cell.val_iou:.4f}, epoch {cell.found.epoch}"
    rest = f"  ({60 / seconds:.3g} cells/min, {_duration(left * seconds)} left)" if left else ""
    return f"{done:>4}/{len(found.cells)}  {name}: {told}{rest}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _judged(
    found: Sweep,
    dataset: Dataset,
    cache: EmbeddingCache,
    judging: Judging,
    checkpoint: str | Path | None,
    device: str,
) -> Report | None:
    """The winner's runs on the test set; no other's, and nothing in its place where there is none."""
    if found.winner is None or not dataset.of("test", state="labelled"):
        return None
    return evaluate(
        [str(cell.path) for cell in found.winner.cells],
        dataset,
        prompts=judging.prompts,
        on="test",
        cache=cache,
        checkpoint=checkpoint,
        selection=judging.selection,
        seed=judging.seed,
        baselines=False,
        device=device,
    )

"""The small JSON files beside the shards: which data sets use the cache, and what each job wrote."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samfast.cache.atomic import write_exclusive, write_new
from samfast.cache.format import DATASETS, JOBS, VIEWS, canonical_json, readable_json
from samfast.errors import CorruptCacheError


@dataclass(frozen=True)
class Written:
    """A finished shard.

    Attributes:
        name: of the file.
        rows: in it.
        header_crc32c: of its index.
    """

    name: str
    rows: int
    header_crc32c: int


@dataclass(frozen=True)
class Job:
    """What one encoding job did.

    Attributes:
        dataset: id of the data set it encoded.
        complete: whether it got to the end of the data set.
        shards: that it wrote.
        replaced: shards of earlier jobs that are gone, and whose images this job has encoded again.
        encoded: images.
        present: images that were in the cache already.
        bad: images that could not be decoded, and why.
        seconds: it took.
    """

    dataset: str
    complete: bool
    shards: tuple[Written, ...]
    replaced: tuple[str, ...]
    encoded: int
    present: int
    bad: tuple[tuple[str, str], ...]
    seconds: float


def dataset_id(fields: Mapping[str, Any]) -> str:
    """What a data set that was opened like this is called in a cache: the hex SHA-256 of ``fields``."""
    return hashlib.sha256(canonical_json(fields)).hexdigest()


def record_dataset(folder: Path, fields: Mapping[str, Any]) -> str:
    """Write how a data set was opened, once; its id."""
    name = dataset_id(fields)
    (folder / DATASETS).mkdir(exist_ok=True)
    write_exclusive(folder / DATASETS / f"{name}.json", [readable_json(fields)])
    return name


def record_views(folder: Path, fields: Mapping[str, Any]) -> None:
    """Write how views were made, once; ``fields`` as :meth:`~samfast.views.Views.to_dict` says it."""
    (folder / VIEWS).mkdir(exist_ok=True)
    write_exclusive(folder / VIEWS / f"{dataset_id(fields)}.json", [readable_json(fields)])


def record_job(folder: Path, job: Job) -> None:
    """Write what a job did."""
    (folder / JOBS).mkdir(exist_ok=True)
    write_new(folder / JOBS / f"{uuid.uuid4().hex}.json", [readable_json(asdict(job))])


def record_replaced(folder: Path, old: Sequence[str], new: Sequence[Written]) -> None:
    """Write that the rows of some shards are in others now, whichever data set they belong to."""
    current = {path.stem for path in (folder / DATASETS).glob("*.json")}
    for dataset in sorted(current | {job.dataset for job in read_jobs(folder)}):
        shards = tuple(new) if dataset in current else ()
        record_job(folder, Job(dataset, True, shards, tuple(old), 0, 0, (), 0.0))


def forget_datasets(folder: Path, *, keep: Collection[str]) -> None:
    """Remove the records of data sets whose roots are not among those to ``keep``."""
    for path, content in _read_all(folder / DATASETS):
        if content.get("root") not in keep:
            path.unlink(missing_ok=True)


def read_datasets(folder: Path) -> list[dict[str, Any]]:
    """How the data sets that use the cache were opened.

    Raises:
        CorruptCacheError: a record is damaged.
    """
    return [content for _, content in _read_all(folder / DATASETS)]


def read_views(folder: Path) -> list[dict[str, Any]]:
    """How the views in the cache were made.

    Raises:
        CorruptCacheError: a record is damaged.
    """
    return [content for _, content in _read_all(folder / VIEWS)]


def read_jobs(folder: Path) -> list[Job]:
    """What the jobs did that came to an end of their own.

    Raises:
        CorruptCacheError: a record is damaged.
    """
    jobs = []
    for path, content in _read_all(folder / JOBS):
        try:
            shards = tuple(Written(**shard) for shard in content["shards"])
            bad = tuple((name, reason) for name, reason in content["bad"])
            jobs.append(Job(**{**content, "shards": shards, "replaced": tuple(content["replaced"]), "bad": bad}))
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path, error) from None
    return jobs


def lost_shards(jobs: Sequence[Job], present: set[str], *, dataset: str | None = None) -> list[str]:
    """Names of shards that jobs wrote, that are gone, and that no later job on the same data replaced.

    Args:
        jobs: of a cache.
        present: names of its shard files.
        dataset: only those written for this data set.
    """
    replaced = {(job.dataset, name) for job in jobs for name in job.replaced}
    written = {(job.dataset, shard.name) for job in jobs for shard in job.shards if dataset in (None, job.dataset)}
    return sorted({name for _, name in written - replaced} - present)


def _read_all(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    records = []
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
            if not isinstance(content, dict):
                raise ValueError("it holds no JSON object")
        except (ValueError, OSError) as error:
            raise _damaged(path, error) from None
        records.append((path, content))
    return records


def _damaged(path: Path, error: Exception) -> CorruptCacheError:
    return CorruptCacheError(
        f"the record is damaged: {error}", where=path, fix="remove this file: the embeddings do not depend on it"
    )

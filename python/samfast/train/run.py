"""A training run on disk: read without torch until its weights are asked for."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samfast.data import Dataset
from samfast.data.reopen import open_again
from samfast.errors import CheckpointError, DataError, RunError
from samfast.frames import PreprocessSpec
from samfast.inference.contract import OutputContract
from samfast.train.config import TrainConfig
from samfast.train.weights import AGAIN, Kept, find_weights, list_kept, read_weights

if TYPE_CHECKING:
    from torch import Tensor

    from samfast.evaluation import Report
    from samfast.models.sam import Sam
    from samfast.models.segmenter import TorchSegmenter

FORMAT = "samfast-run"
VERSION = 1

RUN_JSON = "run.json"
CONFIG = "config.toml"
METRICS = "metrics.jsonl"


class Run:
    """A training run: the folder :func:`samfast.train_decoder` wrote, and some of the weights it keeps.

    Args:
        path: the folder.
        which: the weights that it stands for wherever a run is taken: ``"best"``, the best on the val set;
            ``"last"``, those of the last finished epoch; or the number of an epoch in :attr:`kept`.

    Attributes:
        path: the folder.
        which: the weights.
        record: the content of ``run.json``.

    Raises:
        RunError: the folder is no run, or one of a format this version does not know.
        ConfigError: it holds no such weights.
    """

    def __init__(self, path: str | Path, *, which: str | int = "best") -> None:
        self.path = Path(path).expanduser()
        self.record = _read_record(self.path)
        self.which = which
        self._weights = find_weights(self.path, which)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})" if self.which == "best" else f"Run({str(self.path)!r}, which={self.which!r})"

    @property
    def name(self) -> str:
        """The folder's name, and which weights, if not the best."""
        name = self.path.resolve().name
        return name if self.which == "best" else f"{name}@{self.which}"

    @property
    def is_finished(self) -> bool:
        """Whether the last epoch was reached."""
        return bool(self.record["state"] == "finished")

    @property
    def model(self) -> str:
        """Name of the model whose decoder was trained."""
        return str(self.record["model"])

    @cached_property
    def config(self) -> TrainConfig:
        """What the run was told."""
        return TrainConfig.from_dict(self.record["config"])

    @cached_property
    def contract(self) -> OutputContract:
        """The mask tokens that the run's regime supervised."""
        return OutputContract.from_dict(self.record["contract"])

    @property
    def spec(self) -> PreprocessSpec:
        """The model's preprocessing and geometry."""
        return PreprocessSpec.from_dict(self.record["preprocess"])

    @property
    def dataset_info(self) -> dict[str, Any]:
        """What was trained on: root, options, annotation hash, file names of each set, classes, target kind."""
        return dict(self.record["dataset"])

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """A dict an epoch; epoch 0 is the untuned model, judged on the val set like the others.

        Raises:
            RunError: no epoch was finished, or the file is damaged.
        """
        path = self.path / METRICS
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            raise RunError("this run was interrupted before its first epoch", where=path, fix=AGAIN) from None
        except (OSError, ValueError) as error:
            raise RunError(f"the metrics cannot be read: {error}", where=path) from None

    @property
    def selected_epoch(self) -> int:
        """The epoch of :attr:`which` weights; the best is 0 if training improved nothing."""
        return int(read_weights(self._weights, self.record)[1]["epoch"])

    @property
    def kept(self) -> tuple[Kept, ...]:
        """The judged epochs whose weights are kept beside the best and the last, as many as ``keep`` said."""
        return list_kept(self.path)

    def dataset(self) -> Dataset:
        """The data set that was trained on, opened again as it was then.

        Raises:
            DataError: it is gone, cannot be opened again, or its sets have become others.
        """
        info = self.record["dataset"]
        dataset = open_again(info.get("opened", info["root"]), info["options"])  # a splits.json may lie above the data
        for split, before in info["splits"].items():
            moved = {sample.name for sample in dataset.samples if sample.split != split} & set(before)
            if moved:
                raise DataError(
                    f"the data has changed: {len(moved)} images that were in the {split} set are not any more, such as"
                    f" {min(moved)}",
                    where=info["root"],
                    fix="keep the sets in a splits.json beside the data, or pass a data set as data=",
                )
        return dataset

    def decoder_state(self) -> dict[str, Tensor]:
        """The weights: ``prompt_encoder.*`` and ``mask_decoder.*``, float32.

        Raises:
            RunError: they are missing or damaged.
            CheckpointError: they belong to another base model than the run.
        """
        return read_weights(self._weights, self.record)[0]

    def sam(self, *, checkpoint: str | Path | None = None, encoder: bool = True) -> Sam:
        """The model with these weights.

        Args:
            checkpoint: of the base model; the one the run was started with by default.
            encoder: False for a decoder alone, which decodes cached embeddings and needs no checkpoint.

        Raises:
            CheckpointError: the base model's checkpoint is missing, or is not the one the embeddings were made by.
        """
        from samfast.models.checkpoints import decoder_only, load_model
        from samfast.models.classes import with_classes
        from samfast.models.fingerprint import encoder_fingerprint_parts

        state = self.decoder_state()
        classes = len(self.contract.classes)
        if not encoder:
            tokens = {"mask_tokens": classes} if classes else {}
            return decoder_only(self.model, state, where=self._weights, **tokens)
        base = self.record["encoder"]
        if checkpoint is None:
            checkpoint = base["checkpoint"]
        sam = load_model(self.model, checkpoint=checkpoint)
        parts = encoder_fingerprint_parts(sam, base["parts"]["precision"])
        if parts != base["parts"]:
            differing = ", ".join(sorted(name for name in base["parts"] if parts.get(name) != base["parts"][name]))
            raise CheckpointError(
                f"this is another encoder than the one whose embeddings the run was trained on: {differing} differ",
                where=checkpoint or self.model,
                fix="pass the checkpoint that the cache was made with",
            )
        sam = with_classes(sam, classes) if classes else sam
        sam.load_state_dict(state, strict=False)
        return sam

    def segmenter(
        self, *, checkpoint: str | Path | None = None, device: str = "auto", encoder: bool | None = None
    ) -> TorchSegmenter:
        """The tuned model as a :class:`~samfast.inference.segmenter.Segmenter`.

        Args:
            checkpoint: of the base model; the one the run was started with by default.
            device: ``"auto"`` or a torch device.
            encoder: False for a decoder alone, True for the whole model, None for the whole model if its checkpoint is
                at hand. A decoder alone decodes cached embeddings, and says so when it is asked to embed an image.

        Raises:
            CheckpointError: ``encoder=True`` or a ``checkpoint`` was given, and the base model's checkpoint is not
                there, or is another one.
        """
        from samfast.models.segmenter import TorchSegmenter

        try:
            sam = self.sam(checkpoint=checkpoint, encoder=encoder is not False)
        except CheckpointError:
            if encoder or checkpoint is not None:
                raise
            sam = self.sam(encoder=False)
        return TorchSegmenter(sam, self.contract, name=self.name, device=device)

    def evaluate(self, on: str = "test", *, data: Any = None, **options: Any) -> Report:
        """Judge the run; see :func:`samfast.evaluate`. ``data`` is what it was trained on by default."""
        from samfast.evaluation import evaluate

        return evaluate([self], data, on=on, **options)

    def predict(self, images: Any, **options: Any) -> Any:
        """Segment new images; see :func:`samfast.predict`."""
        from samfast.predictions import predict

        return predict(self, images, **options)

    def push_to_hub(self, repo: str, **options: Any) -> str:
        """Publish the run; see :func:`samfast.push_to_hub`."""
        from samfast.export import push_to_hub

        return push_to_hub(self, repo, **options)


def is_run(path: Path) -> bool:
    """Whether a folder holds a run, finished or not."""
    try:
        _read_record(path)
    except RunError:
        return False
    return True


def _read_record(path: Path) -> dict[str, Any]:
    file = path / RUN_JSON
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        what = "this folder is no training run" if path.is_dir() else "there is no such run"
        raise RunError(what, where=file, fix="pass a folder that samfast train or samfast tune wrote") from None
    except (OSError, ValueError) as error:
        raise RunError(f"run.json cannot be read: {error}", where=file) from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise RunError(f'no training run: "format" is not "{FORMAT}"', where=file)
    if record.get("version") != VERSION:
        raise RunError(
            f"a run of format {record.get('version')}; this version of samfast reads format {VERSION}",
            where=file,
            fix="use the version of samfast that made it",
        )
    return record

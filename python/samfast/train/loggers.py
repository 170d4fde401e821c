"""Loggers: callbacks that pass a run's figures and pictures on to TensorBoard, Weights & Biases or MLflow.

Each imports its package when it is made. A run that goes on after an interruption goes on in the same place there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from samfast.errors import ConfigError, RuntimeUnavailableError
from samfast.train.callbacks import Callback, Callbacks, Pictures

PICTURES = 4
"""Images of the val set that are shown after every judgement."""
TENSORBOARD = "tensorboard"
"""The folder below the run's that TensorBoard reads."""
FLUSH_SECONDS = 5
"""How much of a chart a kill may leave out at most."""
IDS = "loggers.json"
"""The file below the run's folder that says under which ids other places know the run."""


class TensorBoardLogger(Callback):
    """Event files for ``tensorboard --logdir RUN``.

    Args:
        folder: for the event files; ``tensorboard`` below the run's by default.
        pictures: images of the val set to show.

    Raises:
        RuntimeUnavailableError: ``tensorboard`` is not installed.
    """

    def __init__(self, folder: str | Path | None = None, *, pictures: int = PICTURES) -> None:
        _package("tensorboard")
        self._folder = folder
        self._writer: Any = None
        self.pictures = pictures

    def on_start(self, *, path: Path, settings: dict[str, Any], step: int) -> None:
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter

        folder = path / TENSORBOARD if self._folder is None else Path(self._folder).expanduser()
        # Steps after this one are told again, and none before it.
        self._writer = SummaryWriter(str(folder), purge_step=step + 1, flush_secs=FLUSH_SECONDS)
        self._writer.add_text("settings", f"```json\n{json.dumps(settings, indent=2)}\n```")

    def on_step(self, *, step: int, epoch: int, values: dict[str, float]) -> None:
        """Write scalars ``train/<name>``."""
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def on_validation(self, *, step: int, epoch: int, values: dict[str, float], pictures: Pictures) -> None:
        """Write scalars ``val/<name>`` and images ``val/<file>``."""
        for name, value in _named(values).items():
            self._writer.add_scalar(name, value, step)
        for name, picture in pictures.items():
            self._writer.add_image(f"val/{name}", picture, step, dataformats="HWC")
        self._writer.flush()

    def on_end(self, *, finished: bool, summary: dict[str, Any]) -> None:
        """Close the event file."""
        self._writer.close()


class WandbLogger(Callback):
    """A run of Weights & Biases, with the settings as its config.

    Args:
        project: that the run belongs to.
        pictures: images of the val set to show.
        **init: anything else ``wandb.init`` takes, such as ``entity=``, ``tags=``, ``mode="offline"``.

    Raises:
        RuntimeUnavailableError: ``wandb`` is not installed.
    """

    def __init__(self, project: str = "samfast", *, pictures: int = PICTURES, **init: Any) -> None:
        self._wandb = _package("wandb")
        self._init = {"project": project, **init}
        self._run: Any = None
        self.pictures = pictures

    def on_start(self, *, path: Path, settings: dict[str, Any], step: int) -> None:
        """Open the run, or the one that was begun before an interruption."""
        known = _ids(path).get("wandb")
        chosen = {"name": path.name, "dir": str(path), "config": settings, "id": known, "resume": "allow"}
        self._run = self._wandb.init(**{**chosen, **self._init})
        _remember(path, "wandb", self._run.id)

    def on_step(self, *, step: int, epoch: int, values: dict[str, float]) -> None:
        """Log ``train/<name>``."""
        self._run.log({"epoch": epoch, **{f"train/{name}": value for name, value in values.items()}}, step=step)

    def on_validation(self, *, step: int, epoch: int, values: dict[str, float], pictures: Pictures) -> None:
        """Log ``val/<name>`` and images ``val/<file>``."""
        images = {f"val/{name}": self._wandb.Image(picture) for name, picture in pictures.items()}
        self._run.log({"epoch": epoch, **_named(values), **images}, step=step)

    def on_end(self, *, finished: bool, summary: dict[str, Any]) -> None:
        """Close the run, with the best epoch in its summary."""
        self._run.summary.update({f"best/{name}": value for name, value in summary.get("best", {}).items()})
        self._run.finish(exit_code=0 if finished else 1)


class MlflowLogger(Callback):
    """A run of MLflow, with the settings as its parameters.

    Args:
        experiment: that the run belongs to; made if it is not there.
        tracking_uri: where it is kept; as MLflow is configured by default.
        pictures: images of the val set to show.

    Raises:
        RuntimeUnavailableError: ``mlflow`` is not installed.
    """

    def __init__(
        self, experiment: str = "samfast", *, tracking_uri: str | None = None, pictures: int = PICTURES
    ) -> None:
        self._client = _package("mlflow", "mlflow-skinny").MlflowClient(tracking_uri)
        self._experiment = experiment
        self._run = ""
        self.pictures = pictures

    def on_start(self, *, path: Path, settings: dict[str, Any], step: int) -> None:
        """Open the run, or the one that was begun before an interruption."""
        known = _ids(path).get("mlflow")
        if known is not None:
            self._run = known
            self._client.update_run(known, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(self._experiment)
        experiment = self._client.create_experiment(self._experiment) if found is None else found.experiment_id
        self._run = self._client.create_run(experiment, run_name=path.name).info.run_id
        _remember(path, "mlflow", self._run)
        for name, value in settings.items():
            self._client.log_param(self._run, name, value if isinstance(value, str) else json.dumps(value))

    def on_step(self, *, step: int, epoch: int, values: dict[str, float]) -> None:
        """Log metrics ``train/<name>``."""
        for name, value in values.items():
            self._client.log_metric(self._run, f"train/{name}", value, step=step)

    def on_validation(self, *, step: int, epoch: int, values: dict[str, float], pictures: Pictures) -> None:
        """Log metrics ``val/<name>`` and images ``val/step-<step>/<file>``."""
        for name, value in _named(values).items():
            self._client.log_metric(self._run, name, value, step=step)
        for name, picture in pictures.items():
            file = Path(name).with_suffix(".png").as_posix()
            self._client.log_image(self._run, picture, artifact_file=f"val/step-{step:06}/{file}")

    def on_end(self, *, finished: bool, summary: dict[str, Any]) -> None:
        """Close the run."""
        self._client.set_terminated(self._run, "FINISHED" if finished else "FAILED")


LOGGERS: dict[str, type[Callback]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "mlflow": MlflowLogger,
}


def to_callbacks(callbacks: Sequence[Callback | str]) -> Callbacks:
    """Callbacks, and loggers by name, as one.

    Raises:
        ConfigError: something is neither.
        RuntimeUnavailableError: the package of a logger is not installed.
    """
    if isinstance(callbacks, str) or not isinstance(callbacks, Sequence):
        raise ConfigError(f"{callbacks!r} is no list of callbacks", where="callbacks", fix="callbacks=[...]")
    for name in callbacks:
        if isinstance(name, str) and name not in LOGGERS:
            raise ConfigError(f"there is no logger {name!r}", where="log", fix=f"choose from {', '.join(LOGGERS)}")
    return Callbacks([LOGGERS[each]() if isinstance(each, str) else each for each in callbacks])


def _package(name: str, distribution: str | None = None) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise RuntimeUnavailableError(
            f"{name} is not installed", where="log", fix=f"pip install {distribution or name}"
        ) from None


def _named(values: dict[str, float]) -> dict[str, float]:
    """``val_iou_point`` as ``val/iou_point``: what stands before the slash groups charts."""
    return {name.replace("val_", "val/", 1): value for name, value in values.items()}


def _ids(path: Path) -> dict[str, str]:
    file = path / IDS
    ids: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return ids


def _remember(path: Path, place: str, known_as: str) -> None:
    from samfast.cache.outputs import write_output

    write_output(path / IDS, json.dumps({**_ids(path), place: known_as}).encode())

"""Start the processes that train together on one machine, and end them together; those on several, others start."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from multiprocessing import current_process, get_context
from typing import TYPE_CHECKING, Any

import torch
from torch.multiprocessing.spawn import ProcessException, start_processes

from samfast.data import Dataset
from samfast.errors import ConfigError, RunError, SamfastError, require
from samfast.models.segmenter import pick_device
from samfast.progress import silence
from samfast.train.config import AUTO, TrainConfig
from samfast.train.world import ALONE, World, join

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

_LAUNCHERS = {"TORCHELASTIC_RUN_ID": "WORLD_SIZE", "SLURM_STEP_ID": "SLURM_STEP_NUM_TASKS"}
"""Variables that ``torchrun`` and ``srun`` set, and where they say how many processes they started."""


def check_processes(config: TrainConfig) -> None:
    """Raise unless this machine, and what started this process, have what ``devices`` and ``nodes`` ask for.

    Raises:
        ConfigError: they have not, or a batch has no image for some process.
        RuntimeUnavailableError: Lightning Fabric is not installed.
    """
    wanted, launched = config.devices * config.nodes, _launched()
    here = f"devices={config.devices}, nodes={config.nodes}"
    if launched not in (1, wanted):
        raise ConfigError(
            f"a launcher started {launched} processes, and {here} are {wanted}",
            where="devices",
            fix="devices: processes on each machine; nodes: machines",
        )
    if wanted == 1:
        return
    if config.nodes > 1 and launched == 1:
        again = f"torchrun --nnodes {config.nodes} --nproc-per-node {config.devices} --no-python samfast train ..."
        raise ConfigError(f"nodes={config.nodes}: a launcher starts processes on other machines", where="nodes",
                          fix=f"run on each of them: {again} (or srun under SLURM)")  # fmt: skip
    device = pick_device(config.device)
    if str(device) not in ("cpu", "cuda"):
        raise ConfigError(f"device={config.device!r} is one device, and {here}", where="device", fix="'cuda' or 'cpu'")
    available = torch.cuda.device_count() if device.type == "cuda" else os.cpu_count() or 1
    if config.devices > available:
        what = "CUDA devices" if device.type == "cuda" else "CPU cores"
        raise ConfigError(f"devices={config.devices}, and this machine has {available} {what}", where="devices")
    if config.batch_size != AUTO and config.batch_size < wanted:
        raise ConfigError(
            f"batch_size={config.batch_size} leaves some of {wanted} devices without an image",
            where="batch_size",
            fix=f"{wanted} or more: it is the number of images on all devices together",
        )
    if launched == 1 and getattr(current_process(), "_inheriting", False):
        raise ConfigError(
            "this script starts processes while it is imported by one of them",
            where="devices",
            fix="call samfast under `if __name__ == '__main__':`",
        )
    require("lightning_fabric")


def enter(config: TrainConfig) -> World:
    """Where this process stands: among those that a launcher started, or alone."""
    if _launched() == 1:
        return ALONE
    world = join(accelerator=pick_device(config.device).type, devices=config.devices, nodes=config.nodes)
    if not world.is_first:
        silence()
    return world


def spread(task: Callable[..., None], dataset: Dataset, work: tuple[Any, ...], *, config: TrainConfig) -> None:
    """Run ``task(world, dataset, *work)`` in a new process for each device, until all are done.

    The first error of one ends them all, and is raised.

    Raises:
        RunError: a process was killed.
    """
    from lightning_fabric.plugins.environments.lightning import find_free_network_port

    errors = get_context("spawn").SimpleQueue()
    meeting = {
        "accelerator": pick_device(config.device).type,
        "devices": config.devices,
        "port": find_free_network_port(),
        "threads": max(1, torch.get_num_threads() // config.devices),
    }
    arguments = (task, dataset, _by_value(work), meeting, errors)
    processes = start_processes(_take_part, arguments, nprocs=config.devices, join=False, start_method="spawn")
    try:
        while not processes.join():
            pass
    except ProcessException as error:
        if not errors.empty():
            raise errors.get() from None
        raise RunError(f"process {error.error_index} of {config.devices}: {error}", where="devices") from None
    finally:
        for process in processes.processes:
            if process.is_alive():  # Ctrl-C may have reached this process alone
                process.terminate()


def _by_value(work: tuple[Any, ...]) -> bytes:
    """What processes are given to work on; tensors would be shared between them otherwise."""
    try:
        return pickle.dumps(work)
    except Exception as error:  # pickle raises whatever an object's own code does
        raise not_sendable("on several devices", error) from None


def not_sendable(when: str, error: Exception) -> ConfigError:
    """The error of callbacks that cannot be pickled, or not be read by the process that is to be told."""
    return ConfigError(
        f"{when}, callbacks work in another process, and one cannot be sent there: {error}",
        where="callbacks",
        fix="a class of a module, which opens files and the like in on_start",
    )


def _take_part(
    index: int,
    task: Callable[..., None],
    dataset: Dataset,
    work: bytes,
    meeting: dict[str, Any],
    errors: SimpleQueue[SamfastError],
) -> None:
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    os.environ |= {"LOCAL_RANK": str(index), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(meeting["port"])}
    torch.set_num_threads(meeting["threads"])
    if index:
        silence()
    try:
        where = {"accelerator": meeting["accelerator"], "devices": meeting["devices"]}
        task(join(**where, environment=LightningEnvironment()), dataset, *pickle.loads(work))
    except SamfastError as error:
        errors.put(error)
        sys.exit(1)


def _launched() -> int:
    """How many processes the launcher of this one started; 1 without a launcher."""
    for sign, count in _LAUNCHERS.items():
        if sign in os.environ and os.environ.get(count, "").isdigit():
            return int(os.environ[count])
    return 1

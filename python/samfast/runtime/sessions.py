"""ONNX Runtime sessions that run where they were asked to, or say why not."""

from __future__ import annotations

import contextlib
import ctypes
import io
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

from samfast.errors import CheckpointError, ConfigError, RuntimeUnavailableError
from samfast.progress import say

Device = Literal["auto", "cpu", "cuda"]
"""``"auto"`` is CUDA where it works and the CPU otherwise; ``"cuda"`` is CUDA or an error."""

CUDA_PROVIDER = "CUDAExecutionProvider"
CPU_PROVIDER = "CPUExecutionProvider"
CUDA_OPTIONS = {
    "arena_extend_strategy": "kSameAsRequested",  # the default doubles, and keeps what it took
    "cudnn_conv_algo_search": "HEURISTIC",  # the default searches again for each new batch size
    "use_tf32": "0",  # ten bits of mantissa would not give the masks of the float32 model
}
INSTALL = "pip install 'samfast[gpu]' (NVIDIA GPUs and CPU) or pip install 'samfast[cpu]'"
BUILDS = ("onnxruntime", "onnxruntime-gpu")
"""Distributions that install the same package: the one installed last is the one that is imported."""
FATAL = 4
ERROR = 3


def open_session(path: Path, *, device: Device = "auto", threads: int | None = None, keeps_memory: bool = True) -> Any:
    """An ``onnxruntime.InferenceSession`` over ``path``.

    Args:
        path: the ONNX file.
        device: see :data:`Device`.
        threads: CPU threads of one inference; None for one a core.
        keeps_memory: whether the CPU memory of one inference is kept for the next.

    Raises:
        ConfigError: there is no such device.
        RuntimeUnavailableError: ONNX Runtime is not installed, or ``"cuda"`` was asked for and is not to be had.
        CheckpointError: ONNX Runtime cannot read the file.
    """
    if device not in get_args(Device):
        raise ConfigError(f"device={device!r} is none of {', '.join(get_args(Device))}", where="device")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads={threads} is less than 1", where="threads")
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = ERROR
    options.enable_cpu_mem_arena = keeps_memory
    if threads is not None:
        options.intra_op_num_threads = threads
    if device == "cpu":
        return _open(runtime, path, [CPU_PROVIDER], options)
    obstacle = _cuda_obstacle(runtime)
    if obstacle is None:
        printed = io.StringIO()  # preload_dlls() prints about libraries that a working installation may lack
        with contextlib.redirect_stdout(printed):
            runtime.preload_dlls()
        session = _open(runtime, path, [(CUDA_PROVIDER, CUDA_OPTIONS), CPU_PROVIDER], options)
        if CUDA_PROVIDER in session.get_providers():
            return session
        obstacle = f"ONNX Runtime {runtime.__version__} could not load its CUDA libraries"
        details = [line for line in printed.getvalue().splitlines() if line.strip()]
        obstacle += f" ({details[0]})" if details else ""
    if device == "cuda":
        raise RuntimeUnavailableError(
            f"device='cuda' was asked for, but {obstacle}",
            where="device",
            fix="pip install 'onnxruntime-gpu[cuda,cudnn]' on a machine with an NVIDIA GPU, or use device='cpu'",
        )
    if count_gpus():
        say(f"running on the CPU although there is an NVIDIA GPU: {obstacle}")
    return _open(runtime, path, [CPU_PROVIDER], options)


def session_device(session: Any) -> str:
    """``"cuda"`` or ``"cpu"``: where a session runs."""
    return "cuda" if CUDA_PROVIDER in session.get_providers() else "cpu"


def import_runtime() -> Any:
    """The ``onnxruntime`` package.

    Raises:
        RuntimeUnavailableError: it is not installed, or its installation is broken.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeUnavailableError(f"ONNX Runtime is not installed ({error})", fix=INSTALL) from None
    if not hasattr(onnxruntime, "InferenceSession"):  # what is left when one of two builds was uninstalled
        raise RuntimeUnavailableError(
            "the installed ONNX Runtime is broken: the package is there, its content is not",
            fix=f"pip uninstall {' '.join(BUILDS)}, then {INSTALL}",
        )
    return onnxruntime


def count_gpus() -> int:
    """NVIDIA GPUs that the driver shows to this process; 0 where there is no driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _cuda_obstacle(runtime: Any) -> str | None:
    """Why CUDA cannot be tried at all, in words."""
    if CUDA_PROVIDER not in runtime.get_available_providers():
        builds = _installed_builds()
        if len(builds) > 1:
            return f"{' and '.join(builds)} are both installed and the one without CUDA won; uninstall both, then one"
        return f"the installed ONNX Runtime {runtime.__version__} is a build without CUDA (samfast[gpu] has it)"
    if not count_gpus():
        return "no NVIDIA GPU is visible here (no driver, no device, or CUDA_VISIBLE_DEVICES hides it)"
    return None


def _installed_builds() -> list[str]:
    builds = []
    for name in BUILDS:
        with contextlib.suppress(PackageNotFoundError):
            builds.append(f"{name} {version(name)}")
    return builds


def _open(runtime: Any, path: Path, providers: list[Any], options: Any) -> Any:
    runtime.set_default_logger_severity(FATAL)  # what a provider's loader logs becomes part of our own message
    try:
        return runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise CheckpointError(
            f"ONNX Runtime cannot open the file: {str(error).splitlines()[0]}", where=path, fix="export the model again"
        ) from None
    finally:
        runtime.set_default_logger_severity(ERROR)

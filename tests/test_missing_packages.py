"""Without an optional package, the public names and the command line say what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

PACKAGES = [("torch", "train"), ("torchvision", "train"), ("segment_anything", "train")]


def run_without(package: str, code: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys\nsys.modules[{package!r}] = None\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("package", "extra"), PACKAGES)
def test_a_public_name_names_the_extra(package: str, extra: str) -> None:
    done = run_without(package, "import samfast\nsamfast.train_decoder")
    assert f"RuntimeUnavailableError: {package} is not installed" in done.stderr
    assert f"pip install 'samfast[{extra}]'" in done.stderr


def test_the_command_line_names_the_extra() -> None:
    done = run_without("torch", "from samfast.cli import main\nmain(['tune', '.'])")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_another_missing_module_stays_what_it_is() -> None:
    done = run_without("samfast.train.loop", "import samfast\nsamfast.train_decoder")
    assert "ModuleNotFoundError" in done.stderr
    assert "pip install" not in done.stderr

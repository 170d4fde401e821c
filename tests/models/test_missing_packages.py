"""Without the training packages, the models say what to install."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["segment_anything", "torchvision"])
def test_a_missing_package_is_named_with_the_way_out(package):
    code = f"import sys; sys.modules[{package!r}] = None; import samfast.models.sam"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-3:]
    assert "RuntimeUnavailableError" in done.stderr
    assert package in " ".join(last)
    assert "pip install 'samfast[train]'" in " ".join(last)

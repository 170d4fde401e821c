"""keep_heap: freed buffers stay in the process, unless the environment says otherwise."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource
import numpy as np
from samfast.models.allocator import keep_heap

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(16_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
took = keep_heap()
faults()
print(took, before, faults())
"""


def run(**environment):
    done = subprocess.run(
        [sys.executable, "-c", CODE], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    took, before, after = done.stdout.split()
    return took == "True", int(before), int(after)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the advice is for glibc's malloc")
def test_repeated_buffers_no_longer_fault():
    took, before, after = run(SAMFAST_MALLOC="")
    assert took
    assert after < before / 10


def test_the_environment_opts_out():
    took, before, after = run(SAMFAST_MALLOC="system")
    assert not took
    assert after > before / 2

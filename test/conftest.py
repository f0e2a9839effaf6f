"""What every test gets: one thread per worker, DDS tests one after the other, one ROS graph per run, GPU or not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Two pytest workers share the machine; a thread pool in each would only fight the other.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

# Where torch sees no GPU, kernels run in Triton's interpreter: chosen when Triton is imported, maybe by others.
try:
    import torch
except ImportError:
    pass
else:
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")

# Never talk to other machines, nor to a robot that happens to be on the same network.
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

# The first example of a property may pay for compiling a kernel; time is measured in benchmarks, not here.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROS_TESTS = Path(__file__).parent / "ros"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that measure time over DDS on one worker, so that they never overlap."""
    for item in items:
        if item.path.is_relative_to(ROS_TESTS):
            item.add_marker(pytest.mark.xdist_group("ros"))

"""A case so small that a test can compute it in every way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ov_seg_ros.core.data_types import PointCloud

if TYPE_CHECKING:
    from benchmarks.peers.case import Case


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other make small cases slow on a busy machine."""
    torch = pytest.importorskip("torch", reason="cases are made by the training side")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small_cloud() -> PointCloud:
    random = np.random.default_rng(7)
    return PointCloud(random.uniform(-1, 1, (600, 3)).astype(np.float32), random.random(600, dtype=np.float32))


@pytest.fixture(scope="session")
def case(small_cloud: PointCloud, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Three levels, a block with a shortcut and one without."""
    from benchmarks.peers.case_maker import make_case
    from training.student.minkunet import NetworkConfig

    config = NetworkConfig(4, (8, 8), (12, 8), (2, 1), (1, 2))
    return make_case(tmp_path_factory.mktemp("case"), "tiny", config, small_cloud, 0.1, "random")

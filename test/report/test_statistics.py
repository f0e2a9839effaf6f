from __future__ import annotations

import numpy as np
import pytest

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.report.run_report import Percentiles
from ov_seg_ros.report.statistics import RunStatistics


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)


def test_sums_over_scans(label_space):
    statistics = RunStatistics(label_space)
    statistics.add(0, ids(0, 0, 2, 255), latency_ms=10.0, stage_ms={"decode": 1.0})
    statistics.add(1, ids(1), latency_ms=20.0, stage_ms={"decode": 3.0})
    assert statistics.points == 5
    assert statistics.label_histogram() == {"road": 2, "car": 1, "tall_tree": 1, "unknown": 1}
    latency = statistics.latency("a to b")
    assert latency.total == Percentiles(15.0, 19.0, 19.9)
    assert latency.stages["decode"].p50 == 2.0
    assert latency.measured == "a to b"


def test_accuracy_is_split_by_what_cameras_see(label_space):
    statistics = RunStatistics(label_space)
    statistics.compare(ids(0, 0, 1), ids(0, 1, 1), seen=np.array([True, False, True]))
    accuracy = statistics.accuracy()
    assert accuracy is not None
    assert accuracy.seen is not None
    assert accuracy.unseen is not None
    assert accuracy.whole.points == 3
    assert accuracy.seen.miou() == 1.0
    assert accuracy.unseen.miou() == 0.0
    assert (accuracy.seen.counts + accuracy.unseen.counts == accuracy.whole.counts).all()


def test_no_truth_no_accuracy_and_no_cameras_no_split(label_space):
    statistics = RunStatistics(label_space)
    statistics.add(0, ids(0))
    assert statistics.accuracy() is None
    assert statistics.latency("").total is None
    statistics.compare(ids(0), ids(0))
    accuracy = statistics.accuracy()
    assert accuracy is not None
    assert accuracy.seen is None


def test_an_empty_scan_counts_as_a_scan(label_space):
    statistics = RunStatistics(label_space)
    statistics.add(0, ids())
    assert (len(statistics.scans), statistics.points) == (1, 0)


def test_foreign_class_ids_are_refused(label_space):
    with pytest.raises(InputError, match="class id 3, the model has 3 classes"):
        RunStatistics(label_space).add(7, ids(0, 3))

"""What the benchmark of the node makes of what it heard, and one short trip through real processes."""

import pickle

import numpy as np
import pytest

from benchmarks.node_processes import SETTINGS, Stage, Trip
from ov_seg_ros.bench.scans import as_scan
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2

MS = 1_000_000


def make_trip(**changes):
    """Ten scans, 100 ms apart, of which the eighth was dropped; each back after 9 ms."""
    sent = [k * 100 * MS for k in range(10)]
    back = [stamp for k, stamp in enumerate(sent) if k != 7]
    counters = {"scans_labelled": "9", "scans_dropped": "1", "scans_unwanted": "0", "bad_messages": "0"}
    heard = {
        "arrivals": [[stamp, stamp + 9 * MS] for stamp in back],
        "counters": {**counters, "scans_missed": "0", "state": "active"},
        **{name: [1.0] * 9 for name in ("preprocess", "inference", "postprocess")},
        **changes,
    }
    node = {"arrivals": [[stamp + MS, stamp + 3 * MS, stamp + 7 * MS] for stamp in sent]}
    return Trip(sent, 2.6, heard, node, [1.0] * 10, 0.5, (300.0, 200.0))


def test_times_by_hand_without_the_first_five():
    trip = make_trip()
    assert trip.rate == pytest.approx(10)
    assert trip.round_trip_ms == [9.0] * 4
    assert trip.transport_ms == [2.0] * 5
    assert trip.take_ms == [4.0] * 5
    assert trip.segment_ms == [3.0] * 4


def test_every_scan_is_accounted_for_or_named():
    trip = make_trip()
    assert (trip.lost, trip.unexplained) == (1, 0)
    trip.heard["counters"]["scans_dropped"] = "0"
    assert trip.unexplained == 1


def test_a_short_trip(tmp_path):
    cloud = PointCloud(np.ones((1000, 3), np.float32), np.zeros(1000, np.float32))
    (tmp_path / "scan").write_bytes(pickle.dumps(decode_pointcloud2(as_scan("small", cloud).message)))
    driver = ["--scan", str(tmp_path / "scan"), "--scans", "10", "--rate", "5"]
    trip = Stage(tmp_path, {}).trip(SETTINGS["default"], ["--stand-in", "geometry"], driver, queue_size=20)
    assert (len(trip.sent), trip.unexplained) == (10, 0)
    assert len(trip.heard["arrivals"]) == 10 - trip.lost  # a busy machine may make the node drop some
    assert trip.round_trip_ms
    assert 0 < min(trip.round_trip_ms) <= max(trip.round_trip_ms) < 2000
    assert list(trip.node["times"]) == ["python", "imports", "node", "model", "warm", "active"]
    assert trip.heard["bytes"] == 1000 * (16 + 12)
    assert 50 < trip.memory_mib[1] <= trip.memory_mib[0]

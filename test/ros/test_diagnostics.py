"""The one sentence that an operator reads."""

from dataclasses import replace

import pytest

from ov_seg_ros.ros.diagnostics import ERROR, OK, WARN, NodeReport, ScanCounters, Timing, judge, judge_camera, values

GOOD = NodeReport("active", topic="/points", publishers=1, silence_s=0.1, subscribers=1, now_s=100.0)


@pytest.mark.parametrize(
    ("change", "level", "text"),
    [
        ({}, OK, "labelling"),
        ({"state": "inactive"}, WARN, "lifecycle state inactive"),
        ({"silence_s": None, "publishers": 0}, WARN, "no cloud received yet: nobody publishes /points; remap"),
        ({"silence_s": None}, WARN, "no cloud received yet: /points has 1 publisher"),
        ({"silence_s": 3.21}, WARN, "no cloud for 3.2 s"),
        ({"qos_problem": "offers another DURABILITY", "silence_s": None}, ERROR, "offers another DURABILITY"),
        ({"subscribers": 0}, OK, "idle: nobody subscribes"),
        ({"counters": ScanCounters(bad_messages=1, last_bad_reason="no x", last_bad_s=99.5)}, ERROR, "dropped: no x"),
        ({"counters": ScanCounters(bad_messages=1, last_bad_reason="no x", last_bad_s=90.0)}, OK, "labelling"),
        ({"timing": Timing(250.0, slow_since_s=99.9)}, WARN, "takes 250 ms, expected at most 200 ms"),
        ({"timing": Timing(250.0, slow_since_s=98.0)}, ERROR, "for 2000 ms now"),
        ({"timing": Timing(50.0, latency_ms=-40.0)}, WARN, "stamped 40 ms in the future"),
        ({"timing": Timing(50.0, latency_ms=1e8)}, WARN, "without use_sim_time"),
        ({"transport_ms": 45.0}, OK, "FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA here and for the LiDAR driver"),
        ({"transport_ms": 45.0, "has_large_data": True}, OK, "LARGE_DATA for the LiDAR driver too"),
    ],
)
def test_says_the_most_important_thing(change, level, text):
    found_level, found_text = judge(replace(GOOD, **change))
    assert found_level == level
    assert text in found_text


def test_numbers_as_text():
    numbers = values(replace(GOOD, timing=Timing(250.0, 300.0), dropped=3, facts={"provider": "cpu"}))
    assert (numbers["processing_time_ms"], numbers["is_processing_time_ms_in_expected_range"]) == ("250.0", "False")
    assert (numbers["scans_dropped"], numbers["provider"], numbers["transport_ms"]) == ("3", "cpu", "unknown")


def test_cameras():
    assert judge_camera("no camera_info received yet", 3, wanted=True)[0] == WARN
    assert judge_camera("", 3, wanted=True) == (OK, "paired; 3 images received")
    assert judge_camera("no image", 0, wanted=False)[0] == OK

"""What is said about the machine, and whether it was quiet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ov_seg_ros.bench.machine import describe_commit, describe_machine, describe_versions, machine_slug
from ov_seg_ros.bench.machine_load import LoadMeter, MachineTimes, load_warning, read_times
from ov_seg_ros.bench.resident_memory import peak_mib, reset_peak, resident_mib


@pytest.mark.parametrize(
    ("processor", "cores", "gpus", "slug"),
    [
        ("AMD EPYC 9B14 96-Core Processor", 2, [], "amd-epyc-9b14-2-cores"),
        ("Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", 6, [], "intel-core-i7-8700-6-cores"),
        ("Intel(R) Xeon(R)", 16, ["NVIDIA H100 80GB HBM3"] * 2, "intel-xeon-16-cores-nvidia-h100-80gb-hbm3"),
    ],
)
def test_the_folder_of_a_machine_is_named_after_it(processor, cores, gpus, slug):
    assert machine_slug({"processor": processor, "cores": cores, "gpus": gpus}) == slug


def test_machine_and_versions_are_json_and_name_what_matters():
    machine, versions = describe_machine(), describe_versions()
    json.dumps([machine, versions])
    assert machine["processor"]
    assert 1 <= machine["cores"] <= machine["cores_of_machine"]
    assert {"python", "numpy", "numba", "onnxruntime"} <= set(versions)


def test_a_folder_that_is_no_checkout_has_no_commit(tmp_path):
    assert describe_commit(tmp_path) == {}
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():
        assert len(describe_commit(root)["commit"]) == 40
        assert describe_commit(root / "test") == {}


def test_what_others_used_is_all_less_our_own():
    # In 10 s the machine was busy for 14 core-seconds, of which 9 were ours: others used half a core.
    times = iter([MachineTimes(100, 50, 1), MachineTimes(110, 64, 10)])
    others = LoadMeter(lambda: next(times)).others()
    assert others == pytest.approx(0.5)
    assert "other processes used 0.5 of 2 cores" in load_warning(others, 2)
    assert load_warning(0.1, 2) == load_warning(None, 2) == ""


def test_a_system_that_does_not_say_gives_no_figure():
    times = iter([MachineTimes(0, None, 0), MachineTimes(1, None, 1)])
    assert LoadMeter(lambda: next(times)).others() is None


def test_our_own_work_is_not_that_of_others():
    begin = read_times()
    while read_times().own - begin.own < 0.05:
        pass
    now = read_times()
    if now.machine is not None and begin.machine is not None:
        assert now.machine - begin.machine > 0.02


def test_a_large_array_shows_in_the_peak_after_it_is_gone():
    reset_peak()
    before = resident_mib()
    block = bytearray(b"\1") * (64 * 2**20)
    del block
    assert peak_mib() > before + 50

"""The node as a process: exit codes and the last words in the log."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
REAL = ["-m", "ov_seg_ros.ros.segmentation_node"]
SIMULATED = [str(HERE / "simulated_segmenter.py")]


def start_process(program, *arguments, **variables):
    environment = {
        **os.environ,
        **variables,
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")]),
    }
    ros = ["--ros-args", *arguments] if arguments else []
    return subprocess.Popen(
        [sys.executable, *program, *ros],
        env=environment,
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "last_words"),
    [
        (["-p", "model_path:=/nowhere/student.onnx"], "cannot start: model /nowhere/student.onnx does not exist"),
        (["-p", f"model_path:={CHECKOUT / 'setup.py'}"], "is not an ONNX file"),
        (["-p", "queue_sizes:=3"], "unknown parameter queue_sizes: did you mean queue_size?"),
        (["-p", "extrinsics_file:=/nowhere.yaml"], "extrinsics_file /nowhere.yaml cannot be read"),
    ],
)
def test_refuses_to_start_and_says_why(arguments, last_words):
    program = SIMULATED if "extrinsics" in last_words else REAL
    process = start_process(program, *arguments)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "[FATAL]" in output
    assert last_words in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "arguments", [["--params-file", "/nowhere.yaml"], ["-p", "queue_size"], ["-r", "~/input/pointcloud:="]]
)
def test_ros_arguments_that_cannot_be_read_are_no_orderly_end(arguments):
    process = start_process(SIMULATED, *arguments)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "cannot start: rclpy does not start: " in output
    assert "look at the names, values and files after --ros-args" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_ends_with_exit_code_0(end):
    process = start_process(SIMULATED, "--params-file", str(CHECKOUT / "config" / "segmentation_node.yaml"))
    line = process.stdout.readline()
    assert "3 classes, CPUExecutionProvider" in line
    process.send_signal(end)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "Traceback" not in output


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_may_be_ended_while_it_warms_up(end):
    process = start_process(SIMULATED, WARM_UP_S="1")
    assert process.stdout.readline() == "warming up\n"
    process.send_signal(end)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert "FATAL" not in output


def test_ctrl_c_while_scans_are_being_labelled(start):
    import numpy as np

    process = start_process(SIMULATED)
    assert "3 classes" in process.stdout.readline()
    rig = start(autostart=False)  # talks to the other process; its own node stays unconfigured
    heard = rig.listen(f"{rig.CLOUD}segmentation")
    rig.spin_until(lambda: rig.clouds.get_subscription_count() > 0, timeout_s=10)
    points = np.ones((20_000, 3))
    while len(heard) < 5:
        rig.send(points)
        rig.spin(0.02)
    process.send_signal(signal.SIGINT)
    for _ in range(10):
        rig.send(points)
        rig.spin(0.02)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "Traceback" not in output


@pytest.mark.parametrize(("ended_by_signal", "returncode"), [(True, 0), (False, 1)])
def test_an_executor_that_finds_no_context_is_an_orderly_end_only_after_a_signal(ended_by_signal, returncode):
    program = f"""
import os, signal, sys, time
sys.path.insert(0, {str(HERE)!r})
import rclpy
from ov_seg_ros.ros import segmentation_node
from simulated_segmenter import SimulatedSegmenter
class Executor(segmentation_node.SingleThreadedExecutor):
    def spin(self):
        if {ended_by_signal}:
            os.kill(os.getpid(), signal.SIGTERM)
            while rclpy.ok():
                time.sleep(0.01)
        raise RuntimeError("failed to initialize wait set: the given context is not valid")
segmentation_node.SingleThreadedExecutor = Executor
raise SystemExit(segmentation_node.main([], lambda parameters: SimulatedSegmenter()))
"""
    process = start_process(["-c", program])
    output, _ = process.communicate(timeout=30)
    assert process.returncode == returncode, output
    assert ("Traceback" in output) == (not ended_by_signal)

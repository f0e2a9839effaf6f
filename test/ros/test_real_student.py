"""The node with a real student file and ONNX Runtime behind it, in a process of its own and in this one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_model import write_tiny_model

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2
from ov_seg_ros.ros.parameter_schema import ParameterSchema
from ov_seg_ros.ros.parameters import NodeParameters
from ov_seg_ros.ros.segmentation_node import load_segmenter

CHECKOUT = Path(__file__).resolve().parents[2]
SHIPPED = CHECKOUT / "ov_seg_ros" / "models" / "student.onnx"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    write_tiny_model(path)
    return path


def settings(**values):
    return NodeParameters.from_values(ParameterSchema.load("segmentation_node").resolve(values))


def test_require_gpu_refuses_a_cpu(model):
    assert load_segmenter(settings(model_path=str(model), provider="cpu")).provider == "CPUExecutionProvider"
    with pytest.raises(ConfigError, match=r"require_gpu is true, but .*CPUExecutionProvider.* onnxruntime-gpu"):
        load_segmenter(settings(model_path=str(model), provider="cpu", require_gpu=True))


def test_real_labels_over_dds_from_a_node_of_its_own(start, model):
    arguments = ["-m", "ov_seg_ros.ros.segmentation_node", "--ros-args", "-p", f"model_path:={model}"]
    process = subprocess.Popen([sys.executable, *arguments], cwd=CHECKOUT, env=dict(os.environ))
    try:
        rig = start(autostart=False)  # only its publisher and listener are used
        rig.listen(f"{rig.CLOUD}segmentation")
        rig.spin_until(lambda: rig.clouds.get_subscription_count() > 0, timeout_s=60)
        rng = np.random.default_rng(0)
        points = rng.uniform((-40, -40, -4), (40, 40, 4), (5000, 3)).astype(np.float32)
        points[::100] = np.nan
        points[1::100, 0] = 400  # outside the grid of the student
        expected = np.where(points[:, 2] < 0, 0, 1)
        expected[::100] = expected[1::100] = 255
        for chosen in (slice(None), slice(0, 1), slice(2, 3), slice(0, 0)):
            answer = decode_pointcloud2(rig.label(rig.cloud(points[chosen])))
            np.testing.assert_array_equal(answer.fields["class_id"], expected[chosen])
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.mark.skipif(not SHIPPED.is_file(), reason="no shipped student here: run `make student`")
def test_the_shipped_student_is_the_default():
    segmenter = load_segmenter(settings(provider="cpu"))
    assert len(segmenter.description.label_space) == 16

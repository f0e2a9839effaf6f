"""Recordings without a GPU: the same buffers and the same chain, called anew for every cloud."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="provider triton needs torch")
import torch

from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.gpu.device_labels import DeviceLabels
from ov_seg_ros.gpu.recording import Recording


def chain(cloud):
    """Class = whole metres of x, probability = intensity, entropy = green where valid; counts points as broken."""
    exists = torch.arange(len(cloud.points)) < cloud.num_points
    green = cloud.color[:, 1] * cloud.color[:, 3] if len(cloud.color) else torch.zeros(len(cloud.points))
    return DeviceLabels(
        (cloud.points[:, 0] * exists).to(torch.uint8),
        cloud.intensity * exists,
        green * exists,
        *[exists.sum().view(1)] * 3,
    )


def cloud_of(count, seed=0):
    random = np.random.default_rng(seed)
    points = random.uniform(0, 99, (count, 3)).astype(np.float32)
    return PointCloud(points, random.random(count, dtype=np.float32))


@pytest.mark.parametrize("with_color", [False, True])
def test_every_point_gets_its_own_answer_and_no_other(with_color):
    recording = Recording(chain, 50, with_color, torch.device("cpu"))
    for seed, count in enumerate((50, 3, 0, 20)):  # what an earlier cloud left behind must not count
        cloud = cloud_of(count, seed)
        color = np.random.default_rng(seed).random((count, 4), dtype=np.float32) if with_color else None
        labels = recording.run(cloud, color)
        assert labels.broken.tolist() == [count]
        assert labels.class_id[:count].tolist() == cloud.points[:, 0].astype(np.uint8).tolist()
        np.testing.assert_array_equal(labels.probability[:count].numpy(), cloud.intensity)
        expected = color[:, 1] * color[:, 3] if with_color else np.zeros(count)
        np.testing.assert_array_equal(labels.entropy[:count].numpy(), expected.astype(np.float32))
        assert not labels.probability[count:].any()


def test_colors_of_an_earlier_scan_are_forgotten():
    recording = Recording(chain, 9, True, torch.device("cpu"))
    recording.run(cloud_of(9), np.ones((9, 4), np.float32))
    assert recording.run(cloud_of(9)).entropy.tolist() == [0] * 9


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_recorded_graph_answers_like_the_chain():
    def on_gpu(cloud):
        index = torch.arange(len(cloud.points), device="cuda")
        exists = index < cloud.num_points
        return DeviceLabels(
            (cloud.points[:, 0] * exists).to(torch.uint8),
            cloud.intensity * exists,
            cloud.intensity * exists,
            *[exists.sum(dtype=torch.int32).view(1)] * 3,
        )

    recording, plain = (Recording(c, 50, False, torch.device(d)) for c, d in ((on_gpu, "cuda"), (chain, "cpu")))
    for seed, count in enumerate((50, 3, 0, 20)):
        cloud = cloud_of(count, seed)
        found, expected = recording.run(cloud), plain.run(cloud)
        assert torch.equal(found.class_id, expected.class_id)
        assert torch.equal(found.probability, expected.probability)
        assert found.broken.tolist() == [count]

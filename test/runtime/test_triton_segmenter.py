"""Provider triton: the same answers as on the CPU. Without a GPU its kernels run in Triton's interpreter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="provider triton needs torch")

pytest.importorskip("triton", reason="provider triton needs triton")
import onnx
from tiny_model import tiny_description, write_tiny_model
from triton_device import DEVICE

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud
from ov_seg_ros.core.errors import MissingDependencyError, ModelError
from ov_seg_ros.core.voxels import VoxelGrid
from ov_seg_ros.runtime import segmenter as segmenter_module
from ov_seg_ros.runtime import triton_segmenter
from ov_seg_ros.runtime.model_file import load_model_file, shipped_model_path
from ov_seg_ros.runtime.segmenter import STAGES, Segmenter
from ov_seg_ros.runtime.triton_segmenter import Room, ScanChain, TritonSegmenter, capacity_for

pytestmark = pytest.mark.xdist_group("triton")
HAS_GPU = DEVICE == "cuda"


@pytest.fixture(autouse=True)
def small_capacities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_segmenter, "SMALLEST_CAPACITY", 64)


def with_gemm(path: Path, folder: Path) -> Path:
    """The tiny student with its product and sum as one node, as real students end."""
    model = onnx.load(path)
    gemm = onnx.helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"])
    del model.graph.node[:]
    model.graph.node.append(gemm)
    onnx.save(model, folder / "gemm.onnx")
    return folder / "gemm.onnx"


@pytest.fixture
def student(tiny_model: Path, tmp_path: Path) -> Path:
    return with_gemm(tiny_model, tmp_path)


def on_device(path: Path, precision: Any = "float32") -> TritonSegmenter:
    return TritonSegmenter(load_model_file(path), DEVICE, precision)


def random_cloud(count: int, seed: int = 0) -> PointCloud:
    random = np.random.default_rng(seed)
    points = random.uniform((-12, -12, -4.9), (12, 12, 4.9), (count, 3)).astype(np.float32)
    points[::7] = np.nan
    points[3::11, 0] = 1e9
    return PointCloud(points, random.random(count, dtype=np.float32))


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["cartesian", "cylindrical"])
def test_answers_as_on_the_cpu(tmp_path: Path, precision: str, kind: str) -> None:
    grid = VoxelGrid("cartesian", (0.5, 0.5, 0.5), (-9.0, -9.0, -4.0), (9.0, 9.0, 4.0))
    if kind == "cylindrical":
        grid = VoxelGrid("cylindrical", (0.5, 0.05, 0.5), (0.0, -3.15, -4.0), (9.0, 3.15, 4.0))
    write_tiny_model(tmp_path / "s.onnx", (-3.0, 0.0, 0.5), ("low", "middle", "high"), grid=grid)
    student = with_gemm(tmp_path / "s.onnx", tmp_path)
    cpu, device = Segmenter.load(student, "cpu"), on_device(student, precision)
    for seed, count in enumerate((60, 5, 1, 64, 200)):  # the last one needs more room
        cloud = random_cloud(count, seed)
        expected, found = cpu.segment(cloud), device.segment(cloud)
        tolerance = 1e-5 if precision == "float32" else 0.02
        np.testing.assert_allclose(found.probability, expected.probability, atol=tolerance)
        np.testing.assert_allclose(found.entropy, expected.entropy, atol=2 * tolerance)
        clear = (expected.probability > 0.55) | (expected.class_id == 255)
        np.testing.assert_array_equal(found.class_id[clear], expected.class_id[clear])
        assert found.class_id.dtype == np.uint8


def test_a_scan_that_does_not_fit_is_labelled_all_the_same(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_segmenter, "_VOXEL_STEP", 1)
    recorded = []
    record = TritonSegmenter._record
    monkeypatch.setattr(TritonSegmenter, "_record", lambda *a: recorded.append(1) or record(*a))
    cpu, device = Segmenter.load(student, "cpu"), on_device(student)
    one_voxel = PointCloud(np.full((60, 3), 1.1, np.float32), np.ones(60, np.float32))
    three_voxels = PointCloud(np.array([[1, 1, 1], [1, 1, -1], [7, 1, 1]] * 20, np.float32), np.ones(60, np.float32))
    scans = (one_voxel, three_voxels, random_cloud(60), one_voxel, random_cloud(60, seed=1))
    for scan, times in zip(scans, (1, 2, 3, 3, 3), strict=True):
        assert device.segment(scan).class_id.tolist() == cpu.segment(scan).class_id.tolist()
        assert len(recorded) == times


def test_room_grows_and_never_shrinks(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_segmenter, "_VOXEL_STEP", 4)
    description = load_model_file(tiny_model).description
    points = np.array([[2.1, 1, 1], [2.6, 1, 1], [3.1, 1, 1], [9, 1, 1]], np.float32)  # cells 104, 105, 106, 118 of x
    room = Room(0, (0, 0, 0)).with_room_for(PointCloud(points, np.ones(4, np.float32)), description)
    assert room == Room(64, (8, 8, 4))  # 4, 3 and 2 voxels, half as many again and one, in fours
    larger = room.with_room_for(PointCloud(np.zeros((70, 3), np.float32), np.ones(70, np.float32)), description)
    assert larger == Room(96, (8, 8, 4))
    assert (
        Room(64, (64, 64, 64)).with_room_for(PointCloud(points, np.ones(4, np.float32)), description).voxels
        == (64,) * 3
    )


@pytest.mark.parametrize("points", [[], [[np.nan] * 3], [[99, 0, 0], [0, np.inf, 0]]])
def test_nothing_to_label(student: Path, points: list) -> None:
    array = np.array(points, np.float32).reshape(-1, 3)
    segmented = on_device(student).segment(PointCloud(array, np.ones(len(array), np.float32)))
    assert segmented.class_id.tolist() == [255] * len(points)
    assert segmented.probability.tolist() == segmented.entropy.tolist() == [0.0] * len(points)
    assert set(segmented.stage_ms) == set(STAGES)


def test_answers_do_not_change_with_the_next_scan(student: Path) -> None:
    segmenter = on_device(student)
    first = segmenter.segment(PointCloud(np.array([[1, 1, 1]], np.float32), np.ones(1, np.float32)))
    segmenter.segment(PointCloud(np.array([[1, 1, -1]], np.float32), np.ones(1, np.float32)))
    assert first.class_id.tolist() == [1]


def test_colors_reach_the_network_and_stay_away(tiny_color_model: Path, tmp_path: Path) -> None:
    camera = CameraModel(width=40, height=30, fx=40.0, fy=40.0, cx=19.5, cy=14.5)
    red = np.zeros((30, 40, 3), np.uint8)
    red[:, :20, 0] = 255
    forward = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64)
    cloud = PointCloud(np.array([[10, 2, 0.3], [10, -2, 0.3], [-10, 2, -0.7]], np.float32), np.ones(3, np.float32))
    segmenter = on_device(with_gemm(tiny_color_model, tmp_path))
    assert segmenter.uses_color
    assert segmenter.segment(cloud, (CameraImage("front", red, camera, forward),)).class_id.tolist() == [2, 1, 0]
    assert segmenter.segment(cloud).class_id.tolist() == [1, 1, 0]


def test_nan_from_the_network_is_an_error(student: Path) -> None:
    segmenter = on_device(student)
    segmenter._triton._launches[0].weights.bias.fill_(float("nan"))
    cloud = PointCloud(np.array([[1, 1, 1], [1, 1, -1], [1, 1, 1.1]], np.float32), np.ones(3, np.float32))
    with pytest.raises(ModelError, match="'tiny' answered NaN for 2 of 2 voxels"):
        segmenter.segment(cloud)


def test_a_failing_gpu_names_model_and_size(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(triton_segmenter, "ScanChain", fail)
    with pytest.raises(ModelError, match="'tiny' failed on TritonCUDA with 60 points: CUDA out of memory"):
        on_device(student).segment(random_cloud(60))


def test_a_scan_that_is_too_large_for_the_gpu_leaves_the_next_one_alone(
    student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SmallChain(ScanChain):
        def __init__(self, description: Any, network: Any, room: Room, device: Any) -> None:
            if room.points > 200:
                raise RuntimeError("CUDA out of memory")
            super().__init__(description, network, room, device)

    monkeypatch.setattr(triton_segmenter, "ScanChain", SmallChain)
    segmenter = on_device(student)
    before = segmenter.segment(random_cloud(60))
    with pytest.raises(ModelError, match="out of memory"):
        segmenter.segment(random_cloud(300))
    np.testing.assert_array_equal(segmenter.segment(random_cloud(60)).class_id, before.class_id)


def test_a_graph_of_something_else_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot run on TritonCUDA, its graph holds .*; provider cuda or cpu may"):
        on_device(tiny_model)


def test_what_the_segmenter_knows_about_itself(student: Path) -> None:
    segmenter = on_device(student, "float16")
    assert segmenter.description == tiny_description()
    assert segmenter.sha256 == load_model_file(student).sha256
    assert segmenter.provider == "TritonCUDA"
    assert segmenter.provider_note.startswith("runs on TritonCUDA in float16 on ")
    assert not segmenter.uses_color


@pytest.mark.parametrize(
    ("num_points", "capacity"), [(1, 64), (64, 64), (65, 96), (97, 128), (128, 128), (129, 192), (1_000_000, 1 << 20)]
)
def test_capacities_grow_by_a_half_or_a_third(num_points: int, capacity: int) -> None:
    assert capacity_for(num_points) == capacity


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_without_a_gpu_the_provider_says_what_to_do(student: Path) -> None:
    with pytest.raises(ModelError, match=r"provider triton needs an NVIDIA GPU, but torch .* install .* provider auto"):
        Segmenter.load(student, "triton")


@pytest.mark.parametrize("package", ["torch", "triton"])
def test_without_its_packages_the_provider_says_what_to_install(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in [n for n in sys.modules if n.startswith(("ov_seg_ros.gpu", "ov_seg_ros.runtime.triton"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delattr(segmenter_module, "triton_segmenter", raising=False)
    with pytest.raises(MissingDependencyError, match=rf"provider triton needs the package {package}, .*\[triton\]"):
        Segmenter.load(tiny_model, "triton")


@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA GPU")
def test_the_shipped_student_on_a_gpu() -> None:
    cloud = random_cloud(50_000)
    expected = Segmenter.load(shipped_model_path(), "cpu").segment(cloud)
    exact = on_device(shipped_model_path()).segment(cloud)
    np.testing.assert_allclose(exact.probability, expected.probability, atol=1e-4)
    half = on_device(shipped_model_path(), "float16").segment(cloud)
    assert np.mean(half.class_id == expected.class_id) > 0.99

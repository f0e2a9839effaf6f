"""The segmenter on a student whose answers are known: class 0 below z = 0, class 1 above."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import tiny_description, tiny_graph, write_tiny_model

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, SegmentedCloud
from ov_seg_ros.core.errors import ModelError
from ov_seg_ros.core.voxels import VoxelGrid
from ov_seg_ros.runtime.segmenter import PREPROCESS_PARTS, STAGES, Segmenter

FORWARD = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64)


def cloud_of(points: object) -> PointCloud:
    array = np.array(points, np.float32).reshape(-1, 3)
    return PointCloud(array, np.ones(len(array), np.float32))


def random_points(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform((-40, -40, -4.9), (40, 40, 4.9), (count, 3)).astype(np.float32)


def assert_unknown(segmented: SegmentedCloud) -> None:
    assert np.all(segmented.class_id == 255)
    assert not segmented.probability.any()
    assert not segmented.entropy.any()


def test_labels_every_point(segmenter: Segmenter) -> None:
    points = random_points(5000)
    segmented = segmenter.segment(cloud_of(points))
    np.testing.assert_array_equal(segmented.class_id, points[:, 2] >= 0)
    assert segmented.class_id.dtype == np.uint8
    assert segmented.probability.dtype == segmented.entropy.dtype == np.float32


def test_probability_and_entropy_by_hand(segmenter: Segmenter) -> None:
    # logits = 2 h m - m**2 with m = -1, 1: they differ by 4 h, so p = 1 / (1 + exp(-4 h))
    segmented = segmenter.segment(cloud_of([[5, 5, 0.3]]))
    p = 1 / (1 + np.exp(-4 * 0.3))
    assert segmented.class_id.tolist() == [1]
    assert segmented.probability == pytest.approx([p], rel=1e-5)
    assert segmented.entropy == pytest.approx([-p * np.log(p) - (1 - p) * np.log(1 - p)], rel=1e-5)


def test_points_of_one_voxel_share_its_mean(segmenter: Segmenter) -> None:
    segmented = segmenter.segment(cloud_of([[5.1, 5.1, 0.1], [5.4, 5.4, 0.3]]))
    assert segmented.probability == pytest.approx([1 / (1 + np.exp(-4 * 0.2))] * 2, rel=1e-5)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 300))
def test_the_order_of_the_points_is_kept(segmenter: Segmenter, seed: int, count: int) -> None:
    points = random_points(count, seed)
    order = np.random.default_rng(seed).permutation(count)
    straight, shuffled = segmenter.segment(cloud_of(points)), segmenter.segment(cloud_of(points[order]))
    np.testing.assert_array_equal(shuffled.class_id, straight.class_id[order])
    np.testing.assert_allclose(shuffled.probability, straight.probability[order], rtol=1e-5)


def test_points_without_a_voxel_are_unknown_the_others_are_not(segmenter: Segmenter) -> None:
    invalid = [[np.nan, 0, 1], [0, np.inf, 1], [0, 0, -np.inf], [50.1, 0, 1], [0, 0, 5.0], [1e30, 0, 0]]
    segmented = segmenter.segment(cloud_of([[1, 1, 1], *invalid, [1, 1, -1]]))
    assert segmented.class_id.tolist() == [1] + [255] * 6 + [0]
    assert segmented.probability[1:7].tolist() == [0.0] * 6
    assert segmented.entropy[1:7].tolist() == [0.0] * 6
    assert min(segmented.probability[[0, 7]]) > 0.9


def test_an_invalid_intensity_does_not_spread(segmenter: Segmenter) -> None:
    points = random_points(100)
    intensity = np.full(100, np.nan, np.float32)
    segmented = segmenter.segment(PointCloud(points, intensity))
    np.testing.assert_array_equal(segmented.class_id, points[:, 2] >= 0)


class RefusesToRun:
    """A session in whose place the graph must not run."""

    def run(self, *_: object) -> None:
        raise AssertionError("the network must not run")


@pytest.mark.parametrize("points", [[], [[np.nan] * 3], [[np.nan] * 3, [99, 0, 0]]])
def test_nothing_to_label_does_not_run_the_network(tiny_model: Path, points: list) -> None:
    idle = Segmenter.load(tiny_model, "cpu")
    idle._network = RefusesToRun()
    segmented = idle.segment(cloud_of(points))
    assert len(segmented) == len(points)
    assert_unknown(segmented)
    assert set(STAGES) <= set(segmented.stage_ms)


def test_stage_times(segmenter: Segmenter) -> None:
    stage_ms = segmenter.segment(cloud_of(random_points(1000))).stage_ms
    assert set(stage_ms) == {*STAGES, *PREPROCESS_PARTS} - {"color"}
    assert stage_ms["total"] >= stage_ms["preprocess"] + stage_ms["inference"] + stage_ms["postprocess"]
    assert stage_ms["preprocess"] >= stage_ms["voxels"] + stage_ms["features"] + stage_ms["pyramid"]


def test_what_the_segmenter_knows_about_itself(segmenter: Segmenter, tiny_model: Path) -> None:
    assert segmenter.description == tiny_description()
    assert segmenter.sha256 == hashlib.sha256(tiny_model.read_bytes()).hexdigest()
    assert segmenter.provider == "CPUExecutionProvider"
    assert segmenter.provider_note.startswith("runs on CPUExecutionProvider (as asked; ")
    assert not segmenter.uses_color


def test_cylindrical_grid(tmp_path: Path) -> None:
    grid = VoxelGrid("cylindrical", (0.5, 0.05, 0.5), (0.0, -3.15, -5.0), (50.0, 3.15, 5.0))
    write_tiny_model(tmp_path / "c.onnx", grid=grid)
    points = random_points(500)
    inside = np.hypot(points[:, 0], points[:, 1]) < 50
    segmented = Segmenter.load(tmp_path / "c.onnx", "cpu").segment(cloud_of(points))
    np.testing.assert_array_equal(segmented.class_id, np.where(inside, points[:, 2] >= 0, 255))


def red_image() -> CameraImage:
    """Red in its left half."""
    camera = CameraModel(width=40, height=30, fx=40.0, fy=40.0, cx=19.5, cy=14.5)
    image = np.zeros((30, 40, 3), np.uint8)
    image[:, :20, 0] = 255
    return CameraImage("front", image, camera, FORWARD)


class TestColor:
    POINTS = ((10, 2, 0.3), (10, -2, 0.3), (-10, 2, -0.7))  # seen in red, seen in black, behind the camera

    def test_colors_reach_the_network(self, tiny_color_model: Path) -> None:
        segmenter = Segmenter.load(tiny_color_model, "cpu")
        segmented = segmenter.segment(cloud_of(self.POINTS), (red_image(),))
        assert segmenter.uses_color
        assert segmented.class_id.tolist() == [2, 1, 0]
        assert segmented.stage_ms["color"] > 0

    def test_without_images_geometry_decides(self, tiny_color_model: Path) -> None:
        segmented = Segmenter.load(tiny_color_model, "cpu").segment(cloud_of(self.POINTS))
        assert segmented.class_id.tolist() == [1, 1, 0]
        assert "color" not in segmented.stage_ms

    def test_a_student_of_geometry_ignores_images(self, segmenter: Segmenter) -> None:
        segmented = segmenter.segment(cloud_of(self.POINTS), (red_image(),))
        assert segmented.class_id.tolist() == [1, 1, 0]
        assert "color" not in segmented.stage_ms


def test_warm_up_runs_every_stage(tiny_color_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = Segmenter.load(tiny_color_model, "cpu")
    results = []
    segment = segmenter.segment
    monkeypatch.setattr(segmenter, "segment", lambda *inputs: results.append(segment(*inputs)) or results[-1])
    assert segmenter.warm_up() == results[0].stage_ms["total"] > 0
    assert set(results[0].stage_ms) == {*STAGES, *PREPROCESS_PARTS}
    assert np.mean(results[0].class_id != 255) > 0.9
    assert 2000 < len(results[0]) < 200_000


class Answers:
    """A network that gives one answer, or raises it."""

    def __init__(self, answer: np.ndarray | Exception) -> None:
        self.answer = answer

    def run(self, *_: object) -> np.ndarray:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_nan_from_the_network_is_an_error(tiny_model: Path) -> None:
    segmenter = Segmenter.load(tiny_model, "cpu")
    segmenter._network = Answers(np.array([[0, np.nan], [0, 1]], np.float32))
    with pytest.raises(ModelError, match="'tiny' answered NaN for 1 of 2 voxels"):
        segmenter.segment(cloud_of([[1, 1, 1], [1, 1, -1]]))


def test_a_failing_network_names_model_provider_and_size(tiny_model: Path) -> None:
    segmenter = Segmenter.load(tiny_model, "cpu")
    segmenter._network = Answers(RuntimeError("out of memory"))
    with pytest.raises(ModelError, match="'tiny' failed on CPUExecutionProvider with 1 voxels: out of memory"):
        segmenter.segment(cloud_of([[1, 1, 1]]))


def save_and_load(model: onnx.ModelProto, path: Path) -> Segmenter:
    onnx.save(model, path)
    return Segmenter.load(path, "cpu")


class TestGraphThatDoesNotFitItsDescription:
    """Found when the file is loaded, not at the first scan."""

    def test_other_number_of_classes(self, tmp_path: Path) -> None:
        model = tiny_graph(tiny_description(), (-1.0, 1.0))
        three = tiny_description(("a", "b", "c")).to_json()
        onnx.helper.set_model_props(model, {"ov_seg_ros": three})
        with pytest.raises(ModelError, match="'tiny' describes 3 classes, but 'logits' has 2 columns"):
            save_and_load(model, tmp_path / "a.onnx")

    def test_other_number_of_features(self, tmp_path: Path) -> None:
        model = tiny_graph(tiny_description(), (-1.0, 1.0))
        onnx.helper.set_model_props(model, {"ov_seg_ros": tiny_description(("a",), use_color=True).to_json()})
        with pytest.raises(ModelError, match="'tiny' describes 12 point features, but 'features' has 8 columns"):
            save_and_load(model, tmp_path / "a.onnx")

    def test_output_of_another_name(self, tmp_path: Path) -> None:
        model = tiny_graph(tiny_description(), (-1.0, 1.0))
        model.graph.output[0].name = model.graph.node[-1].output[0] = "scores"
        with pytest.raises(ModelError, match="'tiny' has no 'logits' in its graph"):
            save_and_load(model, tmp_path / "a.onnx")

    def test_unknown_input(self, tmp_path: Path) -> None:
        model = tiny_graph(tiny_description(), (-1.0, 1.0))
        model.graph.input.append(onnx.helper.make_tensor_value_info("stride9_child", onnx.TensorProto.INT64, [None]))
        with pytest.raises(ModelError, match=r"asks for inputs that this version does not make \(stride9_child\)"):
            save_and_load(model, tmp_path / "a.onnx")


def test_a_graph_may_leave_index_arrays_out(tmp_path: Path) -> None:
    model = tiny_graph(tiny_description(), (-1.0, 1.0))
    del model.graph.input[3:]
    segmented = save_and_load(model, tmp_path / "a.onnx").segment(cloud_of([[1, 1, 1]]))
    assert segmented.class_id.tolist() == [1]


def test_a_network_can_be_handed_in(segmenter: Segmenter) -> None:
    again = Segmenter(segmenter._network, segmenter.description, "0" * 64)
    assert again.segment(cloud_of([[1, 1, -1]])).class_id.tolist() == [0]

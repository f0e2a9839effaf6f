"""A complete student file in a kilobyte, whose answers a test can work out by hand.

The network is one matrix product: every voxel gets the class whose height (metres, mean z of its points)
is nearest. With the defaults, ``class_id`` is 0 ("low") for z < 0 and 1 ("high") for z >= 0, exactly,
because z = 0 is the border between two cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.point_features import COLOR, GEOMETRY, HEIGHT_SCALE
from ov_seg_ros.core.pyramid import build_pyramid
from ov_seg_ros.core.student_description import METADATA_KEY, StudentDescription
from ov_seg_ros.core.voxels import VoxelGrid

TINY_GRID = VoxelGrid("cartesian", (0.5, 0.5, 0.5), (-50.0, -50.0, -5.0), (50.0, 50.0, 5.0))
OPSET = 17
RED_CLASS = "red"


def write_tiny_model(
    path: Path,
    class_heights: Sequence[float] = (-1.0, 1.0),
    class_names: Sequence[str] = ("low", "high"),
    use_color: bool = False,
    grid: VoxelGrid = TINY_GRID,
    num_levels: int = 3,
) -> StudentDescription:
    """Writes a valid student and returns its description.

    Args:
        path: the .onnx file to write.
        class_heights: per class, metres: a voxel belongs to the class with the nearest height.
        class_names: as many names.
        use_color: adds a last class "red" that wins where a camera sees red, (r - (g + b) / 2) > 0.5.
        grid: voxel grid.
        num_levels: of the pyramid, whose index arrays are declared as inputs like a real student's.
    """
    description = tiny_description(class_names, use_color, grid, num_levels)
    onnx.save(tiny_graph(description, class_heights, use_color), path)
    return description


def tiny_description(
    class_names: Sequence[str] = ("low", "high"),
    use_color: bool = False,
    grid: VoxelGrid = TINY_GRID,
    num_levels: int = 3,
) -> StudentDescription:
    names = (*class_names, RED_CLASS) if use_color else tuple(class_names)
    palette = tuple((40 * i % 256, 90, 255 - 40 * i % 256) for i in range(len(names)))
    return StudentDescription(
        name="tiny",
        label_space=LabelSpace("tiny", names, palette, tuple((f"a {name} thing",) for name in names)),
        grid=grid,
        point_features=GEOMETRY + COLOR if use_color else GEOMETRY,
        num_levels=num_levels,
        recipe={"epochs": 0, "network": "one matrix product"},
        provenance={"trained_on": "nothing"},
    )


def tiny_graph(
    description: StudentDescription, class_heights: Sequence[float], use_color: bool = False
) -> onnx.ModelProto:
    weights, bias = _nearest_height(description, class_heights, use_color)
    index_arrays = build_pyramid(np.zeros((1, 3), np.int32), description.num_levels).graph_inputs()
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["V", weights.shape[0]])
    indices = [helper.make_tensor_value_info(name, TensorProto.INT64, [None]) for name in index_arrays]
    graph = helper.make_graph(
        nodes=[
            helper.make_node("MatMul", ["features", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["logits"]),
        ],
        name="tiny",
        inputs=[features, *indices],
        outputs=[helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["V", len(bias)])],
        initializer=[numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: description.to_json()})
    onnx.checker.check_model(model)
    return model


def _nearest_height(
    description: StudentDescription, class_heights: Sequence[float], use_color: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (F, C) and bias (C,): logit = h**2 - (h - class_height)**2 = 2 h class_height - class_height**2."""
    num_classes = len(description.label_space)
    weights = np.zeros((len(description.point_features), num_classes), np.float32)
    bias = np.zeros(num_classes, np.float32)
    heights = np.asarray(class_heights, np.float32)
    weights[description.point_features.index("height"), : len(heights)] = 2 * heights * HEIGHT_SCALE
    bias[: len(heights)] = -(heights**2)
    if use_color:
        weights[description.point_features.index("red"), -1] = 400
        weights[description.point_features.index("green"), -1] = -200
        weights[description.point_features.index("blue"), -1] = -200
        bias[-1] = -200
    return weights, bias

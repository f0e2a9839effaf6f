"""The student at work: a scan (and images, if the student wants colours) in, a labelled scan out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.class_distribution import classify_logits, spread_to_points
from ov_seg_ros.core.data_types import CameraImage, PointCloud, SegmentedCloud
from ov_seg_ros.core.errors import ModelError
from ov_seg_ros.core.point_color import sample_colors
from ov_seg_ros.core.point_features import voxel_features
from ov_seg_ros.core.pyramid import build_pyramid
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.core.voxels import Voxels
from ov_seg_ros.runtime.model_file import load_model_file
from ov_seg_ros.runtime.providers import ProviderSession, create_session
from ov_seg_ros.runtime.stage_timer import StageTimer
from ov_seg_ros.runtime.warm_up import street_cloud, street_image

STAGES = ("preprocess", "inference", "postprocess", "total")
"""Keys that every ``SegmentedCloud.stage_ms`` has; the parts of ``preprocess`` follow."""
PREPROCESS_PARTS = ("voxels", "color", "features", "pyramid")
"""Keys for the parts of ``preprocess``: a part that was not needed is absent."""

FEATURES, LOGITS = "features", "logits"
"""Names in the graph: (V, F) float32 in, (V, C) float32 out; the other inputs are the pyramid's index arrays."""


class Segmenter:
    """Runs one student. Not for several threads at once: each worker loads its own.

    Attributes:
        description: what the student knows about itself.
        sha256: hash of its file.
        provider: ONNX Runtime's name of the execution provider, verified.
        provider_note: one sentence about the choice of the provider, for a log.
    """

    def __init__(self, session: ProviderSession, description: StudentDescription, sha256: str) -> None:
        self.description = description
        self.sha256 = sha256
        self.provider = session.provider
        self.provider_note = session.note
        self._session = session.session
        self._index_inputs = _check_graph(session, description)

    @classmethod
    def load(cls, path: str | Path, provider: str = "auto", num_threads: int = 0) -> Segmenter:
        """Loads a student file.

        Args:
            path: an .onnx file exported by this project, see ``model_file.shipped_model_path``.
            provider: "auto", "cpu", "cuda", "tensorrt" or ONNX Runtime's own name; anything but "auto" runs or raises.
            num_threads: CPU threads of the network, 0 = one per physical core.

        Raises:
            ModelError: the file is missing, damaged, no student, or of another version; or the provider does not start.
            ConfigError: the provider is unknown or not installed.
        """
        model = load_model_file(path)
        session = create_session(model.content, provider, num_threads, where=str(path))
        return cls(session, model.description, model.sha256)

    @property
    def uses_color(self) -> bool:
        """Whether images help; without them the student goes by geometry alone."""
        return self.description.uses_color

    def warm_up(self) -> float:
        """Compiles and allocates on a made-up scan, so that the first real one is not slow; returns milliseconds."""
        return self.segment(street_cloud(), (street_image(),)).stage_ms["total"]

    def segment(self, cloud: PointCloud, images: Sequence[CameraImage] = ()) -> SegmentedCloud:
        """Labels a scan.

        Args:
            cloud: any number of points, none included, in the frame the student was trained in (the LiDAR's).
            images: cameras paired with the scan; looked at only if ``uses_color``.

        Returns:
            One answer per point, in the order of the scan; 255 where a point is invalid or outside the grid.

        Raises:
            ModelError: the network fails, or answers NaN.
        """
        timer = StageTimer()
        with timer.stage("total"):
            with timer.stage("preprocess"):
                voxels, inputs = self._prepare(cloud, images, timer)
            with timer.stage("inference"):
                logits = self._infer(inputs)
            with timer.stage("postprocess"):
                per_voxel = classify_logits(logits)
                class_id, probability, entropy = spread_to_points(per_voxel, voxels.point_to_voxel)
        broken = int(np.isnan(per_voxel[1]).sum())
        if broken:
            raise ModelError(f"model {self.description.name!r} answered NaN for {broken} of {len(voxels)} voxels")
        return SegmentedCloud(class_id, probability, entropy, timer.stage_ms)

    def _prepare(
        self, cloud: PointCloud, images: Sequence[CameraImage], timer: StageTimer
    ) -> tuple[Voxels, dict[str, NDArray]]:
        """Voxels of the scan and the arrays the graph takes; none when no point is inside the grid."""
        with timer.stage("voxels"):
            voxels = self.description.grid.voxelize(cloud.points)
        if len(voxels) == 0:
            return voxels, {}
        color = None
        if self.uses_color and images:
            with timer.stage("color"):
                color = sample_colors(cloud.points, images)
        with timer.stage("features"):
            names = self.description.point_features
            features = voxel_features(cloud, voxels, self.description.grid, names, color)
        with timer.stage("pyramid"):
            index_arrays = build_pyramid(voxels.coords, self.description.num_levels).graph_inputs()
        return voxels, {FEATURES: features} | {name: index_arrays[name] for name in self._index_inputs}

    def _infer(self, inputs: dict[str, NDArray]) -> NDArray[np.float32]:
        """Logits (V, C)."""
        if not inputs:
            return np.zeros((0, len(self.description.label_space)), np.float32)
        try:
            (logits,) = self._session.run([LOGITS], inputs)
        except Exception as error:  # onnxruntime's exceptions have no common base class of their own
            raise ModelError(
                f"model {self.description.name!r} failed on {self.provider}"
                f" with {len(inputs[FEATURES])} voxels: {error}"
            ) from error
        return logits


def _check_graph(session: ProviderSession, description: StudentDescription) -> tuple[str, ...]:
    """Names of the index arrays the graph takes, after checking that inputs and output fit the description."""
    columns_in = {node.name: node.shape[-1] for node in session.session.get_inputs()}
    columns_out = {node.name: node.shape[-1] for node in session.session.get_outputs()}
    name = description.name
    _check_columns(name, FEATURES, columns_in, len(description.point_features), "point features")
    _check_columns(name, LOGITS, columns_out, len(description.label_space), "classes")
    known = build_pyramid(np.zeros((1, 3), np.int32), description.num_levels).graph_inputs()
    unknown = sorted(set(columns_in) - {FEATURES, *known})
    if unknown:
        raise ModelError(
            f"model {name!r} asks for inputs that this version does not make"
            f" ({', '.join(unknown)}): export the student again"
        )
    return tuple(tensor for tensor in columns_in if tensor != FEATURES)


def _check_columns(model: str, tensor: str, columns: dict[str, int | str], expected: int, what: str) -> None:
    if tensor not in columns:
        raise ModelError(f"model {model!r} has no {tensor!r} in its graph: export the student again")
    found = columns[tensor]
    if isinstance(found, int) and found != expected:  # a dynamic axis has a name instead of a size
        raise ModelError(
            f"model {model!r} describes {expected} {what}, but {tensor!r} has {found} columns: export the student again"
        )

"""The student at work: a scan (and images, if the student wants colours) in, a labelled scan out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.class_distribution import classify_logits, spread_to_points
from ov_seg_ros.core.data_types import CameraImage, PointCloud, SegmentedCloud
from ov_seg_ros.core.errors import MissingDependencyError, ModelError
from ov_seg_ros.core.point_color import sample_colors
from ov_seg_ros.core.point_features import voxel_features
from ov_seg_ros.core.pyramid import Pyramid, build_pyramid
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.core.voxels import Voxels
from ov_seg_ros.runtime.model_file import ModelFile, load_model_file
from ov_seg_ros.runtime.network import TRITON, Network, load_network
from ov_seg_ros.runtime.stage_timer import StageTimer
from ov_seg_ros.runtime.warm_up import street_cloud, street_image

STAGES = ("preprocess", "inference", "postprocess", "total")
"""Keys that every ``SegmentedCloud.stage_ms`` has; the parts of ``preprocess`` follow."""
PREPROCESS_PARTS = ("voxels", "color", "features", "pyramid")
"""Keys for the parts of ``preprocess``: a part that was not needed is absent."""


PointLabels = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]
"""Class, probability and entropy of every point, (N,) each."""


class Segmenter:
    """Runs one student. Not for several threads at once: each worker loads its own.

    Attributes:
        description: what the student knows about itself.
        sha256: hash of its file.
        provider: who computes the network, verified: "CompiledCPU" or "TritonCUDA" (our kernels), or a name of ONNX
            Runtime's.
        provider_note: one sentence about the choice of the provider, for a log.
    """

    def __init__(self, network: Network, description: StudentDescription, sha256: str) -> None:
        self.description = description
        self.sha256 = sha256
        self.provider = network.provider
        self.provider_note = network.note
        self._network = network

    @classmethod
    def load(cls, path: str | Path, provider: str = "auto", num_threads: int = 0) -> Segmenter:
        """Loads a student file.

        Args:
            path: an .onnx file exported by this project, see ``model_file.shipped_model_path``.
            provider: "auto", "cpu", "compiled", "cuda", "tensorrt" or ONNX Runtime's own name, see ``load_network``;
                "triton" = the whole scan on an NVIDIA GPU, by our kernels.
            num_threads: CPU threads of the network, 0 = one per physical core.

        Raises:
            ModelError: the file is missing, damaged, no student, or of another version; or the provider does not start.
            MissingDependencyError: torch or triton is not installed, and the provider is "triton".
            ConfigError: the provider is unknown or not installed.
        """
        model = load_model_file(path)
        if provider.lower() in ("triton", TRITON.lower()):
            return _on_gpu(model)
        return cls(load_network(model, provider, num_threads), model.description, model.sha256)

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
            labels = self._label(cloud, images, timer)
        return SegmentedCloud(*labels, timer.stage_ms)

    def _label(self, cloud: PointCloud, images: Sequence[CameraImage], timer: StageTimer) -> PointLabels:
        """What ``segment`` answers, with the time of the stages before "total"."""
        with timer.stage("preprocess"):
            voxels, features, pyramid = self._prepare(cloud, images, timer)
        with timer.stage("inference"):
            logits = self._infer(features, pyramid)
        with timer.stage("postprocess"):
            per_voxel = classify_logits(logits)
            labels = spread_to_points(per_voxel, voxels.point_to_voxel)
        self._refuse_broken(int(np.isnan(per_voxel[1]).sum()), len(voxels))
        return labels

    def _refuse_broken(self, broken: int, num_voxels: int) -> None:
        if broken:
            raise ModelError(f"model {self.description.name!r} answered NaN for {broken} of {num_voxels} voxels")

    def _prepare(
        self, cloud: PointCloud, images: Sequence[CameraImage], timer: StageTimer
    ) -> tuple[Voxels, NDArray[np.float32], Pyramid | None]:
        """Voxels of the scan and what the network takes; no pyramid when no point is inside the grid."""
        names = self.description.point_features
        with timer.stage("voxels"):
            voxels = self.description.grid.voxelize(cloud.points)
        if len(voxels) == 0:
            return voxels, np.zeros((0, len(names)), np.float32), None
        color = None
        if self.uses_color and images:
            with timer.stage("color"):
                color = sample_colors(cloud.points, images)
        with timer.stage("features"):
            features = voxel_features(cloud, voxels, self.description.grid, names, color)
        with timer.stage("pyramid"):
            pyramid = build_pyramid(voxels.coords, self.description.num_levels)
        return voxels, features, pyramid

    def _infer(self, features: NDArray[np.float32], pyramid: Pyramid | None) -> NDArray[np.float32]:
        """Logits (V, C)."""
        if pyramid is None:
            return np.zeros((0, len(self.description.label_space)), np.float32)
        try:
            return self._network.run(features, pyramid)
        except Exception as error:  # neither onnxruntime's exceptions nor Numba's have a common base class
            raise ModelError(
                f"model {self.description.name!r} failed on {self.provider} with {len(features)} voxels: {error}"
            ) from error


def _on_gpu(model: ModelFile) -> Segmenter:
    try:
        from ov_seg_ros.runtime.triton_segmenter import TritonSegmenter

        return TritonSegmenter(model)
    except ImportError as error:
        raise MissingDependencyError(
            error.name or "torch", "pip install 'ov_seg_ros[triton]' on Linux with an NVIDIA GPU", "provider triton"
        ) from error

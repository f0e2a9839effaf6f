"""The nouns of the project: frozen dataclasses that travel between stages.

Conventions, everywhere: lengths in metres, angles in radians, stamps in integer
nanoseconds; LiDAR axes x forward, y left, z up; camera axes x right, y down,
z forward; pixel (0, 0) is the centre of the top left pixel, ``pixels`` are
(u, v) = (column, row), images are indexed ``[v, u]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.errors import InputError

IGNORE_ID = 255
"""``class_id`` of a point without a label: outside the range, invalid, or void."""


@dataclass(frozen=True)
class PointCloud:
    """One scan (LiDAR revolution) in its sensor frame, in the order it came.

    Attributes:
        points: (N, 3) float32, metres; invalid returns may be NaN or infinite (REP-117).
        intensity: (N,) float32 in whatever scale the sensor uses, zeros if it has none.
        stamp_ns: stamp of the scan, nanoseconds.
        frame_id: tf frame of ``points``.
    """

    points: NDArray[np.float32]
    intensity: NDArray[np.float32]
    stamp_ns: int = 0
    frame_id: str = ""

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != 3:
            raise InputError(f"points must have shape (N, 3), got {self.points.shape}")
        if self.intensity.shape != (len(self.points),):
            raise InputError(f"intensity must have shape ({len(self.points)},), got {self.intensity.shape}")

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class CameraImage:
    """One image with the model of the camera that took it.

    Attributes:
        name: short name of the camera ("front_left"), unique within a rig.
        image: (H, W, 3) uint8, RGB.
        camera: intrinsics and distortion; ``camera.width, camera.height`` are (W, H).
        camera_from_lidar: (4, 4) float64, p_camera = camera_from_lidar @ p_lidar, valid
            for this image and the scan it is paired with (ego motion between the two included).
        stamp_ns: stamp of the exposure, nanoseconds.
    """

    name: str
    image: NDArray[np.uint8]
    camera: CameraModel
    camera_from_lidar: NDArray[np.float64]
    stamp_ns: int = 0

    def __post_init__(self) -> None:
        expected = (self.camera.height, self.camera.width, 3)
        if self.image.shape != expected:
            raise InputError(
                f"image of camera {self.name!r} has shape {self.image.shape}, its calibration says {expected}"
            )
        if self.camera_from_lidar.shape != (4, 4):
            raise InputError(f"camera_from_lidar must be (4, 4), got {self.camera_from_lidar.shape}")


@dataclass(frozen=True)
class Sample:
    """One scan and its images, calibrated and matched in time.

    Attributes:
        key: unique within its source, usable as a file name ("drive_00/000012").
        cloud: the scan.
        images: any number of cameras, none included.
        class_id: (N,) uint8 ground truth for evaluation only (255 = none), or None. No label-free stage reads it.
        world_from_lidar: (4, 4) float64 ego pose at the scan's stamp, or None.
    """

    key: str
    cloud: PointCloud
    images: tuple[CameraImage, ...] = ()
    class_id: NDArray[np.uint8] | None = None
    world_from_lidar: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Projection:
    """The points of a scan that one camera sees.

    Attributes:
        point_index: (M,) int64 into the scan, ascending.
        pixels: (M, 2) float32 (u, v), inside the image.
        depth: (M,) float32, metres along the optical axis.
    """

    point_index: NDArray[np.int64]
    pixels: NDArray[np.float32]
    depth: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.point_index)


@dataclass(frozen=True)
class TeacherSegments:
    """What a 2D teacher says about one image.

    Attributes:
        segment_id: (H, W) uint16, 0 = void, 1..R = segment.
        class_id: (R,) uint8, class of each segment in the label space, 255 = void.
        confidence: (R,) float32 in [0, 1].
        text_id: (R,) int32 index into the teacher's texts, -1 = none.
        features: (R, D) float32 unit vectors in the teacher's text space, or None.
    """

    segment_id: NDArray[np.uint16]
    class_id: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    text_id: NDArray[np.int32]
    features: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class PseudoLabels:
    """Labels of a scan that no human gave.

    Attributes:
        class_id: (N,) uint8, 255 = no label.
        confidence: (N,) float32 in [0, 1], 0 where there is no label.
        superpoint_id: (N,) int32, points of one teacher segment share an id, -1 = none.
    """

    class_id: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    superpoint_id: NDArray[np.int32]


@dataclass(frozen=True)
class SegmentPairs:
    """Which points of a scan lie in which teacher segments: superpoints beside their superpixels.

    P pairs of a point and the segment at its pixel; a point that two cameras see has two. S segments of all cameras,
    numbered by camera and then by segment, without those that no point lies in.

    Attributes:
        point: (P,) int32 index into the scan.
        camera: (P,) uint8 index into the images of the sample.
        pixel: (P, 2) float32 pixels (u, v).
        segment: (P,) int32 in [0, S).
        text_id: (S,) int32 index into the teacher's texts.
        features: (S, D) float32 or float16 unit vectors in the teacher's text space.
        image_size: (C, 2) int32 width and height of the images of the sample.
    """

    point: NDArray[np.int32]
    camera: NDArray[np.uint8]
    pixel: NDArray[np.float32]
    segment: NDArray[np.int32]
    text_id: NDArray[np.int32]
    features: NDArray[np.floating]
    image_size: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.point)


@dataclass(frozen=True)
class SegmentedCloud:
    """One labelled scan, point for point in the order of the input.

    Attributes:
        class_id: (N,) uint8, 255 = unknown (invalid point, or outside the model's range).
        probability: (N,) float32 in [0, 1] of that class, 0 where unknown.
        entropy: (N,) float32 in nats of the class distribution, 0 where unknown.
        stage_ms: wall time per stage, milliseconds.
    """

    class_id: NDArray[np.uint8]
    probability: NDArray[np.float32]
    entropy: NDArray[np.float32]
    stage_ms: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.class_id)

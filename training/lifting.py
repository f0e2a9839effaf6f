"""Lifting: what 2D teachers say about the images of a sample, carried over to the points of its scan."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID, CameraImage, Projection, PseudoLabels, Sample, TeacherSegments
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.projection import DEFAULT_OCCLUSION, VisibilityTest, project_cloud


def lift_segments(
    sample: Sample,
    segments: Mapping[str, TeacherSegments],
    occlusion: VisibilityTest | None = DEFAULT_OCCLUSION,
) -> PseudoLabels:
    """Gives every point the class of the teacher segment at its nearest pixel.

    Where cameras overlap, the more confident segment wins; at equal confidence the camera that comes first in
    ``sample.images``. Void segments and segments of class 255 give no label, no superpoint and never win.

    Args:
        sample: the scan and its images; ``class_id``, the ground truth, is not read.
        segments: by camera name; cameras without segments are left out, as when a teacher skipped an image.
        occlusion: passed on to ``project_cloud``.

    Returns:
        Labels of all N points; superpoints are numbered from 0 without gaps, by camera and then by segment.

    Raises:
        InputError: ``segments`` names a camera the sample lacks, or does not fit its image.
    """
    _check_names(sample, segments)
    count = len(sample.cloud)
    class_id = np.full(count, IGNORE_ID, np.uint8)
    confidence = np.zeros(count, np.float32)
    superpoint = np.full(count, -1, np.int64)
    offset = 0
    for image in sample.images:
        if image.name not in segments:
            continue
        found = segments[image.name]
        _check_segments(image, found)
        projection = project_cloud(sample.cloud.points, image.camera_from_lidar, image.camera, occlusion)
        segment = _segment_at(projection, found)
        labelled = segment >= 0
        labelled[labelled] = found.class_id[segment[labelled]] != IGNORE_ID
        point, segment = projection.point_index[labelled], segment[labelled]
        wins = (superpoint[point] < 0) | (found.confidence[segment] > confidence[point])
        point, segment = point[wins], segment[wins]
        class_id[point] = found.class_id[segment]
        confidence[point] = found.confidence[segment]
        superpoint[point] = offset + segment
        offset += len(found.class_id)
    return PseudoLabels(class_id, confidence, _number_without_gaps(superpoint))


def seen_by_camera(sample: Sample, occlusion: VisibilityTest | None = None) -> NDArray[np.bool_]:
    """(N,) bool: the point lies in at least one image (and is not hidden from it, with an ``occlusion`` test)."""
    seen = np.zeros(len(sample.cloud), np.bool_)
    for image in sample.images:
        projection = project_cloud(sample.cloud.points, image.camera_from_lidar, image.camera, occlusion)
        seen[projection.point_index] = True
    return seen


def _segment_at(projection: Projection, segments: TeacherSegments) -> NDArray[np.int64]:
    """(M,) index into the segments at the nearest pixel, -1 = void."""
    column, row = np.rint(projection.pixels).astype(np.int64).T
    height, width = segments.segment_id.shape
    inside = segments.segment_id[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
    return inside.astype(np.int64) - 1


def _number_without_gaps(superpoint: NDArray[np.int64]) -> NDArray[np.int32]:
    present, number = np.unique(superpoint, return_inverse=True)
    return (number.reshape(superpoint.shape) - (len(present) > 0 and present[0] < 0)).astype(np.int32)


def _check_names(sample: Sample, segments: Mapping[str, TeacherSegments]) -> None:
    names = [image.name for image in sample.images]
    unknown = sorted(set(segments) - set(names))
    if unknown:
        raise InputError(
            f"sample {sample.key}: segments for {', '.join(unknown)}, but its cameras are {', '.join(names) or 'none'}"
        )


def _check_segments(image: CameraImage, segments: TeacherSegments) -> None:
    expected = (image.camera.height, image.camera.width)
    if segments.segment_id.shape != expected:
        raise InputError(
            f"segments of camera {image.name!r} have shape {segments.segment_id.shape}, its image {expected}"
        )
    highest = int(segments.segment_id.max(initial=0))
    if highest > len(segments.class_id) or len(segments.confidence) != len(segments.class_id):
        raise InputError(
            f"segments of camera {image.name!r}: the id map goes up to {highest}, but there are "
            f"{len(segments.class_id)} classes and {len(segments.confidence)} confidences"
        )

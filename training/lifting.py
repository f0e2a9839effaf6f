"""Lifting: what 2D teachers say about the images of a sample, carried over to the points of its scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import (
    IGNORE_ID,
    CameraImage,
    Projection,
    PseudoLabels,
    Sample,
    SegmentPairs,
    TeacherSegments,
)
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.projection import DEFAULT_OCCLUSION, MIN_DEPTH, VisibilityTest, project_cloud


def lift_segments(
    sample: Sample,
    segments: Mapping[str, TeacherSegments],
    occlusion: VisibilityTest | None = DEFAULT_OCCLUSION,
    min_depth: float = MIN_DEPTH,
) -> PseudoLabels:
    """Gives every point the class of the teacher segment at its nearest pixel.

    Where cameras overlap, the more confident segment wins; at equal confidence the camera that comes first in
    ``sample.images``. Void segments and segments of class 255 give no label, no superpoint and never win.

    Args:
        sample: the scan and its images; ``class_id``, the ground truth, is not read.
        segments: by camera name; cameras without segments are left out, as when a teacher skipped an image.
        occlusion: passed on to ``project_cloud``.
        min_depth: passed on to ``project_cloud``, metres.

    Returns:
        Labels of all N points; superpoints are numbered from 0 without gaps, by camera and then by segment.

    Raises:
        InputError: ``segments`` names a camera the sample lacks, or does not fit its image.
    """
    return _labels(sample, _views(sample, segments, occlusion, min_depth))


def pair_points(
    sample: Sample,
    segments: Mapping[str, TeacherSegments],
    occlusion: VisibilityTest | None = DEFAULT_OCCLUSION,
    min_depth: float = MIN_DEPTH,
) -> SegmentPairs:
    """Pairs every point with the teacher segments at its nearest pixels: one pair per camera that sees it.

    This is what TMP learns from. It compares segments, not classes, so segments of sink texts (class 255) count like
    all others; segments without a text or with a feature of zeros are left out.

    Args:
        sample: the scan and its images; ``class_id``, the ground truth, is not read.
        segments: by camera name, with features; cameras without segments are left out.
        occlusion: passed on to ``project_cloud``.
        min_depth: passed on to ``project_cloud``, metres.

    Returns:
        Pairs by camera and then by point.

    Raises:
        InputError: ``segments`` has no features, names a camera the sample lacks, or does not fit its image.
    """
    return _pairs(sample, _views(sample, segments, occlusion, min_depth))


def lift_both(
    sample: Sample,
    segments: Mapping[str, TeacherSegments],
    occlusion: VisibilityTest | None = DEFAULT_OCCLUSION,
    min_depth: float = MIN_DEPTH,
) -> tuple[PseudoLabels, SegmentPairs]:
    """What ``lift_segments`` and ``pair_points`` return, for the price of one projection."""
    views = _views(sample, segments, occlusion, min_depth)
    return _labels(sample, views), _pairs(sample, views)


def seen_by_camera(sample: Sample, occlusion: VisibilityTest | None = None) -> NDArray[np.bool_]:
    """(N,) bool: the point lies in at least one image (and is not hidden from it, with an ``occlusion`` test)."""
    seen = np.zeros(len(sample.cloud), np.bool_)
    for image in sample.images:
        projection = project_cloud(sample.cloud.points, image.camera_from_lidar, image.camera, occlusion)
        seen[projection.point_index] = True
    return seen


@dataclass(frozen=True)
class _View:
    """What one camera sees: M points, and the segments they lie in.

    Attributes:
        camera: index into the images of the sample.
        name: of the camera.
        segments: of its image, R of them.
        projection: of the M points.
        segment: (M,) int64 index into the segments, -1 = void.
    """

    camera: int
    name: str
    segments: TeacherSegments
    projection: Projection
    segment: NDArray[np.int64]


def _views(
    sample: Sample, segments: Mapping[str, TeacherSegments], occlusion: VisibilityTest | None, min_depth: float
) -> list[_View]:
    """The cameras that have segments, in the order of the images."""
    _check_names(sample, segments)
    views = []
    for number, image in enumerate(sample.images):
        if image.name not in segments:
            continue
        found = segments[image.name]
        _check_segments(image, found)
        projection = project_cloud(sample.cloud.points, image.camera_from_lidar, image.camera, occlusion, min_depth)
        views.append(_View(number, image.name, found, projection, _segment_at(projection, found)))
    return views


def _labels(sample: Sample, views: list[_View]) -> PseudoLabels:
    count = len(sample.cloud)
    class_id = np.full(count, IGNORE_ID, np.uint8)
    confidence = np.zeros(count, np.float32)
    superpoint = np.full(count, -1, np.int64)
    offset = 0
    for view in views:
        found, segment = view.segments, view.segment
        labelled = segment >= 0
        labelled[labelled] = found.class_id[segment[labelled]] != IGNORE_ID
        point, segment = view.projection.point_index[labelled], segment[labelled]
        wins = (superpoint[point] < 0) | (found.confidence[segment] > confidence[point])
        point, segment = point[wins], segment[wins]
        class_id[point] = found.class_id[segment]
        confidence[point] = found.confidence[segment]
        superpoint[point] = offset + segment
        offset += len(found.class_id)
    return PseudoLabels(class_id, confidence, _number_without_gaps(superpoint))


def _pairs(sample: Sample, views: list[_View]) -> SegmentPairs:
    image_size = np.array([(i.camera.width, i.camera.height) for i in sample.images], np.int32).reshape(-1, 2)
    parts = [_pairs_of_view(sample.key, view, image_size) for view in views if len(view.segments.class_id)]
    if not parts:
        return _no_pairs(image_size)
    before = np.cumsum([0, *(len(part.text_id) for part in parts)])
    numbered = [replace(part, segment=part.segment + np.int32(n)) for part, n in zip(parts, before, strict=False)]
    names = ("point", "camera", "pixel", "segment", "text_id", "features")
    joined = {name: np.concatenate([getattr(part, name) for part in numbered]) for name in names}
    return SegmentPairs(**joined, image_size=image_size)


def _no_pairs(image_size: NDArray[np.int32]) -> SegmentPairs:
    """Of a sample in whose images the teacher found nothing, not even the width of its features."""
    none = np.zeros(0, np.int32)
    pixel, features = np.zeros((0, 2), np.float32), np.zeros((0, 0), np.float32)
    return SegmentPairs(none, none.astype(np.uint8), pixel, none, none, features, image_size)


def _pairs_of_view(key: str, view: _View, image_size: NDArray[np.int32]) -> SegmentPairs:
    """Pairs of one camera, its segments numbered from 0 without gaps."""
    usable, features = _usable_segments(key, view)
    paired = view.segment >= 0
    paired[paired] = usable[view.segment[paired]]
    present, number = np.unique(view.segment[paired], return_inverse=True)
    return SegmentPairs(
        point=view.projection.point_index[paired].astype(np.int32),
        camera=np.full(len(number), view.camera, np.uint8),
        pixel=view.projection.pixels[paired],
        segment=number.astype(np.int32),
        text_id=view.segments.text_id[present],
        features=features[present],
        image_size=image_size,
    )


def _usable_segments(key: str, view: _View) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    """(R,) bool, TMP can learn from the segment; (R, D) the features."""
    text_id, features = view.segments.text_id, view.segments.features
    if features is None:
        raise InputError(
            f"sample {key}: the segments of camera {view.name!r} have no features, and TMP needs a teacher that has "
            "them: clipseg and sam3 do not; give them CLIP's (training.teachers.clip_features.ClipFeatures), choose "
            "another teacher, or train without TMP"
        )
    if not len(features) == len(text_id) == len(view.segments.class_id) or not np.isfinite(features).all():
        raise InputError(
            f"sample {key}: the {len(view.segments.class_id)} segments of camera {view.name!r} need a text and a "
            f"finite feature each, got {len(text_id)} texts and features {features.shape} with "
            f"{np.count_nonzero(~np.isfinite(features))} values that are NaN or infinite; label this image again"
        )
    return (text_id >= 0) & features.any(axis=1), features


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

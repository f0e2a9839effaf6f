"""A look at a few samples of a source before hours are spent on all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID, CameraImage, Sample
from ov_seg_ros.core.errors import InputError, OvSegError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.projection import project_cloud
from ov_seg_ros.core.transforms import check_transform, invert_transform
from training.sources.protocol import Source

ERROR, WARNING = "error", "warning"

MIN_POINTS_IN_IMAGE = 50
"""Fewer are no use to lifting; a 32-beam LiDAR puts some 3,000 into each image of nuScenes."""

MAX_DELAY_NS = 500_000_000
"""Between a scan and its image; anything longer and what moves is elsewhere."""

MAX_RANGE = 10_000.0
"""Metres; no LiDAR on a vehicle measures that far, a float32 read from the wrong byte often does."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or looks it.

    Attributes:
        severity: "error" (nothing good can come of it) or "warning".
        where: the sample, camera or source it was found in.
        message: what was found, what was expected and what to do.
    """

    severity: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.message}"


def check_source(source: Source, samples: int = 3, needs_images: bool = False) -> list[Finding]:
    """Loads a few samples and looks for what makes a run worthless: damage, calibration, labels, stamps.

    Damage of one of three samples is a warning, because a run bears some corrupt ones; of half of them, an error.

    Args:
        source: any.
        samples: how many are loaded, spread evenly from the first to the last.
        needs_images: samples without images are an error.

    Returns:
        What was found, errors first; empty if all is well.
    """
    if not len(source):
        return [Finding(ERROR, source.name, "it holds no samples; check the path, the split and the skip")]
    indices = sorted({round(i) for i in np.linspace(0, len(source) - 1, max(1, samples))})
    loaded, unreadable = _load(source, indices)
    damage = [*unreadable, *(finding for sample in loaded for finding in _check_cloud(sample))]
    if 2 * sum(finding.severity == ERROR for finding in damage) < len(indices):
        damage = [replace(finding, severity=WARNING) for finding in damage]
    findings = damage
    for sample in loaded:
        findings += _check_truth(sample, source.label_space)
        findings += _check_key_and_pose(sample, source.name)
    findings += _check_all(loaded, source)
    findings += _check_cameras(loaded)
    if needs_images and loaded and not any(sample.images for sample in loaded):
        message = "no sample looked at has an image; a 2D teacher needs some, check the cameras of the source"
        findings.append(Finding(ERROR, source.name, message))
    return sorted(findings, key=lambda finding: finding.severity != ERROR)


def _load(source: Source, indices: Sequence[int]) -> tuple[list[Sample], list[Finding]]:
    loaded: list[Sample] = []
    findings: list[Finding] = []
    for index in indices:
        try:
            loaded.append(source.load_sample(index))
        except (OvSegError, OSError) as error:
            findings.append(Finding(ERROR, f"{source.name}, sample {index}", str(error)))
    return loaded, findings


def _check_cloud(sample: Sample) -> Iterator[Finding]:
    points = sample.cloud.points
    finite = points[np.isfinite(points).all(axis=1)]
    if not len(finite):
        yield Finding(ERROR, sample.key, f"none of its {len(points)} points is finite; the scan is empty or damaged")
        return
    distance = np.linalg.norm(finite.astype(np.float64), axis=1)
    if distance.max() > MAX_RANGE:
        yield Finding(
            ERROR, sample.key, f"a point lies {distance.max():.3g} m away; the file is damaged or has other columns"
        )
    elif np.median(distance) < 0.1:
        yield Finding(ERROR, sample.key, "half of its points lie at the sensor; check unit (metres) and columns")
    if len(finite) < len(points) / 2:
        yield Finding(WARNING, sample.key, f"only {len(finite)} of its {len(points)} points are finite")


def _check_truth(sample: Sample, space: LabelSpace | None) -> Iterator[Finding]:
    if sample.class_id is None:
        return
    if sample.class_id.shape != (len(sample.cloud),):
        shape = sample.class_id.shape
        yield Finding(ERROR, sample.key, f"{len(sample.cloud)} points but labels of shape {shape}; reload the labels")
    if space is None:
        yield Finding(ERROR, sample.key, "it has labels, but its source says no label space they are of")
        return
    labelled = sample.class_id[sample.class_id != IGNORE_ID]
    if not len(labelled):
        yield Finding(WARNING, sample.key, f"no point has a class of {space.name}; is the mapping the right one?")
    elif labelled.max() >= len(space):
        expected = f"{space.name} ends at {len(space) - 1}"
        yield Finding(ERROR, sample.key, f"label {labelled.max()} is out of range, {expected}; check the mapping")


def _check_key_and_pose(sample: Sample, name: str) -> Iterator[Finding]:
    if not sample.key.startswith(f"{name}/"):
        yield Finding(ERROR, sample.key, f"its key must begin with the name of the source, {name}/")
    if sample.world_from_lidar is not None:
        try:
            check_transform(sample.world_from_lidar, "world_from_lidar")
        except InputError as error:
            yield Finding(ERROR, sample.key, str(error))


def _check_all(samples: list[Sample], source: Source) -> Iterator[Finding]:
    keys = [sample.key for sample in samples]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        yield Finding(
            ERROR, source.name, f"several samples have the key {twice[0]}; results would overwrite each other"
        )
    if samples and source.label_space is not None and all(sample.class_id is None for sample in samples):
        space = source.label_space.name
        yield Finding(WARNING, source.name, f"its label space is {space}, but no sample looked at has labels")
    counts = [len(sample.cloud) for sample in samples]
    for sample in samples:
        if 4 * len(sample.cloud) < np.median(counts):
            message = f"{len(sample.cloud)} points, others have {np.median(counts):.0f}; was its file cut off?"
            yield Finding(WARNING, sample.key, message)


def _check_cameras(samples: list[Sample]) -> Iterator[Finding]:
    """A camera is judged by all samples together: one wall in front of it is no error."""
    cameras: dict[str, list[tuple[Sample, CameraImage]]] = {}
    for sample in samples:
        for image in sample.images:
            cameras.setdefault(image.name, []).append((sample, image))
    for name, pairs in cameras.items():
        where = f"{pairs[0][0].key}, camera {name}"
        try:
            for _, image in pairs:
                check_transform(image.camera_from_lidar, "camera_from_lidar")
        except InputError as error:
            yield Finding(ERROR, where, str(error))
            continue
        yield from _check_projection(pairs, where)
        delays = [abs(i.stamp_ns - s.cloud.stamp_ns) for s, i in pairs if i.stamp_ns and s.cloud.stamp_ns]
        if delays and max(delays) > MAX_DELAY_NS:
            delay = f"{max(delays) / 1e9:.3g} s between scan and image"
            yield Finding(WARNING, where, f"{delay}; good only if nothing moved in between")
        if all(np.ptp(image.image) == 0 for _, image in pairs):
            yield Finding(WARNING, where, "every pixel has the same colour; was the camera covered?")


def _check_projection(pairs: list[tuple[Sample, CameraImage]], where: str) -> Iterator[Finding]:
    seen = [_count_in_image(sample, image, image.camera_from_lidar) for sample, image in pairs]
    sample, image = pairs[0]
    if not any(seen):
        remedy = "check the extrinsics (camera axes are x right, y down, z forward; camera_from_lidar, not its inverse)"
        if inverse := _count_in_image(sample, image, invert_transform(image.camera_from_lidar)):
            remedy = f"its inverse would show {inverse} of them: camera_from_lidar and lidar_from_camera are swapped"
        yield Finding(ERROR, where, f"none of {len(sample.cloud)} points falls into the image; {remedy}")
    elif max(seen) < MIN_POINTS_IN_IMAGE:
        message = f"at most {max(seen)} of {len(sample.cloud)} points fall into the image; check the calibration"
        yield Finding(WARNING, where, message)


def _count_in_image(sample: Sample, image: CameraImage, camera_from_lidar: NDArray[np.float64]) -> int:
    return len(project_cloud(sample.cloud.points, camera_from_lidar, image.camera, occlusion=None))

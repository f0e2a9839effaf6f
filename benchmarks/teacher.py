"""Measures how good the labels are that a simulated teacher gives to the points of synthetic drives.

    python benchmarks/teacher.py [--severity 0 0.5 1 1.5] [--seeds 1 2 3 4] [--json teacher.json]

Scores are intersections over union on the points that lie in at least one image; points without a label count as
missed. ``labelled`` is the same without those points. The cameras carry a simulated calibration and stamp error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ov_seg_ros.core.data_types import IGNORE_ID, Sample
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.metrics import ConfusionMatrix
from ov_seg_ros.core.projection import DEFAULT_OCCLUSION
from training.lifting import lift_segments, seen_by_camera
from training.sources.protocol import ImageTruth
from training.sources.synthetic import LABEL_SPACE_FILE, DriveConfig, SyntheticDrive
from training.teachers.simulated import SimulatedTeacher, TeacherErrorConfig, perturb_extrinsics

Scan = tuple[int, Sample, dict[str, ImageTruth], NDArray[np.float64]]
"""Seed of the drive, sample with true extrinsics, truth by camera, velocity of the LiDAR in its axes."""


def load_scans(seeds: Sequence[int], scans: int, lidar: str) -> list[Scan]:
    """Some scans of each drive, six seconds apart."""
    loaded = []
    for seed in seeds:
        drive = SyntheticDrive(DriveConfig(seed=seed, lidar=lidar, num_scans=scans, scan_stride=60))
        for index in range(scans):
            rendered = {name: drive.load_image(index, name) for name in drive.config.cameras}
            sample = drive.load_sample(index)
            stamp = drive.stamp_ns(index)
            moved = drive.ego_pose(stamp + 10_000_000)[:3, 3] - drive.ego_pose(stamp)[:3, 3]
            velocity = drive.ego_pose(stamp)[:3, :3].T @ moved / 0.01
            loaded.append((seed, sample, {name: truth for name, (_, truth) in rendered.items()}, velocity))
    return loaded


def measure(scans: Sequence[Scan], config: TeacherErrorConfig, occlude: bool = True) -> dict[str, object]:
    """Scores of the lifted labels, in percent."""
    label_space = LabelSpace.load(LABEL_SPACE_FILE)
    teacher = SimulatedTeacher(config, label_space)
    scored, labelled = ConfusionMatrix(len(label_space)), ConfusionMatrix(len(label_space))
    for seed, sample, truths, velocity in scans:
        images = tuple(
            replace(i, camera_from_lidar=perturb_extrinsics(i.camera_from_lidar, config, seed, i.name, velocity))
            for i in sample.images
        )
        segments = {image.name: teacher.segment(image, truths[image.name], seed) for image in images}
        lifted = lift_segments(replace(sample, images=images), segments, DEFAULT_OCCLUSION if occlude else None)
        seen = seen_by_camera(sample)
        scored.update(sample.class_id[seen], lifted.class_id[seen])
        seen &= lifted.class_id != IGNORE_ID
        labelled.update(sample.class_id[seen], lifted.class_id[seen])
    return {
        "miou": 100 * scored.miou(),
        "labelled_miou": 100 * labelled.miou(),
        "labelled_share": 100 * labelled.points / scored.points,
        "iou": dict(zip(label_space.class_names, np.round(100 * scored.iou(), 1).tolist(), strict=True)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one line per severity."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--severity", type=float, nargs="+", default=[0.0, 0.5, 1.0, 1.5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--scans", type=int, default=3, help="per drive")
    parser.add_argument("--lidar", default="spinning32")
    parser.add_argument("--no-occlusion", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    scans, figures = load_scans(options.seeds, options.scans, options.lidar), {}
    for severity in options.severity:
        result = measure(scans, TeacherErrorConfig(severity=severity), not options.no_occlusion)
        figures[str(severity)] = result
        print(
            f"severity {severity}: mIoU {result['miou']:.1f} %, on labelled points {result['labelled_miou']:.1f} % "
            f"({result['labelled_share']:.1f} % of the points); {result['iou']}"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Measures the occlusion test on real scans and on a street where the truth is known.

    python benchmarks/occlusion.py --data ../shared/data [--json occlusion.json]

Real scans: 2D masks of a Cityscapes network are carried over to the points, and annotated 3D boxes tell how many points
far from every vehicle are labelled "vehicle" all the same (bleeding), and how many points in vehicle boxes are (the
good that must not be lost). The plain filter is the usual nearest-depth test on square image cells.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.occlusion_street import GROUND, make_street
from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.occlusion import OcclusionTest
from ov_seg_ros.core.projection import project_cloud
from training.sources.kitti_calibration import homogeneous, pinhole_of, read_calibration
from training.sources.nuscenes_axes import Box3d
from training.sources.nuscenes_keyframe import NuScenesKeyframe

MASK_GROUND, MASK_VEHICLE = (0, 1, 9), (13, 14, 15, 16)  # Cityscapes train ids
KITTI_VEHICLES = ("Car", "Van", "Truck", "Tram", "Misc")
NUSCENES_VEHICLES = ("car", "truck", "bus", "trailer", "construction_vehicle")
GROUND_RANGE = (12.0, 25.0)  # m


@dataclass(frozen=True)
class View:
    """The points of one scan inside one image, and what is known about them.

    Attributes:
        points: (M, 3) metres, LiDAR frame.
        pixels: (M, 2).
        depth: (M,) metres.
        camera_from_lidar: (4, 4).
        labelled_vehicle: (M,) bool, the mask says vehicle.
        in_vehicle: (M,) bool, inside a vehicle's box.
        far_from_boxes: (M,) bool, more than 1 m outside all boxes.
        good_ground: (M,) bool, 12 to 25 m away, outside all boxes, low, and ground by the mask.
        hidden: (M,) bool where it is known, else None.
    """

    points: NDArray[np.float32]
    pixels: NDArray[np.float32]
    depth: NDArray[np.float32]
    camera_from_lidar: NDArray[np.float64]
    labelled_vehicle: NDArray[np.bool_]
    in_vehicle: NDArray[np.bool_]
    far_from_boxes: NDArray[np.bool_]
    good_ground: NDArray[np.bool_]
    hidden: NDArray[np.bool_] | None = None


Filter = Callable[[View], NDArray[np.bool_]]


def plain_filter(cell: int) -> Filter:
    """Nearest depth in square image cells of ``cell`` pixels; a point stays within max(0.5 m, 5 %) of it."""

    def keep(view: View) -> NDArray[np.bool_]:
        column, row = np.floor((view.pixels + 0.5) / cell).astype(np.int64).T
        key = row * 100_000 + column
        nearest = np.full(int(key.max()) + 1, np.inf)
        np.minimum.at(nearest, key, view.depth)
        return np.asarray(view.depth <= nearest[key] + np.maximum(0.5, 0.05 * view.depth))

    return keep


def surfel_filter(test: OcclusionTest) -> Filter:
    """The occlusion test of the package."""
    return lambda view: test.visible(view.points, view.camera_from_lidar)


FILTERS: dict[str, Filter] = {
    "none": lambda view: np.ones(len(view.points), np.bool_),
    "plain 4 px": plain_filter(4),
    "plain 8 px": plain_filter(8),
    "plain 16 px": plain_filter(16),
    "surfels": surfel_filter(OcclusionTest()),
}


def kitti_views(data: Path) -> list[View]:
    """The frames of ``kitti_object/training`` that have boxes."""
    root, views = data / "kitti_object" / "training", []
    for file in sorted((root / "label_2").glob("*.txt")):
        calibration = read_calibration(root / "calib" / file.name)
        mask = np.asarray(Image.open(data / "masks_2d" / "kitti_object" / f"{file.stem}.png"))
        camera, shift = pinhole_of(calibration.matrix("P2", (3, 4)), mask.shape[1], mask.shape[0])
        tr = calibration.matrix("Tr_velo_to_cam", (3, 4))
        rectified = homogeneous(calibration.matrix("R0_rect", (3, 3))) @ homogeneous(tr[:, :3], tr[:, 3])
        points = np.fromfile(root / "velodyne" / f"{file.stem}.bin", np.float32).reshape(-1, 4)[:, :3]
        boxes = [_kitti_box(line) for line in file.read_text().splitlines() if not line.startswith("DontCare")]
        # boxes live in rectified camera axes; as (z, -x, -y) these are forward, left, up like Box3d
        in_box_axes = (points @ rectified[:3, :3].T + rectified[:3, 3])[:, [2, 0, 1]] * [1, -1, -1]
        views.append(_view(points, shift @ rectified, camera, mask, in_box_axes, boxes, KITTI_VEHICLES, points[:, 2]))
    return views


def _kitti_box(line: str) -> Box3d:
    name, *numbers = line.split()
    h, w, length, x, y, z, rotation_y = (float(n) for n in numbers[7:14])
    return Box3d(name, (z, -x, -(y - h / 2)), (length, w, h), -rotation_y - np.pi / 2, 0)


def nuscenes_views(data: Path) -> list[View]:
    """The cameras of the nuScenes keyframe."""
    source = NuScenesKeyframe(data / "nuscenes" / "scene-0061_first")
    sample, views = source.load_sample(0), []
    points = sample.cloud.points
    files = {
        entry.stem.split("__")[1]: entry
        for entry in (data / "masks_2d").rglob("*__CAM_*.png")
        if "_conf" not in entry.stem
    }
    for image in sample.images:
        mask = np.asarray(Image.open(files[image.name]))
        views.append(
            _view(
                points,
                image.camera_from_lidar,
                image.camera,
                mask,
                points,
                source.boxes,
                NUSCENES_VEHICLES,
                points[:, 2],
            )
        )
    return views


def _view(
    points: NDArray[np.float32],
    camera_from_lidar: NDArray[np.float64],
    camera: CameraModel,
    mask: NDArray[np.uint8],
    in_box_axes: NDArray[np.floating],
    boxes: Sequence[Box3d],
    vehicles: Sequence[str],
    height: NDArray[np.float32],
) -> View:
    projection = project_cloud(points, camera_from_lidar, camera, occlusion=None)
    seen = projection.point_index
    column, row = np.rint(projection.pixels).astype(np.int64).T
    label = mask[np.clip(row, 0, mask.shape[0] - 1), np.clip(column, 0, mask.shape[1] - 1)]
    in_vehicle, near_box = np.zeros(len(seen), np.bool_), np.zeros(len(seen), np.bool_)
    for box in boxes:
        larger = Box3d(box.name, box.center, tuple(s + 2.0 for s in box.size), box.yaw, 0)
        near_box |= larger.contains(in_box_axes[seen])
        if box.name in vehicles:
            in_vehicle |= box.contains(in_box_axes[seen])
    low = (height[seen] < -1.3) & (projection.depth > GROUND_RANGE[0]) & (projection.depth < GROUND_RANGE[1])
    return View(
        points[seen],
        projection.pixels,
        projection.depth,
        camera_from_lidar,
        np.isin(label, MASK_VEHICLE),
        in_vehicle,
        ~near_box,
        low & ~near_box & np.isin(label, MASK_GROUND),
    )


def street_views(beams: int, seeds: Sequence[int] = range(4)) -> list[View]:
    """Streets of boxes with known occlusion; there are no masks, so the vehicle columns stay empty."""
    views = []
    for seed in seeds:
        street = make_street(beams, seed)
        projection = project_cloud(street.points, street.camera_from_lidar, street.camera, occlusion=None)
        nothing = np.zeros(len(projection), np.bool_)
        inside = (projection.depth > GROUND_RANGE[0]) & (projection.depth < GROUND_RANGE[1])
        index = projection.point_index
        ground = inside & (street.surface[index] == GROUND) & ~street.hidden[index]
        views.append(
            View(
                street.points[index], projection.pixels, projection.depth, street.camera_from_lidar,
                nothing, nothing, nothing, ground, street.hidden[index],
            )
        )  # fmt: skip
    return views


def measure(views: Sequence[View], keep: Filter) -> dict[str, float]:
    """Shares over all views together, in percent, NaN where nothing is there to be counted; best CPU time of three."""
    keep(views[0])  # compile
    kept, elapsed = [], 0.0
    for view in views:
        times = []
        for _ in range(3):
            start = time.process_time()
            result = keep(view)
            times.append(time.process_time() - start)
        kept.append(result)
        elapsed += min(times)

    def share(of: str, given: str | None) -> float:
        parts = [
            (getattr(view, of)[k if given is None else k & getattr(view, given)])
            for view, k in zip(views, kept, strict=True)
        ]
        counted = np.concatenate(parts)
        return 100.0 * float(counted.mean()) if len(counted) else float("nan")

    def survival(groups: list[NDArray[np.bool_]]) -> float:
        total = sum(int(group.sum()) for group in groups)
        stay = sum(int((k & group).sum()) for k, group in zip(kept, groups, strict=True))
        return 100.0 * stay / total if total else float("nan")

    exact = [view.hidden for view in views if view.hidden is not None]
    return {
        "points_kept": survival([np.ones(len(view.points), np.bool_) for view in views]),
        "vehicle_in_boxes": share("labelled_vehicle", "in_vehicle"),
        "vehicle_outside": share("labelled_vehicle", "far_from_boxes"),
        "ground_kept": survival([view.good_ground for view in views]),
        "hidden_kept": survival(exact) if exact else float("nan"),
        "visible_kept": survival([~hidden for hidden in exact]) if exact else float("nan"),
        "cpu_ms_per_view": 1e3 * elapsed / len(views),
    }


def table(data: Path | None) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by data set and filter."""
    sets = {"street, 64 beams": street_views(64), "street, 32 beams": street_views(32)}
    if data is not None:
        sets = {"KITTI, 64 beams": kitti_views(data), "nuScenes, 32 beams": nuscenes_views(data), **sets}
    return {name: {label: measure(views, keep) for label, keep in FILTERS.items()} for name, views in sets.items()}


def render(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """The figures as a Markdown table; percent, except the last column."""
    columns = list(next(iter(next(iter(figures.values())).values())))
    lines = [f"| data | filter | {' | '.join(columns)} |", "|---|---|" + "---:|" * len(columns)]
    for name, rows in figures.items():
        for label, row in rows.items():
            cells = ["" if np.isnan(row[c]) else f"{row[c]:.2f}" for c in columns]
            lines.append(f"| {name} | {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        help="folder with kitti_object, nuscenes and masks_2d; without it only the street is measured",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    figures = table(options.data)
    print(render(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

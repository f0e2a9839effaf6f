"""Posed RGB-D frames: the protocol, and the folders of image files that data sets and their exporters write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.errors import InputError
from training.fingerprint import fingerprint_contents, fingerprint_files
from training.sources.point_files import load_image_file
from training.sources.rgbd_files import MILLIMETRES, image_size, load_depth_file, read_pinhole, read_pose

_INTRINSICS_PAIRS = ("intrinsic/intrinsic_{}.txt", "intrinsics_{}.txt")
"""Of "color" and "depth": as SensReader writes them, and as in ScanNet's download of selected frames."""

_INTRINSICS_FILES = ("camera-intrinsics.txt", "intrinsics.txt", "intrinsic.txt")


class RgbdFrames(Protocol):
    """A sequence of colour and depth images with poses.

    Attributes:
        names: of the frames, in their order; their number is that of the frames.
        camera: of the colour images.
        depth_camera: of the depth images, with the same pose as ``camera``; None without depth.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the frames."""
        ...

    @property
    def camera(self) -> CameraModel:
        """Of the colour images."""
        ...

    @property
    def depth_camera(self) -> CameraModel | None:
        """Of the depth images."""
        ...

    def world_from_camera(self, index: int) -> NDArray[np.float64] | None:
        """(4, 4) pose, or None where the tracking was lost."""
        ...

    def load_image(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB."""
        ...

    def load_depth(self, index: int) -> NDArray[np.float32]:
        """(h, w) float32 metres along the optical axis, 0 = not measured."""
        ...

    def describe(self) -> dict[str, Any]:
        """What tells these frames from others, see ``Source.describe``."""
        ...


@dataclass(frozen=True)
class FrameFiles:
    """Paths of one frame; ``depth`` may be missing in the whole sequence."""

    name: str
    color: Path
    depth: Path | None
    pose: Path


class FrameFolder:
    """Frames as image files, in any layout ``find_frame_files`` knows.

    Attributes:
        folder: that holds them.
        names: of the frames.
        camera: of the colour images, its size from the first image.
        depth_camera: of the depth images, None without depth.
    """

    def __init__(self, folder: Path, depth_unit: float = MILLIMETRES) -> None:
        """Opens a folder of frames.

        Args:
            folder: with frames of a known layout.
            depth_unit: metres per unit of the depth images.

        Raises:
            InputError: no frames, a colour image without pose or depth, or intrinsics that do not fit the images.
        """
        self.folder = folder
        self._files = find_frame_files(folder)
        self._depth_unit = depth_unit
        if not self._files:
            raise InputError(
                f"{folder} holds no posed frames; expected color/N.jpg, depth/N.png, pose/N.txt, intrinsic/ (ScanNet's "
                "SensReader), or frame-N.color.png, frame-N.depth.png, frame-N.pose.txt (7-Scenes)"
            )
        self.names = tuple(frame.name for frame in self._files)
        color, depth = self._intrinsics = _intrinsics_files(folder)
        self.camera = read_pinhole(color, image_size(self._files[0].color))
        first_depth = self._files[0].depth
        self.depth_camera = None if first_depth is None else read_pinhole(depth, image_size(first_depth))

    def __len__(self) -> int:
        return len(self._files)

    def world_from_camera(self, index: int) -> NDArray[np.float64] | None:
        """See ``RgbdFrames``.

        Raises:
            InputError: the pose file is damaged.
        """
        return read_pose(self._files[index].pose)

    def load_image(self, index: int) -> NDArray[np.uint8]:
        """See ``RgbdFrames``."""
        return load_image_file(self._files[index].color)

    def load_depth(self, index: int) -> NDArray[np.float32]:
        """See ``RgbdFrames``.

        Raises:
            InputError: the sequence has no depth, or the image is damaged.
        """
        path = self._files[index].depth
        if path is None:
            raise InputError(f"frame {self.names[index]} of {self.folder} has no depth image")
        return load_depth_file(path, self._depth_unit)

    def describe(self) -> dict[str, Any]:
        """See ``RgbdFrames``."""
        return {
            "images": fingerprint_files(frame.color for frame in self._files),
            "depth": fingerprint_files(frame.depth for frame in self._files if frame.depth is not None),
            "poses": fingerprint_files(frame.pose for frame in self._files),
            "intrinsics": fingerprint_contents(*(path for path in self._intrinsics if path is not None)),
        }


def find_frame_files(folder: Path) -> list[FrameFiles]:
    """Frames of a folder, by their numbers; empty if there are none.

    Layouts: ``color/N.jpg|png``, ``depth/N.png``, ``pose/N.txt`` (ScanNet, by SensReader or in scannet_frames_25k);
    ``frame-N.color.png|jpg``, ``frame-N.depth.png``, ``frame-N.pose.txt`` (7-Scenes).

    Raises:
        InputError: a colour image has no pose, or only some have depth.
    """
    if (folder / "pose").is_dir():
        colors = [p for p in (folder / "color").glob("*.*") if p.suffix in (".jpg", ".jpeg", ".png")]
        colors.sort(key=lambda path: (len(path.stem), path.stem))
        rows = [(p, folder / "depth" / f"{p.stem}.png", folder / "pose" / f"{p.stem}.txt") for p in colors]
    else:
        colors = sorted([*folder.glob("frame-*.color.png"), *folder.glob("frame-*.color.jpg")])
        stems = [p.name.split(".")[0] for p in colors]
        rows = [(p, folder / f"{s}.depth.png", folder / f"{s}.pose.txt") for p, s in zip(colors, stems, strict=True)]
    with_depth = [depth.is_file() for _, depth, _ in rows]
    for (color, depth, pose), has_depth in zip(rows, with_depth, strict=True):
        if not pose.is_file():
            raise InputError(f"{color} has no pose: {pose} does not exist; copy the sequence again")
        if has_depth != any(with_depth):
            raise InputError(f"{color} has no depth image {depth}, other frames have; copy the sequence again")
    return [
        FrameFiles(color.name.split(".")[0].removeprefix("frame-"), color, depth if has_depth else None, pose)
        for (color, depth, pose), has_depth in zip(rows, with_depth, strict=True)
    ]


def _intrinsics_files(folder: Path) -> tuple[Path | None, Path | None]:
    """Files with the intrinsics of colour and depth, None for 7-Scenes, whose archives have none."""
    for pattern in _INTRINSICS_PAIRS:
        color, depth = (folder / pattern.format(kind) for kind in ("color", "depth"))
        if color.is_file():
            return color, depth if depth.is_file() else color
    for name in _INTRINSICS_FILES:
        for place in (folder, folder.parent):
            if (place / name).is_file():
                return place / name, place / name
    if (folder / "pose").is_dir():
        expected = " or ".join([_INTRINSICS_PAIRS[0].format("color"), _INTRINSICS_FILES[0]])
        raise InputError(f"{folder} has poses but no intrinsics; expected {expected} in it")
    return None, None

"""S3DIS: rooms of six building areas, annotated object by object, as text files.

Armeni et al., "3D Semantic Parsing of Large-Scale Indoor Spaces", CVPR 2016. Read as downloaded
(``Stanford3dDataset_v1.2_Aligned_Version``): ``Area_5/office_1/Annotations/chair_3.txt``, a line ``x y z r g b`` per
point. Reading text takes seconds a room; ``indoor_bins`` reads prepared files in milliseconds.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import PointCloud, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.transforms import invert_transform
from training.fingerprint import fingerprint_files
from training.sources.label_mapping import LabelMapping
from training.sources.point_files import check_index
from training.sources.rgbd_axes import move_points, place_on_floor

MAPPING = "s3dis_to_s3dis13"
FIRST_STAMP_NS = 1_000_000_000
ROOM_PERIOD_NS = 1_000_000_000
"""Rooms have no stamps; these keep them in order."""

_COLUMNS = 6


class Room(NamedTuple):
    """What the annotation files of a room say.

    Attributes:
        points: (N, 3) float64 metres, frame of the area.
        rgb: (N, 3) uint8.
        raw_id: (N,) uint8 id in the mapping.
        instance_id: (N,) uint16, counted from 1.
    """

    points: NDArray[np.float64]
    rgb: NDArray[np.uint8]
    raw_id: NDArray[np.uint8]
    instance_id: NDArray[np.uint16]


def is_s3dis(folder: Path) -> bool:
    """Whether a folder is a room (``Annotations/*.txt``), an area of rooms, or the data set of areas."""
    return any(next(folder.glob(pattern), None) is not None for pattern in _PATTERNS)


_PATTERNS = ("Annotations/*_*.txt", "*/Annotations/*_*.txt", "Area_*/*/Annotations/*_*.txt")


class S3dis:
    """Rooms as samples; there are no images in this release.

    The cloud has z up and its origin on the floor under the middle of the room; ``world_from_lidar`` leads back to the
    frame of the area. Points come in the order of the annotation files. ``intensity`` is zero; ``load_scan_fields``
    gives the colours.

    Attributes:
        name: "s3dis".
        mapping: from annotated names to the label space.
        folder: as given.
        rooms: folders.
    """

    name = "s3dis"

    def __init__(self, folder: str | Path, areas: tuple[int, ...] = ()) -> None:
        """Opens a room, an area or the whole data set.

        Args:
            folder: of any of them.
            areas: only these; the usual split trains on 1, 2, 3, 4, 6 and tests on 5. () = all.

        Raises:
            InputError: no room.
        """
        self.mapping = LabelMapping.load(MAPPING)
        self.folder = Path(folder)
        self.rooms = _find_rooms(self.folder, areas)

    @property
    def label_space(self) -> LabelSpace:
        """The 13 classes."""
        return self.mapping.target

    def __len__(self) -> int:
        return len(self.rooms)

    def load_sample(self, index: int) -> Sample:
        """Loads a room.

        Raises:
            InputError: the index is out of range, or a file is corrupt.
        """
        check_index(index, len(self), self.name)
        room = load_room(self.rooms[index], self.mapping)
        world_from_lidar = place_on_floor(room.points)
        points = move_points(invert_transform(world_from_lidar), room.points).astype(np.float32)
        stamp_ns = FIRST_STAMP_NS + index * ROOM_PERIOD_NS
        return Sample(
            key=f"{self.name}/{self.rooms[index].parent.name}_{self.rooms[index].name}",
            cloud=PointCloud(points, np.zeros(len(points), np.float32), stamp_ns, "lidar"),
            class_id=self.mapping.map_ids(room.raw_id, str(self.rooms[index])),
            world_from_lidar=world_from_lidar,
        )

    def load_scan_fields(self, index: int) -> dict[str, NDArray[np.generic]]:
        """Further columns: ``red``, ``green``, ``blue`` (N,) uint8 and ``instance_id`` (N,) uint16."""
        check_index(index, len(self), self.name)
        room = load_room(self.rooms[index], self.mapping)
        colors = {name: room.rgb[:, i].copy() for i, name in enumerate(("red", "green", "blue"))}
        return {**colors, "instance_id": room.instance_id}

    def describe(self) -> dict[str, Any]:
        """See ``Source``; the names of the files are the labels."""
        files = (path for room in self.rooms for path in (room / "Annotations").glob("*_*.txt"))
        return {"rooms": fingerprint_files(files, self.folder), "truth": {"mapping": self.mapping.fingerprint}}


@lru_cache(maxsize=1)  # a sample and its further columns come from the same slow text files
def _load_room(folder: Path, names: tuple[tuple[str, int], ...]) -> Room:
    paths = sorted((folder / "Annotations").glob("*_*.txt"))
    if not paths:
        raise InputError(f"S3DIS room {folder} holds no Annotations/*.txt")
    ids, parts, raw_ids = dict(names), [], []
    for path in paths:
        name, _, number = path.stem.rpartition("_")
        if name not in ids:
            raise InputError(f"{path}: {name!r} is no class of S3DIS, expected one of {', '.join(ids)}")
        if not (number.isascii() and number.isdigit()):
            raise InputError(
                f"{path}: annotations are called CLASS_NUMBER.txt; take this one out, or its points count twice "
                "(the original archive has a copy in Area_5/office_36: wall_3 (1).txt)"
            )
        parts.append(load_annotation(path))
        raw_ids.append(ids[name])
    sizes = [len(part) for part in parts]
    values = np.concatenate(parts)
    return Room(
        points=values[:, :3],
        rgb=values[:, 3:].clip(0, 255).astype(np.uint8),
        raw_id=np.repeat(np.array(raw_ids, np.uint8), sizes),
        instance_id=np.repeat(np.arange(1, len(sizes) + 1, dtype=np.uint16), sizes),
    )


def load_room(folder: Path, mapping: LabelMapping) -> Room:
    """Reads all annotation files of a room.

    Raises:
        InputError: there are none, one is damaged, a copy of another, or named after no known class.
    """
    return _load_room(folder, tuple((name, raw_id) for raw_id, name in mapping.names.items()))


def load_annotation(path: Path) -> NDArray[np.float64]:
    """Reads one object: (n, 6) float64 x, y, z, r, g, b.

    Raises:
        InputError: a line is not six numbers; the release has such a line in ``Area_5/hallway_6/ceiling_1.txt``.
    """
    try:
        values = np.loadtxt(path, np.float64, comments=None, ndmin=2)
        if values.shape[1] == _COLUMNS:
            return values
    except ValueError:
        pass  # found again below, with its line
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip() and not _is_row(line):
            raise InputError(
                f"{path}, line {number}: expected six numbers x y z r g b, got {line.decode('ascii', 'replace')!r}; "
                "correct the line (the original archive has a control character in Area_5/hallway_6/ceiling_1.txt)"
            )
    raise InputError(f"{path} is not made of lines x y z r g b; copy it again")


def _is_row(line: bytes) -> bool:
    try:
        return len([float(value) for value in line.split()]) == _COLUMNS
    except ValueError:
        return False


def _find_rooms(folder: Path, areas: tuple[int, ...]) -> list[Path]:
    rooms = sorted({path.parent.parent for pattern in _PATTERNS for path in folder.glob(pattern)})
    if not rooms:
        raise InputError(
            f"{folder} holds no S3DIS room; expected Area_N/ROOM/Annotations/CLASS_N.txt in it, an area or a room"
        )
    if not areas:
        return rooms
    kept = [room for room in rooms if room.resolve().parent.name in {f"Area_{number}" for number in areas}]
    if not kept:
        found = sorted({room.resolve().parent.name for room in rooms})
        raise InputError(f"{folder} has no rooms of areas {', '.join(map(str, areas))}; it holds {', '.join(found)}")
    return kept

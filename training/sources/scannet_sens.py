"""Frames straight from a ScanNet ``.sens`` file, version 4, without exporting them first.

The layout is that of ScanNet's public SensReader, little-endian throughout: version uint32; length uint64 and name of
the sensor; four float32 4 x 4 matrices (intrinsics and extrinsics of colour, then of depth); two int32 compression
types; four uint32 sizes (colour width, height, depth width, height); float32 depth units per metre; uint64 number of
frames. Each frame: float32 4 x 4 pose camera to world; four uint64 (two stamps, bytes of colour, bytes of depth); data.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.transforms import check_transform
from training.fingerprint import fingerprint_files
from training.sources.rgbd_files import decode_depth, make_pinhole

VERSION = 4
_COLOR_JPEG_OR_PNG = (1, 2)
_DEPTH_RAW, _DEPTH_ZLIB = 0, 1
_FRAME_HEADER = struct.Struct("<16f4Q")
_MAX_NAME = 10_000


class SensFrames:
    """The frames of one ``.sens`` file; only headers are read until an image is asked for.

    Attributes:
        path: of the file.
        names: "0", "1", ... as SensReader names the exported files.
        camera: of the colour images.
        depth_camera: of the depth images.
    """

    def __init__(self, path: Path) -> None:
        """Reads the header and finds every frame.

        Raises:
            InputError: missing, cut off, of another version, or with a compression SensReader's exporter lacks too.
        """
        if not path.is_file():
            raise InputError(f"recording {path} does not exist")
        self.path = path
        with path.open("rb") as file:
            try:
                count = self._read_header(file)
                self._frames = [self._skip_frame(file) for _ in range(count)]
            except struct.error as error:
                raise self._cut_off() from error
            if file.tell() > path.stat().st_size:
                raise self._cut_off()
        self.names = tuple(str(i) for i in range(count))

    def __len__(self) -> int:
        return len(self._frames)

    def world_from_camera(self, index: int) -> NDArray[np.float64] | None:
        """See ``RgbdFrames``."""
        pose = self._frames[index][0]
        return check_transform(pose, f"{self.path}: pose of frame {index}") if np.isfinite(pose).all() else None

    def load_image(self, index: int) -> NDArray[np.uint8]:
        """See ``RgbdFrames``."""
        _, begin, color_bytes, _ = self._frames[index]
        try:
            with Image.open(io.BytesIO(self._read(begin, color_bytes))) as image:
                return np.asarray(image.convert("RGB"))
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{self.path}: colour image {index} cannot be read ({error}); copy it again") from error

    def load_depth(self, index: int) -> NDArray[np.float32]:
        """See ``RgbdFrames``."""
        _, begin, color_bytes, depth_bytes = self._frames[index]
        content = self._read(begin + color_bytes, depth_bytes)
        shape = (self.depth_camera.height, self.depth_camera.width)
        try:
            content = zlib.decompress(content) if self._depth_is_packed else content
            return decode_depth(np.frombuffer(content, "<u2").reshape(shape), 1.0 / self._units_per_metre)
        except (zlib.error, ValueError) as error:
            raise InputError(f"{self.path}: depth image {index} is damaged ({error}); copy it again") from error

    def describe(self) -> dict[str, Any]:
        """See ``RgbdFrames``."""
        return {"recording": fingerprint_files([self.path])}

    def _read_header(self, file: BinaryIO) -> int:
        """Cameras and compression; returns the number of frames."""
        (version,) = _unpack(file, "<I")
        (name_length,) = _unpack(file, "<Q") if version == VERSION else (0,)
        if version != VERSION or name_length > _MAX_NAME:
            raise InputError(f"{self.path}: expected a .sens file of version {VERSION}, it says {version}")
        file.seek(name_length, io.SEEK_CUR)
        color_k, _, depth_k, _ = (np.array(_unpack(file, "<16f")).reshape(4, 4) for _ in range(4))
        color_kind, depth_kind, *sizes = _unpack(file, "<2i4I")
        if color_kind not in _COLOR_JPEG_OR_PNG or depth_kind not in (_DEPTH_RAW, _DEPTH_ZLIB):
            raise InputError(
                f"{self.path}: colour compression {color_kind} or depth compression {depth_kind} is not supported; "
                "expected JPEG or PNG (2, 1) and raw or zlib (0, 1)"
            )
        self._units_per_metre, count = _unpack(file, "<fQ")
        self.camera: CameraModel = make_pinhole(color_k, (sizes[0], sizes[1]), f"{self.path}, colour camera")
        self.depth_camera: CameraModel = make_pinhole(depth_k, (sizes[2], sizes[3]), f"{self.path}, depth camera")
        self._depth_is_packed = depth_kind == _DEPTH_ZLIB
        return int(count)

    def _skip_frame(self, file: BinaryIO) -> tuple[NDArray[np.float64], int, int, int]:
        """Pose, where the data begin, bytes of colour and of depth."""
        *pose, _, _, color_bytes, depth_bytes = _FRAME_HEADER.unpack(file.read(_FRAME_HEADER.size))
        begin = file.tell()
        file.seek(color_bytes + depth_bytes, io.SEEK_CUR)
        return np.array(pose, np.float64).reshape(4, 4), begin, color_bytes, depth_bytes

    def _read(self, begin: int, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(begin)
            return file.read(size)

    def _cut_off(self) -> InputError:
        return InputError(f"{self.path} was cut off: it ends before its last frame; copy it again")


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))

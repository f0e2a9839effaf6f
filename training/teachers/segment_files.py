"""The files of one segmented image, in the layout of AFOV's exporters (released code, ov_segment/*).

    <stem>.png   segment ids at the size of the image, 0 = void, 1..R; 8 bit, or 16 bit with more than 255 segments
    <stem>.json  R records in the order of the ids: {id, category_id, area, score}; category_id indexes the texts
    <stem>.npy   float16 (R + 1, D) features, row 0 zeros; absent for a teacher without features. ``.pt`` is read, too.

The picture is written last: where it is, the image is complete.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ov_seg_ros.core.data_types import TeacherSegments
from ov_seg_ros.core.errors import InputError
from training.atomic_files import write_bytes
from training.teachers.feature_tables import Variant, encode_table, find_table, load_table


@dataclass(frozen=True)
class StoredSegments:
    """Segments as the files tell them, before any dictionary.

    Attributes:
        segment_id: (H, W) uint16, 0 = void, 1..R.
        category_id: (R,) int32 index into the texts of the store, -1 = none.
        score: (R,) float32 in [0, 1]; 1 where the files hold none.
        table: (R, D) float32 features as stored, or None.
    """

    segment_id: NDArray[np.uint16]
    category_id: NDArray[np.int32]
    score: NDArray[np.float32]
    table: NDArray[np.float32] | None


def image_file(folder: Path, stem: str, suffix: str) -> Path:
    """A file of one image; a stem may hold slashes (sub-folders) and dots."""
    return folder / f"{stem}{suffix}"


def encode_segments(segments: TeacherSegments) -> dict[str, bytes]:
    """Content of the files by suffix, in the order in which they are to be written.

    Raises:
        InputError: the id map does not hold each of 1..R, or the arrays are not all of length R.
    """
    area = _areas(segments)
    records = [
        {"id": number + 1, "category_id": int(text), "area": int(size), "score": float(score)}
        for number, (text, size, score) in enumerate(zip(segments.text_id, area, segments.confidence, strict=True))
    ]
    files = {} if segments.features is None else {".npy": encode_table(segments.features)}
    return {**files, ".json": json.dumps(records).encode(), ".png": encode_ids(segments.segment_id)}


def write_segments(folder: Path, stem: str, segments: TeacherSegments) -> int:
    """Writes one image; returns the number of bytes.

    Raises:
        InputError: see ``encode_segments``.
        StorageFullError: the disk is full.
    """
    files = encode_segments(segments)
    for suffix, content in files.items():
        write_bytes(image_file(folder, stem, suffix), content)
    return sum(len(content) for content in files.values())


def read_segments(folder: Path, stem: str, variant: Variant = "out_vocab") -> StoredSegments:
    """Reads one image and checks that its files fit each other.

    Raises:
        InputError: a file is missing or damaged, or highest id = records = rows - 1 does not hold.
    """
    png, listing = image_file(folder, stem, ".png"), image_file(folder, stem, ".json")
    segment_id = read_id_map(png)
    category_id, score = _read_records(listing)
    highest, count = int(segment_id.max(initial=0)), len(category_id)
    if highest != count:
        raise InputError(
            f"{png} has ids up to {highest}, but {listing.name} lists {count} segments; they are of different runs, "
            "label the image again"
        )
    table = None
    if path := find_table(image_file(folder, stem, "")):
        table = load_table(path, variant)
        if len(table) != count + 1:
            raise InputError(
                f"{path} has {len(table)} rows, expected {count + 1}: void and the {count} segments of {listing.name}"
            )
        table = table[1:]
    return StoredSegments(segment_id, category_id, score, table)


def encode_ids(segment_id: NDArray[np.uint16]) -> bytes:
    """An id map as PNG: 8 bit if the ids allow it, else 16 bit."""
    narrow = np.uint8 if segment_id.max(initial=0) <= np.iinfo(np.uint8).max else np.uint16
    buffer = io.BytesIO()
    Image.fromarray(segment_id.astype(narrow)).save(buffer, format="PNG")
    return buffer.getvalue()


def read_id_map(path: Path) -> NDArray[np.uint16]:
    """Reads a picture of whole numbers: one channel of 8 or 16 bit, or a palette (its indices).

    Raises:
        InputError: missing, damaged, or a picture with several channels.
    """
    try:
        with Image.open(path) as picture:
            mode, values = picture.mode, np.asarray(picture)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); copy it again, or label again") from error
    if values.ndim != 2 or mode == "1" or (values.dtype.kind == "i" and (values.min() < 0 or values.max() > 65535)):
        raise InputError(f"{path} must have one channel of 8 or 16 bit ids, got mode {mode}")
    return values.astype(np.uint16)


def load_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no JSON ({error}); copy it again, or label again") from error


def _read_records(path: Path) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    records = load_json(path)
    try:
        ids = [int(r["id"]) for r in records]
        category_id = np.array([int(r["category_id"]) for r in records], np.int32)
        score = np.array([float(r.get("score", 1.0)) for r in records], np.float32)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} must be a list of {{id, category_id, ...}}: {error!r}") from error
    if ids != list(range(1, len(ids) + 1)):
        raise InputError(f"{path}: ids must be 1, 2, ... {len(ids)} in this order, got {ids[:10]}")
    if not ((score >= 0) & (score <= 1)).all():
        raise InputError(f"{path}: scores must be in [0, 1], got {score.min()} to {score.max()}")
    return category_id, score


def _areas(segments: TeacherSegments) -> NDArray[np.int64]:
    """(R,) pixels of each segment."""
    count = len(segments.text_id)
    lengths = {"class_id": len(segments.class_id), "confidence": len(segments.confidence)}
    if segments.features is not None:
        lengths["features"] = len(segments.features)
    if wrong := [f"{name} {length}" for name, length in lengths.items() if length != count]:
        raise InputError(f"segments have {count} texts but {', '.join(wrong)}")
    area = np.bincount(segments.segment_id.ravel(), minlength=count + 1)[1:]
    if len(area) != count or not area.all():
        raise InputError(f"the id map must hold each of 1..{count}, one per text; areas are {area.tolist()}")
    return area

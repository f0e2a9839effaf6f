"""Labels and instances of a ScanNet scene, vertex by vertex.

Classes come from ``<scene>_vh_clean_2.labels.ply``, or else from the annotation itself: segments of the mesh
(``.segs.json``), objects made of segments (``.aggregation.json``), and the table that turns an object's free name
into one of NYU's 40 classes (``scannetv2-labels.combined.tsv``).
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError
from training.sources.scannet_ply import load_ply_vertices, vertex_columns

CATEGORY_TABLES = ("scannetv2-labels.combined.tsv", "scannet-labels.combined.tsv")


def has_labels(scene: Path) -> bool:
    """Whether a scene folder comes with labels in one of the two forms."""
    return _labels_ply(scene).is_file() or (_segments(scene).is_file() and _aggregation(scene).is_file())


def label_files(scene: Path) -> list[Path]:
    """The files of its labels that are there."""
    return [path for path in (_labels_ply(scene), _segments(scene), _aggregation(scene)) if path.is_file()]


def load_nyu40(scene: Path, vertex_count: int) -> NDArray[np.int64] | None:
    """NYU40 class of every vertex, 0 = unannotated.

    Args:
        scene: its folder.
        vertex_count: of ``_vh_clean_2.ply``.

    Returns:
        (N,) int64, or None for a scene without labels (those of the hidden test set).

    Raises:
        InputError: the files are damaged, of another mesh, or the category table is missing.
    """
    path = _labels_ply(scene)
    if path.is_file():
        labels = vertex_columns(load_ply_vertices(path), ("label",), path)[:, 0].astype(np.int64)
        _check_count(path, len(labels), vertex_count)
        return labels
    if not has_labels(scene):
        return None
    table = load_category_table(scene)
    labels = np.zeros(vertex_count, np.int64)
    for vertices, category, _ in _objects(scene, vertex_count):
        if category not in table:
            raise InputError(f"{_aggregation(scene)}: category {category!r} is not in {CATEGORY_TABLES[0]}")
        labels[vertices] = table[category]
    return labels


def load_instances(scene: Path, vertex_count: int) -> NDArray[np.uint16] | None:
    """(N,) object of every vertex, counted from 1, 0 = none; None without an annotation of objects.

    Raises:
        InputError: the files are damaged or of another mesh.
    """
    if not (_segments(scene).is_file() and _aggregation(scene).is_file()):
        return None
    instance_id = np.zeros(vertex_count, np.uint16)
    for vertices, _, object_id in _objects(scene, vertex_count):
        instance_id[vertices] = object_id + 1
    return instance_id


def load_category_table(scene: Path) -> dict[str, int]:
    """NYU40 class by ScanNet category, from the table at the root of the data set.

    Raises:
        InputError: it lies neither in the scene's folder nor up to two levels above, or lacks the columns.
    """
    places = [folder / name for folder in (scene, *scene.resolve().parents[:2]) for name in CATEGORY_TABLES]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise InputError(
            f"{scene} has no labels.ply; to read its annotation, put {CATEGORY_TABLES[0]} into {scene.parent}"
        )
    with path.open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        # a category without NYU40 class (an empty cell) is not evaluated
        try:
            return {row["raw_category"]: int(row["nyu40id"] or 0) for row in rows}
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} must have the columns raw_category and nyu40id: {error!r}") from error


def _objects(scene: Path, vertex_count: int) -> list[tuple[NDArray[np.bool_], str, int]]:
    """Vertices (N,) bool, category and id of every annotated object."""
    segments, aggregation = _segments(scene), _aggregation(scene)
    try:
        segment = np.asarray(_load_json(segments)["segIndices"], np.int64)
        groups = [
            (np.asarray(group["segments"], np.int64), str(group["label"]), int(group["objectId"]))
            for group in _load_json(aggregation)["segGroups"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{segments} and {aggregation} are no ScanNet annotation: {error!r}") from error
    _check_count(segments, len(segment), vertex_count)
    return [(np.isin(segment, members), category, number) for members, category, number in groups]


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged ({error}); copy it again") from error


def _check_count(path: Path, count: int, vertex_count: int) -> None:
    if count != vertex_count:
        raise InputError(f"{path} labels {count} vertices, the mesh has {vertex_count}; they are of different meshes")


def _labels_ply(scene: Path) -> Path:
    return scene / f"{scene.resolve().name}_vh_clean_2.labels.ply"


def _segments(scene: Path) -> Path:
    return scene / f"{scene.resolve().name}_vh_clean_2.0.010000.segs.json"


def _aggregation(scene: Path) -> Path:
    return scene / f"{scene.resolve().name}.aggregation.json"

"""The ray tracer: triangles in, nearest hits out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import MissingDependencyError
from training.sources.synthetic_meshes import Mesh


@dataclass(frozen=True)
class Hits:
    """What rays hit first; rows of rays that hit nothing hold zeros, class 255 and range inf.

    Attributes:
        range: (N,) float32 metres, inf = nothing.
        normal: (N, 3) float32 unit normals, turned towards the sensor.
        cosine: (N,) float32 of the angle of incidence.
        class_id: (N,) uint8.
        instance_id: (N,) int32.
        material: (N,) uint8.
        color: (N, 3) uint8.
    """

    range: NDArray[np.float32]
    normal: NDArray[np.float32]
    cosine: NDArray[np.float32]
    class_id: NDArray[np.uint8]
    instance_id: NDArray[np.int32]
    material: NDArray[np.uint8]
    color: NDArray[np.uint8]


class RayScene:
    """A mesh in the ray tracer.

    Args:
        mesh: triangles, world coordinates.
        instance_id: (M,) int32 per triangle.

    Raises:
        MissingDependencyError: embreex is not installed.
    """

    def __init__(self, mesh: Mesh, instance_id: NDArray[np.int32]) -> None:
        try:
            from embreex import rtcore_scene
            from embreex.mesh_construction import TriangleMesh
        except ImportError as error:
            raise MissingDependencyError(
                "embreex", "pip install 'ov_seg_ros[synthetic]'", "casting rays in synthetic drives"
            ) from error
        self.mesh, self.instance_id = mesh, instance_id
        self._scene = rtcore_scene.EmbreeScene()
        TriangleMesh(self._scene, np.ascontiguousarray(mesh.triangles, np.float32))

    def nearest(
        self, origins: NDArray[np.float32], directions: NDArray[np.float32], reach: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Range and triangle of the first hit within ``reach`` (N,); inf and -1 where there is none."""
        out = self._scene.run(origins, directions, dists=reach.copy(), query="INTERSECT", output=True)
        hit = (out["geomID"] >= 0) & (out["tfar"] < reach)
        return np.where(hit, out["tfar"], np.float32(np.inf)), np.where(hit, out["primID"], -1)

    def blocked(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(N,) whether anything lies in the way."""
        return np.asarray(self._scene.run(origins, directions, query="OCCLUDED") >= 0)


def trace(
    scenes: Sequence[RayScene], origins: NDArray[np.float32], directions: NDArray[np.float32], max_range: float
) -> Hits:
    """The nearest hit of each ray over all scenes.

    Args:
        scenes: the static one and those of movers.
        origins: (N, 3) float32, world coordinates.
        directions: (N, 3) float32 unit vectors.
        max_range: metres.
    """
    count = len(origins)
    reach = np.full(count, max_range, np.float32)
    owner, triangle = np.full(count, -1, np.int32), np.zeros(count, np.int32)
    for number, scene in enumerate(scenes):
        distance, index = scene.nearest(origins, directions, reach)
        found = index >= 0
        reach[found], owner[found], triangle[found] = distance[found], number, index[found]
    hits = Hits(
        np.where(owner >= 0, reach, np.float32(np.inf)),
        np.zeros((count, 3), np.float32),
        np.zeros(count, np.float32),
        np.full(count, 255, np.uint8),
        np.zeros(count, np.int32),
        np.zeros(count, np.uint8),
        np.zeros((count, 3), np.uint8),
    )
    for number, scene in enumerate(scenes):
        rows = np.flatnonzero(owner == number)
        _describe(hits, rows, scene, triangle[rows], directions)
    return hits


def _describe(
    hits: Hits, rows: NDArray[np.int64], scene: RayScene, index: NDArray[np.int32], directions: NDArray[np.float32]
) -> None:
    mesh = scene.mesh
    corners = mesh.triangles[index]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    facing = np.einsum("ij,ij->i", normal, directions[rows])
    hits.normal[rows] = normal * -np.sign(facing)[:, None]
    hits.cosine[rows] = np.abs(facing)
    hits.class_id[rows] = mesh.class_id[index]
    hits.material[rows] = mesh.material[index]
    hits.color[rows] = mesh.color[index]
    hits.instance_id[rows] = scene.instance_id[index]

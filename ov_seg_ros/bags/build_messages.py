"""Message objects for ``RecordingWriter.write`` that no encoder of ``ov_seg_ros.messages`` makes.

The encoders there serve as well; hand them ``message_types()``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.bags.message_types import ODOMETRY, TF, standard_typestore
from ov_seg_ros.core.transforms import quaternion_from_matrix
from ov_seg_ros.messages.assembly import MessageTypes, make_header, make_message
from ov_seg_ros.messages.pointcloud2 import encode_cloud


def message_types() -> MessageTypes:
    """The classes of recorded messages, for the encoders of ``ov_seg_ros.messages``."""
    return standard_typestore().types


def cloud_message(fields: Mapping[str, NDArray[Any]], stamp_ns: int, frame_id: str) -> Any:
    """sensor_msgs/PointCloud2 of the given columns, each (N,).

    Raises:
        InputError: lengths differ, or a type that PointField does not know.
    """
    return encode_cloud(fields, stamp_ns, frame_id).to_message(message_types())


def transforms_message(transforms: Iterable[tuple[str, str, NDArray[np.float64]]], stamp_ns: int) -> Any:
    """tf2_msgs/TFMessage.

    Args:
        transforms: (parent, child, ``parent_from_child`` (4, 4)).
        stamp_ns: of all of them.

    Raises:
        InputError: a matrix that is not rigid.
    """
    types = message_types()
    stamped = []
    for parent, child, matrix in transforms:
        translation, rotation = _pose(matrix)
        transform = make_message(
            types, "geometry_msgs/msg/Transform", translation=_xyz("Vector3", translation), rotation=rotation
        )
        stamped.append(
            make_message(
                types,
                "geometry_msgs/msg/TransformStamped",
                header=make_header(types, stamp_ns, parent),
                child_frame_id=child,
                transform=transform,
            )
        )
    return make_message(types, TF, transforms=stamped)


def odometry_message(
    world_from_base: NDArray[np.float64], stamp_ns: int, frame_id: str = "odom", child_frame_id: str = "base_link"
) -> Any:
    """nav_msgs/Odometry with a pose; velocity and covariances are zero (not known).

    Raises:
        InputError: the pose is not rigid.
    """
    types = message_types()
    position, orientation = _pose(world_from_base)
    pose = make_message(types, "geometry_msgs/msg/Pose", position=_xyz("Point", position), orientation=orientation)
    still = make_message(
        types, "geometry_msgs/msg/Twist", linear=_xyz("Vector3", np.zeros(3)), angular=_xyz("Vector3", np.zeros(3))
    )
    unknown = np.zeros(36, np.float64)
    return make_message(
        types,
        ODOMETRY,
        header=make_header(types, stamp_ns, frame_id),
        child_frame_id=child_frame_id,
        pose=make_message(types, "geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=unknown),
        twist=make_message(types, "geometry_msgs/msg/TwistWithCovariance", twist=still, covariance=unknown),
    )


def _pose(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], Any]:
    translation, (x, y, z, w) = quaternion_from_matrix(matrix)
    rotation = make_message(
        message_types(), "geometry_msgs/msg/Quaternion", x=float(x), y=float(y), z=float(z), w=float(w)
    )
    return translation, rotation


def _xyz(kind: str, values: NDArray[np.float64]) -> Any:
    x, y, z = (float(v) for v in values)
    return make_message(message_types(), f"geometry_msgs/msg/{kind}", x=x, y=y, z=z)

"""The transforms a recording holds."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ov_seg_ros.bags.message_types import TF
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.transforms import TransformTree, matrix_from_quaternion

if TYPE_CHECKING:
    from ov_seg_ros.bags.recording import Recording

_log = logging.getLogger(__name__)


def build_transform_tree(recording: Recording) -> TransformTree:
    """Reads all of /tf_static and /tf, also in a namespace.

    A transform that is none (an all-zero quaternion of some unrelated frame) is left out with a warning: a lookup
    that needs it fails by naming the missing frame.
    """
    tree = TransformTree()
    topics = [t.name for t in recording.topics_of(TF) if t.name.rsplit("/", 1)[-1] in ("tf", "tf_static")]
    for message in recording.iter_messages(topics) if topics else ():
        is_static = message.topic.endswith("tf_static")
        for stamped in message.decode().transforms:
            try:
                _add(tree, stamped, is_static)
            except InputError as error:
                _log.warning("%s: transform on %s left out: %s", recording.path, message.topic, error)
    return tree


def _add(tree: TransformTree, stamped: Any, is_static: bool) -> None:
    t, q = stamped.transform.translation, stamped.transform.rotation
    matrix = matrix_from_quaternion((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
    if is_static:
        tree.set_static(stamped.header.frame_id, stamped.child_frame_id, matrix)
    else:
        stamp = stamped.header.stamp
        stamp_ns = int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
        tree.set(stamped.header.frame_id, stamped.child_frame_id, stamp_ns, matrix)

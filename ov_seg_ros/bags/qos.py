"""How ``ros2 bag play`` shall offer a recorded topic."""

from __future__ import annotations

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

_UNSET = QosTime(9223372036, 854775807)
"""The middleware's infinite duration, as rosbag2 writes it."""


def reliable_qos(depth: int = 10) -> Qos:
    """Reliable and volatile: fits reliable and best-effort readers alike."""
    return _qos(depth, QosDurability.VOLATILE)


def latched_qos(depth: int = 1) -> Qos:
    """Reliable and transient local: a reader that starts late still gets the last messages."""
    return _qos(depth, QosDurability.TRANSIENT_LOCAL)


def default_qos(topic: str) -> Qos:
    """Latched for static transforms and class lists, reliable for everything else."""
    return latched_qos() if topic.rsplit("/", 1)[-1] in ("tf_static", "label_info") else reliable_qos()


def _qos(depth: int, durability: QosDurability) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=QosReliability.RELIABLE,
        durability=durability,
        deadline=_UNSET,
        lifespan=_UNSET,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_UNSET,
        avoid_ros_namespace_conventions=False,
    )

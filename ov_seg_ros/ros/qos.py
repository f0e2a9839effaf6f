"""Quality of service: subscriptions that hear every publisher, publishers that every subscriber hears."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import rclpy.qos
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
OUTPUT_DEPTH = 5
BEST_AVAILABLE = getattr(ReliabilityPolicy, "BEST_AVAILABLE", ReliabilityPolicy.BEST_EFFORT)  # not in Humble


def output_qos() -> QoSProfile:
    """Reliable: what RViz and recorders ask for, and readable for best-effort subscribers too."""
    return QoSProfile(depth=OUTPUT_DEPTH, reliability=ReliabilityPolicy.RELIABLE)


class SensorSubscription:
    """A subscription that hears reliable and best-effort publishers, whichever starts first.

    ``BEST_AVAILABLE`` is settled when the subscription is made: without a publisher it becomes reliable and never
    hears a best-effort driver that starts later (rclpy 9.1, Fast DDS 3.2). So an incompatible publisher makes ``check``
    ask again, best effort, unless ``qos_overrides`` says otherwise.
    """

    def __init__(self, node: Node, message_type: Any, topic: str, callback: Callable[[Any], None], depth: int) -> None:
        """Subscribes.

        Args:
            node: owner.
            message_type: ROS message class.
            topic: name before remapping.
            callback: gets every message, in the executor's thread.
            depth: messages the middleware keeps; ``qos_overrides`` may change it and the reliability.
        """
        self._node = node
        self._message_type = message_type
        self._topic = topic
        self._callback = callback
        self._qos = QoSProfile(depth=depth, reliability=BEST_AVAILABLE)
        self._incompatible: str | None = None
        self._subscription = self._subscribe(QoSOverridingOptions.with_default_policies())
        self.problem = ""
        self._delays_ms: deque[float] = deque(maxlen=20)

    @property
    def topic(self) -> str:
        """Name after remapping."""
        return self._subscription.topic_name

    @property
    def transport_ms(self) -> float | None:
        """Least time from publication to ``callback`` of the last 20 messages; None if unknown (ROS 2 Humble)."""
        return min(self._delays_ms, default=None)

    @property
    def publishers(self) -> int:
        """Publishers of the topic, compatible or not."""
        return self._node.count_publishers(self.topic)

    def check(self) -> None:
        """Mends the reliability after an incompatible publisher was seen; call now and then from the executor."""
        policy, self._incompatible = self._incompatible, None
        if policy is None:
            return
        if policy == "RELIABILITY" and self._qos.reliability == BEST_AVAILABLE:
            self._qos.reliability = ReliabilityPolicy.BEST_EFFORT
            self._node.destroy_subscription(self._subscription)
            self._subscription = self._subscribe(None)
            return
        key = f"qos_overrides.{self.topic}.subscription.{policy.lower()}"
        self.problem = (
            f"a publisher of {self.topic} offers another {policy} than {getattr(self._qos, policy.lower(), '?')} asked "
            f"for, its messages are not received: change the publisher or the parameter {key}"
        )
        self._node.get_logger().warning(self.problem)

    def destroy(self) -> None:
        """Unsubscribes."""
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self, overrides: QoSOverridingOptions | None) -> Subscription:
        events = SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible)
        return self._node.create_subscription(
            self._message_type,
            self._topic,
            self._receive_with_info if hasattr(Subscription, "CallbackType") else self._callback,  # not in Humble
            self._qos,
            event_callbacks=events,
            qos_overriding_options=overrides,
        )

    def _receive_with_info(self, message: Any, info: Any) -> None:
        self._delays_ms.append((time.time_ns() - info["source_timestamp"]) * 1e-6)
        self._callback(message)

    def _on_incompatible(self, event: Any) -> None:
        # Only noted here: a subscription cannot be destroyed from its own event.
        self._incompatible = rclpy.qos.qos_policy_name_from_kind(event.last_policy_kind)

"""Quality of service: subscriptions that hear every publisher, publishers that every subscriber hears."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import rclpy.qos
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from ov_seg_ros.ros.subscription_gate import SequenceNumbers, SubscriptionGate

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

    PublisherEventCallbacks = None  # type: ignore[assignment,misc]

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
OUTPUT_DEPTH = 5
RECENT_NS = 1_000_000_000
"""One message that is not older than this proves that messages flow."""
BEST_AVAILABLE = getattr(ReliabilityPolicy, "BEST_AVAILABLE", ReliabilityPolicy.BEST_EFFORT)  # not in Humble


def output_qos() -> QoSProfile:
    """Reliable: what RViz and recorders ask for, and readable for best-effort subscribers too."""
    return QoSProfile(depth=OUTPUT_DEPTH, reliability=ReliabilityPolicy.RELIABLE)


def create_output(
    node: Node, message_type: Any, topic: str, on_readers: Callable[[], None] | None = None
) -> tuple[Publisher, bool]:
    """A publisher with ``output_qos``, which ``qos_overrides`` may change.

    Args:
        node: owner.
        message_type: ROS message class.
        topic: name before remapping.
        on_readers: called in the executor's thread when a subscriber comes or goes.

    Returns:
        The publisher, and whether ``on_readers`` will be called: neither ROS 2 Humble nor every middleware can.
    """
    given: dict[str, Any] = {"qos_overriding_options": QoSOverridingOptions.with_default_policies()}
    if on_readers is not None and PublisherEventCallbacks is not None:
        events = PublisherEventCallbacks(matched=lambda _: on_readers())
        with contextlib.suppress(UnsupportedEventTypeError):
            return node.create_publisher(message_type, topic, output_qos(), event_callbacks=events, **given), True
    return node.create_publisher(message_type, topic, output_qos(), **given), False


class SensorSubscription:
    """A subscription that hears reliable and best-effort publishers, whichever starts first.

    ``BEST_AVAILABLE`` is settled when the subscription is made: without a publisher it becomes reliable and never
    hears a best-effort driver that starts later (rclpy 9.1, Fast DDS 3.2). So an incompatible publisher makes ``check``
    ask again, best effort, unless ``qos_overrides`` says otherwise.

    Attributes:
        problem: why messages of a publisher cannot be received, empty if there is none.
        latest_s: monotonic time of the latest message known to have come, seconds, None before the first.
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
        self._gate = SubscriptionGate(node.default_callback_group)
        self._numbers = SequenceNumbers()
        self._flows = False
        self._subscription = self._subscribe(QoSOverridingOptions.with_default_policies())
        self.problem = ""
        self.latest_s: float | None = None
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
    def missed(self) -> int:
        """Messages that were published but never came; 0 where the middleware does not number them."""
        return self._numbers.missed

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

    def set_wanted(self, wanted: bool) -> int:
        """Lets messages through to the callback, or leaves them to the middleware; call now and then while unwanted.

        What nobody wants is shut out only while it flows, so that the first message after a silence is seen, and a
        publisher of another quality of service too.

        Returns:
            How many were shut out since the last call; they are gone.
        """
        shut_out = 0
        if not self._gate.is_open:
            shut_out = self._discard(sys.maxsize if wanted else time.time_ns() - RECENT_NS)
        flows, self._flows = bool(shut_out) or self._flows, False
        self._gate.is_open = wanted or not flows
        return shut_out

    def destroy(self) -> None:
        """Unsubscribes."""
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self, overrides: QoSOverridingOptions | None) -> Subscription:
        events = SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible)
        return self._node.create_subscription(
            self._message_type,
            self._topic,
            self._receive_with_info if hasattr(Subscription, "CallbackType") else self._receive,  # not in Humble
            self._qos,
            event_callbacks=events,
            qos_overriding_options=overrides,
            callback_group=self._gate,
        )

    def _discard(self, until_ns: int) -> int:
        """Takes messages from the middleware, as bytes, up to the first that was received after ``until_ns``.

        Returns:
            How many that were, with those that the middleware had replaced by newer ones if they are numbered.
        """
        count, missed_before, handle = 0, self._numbers.missed, self._subscription.handle
        with handle:
            while (taken := handle.take_message(self._message_type, True)) is not None:
                count += 1 + self._numbers.note(taken[1])
                received_ns = taken[1]["received_timestamp"]  # 0 where the middleware does not know
                age_ns = max(0, time.time_ns() - received_ns) if received_ns else 0
                self.latest_s = time.monotonic() - age_ns * 1e-9
                if received_ns > until_ns:
                    break
        self._numbers.missed = missed_before  # nobody missed them
        return count

    def _receive_with_info(self, message: Any, info: Any) -> None:
        self._numbers.note(info)
        self._delays_ms.append((time.time_ns() - info["source_timestamp"]) * 1e-6)
        self._receive(message)

    def _receive(self, message: Any) -> None:
        self._flows = True
        self.latest_s = time.monotonic()
        self._callback(message)

    def _on_incompatible(self, event: Any) -> None:
        # Only noted here: a subscription cannot be destroyed from its own event.
        self._incompatible = rclpy.qos.qos_policy_name_from_kind(event.last_policy_kind)

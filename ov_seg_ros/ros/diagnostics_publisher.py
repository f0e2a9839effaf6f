"""Sends the node's report to /diagnostics, once a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

PERIOD_S = 1.0


@dataclass(frozen=True)
class Status:
    """One line of diagnostics.

    Attributes:
        name: of the part, behind the name of the node.
        level: 0 ok, 1 warning, 2 error.
        message: one sentence.
        values: details as text by key.
    """

    name: str
    level: int
    message: str
    values: Mapping[str, str]


class DiagnosticsPublisher:
    """Publishes what ``collect`` returns."""

    def __init__(self, node: Node, collect: Callable[[], tuple[list[Status], str]], before: Callable[[], None]) -> None:
        """Starts to publish.

        Args:
            node: owner.
            collect: gives the lines and the hardware id (the name of the model); called in the executor's thread.
            before: called once a second before that: other work of an idle node, which so wakes up once, not twice.
        """
        self._node = node
        self._collect, self._before = collect, before
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # also while a simulated clock stands still
        self._timer = node.create_timer(PERIOD_S, lambda: self._tick(), clock=steady)

    def publish(self) -> None:
        """Publishes once."""
        statuses, hardware_id = self._collect()
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status = [
            DiagnosticStatus(
                level=bytes([status.level]),
                name=f"{self._node.get_name()}: {status.name}",
                message=status.message,
                hardware_id=hardware_id,
                values=[KeyValue(key=key, value=value) for key, value in status.values.items()],
            )
            for status in statuses
        ]
        self._publisher.publish(message)

    def _tick(self) -> None:
        self._before()
        self.publish()

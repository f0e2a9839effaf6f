"""A gate in front of a subscription: while it is closed, messages wait in the middleware and cost the node nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.callback_groups import CallbackGroup


class SubscriptionGate(CallbackGroup):
    """Behaves like another callback group, but shuts out its own subscription while it is closed.

    The executor does not wait for it then, so nothing is woken up and nothing deserialised. Its events (incompatible
    QoS) have to wait too: with Fast DDS, unread messages would wake up whoever waits for them (rclpy 9.1).

    Attributes:
        is_open: whether messages and events are taken.
    """

    def __init__(self, group: CallbackGroup) -> None:
        """Opens.

        Args:
            group: decides when it is open; callbacks of both groups exclude each other as if they were one.
        """
        super().__init__()
        self.is_open = True
        self._group = group

    def add_entity(self, entity: Any) -> None:
        """Adds it to the other group too."""
        super().add_entity(entity)
        self._group.add_entity(entity)

    def can_execute(self, entity: Any) -> bool:
        """Whether the executor may take a message or an event."""
        return self.is_open and self._group.can_execute(entity)

    def beginning_execution(self, entity: Any) -> bool:
        """Asks the other group."""
        return self._group.beginning_execution(entity)

    def ending_execution(self, entity: Any) -> None:
        """Tells the other group."""
        self._group.ending_execution(entity)


class SequenceNumbers:
    """Follows the numbers that publishers give their messages, where the middleware passes them on (Fast DDS, Zenoh).

    Attributes:
        missed: messages that were published but never came: lost on the way, or replaced by newer ones before
            somebody took them.
    """

    def __init__(self) -> None:
        self.missed = 0
        self._last: dict[bytes, int] = {}

    def note(self, info: Mapping[str, Any]) -> int:
        """Notes a message that came; returns how many were missed just before it, -1 if it was itself thought missed.

        Args:
            info: of the message, as rclpy passes it to a callback.
        """
        number, publisher = info.get("publication_sequence_number"), info.get("publisher_gid")
        if number is None or publisher is None:
            return 0
        gid = bytes(publisher["data"])
        last = self._last.get(gid, number - 1)
        gap = number - last - 1 if number > last else -min(self.missed, 1)  # overtaken by newer ones: it was counted
        self._last[gid] = max(number, last)
        self.missed += gap
        return gap

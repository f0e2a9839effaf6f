"""What the launch files make of the arguments a user gave: the transport.

Knows neither ROS nor its launch system.
"""

from __future__ import annotations

from collections.abc import Mapping

TRANSPORT_VARIABLE = "FASTDDS_BUILTIN_TRANSPORTS"


def transport_environment(large_data: bool, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that give the processes of a launch file a transport for clouds (docs/transport.md).

    Args:
        large_data: whether the user wants it.
        environment: what the processes inherit; a transport chosen there stays.
    """
    return {TRANSPORT_VARIABLE: "LARGE_DATA"} if large_data and TRANSPORT_VARIABLE not in environment else {}

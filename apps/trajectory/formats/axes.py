"""Which way the axes of a MAVLink ODOMETRY point, in logs and live alike."""

from typing import Any

UPWARD = frozenset({4, 15, 17, 19, 21})
"""MAV_FRAME of an ODOMETRY whose axes are east, north, up or ahead, left, up; the others point down."""


def east_north_up(message: Any) -> tuple[float, float, float]:
    """The place of an ODOMETRY, whose frame says which way its axes point."""
    if message.frame_id in UPWARD:
        return message.x, message.y, message.z
    return message.y, message.x, -message.z

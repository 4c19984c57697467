"""Where live samples come from: JSON lines on a stream or over UDP, and MAVLink."""

import contextlib
import os
import select
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

from apps.trajectory.formats.axes import east_north_up
from apps.trajectory.geo import Origin, to_enu
from apps.trajectory.samples import MAX_LINE, Origins, Sample, parse_sample
from core.errors import ConfigError, DataError, MissingExtraError

BUFFER = 4 << 20
"""Bytes of packets that the system keeps while we are busy."""
DROPPED = 40
"""SO_RXQ_OVFL of Linux: how many packets were dropped before this one."""


def json_lines(file: IO[bytes], tick_s: float | None = None) -> Iterator[Sample | DataError | None]:
    """Samples from a byte stream; a line that is too long is read past without being kept.

    None every `tick_s` without a line, where the stream is a pipe or a terminal that can be waited for.
    """
    number, places = 0, Origins()
    for line, size in patient(file, tick_s):
        if line is None:
            yield None
            continue
        number += 1
        if size > MAX_LINE:
            yield DataError(f"line {number}: {size} bytes are not a sample; the limit is {MAX_LINE}.")
        elif line.strip():
            yield parsed(line, f"line {number}", places)


def patient(file: IO[bytes], tick_s: float | None) -> Iterator[tuple[bytes | None, int]]:
    """Lines of a stream and their bytes, None for silence; of one that is too long the beginning."""
    if tick_s is None or not waits(file):
        while line := file.readline(MAX_LINE + 1):
            kept, size = line, len(line)
            while size > MAX_LINE and line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE)
                size += len(line)
            yield kept, size
        return
    handle, held, skipped = file.fileno(), b"", 0
    while True:
        if not select.select([handle], [], [], tick_s)[0]:
            yield None, 0
            continue
        piece = os.read(handle, 1 << 16)
        *whole, held = (held + piece).split(b"\n")
        for line in whole:
            yield line, len(line) + skipped
            skipped = 0
        if len(held) > MAX_LINE:
            held, skipped = b"", skipped + len(held)
        if not piece:
            if held or skipped:
                yield held, len(held) + skipped
            return


def waits(file: IO[bytes]) -> bool:
    """Whether a stream is a pipe, a socket or a terminal, whose silence can be waited for."""
    try:
        mode = os.fstat(file.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return os.name == "posix" and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode))


def parsed(line: bytes, where: str, places: Origins) -> Sample | DataError:
    """A sample, or the error that says where the line was."""
    try:
        return parse_sample(line, places)
    except DataError as error:
        return DataError(f"{where}: {error}")


def udp(
    address: str, tick_s: float | None = None, lost: Callable[[int], None] | None = None
) -> Iterator[Sample | DataError | None]:
    """Samples from UDP packets of JSON lines at `host:port`; None every `tick_s` without a sample.

    Args:
        lost: told how many packets the system has dropped so far, where it counts them (Linux).

    Raises:
        ConfigError: not an address, or nobody can listen there.
    """
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdecimal() and len(port) < 6) or not 0 < int(port) < 65_536:
        raise ConfigError(f"--udp wants host:port, such as 127.0.0.1:9000; got {address!r}.")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        try:
            receiver.bind((host or "127.0.0.1", int(port)))
        except OSError as error:
            raise ConfigError(f"cannot listen on {address}: {error.strerror}.") from error
        receiver.settimeout(tick_s)
        with contextlib.suppress(OSError):
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            receiver.setsockopt(socket.SOL_SOCKET, DROPPED, 1)
        places = Origins()
        while True:
            try:
                packet, beside, _, sender = receiver.recvmsg(MAX_LINE + 1, socket.CMSG_SPACE(4))
            except TimeoutError:
                yield None
                continue
            for level, kind, data in beside:
                if lost is not None and (level, kind) == (socket.SOL_SOCKET, DROPPED):
                    lost(struct.unpack("I", data[:4])[0])
            for line in packet.splitlines():
                if line.strip():
                    yield parsed(line, f"packet from {sender[0]}", places)


def mavlink(address: str, tick_s: float | None = None) -> Iterator[Sample | None]:
    """Samples from LOCAL_POSITION_NED, GLOBAL_POSITION_INT and ODOMETRY at a MAVLink address, in ENU.

    The id is `system/message`, since one vehicle may send several of these, each in its own frame.
    """
    try:
        from pymavlink import mavutil
    except ImportError as error:
        raise MissingExtraError('MAVLink needs pymavlink: pip install "recurra[mavlink]".') from error
    try:
        link: Any = mavutil.mavlink_connection(address)
    except Exception as error:  # pymavlink answers a wrong address with whatever its parts raise
        raise ConfigError(f"cannot open the MAVLink address {address!r}: {error}.") from error
    origins: dict[str, Origin] = {}
    kinds = ["LOCAL_POSITION_NED", "GLOBAL_POSITION_INT", "ODOMETRY"]
    while True:
        message = link.recv_match(type=kinds, blocking=True, timeout=tick_s)
        if message is None:
            yield None
            continue
        yield from_mavlink(message, origins)


def from_mavlink(message: Any, origins: dict[str, Origin]) -> Sample:
    """One MAVLink message as a sample: NED and geographic positions become local east, north, up."""
    kind = message.get_type()
    name = f"{message.get_srcSystem()}/{kind}"
    if kind == "GLOBAL_POSITION_INT":
        place = (message.lat * 1e-7, message.lon * 1e-7, message.alt * 1e-3)
        origin = origins.setdefault(name, place)
        east, north, up = to_enu(np.array(place), origin).tolist()
        velocity = (message.vy * 0.01, message.vx * 0.01, -message.vz * 0.01)
        return Sample(message.time_boot_ms * 1e-3, name, (east, north, up), velocity)
    if kind == "ODOMETRY":
        # its velocity is in the body frame, so only the position is used
        place = east_north_up(message)
        return Sample(message.time_usec * 1e-6, name, place, resets=getattr(message, "reset_counter", None))
    return Sample(
        message.time_boot_ms * 1e-3,
        name,
        (message.y, message.x, -message.z),
        (message.vy, message.vx, -message.vz),
    )

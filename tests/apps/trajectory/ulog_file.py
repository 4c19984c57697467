"""A valid ULog file with one topic, written from the format's description."""

import struct
import zlib

import numpy as np

MAGIC = b"ULog\x01\x12\x35\x01"
FIELDS = [("uint64_t", "timestamp"), *[("float", name) for name in ("x", "y", "z", "vx", "vy", "vz")]]


def ulog(microseconds: np.ndarray, ned: np.ndarray, velocity: np.ndarray, valid: np.ndarray) -> bytes:
    """`vehicle_local_position` of one instance."""

    def message(kind: bytes, payload: bytes) -> bytes:
        return struct.pack("<HB", len(payload), kind[0]) + payload

    words = ";".join(f"{kind} {name}" for kind, name in [*FIELDS, ("bool", "xy_valid"), ("bool", "z_valid")])
    flags = message(b"B", bytes(8) + bytes(8) + struct.pack("<3Q", 0, 0, 0))
    layout = message(b"F", f"vehicle_local_position:{words};".encode())
    subscribe = message(b"A", struct.pack("<BH", 0, 0) + b"vehicle_local_position")
    rows = b"".join(
        message(b"D", struct.pack("<HQ6f2?", 0, int(t), *p, *v, bool(ok), bool(ok)))
        for t, p, v, ok in zip(microseconds, ned, velocity, valid, strict=True)
    )
    return MAGIC + struct.pack("<Q", int(microseconds[0])) + flags + layout + subscribe + rows


def bomb(size: int) -> bytes:
    """A gzip stream of `size` newlines."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    chunk = b"\n" * 2**20
    return b"".join(packer.compress(chunk) for _ in range(size >> 20)) + packer.flush()

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


def topics_log(topics: dict[str, dict[str, tuple[str, np.ndarray]]]) -> bytes:
    """Any topics: name -> field -> (letter of `struct`, values); `timestamp` ("Q") is one of the fields.

    An array `delta[2]` is the fields `delta[0]` and `delta[1]`, one after the other.
    """
    kinds = {"Q": "uint64_t", "f": "float", "d": "double", "i": "int32_t", "B": "uint8_t", "q": "int64_t"}

    def message(kind: bytes, payload: bytes) -> bytes:
        return struct.pack("<HB", len(payload), kind[0]) + payload

    log = message(b"B", bytes(16) + struct.pack("<3Q", 0, 0, 0))
    for name, fields in topics.items():
        words: list[str] = []
        for field, (letter, _) in fields.items():
            if field.endswith("[0]"):
                words.append(f"{kinds[letter]}[2] {field[:-3]}")
            elif not field.endswith("]"):
                words.append(f"{kinds[letter]} {field}")
        log += message(b"F", f"{name}:{';'.join(words)};".encode())
    rows = []
    for number, (name, fields) in enumerate(topics.items()):
        log += message(b"A", struct.pack("<BH", 0, number) + name.encode())
        layout = "<H" + "".join(letter for letter, _ in fields.values())
        for row in zip(*(values.tolist() for _, values in fields.values()), strict=True):
            rows.append((row[0], message(b"D", struct.pack(layout, number, *row))))
    return MAGIC + struct.pack("<Q", 0) + log + b"".join(data for _, data in sorted(rows))


def bomb(size: int) -> bytes:
    """A gzip stream of `size` newlines."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    chunk = b"\n" * 2**20
    return b"".join(packer.compress(chunk) for _ in range(size >> 20)) + packer.flush()

"""LZF, the compression inside PCD files."""

from core.kernels.jit import compiled


@compiled
def unpack(data, out):  # noqa: ANN001, ANN201
    """Fill `out` from compressed bytes; gives how many were written, or -1 for a damaged stream."""
    at, to, size, room = 0, 0, len(data), len(out)
    while at < size:
        control = int(data[at])
        at += 1
        if control < 32:
            length = control + 1
            if at + length > size or to + length > room:
                return -1
            for k in range(length):
                out[to + k] = data[at + k]
            at += length
            to += length
            continue
        length = control >> 5
        if length == 7:
            if at >= size:
                return -1
            length += int(data[at])
            at += 1
        if at >= size:
            return -1
        back = to - ((control & 31) << 8) - int(data[at]) - 1
        at += 1
        length += 2
        if back < 0 or to + length > room:
            return -1
        for k in range(length):
            out[to + k] = out[back + k]
        to += length
    return to

"""Keep freed memory for the next tensor instead of giving it back to the system after every step."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc
NEVER = -1


def reuse_memory() -> bool:
    """Let glibc's malloc reuse large blocks, in this process, from now on; returns whether it could.

    By default a large tensor is mapped fresh from the system and every page of it is faulted in again,
    which costs more than a scan over it. Training commands call this once at the start. It changes nothing
    but speed and the resident memory, which stays at its peak. Elsewhere than on glibc it does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))

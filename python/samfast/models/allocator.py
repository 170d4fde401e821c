"""Keep freed memory in the process during long jobs on a CPU.

glibc gives every large freed buffer back to the kernel and asks for it again at the next step; half of an encoder's
time on a CPU, and more of a decoder's, is the page faults that follow.
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_NEVER_TRIM = -1
_LARGEST_INT = 2**31 - 1


def keep_heap() -> bool:
    """Tell glibc's malloc to keep what is freed, for the rest of the process.

    Called by jobs that encode or train, never by an import. ``SAMFAST_MALLOC=system`` in the environment leaves malloc
    as it is.

    Returns:
        whether malloc took the advice: False with another C library, or when opted out.
    """
    if os.environ.get("SAMFAST_MALLOC") == "system":
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  # musl has a mallopt-less libc; macOS and Windows lack this name
        mallopt = libc.mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    # Some versions refuse a threshold this large; taking mmap away altogether comes to the same.
    keeps_large = mallopt(_M_MMAP_THRESHOLD, _LARGEST_INT) or mallopt(_M_MMAP_MAX, 0)
    return bool(keeps_large and mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM))

"""Keep freed memory in the process: on a CPU, half of a step is otherwise spent on asking for it again.

The activations of a 1024 x 1024 generator are larger than what glibc's malloc keeps; it returns them to
the system when they are freed, and every step pays for millions of page faults to get them back.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Tell glibc's malloc not to return freed memory to the system until the process ends.

    Concerns the whole process; memory that other parts freed stays with it too. Does nothing elsewhere
    than on Linux with glibc.

    Returns:
        Whether the allocator took it.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))

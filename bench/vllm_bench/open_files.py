"""How many files and connections this process may have open at once."""

from __future__ import annotations

import resource


def allow_files(needed: int) -> bool:
    """Let it have so many, as far as that may be; return whether it may now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return True
    limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit == needed

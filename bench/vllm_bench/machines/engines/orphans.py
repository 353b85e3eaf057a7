"""Processes that outlive the one that started them: taken in, and ended with the one who asked.

Ray's own daemons leave agents behind when they are killed, for a minute or so.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ADOPT = 36  # PR_SET_CHILD_SUBREAPER, <linux/prctl.h>
AGAIN_S = 0.01


def adopt_orphans() -> None:
    """Become the parent of what our descendants leave behind; only Linux knows how."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(ADOPT, 1, 0, 0, 0)


def take_note() -> None:
    """Take note of children that have ended: a dead raylet keeps its actors until somebody does."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end_descendants(limit_s: float) -> bool:
    """Kill all processes that come from this one, and nobody else's; tell whether all are gone."""
    give_up_s = time.monotonic() + limit_s
    while left := list(descendants(os.getpid())):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(AGAIN_S)
        take_note()
        if time.monotonic() > give_up_s:
            return False
    return True


def descendants(parent: int) -> Iterator[int]:
    """Yield the ids of a process's children, and of theirs."""
    of: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            # `pid (name) state parent …`; a name may have blanks and brackets.
            above = int(
                stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
            )
            of.setdefault(above, []).append(int(stat.parent.name))
    below = list(of.get(parent, ()))
    while below:
        pid = below.pop()
        yield pid
        below += of.get(pid, ())

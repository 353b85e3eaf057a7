"""A server whose script was killed: SIGKILL leaves it alive, with the GPU's memory and the port.

Whoever starts servers writes down which process leads each, and can end it later, when nobody else
can. Only what is surely that server is ended: a session's number is no other one's while it has
members, and a process of that number that began at another time is somebody else's.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ..errors import BenchError
from .ports import PROC, members

Say = Callable[[str], None]

TERM_S, KILLED_S = 10.0, 30.0  # to end by itself, and by SIGKILL: a GPU's driver may need a while


class StaysError(BenchError):
    """A server that was left behind and doesn't end."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that can be told from a later one of the same number."""

    pid: int
    began_ticks: int | None  # clock ticks since the machine's start; None: /proc doesn't tell

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid, began_ticks(pid))

    @property
    def lives(self) -> bool:
        """Whether it is still there; where /proc doesn't tell, it is taken for gone."""
        return self.began_ticks is not None and began_ticks(self.pid) == self.began_ticks


def began_ticks(pid: int) -> int | None:
    """Return when a living process began; None where there is none, or /proc doesn't tell."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    words = text.rpartition(")")[2].split()  # a name may have blanks
    return None if words[0] in "ZX" else int(words[19])


def left_of(leader: Process) -> list[int]:
    """Return what lives of the session that a process leads, or led."""
    if leader.began_ticks is None:
        return []
    found = members(leader.pid)
    if leader.pid in found and not leader.lives:
        return []  # the number is another one's by now
    return [pid for pid in found if (began_ticks(pid) or 0) >= leader.began_ticks]


def end_orphan(server: Process | None, by: Process | None, script: str, say: Say) -> None:
    """End a server whose script was killed, and say so. Raises StaysError."""
    if server is not None and not (by and by.lives) and left_of(server):
        pids = ", ".join(map(str, end_session(server)))
        say(f"ended the server that a killed {script} left behind: process {pids}")


def end_session(leader: Process) -> list[int]:
    """End what lives of a session, and return it. Raises StaysError."""
    found = left_of(leader)
    for number, limit_s in ((signal.SIGTERM, TERM_S), (signal.SIGKILL, KILLED_S)):
        for pid in left_of(leader):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        give_up_s = time.monotonic() + limit_s
        while left_of(leader) and time.monotonic() < give_up_s:
            time.sleep(0.05)
    if alive := left_of(leader):
        pids = " ".join(map(str, alive))
        raise StaysError(f"a server that was left behind doesn't end: kill -9 {pids} ends it")
    return found

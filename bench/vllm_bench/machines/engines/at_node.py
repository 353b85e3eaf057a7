"""What Ray runs on each node: a foreman's keeper, which starts `sender.py` there and watches it.

It needs nothing but Python itself, so that it can tell which libraries a node lacks.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SENDER = Path(__file__).resolve().parents[3] / "sender.py"
LAST_WORDS = 2000  # bytes


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What can be told of a node before anything is sent from it."""

    python: str
    lacking: tuple[str, ...]  # libraries
    nice: int  # at which senders will run


class Keeper:
    """Keeps one foreman; as an actor of Ray's it ends with the process that placed it."""

    def facts(self, needed: Sequence[str]) -> NodeFacts:
        """Tell what a sender will find here; first undo Ray's niceness of 15, where that may be."""
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, min(0, _niceness()))
        lacking = tuple(name for name in needed if importlib.util.find_spec(name) is None)
        return NodeFacts(platform.python_version(), lacking, _niceness())

    def serve(self, address: str, key: bytes) -> tuple[int, str]:
        """Run `sender.py` to its end; return its exit code and last words.

        In this process's group, which Ray ends with the actor. The key goes where nobody looks.
        """
        done = subprocess.run(
            [sys.executable, str(SENDER), address],
            input=key,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        lines = done.stderr[-LAST_WORDS:].decode(errors="replace").splitlines()
        return done.returncode, " / ".join(line.strip() for line in lines[-3:])


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)

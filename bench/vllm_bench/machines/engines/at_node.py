"""What Ray runs on each node: an overseer, which starts `sender.py` there and watches it.

It needs nothing but Python itself, so that it can tell which libraries a node lacks.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

SENDER = Path(__file__).resolve().parents[3] / "sender.py"
LAST_WORDS = 2000  # bytes


class Overseer:
    """Of one foreman; as an actor of Ray's it ends with the process that placed it."""

    def __init__(self) -> None:
        """Undo Ray's niceness of 15, where that may be: what is started here takes it over."""
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, min(0, os.getpriority(os.PRIO_PROCESS, 0)))

    def lacks(self, needed: Sequence[str]) -> list[str]:
        """Return which libraries aren't here."""
        return [name for name in needed if importlib.util.find_spec(name) is None]

    def serve(self, address: str, key: bytes) -> tuple[int, str]:
        """Run `sender.py` to its end; return its exit code and last words.

        In this process's group, which Ray ends with the actor. The key goes where nobody looks.
        In a folder that never goes: nodes on one machine share that of our code, and the Ray of
        each makes it anew, so this process's own may be gone.
        """
        done = subprocess.run(
            [sys.executable, str(SENDER), address],
            input=key,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        lines = done.stderr[-LAST_WORDS:].decode(errors="replace").splitlines()
        return done.returncode, " / ".join(line.strip() for line in lines[-3:])

"""What a machine is, as far as a run over several must know."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import socket
from pathlib import Path

from ..crew.started import allowed_cores
from .messages import MachineFacts

PACKAGE = Path(__file__).resolve().parents[1]
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def machine_facts() -> MachineFacts:
    """Return what this process knows of its machine."""
    return MachineFacts(
        host=socket.gethostname(),
        cores=len(allowed_cores()) or os.cpu_count() or 1,
        python=platform.python_version(),
        code=code_digest(),
        boot_id=_boot_id(),
        nice=os.getpriority(os.PRIO_PROCESS, 0),
    )


@functools.cache
def code_digest() -> str:
    """Return a hash of this project's code: machines that send together must have the same."""
    total = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        total.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:16]


def _boot_id() -> str | None:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return None

"""A program that is run to its end, and what it used."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .interrupts import INTERRUPTS

LOOK_S = 0.05  # between two looks at its memory


@dataclass(frozen=True, slots=True)
class Used:
    """How a program ended, and what it took, its own children's CPU included."""

    exit_code: int
    cpu_s: float
    memory_bytes: int  # its own peak, without its children's


def run_to_end(words: Sequence[str], log: Path, cores: Sequence[int] = ()) -> Used:
    """Run a program with its output in a file; on these cores only, if any are given.

    Raises OSError where it can't be started. It is killed if this is interrupted.
    """
    process: subprocess.Popen[bytes] | None = None
    memory_bytes = 0
    try:
        with log.open("wb") as file, on_cores(cores), INTERRUPTS.put_off():
            process = subprocess.Popen(
                words, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        while True:
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            memory_bytes = _peak_bytes(process.pid) or memory_bytes
            time.sleep(LOOK_S)
    except BaseException:
        if process is not None:
            process.kill()
            process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    told_bytes = used.ru_maxrss * 1024  # begins at this process's own size: see _peak_bytes
    return Used(process.returncode, used.ru_utime + used.ru_stime, memory_bytes or told_bytes)


@contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Keep to these cores, for what is started meanwhile to inherit; to any, if none are given."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _peak_bytes(pid: int) -> int | None:
    """Return the peak memory of a running process; None where /proc doesn't tell.

    `ru_maxrss` is kept over exec, so a spawned process begins with its parent's size.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s*(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None

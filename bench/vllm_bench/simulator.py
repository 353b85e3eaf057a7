"""Starts the simulator for a script, and stops it afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .errors import BenchError
from .interrupts import INTERRUPTS
from .program import on_cores
from .script import ROOT

STOP_LIMIT_S = 30.0  # it writes the rest of its truth


class SimulatorError(BenchError):
    """A simulator that did not start."""


@contextmanager
def simulator(
    *words: str, own_session: bool = False, cores: Sequence[int] = (), script: str = "simulator.py"
) -> Iterator[tuple[str, int]]:
    """Start a simulator with these flags on a free port; yield its base URL and process id.

    It keeps to these cores, if any are given. `script` is another server of the same folder.

    In its own session Ctrl-C doesn't reach it, but Linux shares the cores by session: what is
    measured stays in the script's. It is stopped at the block's end. Raises SimulatorError.
    """
    process: subprocess.Popen[str] | None = None
    try:
        with on_cores(cores), INTERRUPTS.put_off():
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "server" / script), "--port", "0", *words],
                stdout=subprocess.PIPE,
                stderr=None if own_session else subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                start_new_session=own_session,
            )
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise SimulatorError("the simulator didn't start: make sim says why")
        yield f"{url}/v1", process.pid
    finally:
        if process is not None:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()

"""Processes as /proc shows them: who lives, in which session, with how much memory and files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NS = 1_000_000_000
SENDER = "spawn_main"  # in the command line of a sending process
LATE_NS = NS // 10


@dataclass(frozen=True, slots=True)
class Size:
    """What a process holds at one moment."""

    memory_bytes: int
    descriptors: int
    threads: int


def size_of(pid: int) -> Size | None:
    """Return what a process holds; None: it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        return Size(int(told["VmRSS"].split()[0]) * 1024, descriptors, int(told["Threads"]))
    except (OSError, KeyError):
        return None


def _stat(pid: int) -> list[str]:
    """Return a process's state, parent, group, session, and so on; nothing if it has ended."""
    try:
        # Its name, which stands before the last bracket, may be of any bytes.
        text = os.fsdecode(Path(f"/proc/{pid}/stat").read_bytes())
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _all() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def lives(pid: int) -> bool:
    """Whether a process runs on; one that has ended may wait for somebody to take note."""
    found = _stat(pid)
    return bool(found) and found[0] not in "ZX"


def of_session(leader: int) -> list[int]:
    """Return the processes that a leader of a session has started and that live, itself too."""
    found = ((pid, _stat(pid)) for pid in _all())
    return [pid for pid, stat in found if stat and stat[3] == str(leader) and stat[0] not in "ZX"]


def children(parent: int, word: str) -> list[int]:
    """Return a process's living children with a word in their command line, by their start.

    One that was just forked has its parent's command line, and may become anything.
    """
    own = _command(parent)
    of = (pid for pid in sorted(_all()) if _stat(pid)[1:2] == [str(parent)])
    return [pid for pid in of if word in (command := _command(pid)) and command != own]


def senders_of(parent: int) -> list[int]:
    """Return the sending processes of a bench.py or sender.py, in the order of their start."""
    return children(parent, SENDER)


def _command(pid: int) -> str:
    """Return a process's command line, with blanks in it; empty: it has ended."""
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).replace("\0", " ")
    except OSError:
        return ""


def wait_until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Wait for a condition; return whether it came within the limit."""
    give_up_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > give_up_s:
            return False
        time.sleep(0.02)
    return True


class Pulse(threading.Thread):
    """Notices how long this machine keeps a process waiting that wants to run."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._late: list[tuple[int, int]] = []
        self._over = threading.Event()

    def run(self) -> None:
        """Look at the clock all the time."""
        last_ns = time.perf_counter_ns()
        while not self._over.wait(0.02):
            now_ns = time.perf_counter_ns()
            if now_ns - last_ns > LATE_NS:
                self._late.append((now_ns, now_ns - last_ns))
            last_ns = now_ns

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self.join()

    def stalled_ns(self, moment_ns: int) -> int:
        """Return how long, together, it kept us waiting in the five seconds before a moment."""
        return sum(ns for at, ns in self._late if moment_ns - 5 * NS < at <= moment_ns + NS)


class SimulatorProcess:
    """The simulator on one port, started as often as it has to come back; a record each time."""

    def __init__(self, folder: Path, flags: tuple[str, ...]) -> None:
        """Choose its flags; `start` starts it."""
        self.truths: list[Path] = []
        self.port = 0  # any free one, the first time
        self._folder, self._flags = folder, flags
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self, *more: str) -> None:
        """Start it and wait until it listens. Raises OSError where it doesn't."""
        truth = self._folder / f"truth-{len(self.truths)}.jsonl"
        self.truths.append(truth)
        script = str(ROOT / "server" / "simulator.py")
        words = ["--port", str(self.port), "--truth", str(truth), *self._flags, *more]
        with (self._folder / "simulator.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, script, *words],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
            )
        assert self._process.stdout is not None
        url = self._process.stdout.readline().strip()
        self._process.stdout.close()
        if not url:
            raise OSError(f"the simulator didn't start: {self._folder / 'simulator.log'} says why")
        self.port = int(url.rpartition(":")[2])

    def signal(self, number: int) -> None:
        """Send it a signal, if it lives."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def end(self, number: int) -> None:
        """End it with a signal, and wait until it has ended."""
        if self._process is None:
            return
        self.signal(number)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

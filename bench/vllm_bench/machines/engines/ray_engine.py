"""Ray as an engine: bench.py's end of the process that has Ray in it (by_ray.py)."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import IO, Any

from ...errors import BenchError, UsageError
from ..meeting.address import own_host
from .at_node import SENDER
from .engine import MachinesError, Reached
from .last_words import LastWords

PROGRAM = "vllm_bench.machines.engines.by_ray"
PROBE_S = 5.0  # for a cluster's head to take a connection
ATTACH_LIMIT_S = 120.0  # for nodes to be found, and an actor on each
END_LIMIT_S = 20.0  # for the process with Ray to end
LONGEST_FOLDER = 40  # characters: Ray's sockets are in it, and a socket's path has 107 at most
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # else Ray puts another for 127.0.0.1
OWN = {**ON_LOOPBACK, "RAY_worker_niceness": "0", "RAY_AUTH_MODE": "token"}
REFUSED = "InvalidAuthToken"  # in what Ray logs, 20 s before it gives up
WHY_REFUSED = (
    "it asks for its token: RAY_AUTH_MODE=token RAY_AUTH_TOKEN=… (ray get-auth-token, there)"
)

UNREACHED = "Failed to connect to"  # said after 5 s of trying, of two things one after the other
WHY_UNREACHED = "no Ray there answers"
NOT_BY_AUTO = "; a cluster on loopback alone is reached as --ray 127.0.0.1:PORT"


class ByRay:
    """Foremen on the nodes of a Ray cluster, through a process that has Ray in it."""

    def __init__(self, address: str, machines: int | None, environ: Mapping[str, str]) -> None:
        """`address`: HOST:PORT, auto, or local:N. Raises UsageError."""
        if (spec := find_spec("ray")) is None or spec.origin is None:
            raise UsageError("--ray: Ray is not installed here: make install-ray")
        if address == "auto" and environ.get("RAY_ADDRESS", "").startswith("ray://"):
            raise UsageError("--ray auto: RAY_ADDRESS is ray://…, through which nodes can't dial")
        if machines and machines > (own_nodes(address) or machines):
            raise UsageError(f"--ray {address}: its nodes are fewer than --machines {machines}")
        self._address, self._machines, self._environ = address, machines, environ
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: str | None = None  # of the process with Ray, and of a cluster of its own
        self._told: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._ended: str | None = None

    def attach(self) -> Reached:
        """Find the nodes and place an actor on each. Raises MachinesError, UsageError."""
        environ = self._set_for_ray()
        asked = {"address": self._address, "machines": self._machines, "folder": self._folder}
        self._process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, json.dumps(asked)],
            cwd=SENDER.parent,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a terminal's Ctrl-C is for the head alone
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        last = LastWords(self._process.stderr, self._note)
        hearing = (self._process.stdout, last)
        threading.Thread(target=self._hear, args=hearing, daemon=True).start()
        told = self._next(ATTACH_LIMIT_S)
        if told is None:
            told = {"problem": f"no node within {ATTACH_LIMIT_S:g} s: {last.so_far()}"}
        if "count" not in told:
            problem: type[BenchError] = UsageError if told.get("usage") else MachinesError
            raise problem(f"--ray {self._address}: {told['problem']}")
        return Reached(told["count"], told["host"])

    def _set_for_ray(self) -> dict[str, str]:
        """Return the variables of the process with Ray. Raises MachinesError: nobody is there."""
        self._folder = _short_folder()
        environ = {**self._environ, **QUIET}
        environ.pop("PYTHONSAFEPATH", None)  # it would hide our package from `-m`
        if self._address == "auto":
            return environ
        environ.pop("RAY_ADDRESS", None)  # the address that is given counts
        if self._address.startswith("local:"):
            own = {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_TMPDIR": self._folder}
            return {**environ, **OWN, **own}
        return {**environ, **(ON_LOOPBACK if self._on_loopback() else {})}

    def _on_loopback(self) -> bool:
        """Whether the cluster's head can be reached on this machine's loopback alone."""
        host, _, port = self._address.rpartition(":")
        with contextlib.suppress(OSError):
            loopback = ipaddress.ip_address(socket.gethostbyname(host)).is_loopback
            _reach(host, int(port))
            ours = own_host()
            return loopback and not (ours != "127.0.0.1" and _reaches(ours, int(port)))
        raise MachinesError(f"--ray {self._address}: no Ray there: nobody takes a connection")

    def _hear(self, pipe: IO[bytes], last: LastWords) -> None:
        for line in pipe:
            self._told.put(json.loads(line))
        why = last.at_end() or "it was killed"
        self._told.put({"problem": f"the process with Ray ended: {why}"})

    def _note(self, last: Sequence[str]) -> None:
        """Tell what Ray complains of, long before it gives up."""
        if REFUSED in last[-1]:
            self._told.put({"problem": WHY_REFUSED})
        elif sum(UNREACHED in line for line in last) > 1:
            hint = NOT_BY_AUTO if self._address == "auto" else ""
            self._told.put({"problem": WHY_UNREACHED + hint})

    def _next(self, limit_s: float) -> dict[str, Any] | None:
        try:
            return self._told.get(timeout=limit_s) if limit_s else self._told.get_nowait()
        except Empty:
            return None

    def start(self, address: str, key: bytes) -> None:
        """Have each node's actor start `sender.py`, as HOST:PORT/N."""
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `ended` tells
            self._process.stdin.write(json.dumps([address, key.hex()]).encode() + b"\n")
            self._process.stdin.flush()

    def ended(self) -> str | None:
        """Return on which node a foreman or its actor ended, and why."""
        while not self._ended and (told := self._next(0)):
            self._ended = f"--ray {self._address}: {told['problem']}"
        return self._ended

    def missing(self, came: Collection[str]) -> str | None:
        """Return nothing: its overseers hear of an end alone."""
        return None

    def stop(self) -> None:
        """Let the process with Ray end, and all that it started."""
        if self._process is not None:
            _end(self._process)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def own_nodes(address: str) -> int:
    """Return how many nodes a cluster of its own has, `local:N`; of others 0: nobody knows."""
    return int(address.removeprefix("local:")) if address.startswith("local:") else 0


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(END_LIMIT_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _reach(host: str, port: int) -> None:
    socket.create_connection((host, port), PROBE_S).close()


def _reaches(host: str, port: int) -> bool:
    try:
        _reach(host, port)
    except OSError:
        return False
    return True


def _short_folder() -> str:
    """Make a folder for a cluster's files, with a path as short as its sockets need."""
    usual = tempfile.gettempdir()
    short = usual if len(usual) < LONGEST_FOLDER else "/tmp"  # noqa: S108  # a name is drawn in it
    return tempfile.mkdtemp(prefix="vbr-", dir=short)

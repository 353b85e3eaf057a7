"""A server as a process of ours: started by run_server.sh, waited for, stopped with its children.

It runs in a session of its own. A terminal's Ctrl-C doesn't reach it, and all that it starts can be
found: SIGKILL of vLLM's API server alone leaves its engine alive, with the GPU's memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType

from ..errors import BenchError, UsageError
from ..interrupts import INTERRUPTS
from ..records.beside.families import STARTED
from ..records.text import masked, printable
from ..script import ROOT
from ..vllm.server import ControlError, NotReadyError, Server
from .env import Settings
from .log import MaskedLog, bare, last_lines
from .ports import holder_of, holds, is_free, members, sockets_on

LAUNCHER = ROOT / "server" / "run_server.sh"
LOOK_S = 0.1  # between two looks at a server that starts
TERM_S = 10.0  # after SIGTERM; vLLM may wait for streams whose engine is gone, for ever
GONE_S = 30.0  # after SIGKILL: a GPU's driver may need a while
CLOCK_S = 5.0  # by which the kernel's and the wall clock may differ


class PortTakenError(UsageError):
    """Somebody else listens where the server should: it would answer in its place."""


class StopFailedError(BenchError):
    """A process of the server still lives, or its port is still taken."""


class StartFailedError(BenchError):
    """The server ended before it was ready, or wasn't ready in time."""

    def __init__(self, text: str, status: int | None, lines: list[str]) -> None:
        """`status`: its exit code, below 0 a signal's; `lines`: of its log, the telling first."""
        super().__init__(text)
        self.status = status
        self.lines = lines


class ServerProcess:
    """One server, from its start to its end; as a context it is stopped whatever happens."""

    def __init__(self, settings: Settings, log: Path, launcher: Path = LAUNCHER) -> None:
        """Prepare; nothing is started yet. `log` is replaced when it starts."""
        self.settings = settings
        self.log = log
        self._launcher = launcher
        self._process: subprocess.Popen[bytes] | None = None
        self._output: MaskedLog | None = None
        self._began_s = self._began_wall_s = 0.0
        self._had_port = False

    def __enter__(self) -> ServerProcess:
        try:
            self.start()
        except KeyboardInterrupt:  # it came while the process began
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The leader's process id, which is the session's too; None before the start."""
        return self._process.pid if self._process else None

    @property
    def is_alive(self) -> bool:
        """Whether the process that was started still runs."""
        return self._process is not None and self._status() is None

    def start(self) -> None:
        """Start it, after the end of one that it started before.

        Raises PortTakenError, StopFailedError, and OSError where the log can't be written.

        The environment of its settings has to name a PATH.
        """
        self.stop()
        self.check_port()
        self._had_port = False
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with INTERRUPTS.put_off():  # nothing comes between the process and its place here
            self._output = MaskedLog(self.log, self.settings.secrets)
            self._began_s, self._began_wall_s = time.monotonic(), time.time()
            try:
                self._process = self._popen()
            except OSError:
                self._output.close()
                raise
            assert self._process.stdout is not None
            self._output.follow(self._process.stdout)

    def _popen(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["sh", str(self._launcher)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(self.settings),
        )

    def ready(self, limit_s: float, on_wait: Callable[[float], None] | None = None) -> float:
        """Wait until it serves; return the seconds since its start. Raises StartFailedError.

        `on_wait(seconds)` is called between looks.
        """
        with closing(self.server()) as server:
            why = "nothing listens on its port yet"
            while True:
                if not self.is_alive:
                    raise self._failed("ended before it was ready")
                try:
                    if (listens := self._listens()) is not False:
                        self._had_port = True
                        server.ready()
                        if listens is None:
                            self._check_age(server)
                        return time.monotonic() - self._began_s
                except NotReadyError as e:
                    why = str(e)
                except ControlError as e:
                    raise self._failed(f"answers, but not as a server should: {e}") from e
                waited_s = time.monotonic() - self._began_s
                if waited_s > limit_s:
                    raise self._failed(f"was not ready after {limit_s:.0f} s: {why}")
                if on_wait is not None:
                    on_wait(waited_s)
                time.sleep(LOOK_S)

    def server(self) -> Server:
        """Return its control endpoints; to be closed by the caller."""
        return Server(self.settings.base_url, self.settings.api_key, {})

    def stop(self) -> None:
        """End it and all that it started, and wait until its port is free. Again: does nothing.

        Own connections should be closed before: vLLM may wait for them. Raises StopFailedError.
        """
        if self._process is None:
            return
        try:
            if self.is_alive:
                os.kill(self._process.pid, signal.SIGTERM)
            give_up_s = time.monotonic() + TERM_S
            while self.is_alive and time.monotonic() < give_up_s:
                time.sleep(0.02)
        finally:  # at once, where a signal breaks off the waiting
            with INTERRUPTS.put_off():
                self._kill_all()

    def last_lines(self) -> list[str]:
        """Return what to show of its log: the line that says what failed, then the last ones."""
        return last_lines(self.log, self.settings.secrets)

    def check_port(self) -> None:
        """Raise PortTakenError where somebody listens on its port already."""
        port = self.settings.port
        if not is_free(self.settings.host, port):
            holder = holder_of(port)
            by = f" by {printable(holder)}" if holder else ""
            raise PortTakenError(
                f"port {port} is taken{by}, which would answer in the place of"
                f" {self.settings.name}: stop it, or set another PORT in {self.settings.path}"
            )

    def _listens(self) -> bool | None:
        """Whether a process of ours listens on the port; None where /proc doesn't tell."""
        sockets = sockets_on(self.settings.port)
        if sockets is None:
            return None
        if not sockets or self.pid is None:
            return False
        told = [holds(pid, sockets) for pid in members(self.pid)]
        return True in told or (None if None in told else False)

    def _check_age(self, server: Server) -> None:
        """Raise StartFailedError where an older server answers; it says its age on /metrics."""
        began_s = (server.counters() or {}).get(STARTED)
        if began_s is not None and began_s < self._began_wall_s - CLOCK_S:
            older_s = self._began_wall_s - began_s
            raise self._failed(
                f"is not what answers on its port: that began {older_s:.0f} s before"
            )

    def _failed(self, what: str) -> StartFailedError:
        status = self._status()
        if status is not None and self._output is not None:
            self._output.close()  # its last words
        lines = self.last_lines()
        code = "" if status is None else f" ({_ending(status)})"
        words = masked(what, self.settings.secrets)
        said = f": {printable(bare(lines[0]))}" if lines else ""
        return StartFailedError(
            f"{self.settings.name}: the server {printable(words)}{code}{said}; log: {self.log}",
            status,
            lines,
        )

    def _kill_all(self) -> None:
        """SIGKILL what is left of the session until nothing is, and its port is free."""
        assert self._process is not None
        give_up_s = time.monotonic() + GONE_S
        while (left := self._killed()) or not self._port_is_free():
            if time.monotonic() > give_up_s:
                holder = f"processes {left}" if left else holder_of(self.settings.port)
                raise StopFailedError(
                    f"{self.settings.name}: SIGKILL did not end {holder or 'the server'} in"
                    f" {GONE_S:.0f} s, or port {self.settings.port} is still taken"
                )
            time.sleep(0.02)
        self._process.wait()
        self._process = None
        if self._output is not None:
            self._output.close()

    def _status(self) -> int | None:
        """Return how the leader ended, below 0 by a signal; None: it lives, or never began.

        It isn't waited for, so that nobody else gets its number, which is its children's group.
        """
        if self._process is None:
            return None
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        found = os.waitid(os.P_PID, self._process.pid, flags)
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def _killed(self) -> list[int]:
        """Send SIGKILL to all that live of the session, and return them."""
        assert self._process is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # where /proc lists nobody, too
        left = members(self._process.pid)
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        return left

    def _port_is_free(self) -> bool:
        """Whether it is, where this server had it; a stranger's is told at the next start."""
        return not self._had_port or is_free(self.settings.host, self.settings.port)


def _environment(settings: Settings) -> dict[str, str]:
    """Return the environment of run_server.sh; the simulator needs this interpreter's packages."""
    found = dict(settings.environ)
    if found.get("SIMULATOR"):
        found["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{found.get('PATH', os.defpath)}"
    return found


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"

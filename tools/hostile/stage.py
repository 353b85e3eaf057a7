"""One bench.py on its stage: a simulator, a proxy before it if need be, and a results folder."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .loads import PACE, Load, write_load
from .processes import ROOT, SimulatorProcess, lives, of_session, senders_of, wait_until
from .proxy import Proxy

DISK = "40m"  # bench.py asks for 20 MB before it begins, and pictures take some
END_LIMIT_S = 60.0  # of a bench.py of some seconds, whatever happens to it
BEHIND_LIMIT_S = 8.0  # for the processes that it started to end too
READ_LIMIT_S = 60.0
WAITS = ("--wait-s", "5", "--give-up-s", "3")  # for a server that isn't there


class Stage:
    """Everything that a fault may strike, and what it takes to clean up."""

    def __init__(self, folder: Path, rng: random.Random, load: Load, *, proxied: bool) -> None:
        """Prepare an empty folder. Raises OSError."""
        self.folder, self.rng, self.load = folder, rng, load
        folder.mkdir(parents=True)
        self.results = folder / "disk" / "results"
        self.results.parent.mkdir()
        self.simulator = SimulatorProcess(folder, PACE)
        self.proxy = Proxy(rng) if proxied else None
        self.twin: subprocess.Popen[bytes] | None = None
        self.bench: subprocess.Popen[bytes] | None = None
        self.mounted: list[Path] = []
        self.told: dict[str, str] = {}

    @property
    def pid(self) -> int:
        """The process id of bench.py."""
        assert self.bench is not None
        return self.bench.pid

    @property
    def net(self) -> Proxy:
        """The proxy."""
        assert self.proxy is not None
        return self.proxy

    def open(self, *faults: str) -> None:
        """Start the server, with these faults, and write the scenario."""
        self.simulator.start(*(("--faults", ", ".join(faults)) if faults else ()))
        port = self.simulator.port
        if self.proxy is not None:
            self.proxy.server_port, port = port, self.proxy.port
        write_load(self.folder, self.load, f"http://127.0.0.1:{port}/v1")

    def start(self, name: str, *more: str, pipe: bool = False) -> subprocess.Popen[bytes]:
        """Start a bench.py; what it says goes to a file, or to a pipe."""
        words = ("--scenarios", "scenarios.yaml", "--plain", *WAITS, *self.load.words, *more)
        return self._started("bench", name, words, pipe=pipe)

    def _started(
        self, script: str, name: str, words: Sequence[str], *, pipe: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a script on the results, in a session of its own."""
        command = [sys.executable, str(ROOT / "bench" / f"{script}.py"), *words]
        with (self.folder / f"{name}.err").open("wb") as err:
            return subprocess.Popen(
                [*command, "--results-dir", str(self.results)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else err,
                stderr=subprocess.STDOUT if pipe else err,
                env={**os.environ, "VLLM_BENCH_CACHE": str(self.folder / "cache")},
                start_new_session=True,
            )

    def senders(self) -> list[int]:
        """Return the sending processes that there are."""
        return senders_of(self.pid)

    def sender(self) -> int | None:
        """Return one of the sending processes; None: there is none now."""
        found = self.senders()
        return self.rng.choice(found) if found else None

    def seen(self) -> int:
        """Return how many requests the server has recorded."""
        return sum(p.read_bytes().count(b"\n") for p in self.simulator.truths if p.exists())

    def begun(self) -> bool:
        """Whether bench.py's first line has run: before it Python hears a signal, or loses it."""
        status = (Path("/proc") / str(self.pid) / "status").read_text(encoding="utf-8")
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught >> signal.SIGTERM - 1 & 1)

    def over(self) -> bool:
        """Whether bench.py has ended."""
        return self.bench is not None and self.bench.poll() is not None

    def wait_end(self, limit_s: float) -> int | None:
        """Wait for the end of bench.py, and end it where it doesn't; None: it had to be ended."""
        assert self.bench is not None
        return self._waited(self.bench, limit_s)

    def _waited(self, process: subprocess.Popen[bytes], limit_s: float) -> int | None:
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._end_session(process.pid)
            process.wait()
            return None

    def left_behind(self) -> list[str]:
        """Wait for the processes that bench.py started; name and end those that stay."""
        leaders = [self.pid, *([self.twin.pid] if self.twin else [])]
        for leader in leaders:
            wait_until(lambda leader=leader: not of_session(leader), BEHIND_LIMIT_S)  # type: ignore[misc]
        found = [pid for leader in leaders for pid in of_session(leader)]
        named = [f"process {pid} lives on" for pid in found]
        for leader in leaders:
            self._end_session(leader)
        return named

    def _end_session(self, leader: int) -> None:
        for pid in of_session(leader):
            kill(pid, signal.SIGKILL)

    def read(self, script: str, *words: str) -> int | None:
        """Run a script that reads the folder; None: it didn't end."""
        return self._heard(self._started(script, script, words), script)

    def resume(self) -> int | None:
        """Run bench.py again for what is missing."""
        return self._heard(self.start("resume", "--resume"), "resume")

    def _heard(self, process: subprocess.Popen[bytes], name: str) -> int | None:
        code = self._waited(process, READ_LIMIT_S)
        said = self.folder / f"{name}.err"
        self.told[name] = said.read_text(encoding="utf-8", errors="replace")
        return code

    def calm(self) -> None:
        """Make the world kind again: a sound server on its port, a folder that can be written."""
        self.simulator.signal(signal.SIGCONT)
        self.simulator.end(signal.SIGTERM)  # it writes the rest of its record
        self.simulator.start()
        if self.proxy is not None:
            self.proxy.behave()
        self._unmount_last()
        for path in self.results.parent.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)
        (self.results.parent / "ballast").unlink(missing_ok=True)

    def mount_disk(self) -> bool:
        """Give the results a small disk of their own; False: only root may do that."""
        return self._mount("-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", self.results.parent)

    def mount_read_only(self) -> bool:
        """Make the results read-only for whoever opens a file from now on."""
        if not self._mount("--bind", self.results, self.results):
            return False
        return self._mount("-o", "remount,bind,ro", self.results, again=True)

    def _mount(self, *words: object, again: bool = False) -> bool:
        if os.geteuid() != 0:
            return False
        done = subprocess.run(["mount", *map(str, words)], capture_output=True, check=False)
        if done.returncode == 0 and not again:
            self.mounted.append(Path(str(words[-1])))
        return done.returncode == 0

    def _unmount_last(self) -> None:
        while self.mounted and self.mounted[-1] == self.results:
            subprocess.run(["umount", str(self.mounted.pop())], check=False)

    def close(self) -> None:
        """End everything that was started."""
        for process in (self.bench, self.twin):
            if process is not None:
                self._end_session(process.pid)
                process.wait()
        self.simulator.signal(signal.SIGCONT)
        self.simulator.end(signal.SIGTERM)
        if self.proxy is not None:
            self.proxy.close()
        for path in reversed(self.mounted):
            time.sleep(0.05)
            subprocess.run(["umount", "-l", str(path)], check=False)


def kill(pid: int, number: int) -> None:
    """Send a signal; a process that has ended meanwhile doesn't mind."""
    with suppress(ProcessLookupError):
        if lives(pid):
            os.kill(pid, number)

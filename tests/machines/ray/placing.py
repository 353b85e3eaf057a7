"""Ray's clusters and processes, for tests: started, told apart, and ended."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[3]
CLUSTER = Path(__file__).with_name("cluster.py")
TOKEN = "0123456789abcdef0123456789abcdef"
# Ray's own niceness, 15, lets nothing start for a minute where the cores are busy.
NODES = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "3"}


def has_ray() -> bool:
    ray = importlib.util.find_spec("ray")
    return ray is not None and ray.origin is not None


@dataclass(frozen=True)
class Place:
    """A cluster, and the variables of somebody who may use it."""

    address: str
    environ: dict[str, str]
    folder: Path


@contextmanager
def cluster() -> Iterator[Place]:
    """Somebody's cluster, which doesn't see this checkout's folder as its own."""
    with TemporaryDirectory(prefix="vbt-", dir="/tmp") as folder:
        home = Path(folder)
        (home / "ray_bootstrap_config.yaml").write_text("provider: {type: local}\n")
        environ = {
            "HOME": folder,
            "RAY_TMPDIR": folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
        }
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(CLUSTER)],
            cwd=folder,
            env={**os.environ, **environ, **NODES},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert address, process.communicate()[1]
            yield Place(address, environ, home)
        finally:
            process.communicate()  # its input's end is its own


@dataclass(frozen=True)
class Running:
    """A process, as the system tells it."""

    pid: int
    parent: int
    words: str
    began: str


def processes() -> dict[int, Running]:
    """Return all that run now, by id."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = os.fsdecode(stat.read_bytes()).rpartition(")")[2].split()
            words = os.fsdecode((stat.parent / "cmdline").read_bytes()).replace("\0", " ")
            if fields[0] != "Z":
                pid = int(stat.parent.name)
                found[pid] = Running(pid, int(fields[1]), words, fields[19])
    return found


def foremen_at(door: str, every: Mapping[int, Running]) -> list[Running]:
    """Return those that dialled this address, of all that run, in the order of their nodes."""
    found = [p for p in every.values() if f"sender.py {door}/" in p.words]
    return sorted(found, key=lambda p: p.words)


def below(pid: int, every: Mapping[int, Running]) -> list[Running]:
    """Return what comes from a process, of all that run."""
    children = [p for p in every.values() if p.parent == pid]
    return children + [each for child in children for each in below(child.pid, every)]


def alive(some: list[Running]) -> list[Running]:
    """Return those that still run; another process may have got an old one's id."""
    now = processes()
    return [p for p in some if p.pid in now and now[p.pid].began == p.began]

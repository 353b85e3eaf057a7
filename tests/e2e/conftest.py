"""Servers for the end-to-end tests: a real vLLM with a tiny model on this machine's CPU."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 900.0  # its first start installs vLLM


@dataclass
class Served:
    """A server that runs as a process group of its own."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def root_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.root_url}/v1"

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.root_url}/health", timeout=2) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def wait_healthy(self) -> None:
        give_up = time.monotonic() + START_LIMIT_S
        while not self.healthy():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < give_up, self.log.read_text()[-3000:]
            time.sleep(0.2)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.root_url}/metrics", timeout=10) as reply:
            return str(reply.read().decode())

    def kill(self) -> None:
        """SIGKILL the whole group: the server and its engine."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def start_vllm(folder: Path, *arguments: str) -> Served:
    port, log = free_port(), folder / "vllm.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["sh", str(ROOT / "tools" / "vllm_cpu.sh"), *arguments],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PORT": str(port)},
        )
    served = Served(process, port, log)
    served.wait_healthy()
    return served


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for all the tests that leave it whole."""
    served = start_vllm(tmp_path_factory.mktemp("vllm"))
    yield served
    served.kill()


@pytest.fixture
def doomed_vllm(tmp_path: Path) -> Iterator[Served]:
    """A server that a test may kill."""
    served = start_vllm(tmp_path)
    yield served
    served.kill()

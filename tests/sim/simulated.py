"""The simulator as a process of its own, as a person would start it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

from tests.support.beside.waiting import LIMIT_S

SCRIPT = Path(__file__).resolve().parents[2] / "server" / "simulator.py"


class Simulated:
    """Starts server/simulator.py on a free port and stops it at the end of the block."""

    def __init__(self, *flags: str) -> None:
        self.flags = flags

    def __enter__(self) -> Simulated:
        self._folder = tempfile.TemporaryDirectory()
        self.truth_path = Path(self._folder.name) / "truth.jsonl"
        base = [sys.executable, str(SCRIPT), "--port", "0", "--truth", str(self.truth_path)]
        self.process = subprocess.Popen(
            [*base, *self.flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.process.communicate()[1]
        self.client = httpx.Client(base_url=self.url, timeout=LIMIT_S, trust_env=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.stop()
        self._folder.cleanup()

    def stop(self) -> int:
        """GenerationRequest it to end, as Ctrl-C does, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode

    def truth(self) -> list[dict[str, Any]]:
        """Stop the server and return what it wrote down, in the order in which requests ended."""
        self.stop()
        return self.so_far()

    def so_far(self) -> list[dict[str, Any]]:
        """Return what it has written down until now."""
        return [json.loads(line) for line in self.truth_path.read_text().splitlines()]

    def stream(self, path: str, **body: Any) -> list[Any]:
        """Return the events of a streamed request; the payload [DONE] as a string."""
        answer = self.client.post(path, json={"stream": True, **body})
        assert answer.status_code == 200, answer.text
        return events(answer.text)


def events(text: str) -> list[Any]:
    """Return the payloads of a stream, parsed."""
    payloads = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


def read_counters(text: str) -> dict[str, float]:
    """The samples of /metrics by name, those of all labels added up."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name = line.partition("{")[0].partition(" ")[0]
            sums[name] = sums.get(name, 0) + float(line.rpartition(" ")[2])
    return sums

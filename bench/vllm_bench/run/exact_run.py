"""One run of bench.py against a simulator that sends every token at a set time.

The simulator records when it really read and sent; what the client's files report beyond that is
the client's error. Client and simulator share the machine: each sending process has its own core,
as in any run, and the simulator uses the others.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from ..crew.started import allowed_cores, choose_workers, cores_for
from ..errors import BenchError
from ..program import Used, run_to_end
from ..script import ROOT
from ..simulator import simulator


class CalibrationError(BenchError):
    """A measurement that failed; the text is one line for people."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The load and the times that the simulator is set to."""

    streams: int
    ttft_ms: float
    itl_ms: float
    tokens: int  # of each request

    @property
    def requests(self) -> int:
        """Enough for two requests per stream, for some ten seconds, and for a p99.

        With few streams a p99 would take minutes and say little.
        """
        request_s = (self.ttft_ms + (self.tokens - 1) * self.itl_ms) / 1000
        rounds = max(2, round(10 / request_s))
        return max(self.streams * rounds, 400 if self.streams >= 64 else 0)


@dataclass(frozen=True, slots=True)
class ExactRun:
    """The files of a run and of the simulator, and the CPU and memory that bench.py used."""

    rows: Path
    truth: Path
    cpu_s: float  # of bench.py and of its sending processes
    memory_bytes: int  # peak, of bench.py without them


@dataclass(frozen=True, slots=True)
class SourceRun:
    """The rows of a run, and what each process that sent prepared bytes says of itself."""

    rows: Path
    sent: list[dict[str, float]]


def exact_run(pace: Pace, folder: Path) -> ExactRun:
    """Run bench.py in a folder, as a user would, against a new simulator.

    Raises CalibrationError, SimulatorError.
    """
    truth = folder / "truth.jsonl"
    words = ["--exact", "--ttft-ms", f"{pace.ttft_ms:g}", "--itl-ms", f"{pace.itl_ms:g}"]
    flags = (*words, "--truth", str(truth), "--model", "exact")
    workers = choose_workers(pace.streams, len(allowed_cores()))
    with simulator(*flags, cores=_left_by(workers)) as (base_url, _):
        used = _bench(pace, base_url, folder)
    (rows,) = (folder / "results").glob("*.csv")
    return ExactRun(rows, truth, used.cpu_s, used.memory_bytes)


def source_run(pace: Pace, folder: Path) -> SourceRun:
    """Run bench.py with one sending process, against processes that send prepared bytes.

    Raises CalibrationError, SimulatorError.
    """
    record, left = folder / "source.jsonl", _left_by(1)
    words = ("--itl-ms", f"{pace.itl_ms:g}", "--tokens", str(pace.tokens), "--model", "exact")
    flags = (*words, "--processes", str(max(2, len(left))), "--record", str(record))
    with simulator(*flags, cores=left, script="source.py") as (base_url, _):
        _bench(pace, base_url, folder, "--workers", "1")
    (rows,) = (folder / "results").glob("*.csv")
    lines = record.read_text(encoding="utf-8").splitlines()
    return SourceRun(rows, [json.loads(line) for line in lines])


def _left_by(workers: int) -> list[int]:
    """Return the cores that the sending processes leave; none where they have none of their own."""
    allowed = allowed_cores()
    taken = cores_for(workers, allowed)
    return [core for core in allowed if core not in taken]


def _bench(pace: Pace, base_url: str, folder: Path, *more: str) -> Used:
    settings = {
        "base_url": base_url,
        "model": "exact",
        "dataset": "sample",
        "max_new_tokens": pace.tokens,
        "ignore_eos": True,
        "concurrencies": [pace.streams],
        "num_requests": pace.requests,
    }
    scenarios, log = folder / "scenarios.yaml", folder / "bench.log"
    found = json.dumps({"scenarios": {"calibrate": settings}})  # JSON is YAML
    scenarios.write_text(found, encoding="utf-8")
    words = ["--scenarios", str(scenarios), "--results-dir", str(folder / "results"), *more]
    used = run_to_end([sys.executable, str(ROOT / "bench" / "bench.py"), *words], log)
    if used.exit_code not in (0, 4):  # 4: INVALID; how bad the client is, is what is measured
        said = log.read_text(encoding="utf-8", errors="replace")
        raise CalibrationError(f"bench.py failed: {said[-500:]}")
    return used

"""Plays a setup: a simulator, bench.py as a user would start it, and what both wrote down."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from ..errors import BenchError
from ..figures.metrics import headline_metric
from ..interrupts import INTERRUPTS
from ..records.find_runs import load_run
from ..script import ROOT
from ..simulator import simulator
from ..summary.summary import RunSummary, summarize
from ..verdict.verdict import headline
from .inputs import MANY
from .rule import Off, furthest_off, is_right
from .situation import Setup, Situation, Stage
from .users import LoadAsked, read_served, true_figures

PATIENCE_S = 15.0  # after an interrupt; bench.py waits 5 s for what is in flight
MEASURED = {
    "TTFT p50": ("ttft_ms", 50),
    "TTFT p95": ("ttft_ms", 95),
    "latency p50": ("latency_ms", 50),
    "TPOT p50": ("tpot_ms", 50),
    "prompt tokens p50": ("prompt_tokens", 50),
}
DEFAULTS = {"model": "simulated", "dataset": f"file:{MANY}", "max_new_tokens": 64}


class PlayError(BenchError):
    """A run of a case that left no result."""


@dataclass(frozen=True, slots=True)
class Played:
    """What the tool showed of a run, and what its users saw."""

    summary: RunSummary
    shown: Mapping[str, float | None]
    true: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Judged:
    """A case with its outcome."""

    situation: Situation
    off: Off | None
    verdict: str  # the word, with its codes
    right: bool


def judged(situation: Situation, played: Played, meant: Played) -> Judged:
    """Hold what a run showed against what the users of the run that was meant saw."""
    shown = {name: played.shown[name] for name in situation.figures}
    off = furthest_off(shown, meant.true)
    verdict = played.summary.verdict
    return Judged(situation, off, headline(verdict), is_right(off, verdict.level))


def play(setup: Setup, folder: Path, files: Path) -> Played:
    """Play a setup in a new folder; `files` has prompts and traces. Raises PlayError."""
    folder.mkdir(parents=True)
    flags = tuple(setup.server.split())
    cores = sorted(os.sched_getaffinity(0))
    with simulator(*flags, "--truth", str(folder / "truth.jsonl")) as (base_url, pid):
        if cores[1:]:
            os.sched_setaffinity(pid, cores[:-1])  # off the core of the client's sending process
        stage = Stage(base_url, pid, flags, folder, cores[-1])
        with setup.beside(stage) if setup.beside else nullcontext(base_url) as seen_url:
            _bench(setup, seen_url, folder, files)
    return _result(folder)


def _bench(setup: Setup, base_url: str, folder: Path, files: Path) -> None:
    settings = {**DEFAULTS, **setup.scenario, "base_url": base_url}
    scenarios = folder / "scenarios.yaml"
    written = json.dumps({"scenarios": {"planted": settings}})  # JSON is YAML
    scenarios.write_text(written, encoding="utf-8")
    words = ["--scenarios", str(scenarios), "--results-dir", str(folder / "results"), "--plain"]
    words += ["--workers", str(setup.workers)] if setup.workers else []
    sender = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'bench' / 'sender.py'))}"
    for begin in setup.machines:
        words += ["--senders", f"{begin} {sender}".strip()]
    process: subprocess.Popen[bytes] | None = None
    try:
        with (folder / "bench.log").open("wb") as log, INTERRUPTS.put_off():
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "bench" / "bench.py"), *words],
                cwd=files,  # where the scenario's paths begin
                stdout=log,
                stderr=log,
            )
        process.wait()
    except BaseException:
        if process is not None:
            # A terminal signals it as well; a kill of this process alone doesn't.
            process.send_signal(signal.SIGINT)
            _wait_or_kill(process)
        raise


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(PATIENCE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def _result(folder: Path) -> Played:
    found = list((folder / "results").glob("*.csv"))
    if len(found) != 1:
        log = (folder / "bench.log").read_text(encoding="utf-8", errors="replace")
        raise PlayError(f"no run: {' '.join(log.splitlines()[-1:])}")
    summary = summarize(load_run(found[0]))
    load, info = summary.load, summary.info
    assert info is not None
    asked = LoadAsked(
        streams=None if load.is_open else int(load.value),
        ramp_s=float(info.plan.get("ramp_s") or 0.0),
        requests=info.num_requests,
    )
    truth = sorted(folder.glob("truth*.jsonl"))
    served = read_served(truth, summary.run_id, asked.requests)
    return Played(summary, _shown(summary), true_figures(served, asked))


def _shown(summary: RunSummary) -> dict[str, float | None]:
    figures = {
        name: summary.percentile(headline_metric(metric, summary.load), percent)
        for name, (metric, percent) in MEASURED.items()
    }
    rates = (summary.steady, summary.throughput)
    known = (rate.output_tokens_per_s for rate in rates if rate is not None)
    return {**figures, "tokens/s": next((rate for rate in known if rate is not None), None)}

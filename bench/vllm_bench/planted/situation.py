"""What a planted case is: a server, a load, what stands between them, and where its truth is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADLINE = ("TTFT p50", "TTFT p95", "latency p50", "TPOT p50", "tokens/s")
ITSELF = "the server's record of these requests"


@dataclass(frozen=True, slots=True)
class Stage:
    """A simulator that runs, for what is put between it and the client, or beside them."""

    base_url: str  # http://127.0.0.1:43210/v1
    pid: int
    flags: tuple[str, ...]
    folder: Path
    client_core: int  # where bench.py puts its one sending process


# Yields the base URL that the client is given; what it started has ended at the block's end.
Beside = Callable[[Stage], AbstractContextManager[str]]


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """One run of bench.py against a simulator. Two cases that share one share its run."""

    server: str  # the simulator's flags
    scenario: Mapping[str, Any]
    beside: Beside | None = None
    workers: int | None = None  # None: bench.py's own choice
    machines: tuple[str, ...] = ()  # what each one's command begins with; none: one sends alone


@dataclass(frozen=True, slots=True)
class Situation:
    """A case: what was planted, how it is played, and which figures are held against which truth.

    Users are those of the run itself, by the server's stamps, where the client or the way between
    falsify what is seen; where load or cache isn't the one meant, they are those of a run in which
    it is (`meant`).
    """

    name: str
    planted: str  # in a phrase, for the table
    setup: Setup
    healthy: bool = False
    meant: Setup | None = None
    truth: str = ITSELF  # in a phrase
    figures: tuple[str, ...] = HEADLINE

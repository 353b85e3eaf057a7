"""The machines of a run as its JSON has them; parts of it may be absent."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...records.row import Rows
from ...records.run_info import RunInfo
from ...records.text import printable
from ..client import workers

LONGEST_NAME = 64  # characters of a machine's name that are shown


@dataclass(frozen=True, slots=True)
class Machine:
    """One of several machines that sent a run; what isn't known is None."""

    name: str  # as the column `machine` has it
    cores: int | None = None
    nice: int | None = None
    boot_id: str | None = None
    senders: int | None = None
    lost: str | None = None  # how
    offset_ms: float | None = None  # its clock less the head's
    offset_error_ms: float | None = None  # ±
    unsure: bool = False  # it was to be told how far its clock is off, and wasn't
    start_apart_ms: float | None = None  # its start less the instant that was agreed
    fetched: int = 0  # rows that came only after it, or the head, was lost
    server_here: bool = False  # the server's address is one of its own

    @property
    def shown(self) -> str:
        """Its name for people."""
        return printable(self.name, LONGEST_NAME)


def machines_of(info: RunInfo | None) -> list[Machine]:
    """Return the machines that sent a run, by their names; none: one did alone, or not known."""
    found = info.client_health.get("machines") if info else None
    return [_machine(one) for one in found or [] if one.get("machine")]


def _machine(found: dict[str, Any]) -> Machine:
    error_ms = found.get("offset_error_ms")
    # With --keep-rows-remote all come after the run. Of a killed head's machines, names are known.
    late = found.get("lost") is not None or "rows" not in found
    return Machine(
        name=found["machine"],
        cores=found.get("cores"),
        nice=found.get("nice"),
        boot_id=found.get("boot_id"),
        senders=found.get("senders"),
        lost=found.get("lost"),
        offset_ms=found.get("offset_ms"),
        offset_error_ms=error_ms,
        unsure="offset_error_ms" in found and error_ms is None,
        start_apart_ms=found.get("start_apart_ms"),
        fetched=(found.get("fetched") or 0) if late else 0,
        server_here=bool(found.get("server_here")),
    )


def rows_by_machine(rows: Rows, info: RunInfo | None) -> dict[str, NDArray[np.intp]]:
    """Return the places of each machine's rows; none: one sent alone.

    Those machines come first that the JSON has, whether or not they have rows.
    """
    told, column = [machine.name for machine in machines_of(info)], rows.columns.get("machine", ())
    seen = {*column} - {None}
    names = list(dict.fromkeys([*told, *sorted(seen)]))
    if not names:
        return {}
    place = {name: at for at, name in enumerate(names)}
    of_row = np.fromiter((place.get(name, -1) for name in column), np.int64, len(column))
    order = np.argsort(of_row, kind="stable")
    bounds = np.searchsorted(of_row[order], np.arange(len(names) + 1))
    return {name: order[bounds[at] : bounds[at + 1]] for name, at in place.items()}


def senders_of(info: RunInfo | None) -> dict[str, int]:
    """Return how many sending processes each machine had; none: there was one machine alone."""
    of = [worker.get("machine") for worker in workers(info)]
    return {machine.name: of.count(machine.name) for machine in machines_of(info)}


def info_of_machine(info: RunInfo | None, name: str, rows: int) -> RunInfo | None:
    """Return a run's JSON as one of its machines, which sent so many rows, has it.

    Its streams are its own; a rate is still that of the run. What is of the run as a whole (the
    server's counters, samples, clocks) it hasn't.
    """
    if info is None:
        return None
    mine = [worker for worker in workers(info) if worker.get("machine") == name]
    streams = sum(worker.get("streams", 0) for worker in mine)
    return dataclasses.replace(
        info,
        concurrency=streams if info.concurrency is not None else None,
        num_requests=rows,
        server_counters={},
        unmeasured={},
        observed={},
        client_health=_health(info, name, mine),
    )


def _health(info: RunInfo, name: str, mine: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a machine's own health: that of the worst of its sending processes.

    What it doesn't tell of itself is as the run has it.
    """
    whole = info.client_health
    entries = whole.get("machines") or []
    own: dict[str, Any] = next((one for one in entries if one.get("machine") == name), {})
    lags = [worker["loop_lag_ms"] for worker in mine if worker.get("loop_lag_ms")]
    return {
        "workers": list(mine),
        "loop_lag_ms": max(lags, key=lambda lag: lag.get("p99") or 0.0, default=None),
        "lateness_ms": own.get("lateness_ms") or whole.get("lateness_ms"),
        **_clock(whole, mine),
    }


def _clock(whole: dict[str, Any], mine: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return whose clock stamped a machine's tokens, and how far it can be off, at worst.

    A lost process doesn't tell.
    """
    told = [worker for worker in mine if worker.get("clock")]
    if not told:
        return {key: whole.get(key) for key in ("clock", "clock_error_ms")}
    words = {worker["clock"] for worker in told}
    # The worst: the process's own, then a step.
    word = "process" if "process" in words else max(words, key=len)
    errors = [worker.get("clock_error_ms") for worker in told]
    known = [error for error in errors if error is not None]
    return {"clock": word, "clock_error_ms": max(known) if len(known) == len(told) else None}


def clock_words(info: RunInfo) -> str | None:
    """Return which clock stamped a run's tokens; None: not known.

    Where machines differ: `kernel (3 machines), process (node-c)`.
    """
    found: dict[str, list[str]] = {}
    for machine in machines_of(info):
        mine = [worker for worker in workers(info) if worker.get("machine") == machine.name]
        word = _clock(info.client_health, mine)["clock"]
        if word:
            found.setdefault(word, []).append(machine.shown)
    if len(found) < 2:
        word = info.client_health.get("clock")
        return None if word is None else str(word)
    return ", ".join(f"{word} ({_who(names)})" for word, names in found.items())


def machines_in_words(info: RunInfo | None) -> str | None:
    """Return how many machines sent a run, and their cores; None: one did alone, or not known.

    Without their names: those of pods are new each time.
    """
    machines = machines_of(info)
    if not machines:
        return None
    cores = Counter(machine.cores for machine in machines)
    each = [f"{count} of {known or '?'} cores" for known, count in sorted(cores.items(), key=str)]
    return f"{each[0]} each" if len(each) == 1 else f"{len(machines)}: {', '.join(each)}"


def _who(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} machines"

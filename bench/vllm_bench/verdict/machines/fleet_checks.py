"""Doubts about several machines: one that was lost, their clocks, their common start."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ...figures.client import workers
from ...figures.digits import counted, short
from ...figures.facts import Facts
from ...figures.machines.machine import Machine, machines_of
from ...records.text import listed, printable
from ..finding import Doubt, Severity, check

SKEW_MS = 20.0  # as long as a short TTFT
APART_MS = 5.0
MOST_NAMED = 3


@check(
    "the requests that it still had to send are missing, and those of the others met less load",
    invalid="any",
)
def machine_lost(facts: Facts) -> Doubt | None:
    """A machine, or a sending process of one, died or froze, so its requests are missing."""
    machines = machines_of(facts.info)
    lost = [one for m in machines if (one := _how_lost(facts, m))]
    if not lost:
        return None
    fetched = sum(m.fetched for m in machines)
    came_late = f", {fetched:,} came after the run" if fetched else ""
    return Doubt(
        f"{len(lost)} of {counted(len(machines), 'machine')}: {listed(lost)}; "
        f"{facts.missing_in_words}{came_late}",
        "look there for what ended it (memory, the system's log, the network between), and run "
        "again: --resume leaves out what is complete",
    )


def _how_lost(facts: Facts, machine: Machine) -> str | None:
    """Return how a machine was lost, or how many of its sending processes; None: all went well."""
    if machine.lost is not None:
        return f"{machine.shown} {printable(machine.lost, 100)}"
    mine = [w for w in workers(facts.info) if w.get("machine") == machine.name]
    dead = sum(bool(worker.get("lost")) for worker in mine)
    if not dead:
        return None
    return f"{dead} of {len(mine)} sending processes on {machine.shown} died"


@check(
    "by how much a machine's clock may be off the head's (the ± of its offset, at its worst) / the "
    "steady window: rows of several machines meet at the window's edges, in the requests in "
    f"flight, and in rates. {SKEW_MS:g} ms is a short TTFT. No time of a request is affected: each "
    "is a difference on one clock",
    suspect=0.01,
    invalid=0.10,
    only=(f", or > {SKEW_MS:g} ms, or not known", ""),
    about=("pace",),
)
def clock_skew(facts: Facts) -> Doubt | None:
    """It isn't known well enough how a machine's clock stands to the others'."""
    there = [m for m in machines_of(facts.info) if m.lost is None]
    unsure = [m for m in there if m.unsure]
    if unsure:
        who = listed([m.shown for m in unsure])
        figures = f"how far the clock of {who} is off isn't known: no ping was answered"
        return Doubt(figures, CLOSER, at_least=Severity.SUSPECT)
    known = [(m.offset_error_ms, m.shown) for m in there if m.offset_error_ms is not None]
    if not known or not facts.judged_s:
        return None
    error_ms, name = max(known)
    return Doubt(
        f"{name}'s clock is known to ± {short(error_ms)} ms, in a {facts.judged_in_words}",
        CLOSER,
        error_ms / (1000 * facts.judged_s),
        at_least=Severity.SUSPECT if error_ms > SKEW_MS else None,
    )


CLOSER = (
    "the ± is half the fastest ping to the head: look for a network that is full or far, and a "
    "machine that is too busy to answer; TTFT, TPOT and latency are right all the same"
)


@check(
    "ms between the first machine's start and the last one's, on one timeline. Arrivals by a "
    "schedule are then not the ones that were drawn, and streams that should start together don't; "
    "streams that start staggered are spread over far more, and the window begins after all of "
    "them: there it is a note",
    suspect=APART_MS,
    unit="ms",
    only=(", of a schedule or with `start: together`", ""),
    about=("all",),
)
def start_apart(facts: Facts) -> Doubt | None:
    """The machines didn't start at one moment."""
    known = [
        (m.start_apart_ms, m.shown)
        for m in machines_of(facts.info)
        if m.start_apart_ms is not None and m.lost is None
    ]
    if len(known) < 2:
        return None
    first, last = min(known), max(known)
    scheduled = facts.load.is_open or any(p.load.is_open for p in facts.classes.values())
    matters = scheduled or facts.plan("start") == "together"
    return Doubt(
        f"{last[1]} started {last[0] - first[0]:.1f} ms after {first[1]}",
        "look at what kept it (loop_lag_p99_ms, nice, a busy machine), and at the ± of its clock",
        last[0] - first[0],
        at_most=Severity.SUSPECT if matters else Severity.NOTE,
    )


@check(
    "others go before it on its cores: this explains late stamps and late sends, which are "
    "judged by themselves"
)
def machine_nice(facts: Facts) -> Doubt | None:
    """A machine's sending processes run at a lower priority than other programs."""
    nice = [m for m in machines_of(facts.info) if (m.nice or 0) > 0]
    if not nice:
        return None
    who = listed([f"{m.shown} at nice {m.nice}" for m in nice])
    return Doubt(
        f"{who}: other programs there go first",
        "start it at nice 0; Ray's workers run at 15 unless RAY_worker_niceness=0 is in the "
        "environment of its `ray start`",
    )


@check("they share its cores, its ports and its network: that isn't the load of several machines")
def machine_twice(facts: Facts) -> Doubt | None:
    """Several of the machines are one (equal boot ids)."""
    of: defaultdict[str, list[str]] = defaultdict(list)
    for machine in machines_of(facts.info):
        if machine.boot_id:
            of[machine.boot_id].append(machine.shown)
    twice = [names for names in of.values() if len(names) > 1]
    if not twice:
        return None
    groups = "; ".join(map(_together, twice[:MOST_NAMED]))
    more = f"; and {len(twice) - MOST_NAMED} more such" if len(twice) > MOST_NAMED else ""
    return Doubt(
        f"{groups} are one machine{more}",
        "fine for a trial; for more load than one machine sends, place one of them on each",
    )


def _together(names: Sequence[str]) -> str:
    """Return `a, b and c`, the first few of many: `a, b, c and 4 more`."""
    if len(names) > MOST_NAMED:
        return listed(names, MOST_NAMED)
    return f"{', '.join(names[:-1])} and {names[-1]}"

"""Doubts about the server's pace over time: a queue that grows, a server that stands still."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..figures.facts import Facts
from ..figures.in_flight import InFlight, without_first_token
from ..records.beside.samples import ALL
from ..stats.batches import Values
from ..stats.distribution import floats, quantile
from .finding import Doubt, Severity, check

CHANCE = 2.0  # standard deviations of what is served: growth by less can be chance
OWN_CHANCE = 3.0  # for a trace, whose arrivals are only known as they came; times their cv
LEAST_CV = 0.5  # of service times: of more regular ones the rest of the server isn't
MIN_PREFILLS = 20  # a run of fewer undisturbed TTFTs is still filling up
LEAST_SHARE = 1 / 3  # of the run, for which the queue must have stayed longer than at first
MIN_ARRIVALS = 100  # fewer say nothing about a trend
STILL_S, STILL_GAPS = 1.0, 20  # no token for longer than either: the server stands still


@check(
    "share of the arrivals that only lengthened the queue, since it was last as short as in the "
    "first third of the run; more than chance, and for a third of the run or longer: waits then "
    "grow for as long as the run lasts, and above a fifth every mean and percentile depends on its "
    "length",
    suspect=0.03,
    invalid=0.20,
    only=(" (open loop)", ""),
)
def not_stationary(facts: Facts) -> Doubt | None:
    """More requests came than were served: the queue grew for as long as the run lasted."""
    grown = _growth(facts)
    if grown is None or grown.share * math.sqrt(grown.served) <= grown.chance:
        return None
    return Doubt(
        f"since {grown.since_s:.0f} s requests without a first token were never as few as "
        f"{grown.base:.1f}, their mean in the first third; {100 * grown.share:.0f} % of what came "
        f"since then only lengthened the queue, to {grown.last} at the end",
        "there is no steady state to measure: send less, or report this rate as one that the "
        "server doesn't sustain; latencies here depend on how long the run was",
        grown.share,
    )


@dataclass(frozen=True, slots=True)
class _Growth:
    """The queue from the last moment at which it was as short as in the first third."""

    base: float  # its mean length then
    since_s: float
    served: int  # first tokens since
    share: float  # of the arrivals since, which weren't served
    last: int  # its length at the last arrival
    chance: float


def _growth(facts: Facts) -> _Growth | None:
    """Return how the queue grew; None where it didn't, or nothing can be said.

    Served requests are compared with the rate asked for, not with those that came: then chance is
    only in what was served.
    """
    rows = facts.by_the_clock
    queue = without_first_token(rows) if facts.load.is_open and len(rows) else None
    due_s = floats(rows["t_scheduled_s"])
    due_s = due_s[due_s >= facts.ramp_s]
    if queue is None or due_s.size < MIN_ARRIVALS:
        return None
    start_s, end_s = float(due_s.min()), float(due_s.max())
    shortest_ms = quantile(floats(facts.succeeded["ttft_ms"]), 2) or 0.0
    if end_s - start_s <= MIN_PREFILLS * shortest_ms / 1000:
        return None
    base = queue.mean_between(start_s, start_s + (end_s - start_s) / 3)
    since_s = _last_at_most(queue, base, end_s, start_s)
    if end_s - since_s < LEAST_SHARE * (end_s - start_s):
        return None
    came = int((due_s > since_s).sum())
    served = came - (queue.at(end_s) - queue.at(since_s))
    is_trace = facts.plan("shape") == "trace" or facts.load.speed is not None
    meant = came if is_trace else facts.load.value * (end_s - since_s)
    chance = CHANCE * _service_cv(facts)
    if is_trace:
        chance = OWN_CHANCE * max(1.0, facts.plan_number("realised_cv") or 1.0)
    share = 1 - served / meant
    return _Growth(base, since_s, max(served, 0), share, queue.at(end_s), chance)


def _service_cv(facts: Facts) -> float:
    """Return the cv of the time that a reply took after its first token: no queue is in it.

    The more alike services are, the less chance is in how many of them end.
    """
    rows = facts.succeeded
    served_ms = floats(rows["latency_ms"] - rows["ttft_ms"])
    if not served_ms.size or not served_ms.mean() > 0:
        return 1.0
    return max(LEAST_CV, float(served_ms.std() / served_ms.mean()))


def _last_at_most(queue: InFlight, length: float, end_s: float, start_s: float) -> float:
    """Return when the queue was last that short before the end; the start where it never was."""
    short = queue.times_s[(queue.levels <= length) & (queue.times_s < end_s)]
    return max(start_s, float(short[-1])) if short.size else start_s


@check(
    "share of the time in which no token came on any stream, for over 1 s and 20 median gaps, "
    "while some were past their first token. A closed loop sends nothing meanwhile, so its "
    "percentiles leave it out; an open loop's have it, and it is a note",
    suspect=0.01,
    only=(" (closed loop)", ""),
)
def stalls(facts: Facts) -> Doubt | None:
    """The server stood still, with all of its streams."""
    lengths_s = _still_s(facts)
    if lengths_s is None or not lengths_s.size:
        return None
    share = float(lengths_s.sum()) / facts.judged_s
    return Doubt(
        f"no token came on any stream {lengths_s.size} times, for {lengths_s.max():.1f} s at most, "
        f"{share:.1%} of the time",
        "look into the server's log at these moments (timeline picture): compilation, swapping, "
        "a long prefill, a neighbour on the machine",
        share,
        at_most=Severity.NOTE if facts.load.is_open else Severity.SUSPECT,
        at_least=Severity.NOTE,
    )


def _still_s(facts: Facts) -> Values | None:
    """Return the lengths of the times in the judged part without a token, while some were due."""
    reads, judged, gap_ms = facts.reads, facts.judged, facts.token_gap_p50_ms
    if reads is None or judged is None or not gap_ms:
        return None
    begins = np.isnan(reads.wait_ms)
    first_s, last_s = reads.t_ns[begins] / 1e9, reads.t_ns[np.roll(begins, -1)] / 1e9
    came_s = np.sort(reads.t_ns) / 1e9
    lengths_s = np.diff(came_s)
    long = np.flatnonzero(lengths_s > max(STILL_S, STILL_GAPS * gap_ms / 1000))
    from_s = came_s[long]
    decoding = np.searchsorted(np.sort(first_s), from_s, side="right") - np.searchsorted(
        np.sort(last_s), from_s, side="right"
    )
    inside = (decoding > 0) & (from_s < judged.end_s) & (came_s[long + 1] > judged.start_s)
    still: Values = lengths_s[long][inside]
    return still


FEWEST_OF_A_CLASS = 20  # first tokens, of which medians are compared
NO_EFFECT = 0.8  # of the others' median TTFT: who goes first in a queue waits far less
QUEUED = 0.5  # share of the readings with somebody in the queue
BY_PRIORITY = "start it with --scheduling-policy priority"


@check(
    "classes have different priorities, which this server takes and ignores: each class then has "
    "what first come, first served gives it",
    suspect="priorities that differ",
)
def priority_ignored(facts: Facts) -> Doubt | None:
    """Requests had different priorities, and the server doesn't order its queue by them."""
    asked, policy = _priorities(facts), _policy(facts)
    if len({*asked.values()}) < 2 or policy in (None, "priority"):
        return None
    given = ", ".join(f"{name} {priority}" for name, priority in asked.items())
    return Doubt(f"priorities ({given}) under the policy {policy}", BY_PRIORITY)


@check(
    f"the classes' median TTFTs, where requests were queued in {100 * QUEUED:g} % of the readings "
    f"or more: the first in a queue should wait less than {NO_EFFECT:g} of the others' wait; "
    "prompts of different lengths can hide it, and from outside no more can be told",
)
def priority_unseen(facts: Facts) -> Doubt | None:
    """Requests had different priorities and were queued, and the urgent ones waited as long."""
    asked = _priorities(facts)
    if len({*asked.values()}) < 2 or _policy(facts) is not None or not _was_queued(facts):
        return None
    first, last = min(asked.values()), max(asked.values())
    urgent_ms, other_ms = (
        _median_ttft_ms(facts, [n for n, p in asked.items() if p == at]) for at in (first, last)
    )
    if urgent_ms is None or other_ms is None or urgent_ms < NO_EFFECT * other_ms:
        return None
    return Doubt(
        f"TTFT p50 {urgent_ms:.0f} ms with priority {first}, {other_ms:.0f} ms with {last}, though "
        "requests were queued",
        "it can't be told from outside whether the server orders its queue by priority: "
        f"{BY_PRIORITY}, or in development mode (VLLM_SERVER_DEV_MODE=1), which tells",
    )


def _priorities(facts: Facts) -> dict[str, int]:
    """Return each class's priority; what sets none has vLLM's 0."""
    found = {n: c.setting("priority") or 0 for n, c in facts.classes.items()}
    return dict(sorted(found.items(), key=lambda each: each[1]))


def _policy(facts: Facts) -> str | None:
    """Return how the server orders its queue; None: it doesn't tell.

    Its log has what was passed: where that isn't in it, the default holds.
    """
    settings = facts.server("settings") or {}
    default = "fcfs" if settings.get("told_by") == "log" else None
    found = settings.get("scheduling_policy", default)
    return found if isinstance(found, str) else None


def _was_queued(facts: Facts) -> bool:
    rows = facts.server_rows
    if rows is None:
        return False
    waiting = floats(rows.of(rows["engine"] == ALL)["waiting"])
    return bool(waiting.size) and float((waiting >= 1).mean()) >= QUEUED


def _median_ttft_ms(facts: Facts, classes: Sequence[str]) -> float | None:
    rows = facts.frame.of(facts.measured & np.isin(facts.frame["class"].astype(str), classes))
    found = floats(rows["ttft_ms"] + rows["send_lag_ms"])
    return quantile(found, 50) if found.size >= FEWEST_OF_A_CLASS else None

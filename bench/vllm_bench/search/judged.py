"""From a run to what it shows a search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..figures.attained import Attainment, attainment, tier_attainments
from ..figures.digits import counted
from ..figures.facts import Facts
from ..figures.objectives import BOUND, Outcome, RateOutcome
from ..records.find_runs import Run as FoundRun
from ..serverside.server import ServerSide
from ..stats.distribution import Sample, quantile
from ..summary.summary import RunSummary, facts_of, summarize
from ..verdict.finding import Finding, Severity
from .axis import SLO
from .early import GROWING
from .probe import Late, Probe
from .sizes import Size
from .steps import Step

# What is wrong with these runs is the server's answer to a load that is too high for it.
OVER = ("not_stationary", "errors", "turned_away", "cap_bound")
CUT = ("interrupted",)  # a search ends its runs early itself
# What is held back on the way is late for users too, and objectives are about users.
ON_THE_WAY = ("buffered",)
# Codes that follow from others, although those don't silence them.
FOLLOWS = {"rate_shortfall": ("turned_away", "cap_bound", "errors")}
CLIENT = (
    *("worker_lost", "machine_lost", "clock_skew", "stamp_error", "loop_lag", "send_lag"),
    *("rate_shortfall", "merged_reads"),
)
# These make times longer (merged reads may shorten a TPOT by a part of one gap), so a run that met
# has met without them too. Late sends also change the load, so such a run confirms nothing.
LATE, LATE_SENDS = ("merged_reads",), ("send_lag",)
KV_FULL = 0.97  # of the blocks: the next request's prompt rarely finds room in the rest


@dataclass(frozen=True, slots=True)
class Run:
    """A run that a search made: which step it is, and how it went beyond its summary."""

    number: int
    step: Step
    size: Size
    seconds: float
    stopped: str | None = None


def judged(run: Run, made: FoundRun) -> Probe:
    """Return what a run shows: its verdict, and how many were late of what there is of it."""
    facts = facts_of(made)
    summary, seen = summarize(made, facts), _without_the_cut_off(facts)
    own = attainment(seen)
    tiers = {**({} if own is None else {SLO: own}), **tier_attainments(seen)}
    return _probe(run, summary, {name: one for name, one in tiers.items() if one.on_shares})


def _without_the_cut_off(facts: Facts) -> Facts:
    """Return the facts of a run that its search ended, without what it cut off."""
    if facts.info is None or facts.info.status != "stopped":
        return facts
    frame = facts.frame.of(facts.frame["error_kind"] != "cancelled")
    return Facts(frame, replace(facts.info, num_requests=len(frame)))


def _probe(run: Run, summary: RunSummary, tiers: Mapping[str, Attainment]) -> Probe:
    late = {name: lates(found, summary.samples, summary.classes) for name, found in tiers.items()}
    within = all(one.within for of_tier in late.values() for one in of_tier)
    sends = LATE_SENDS if run.step.purpose != "confirm" else ()
    spared = (*LATE, *sends) if within else ()
    return Probe(
        number=run.number,
        purpose=run.step.purpose,
        tier=run.step.tier,
        load=run.step.load,
        run_id=summary.run_id,
        requests=run.size.requests,
        counted=summary.counted,
        seconds=run.seconds,
        per_s=summary.throughput.requests_per_s if summary.throughput else None,
        late=late,
        short={name: tuple(_short(found)) for name, found in tiers.items()},
        over=_over(run, summary.verdict.findings),
        stopped=None if run.stopped and run.stopped.startswith(GROWING) else run.stopped,
        spoilt=spoilt(f for f in summary.verdict.doubts if f.code not in spared)
        or _unmeasured(tiers),
        verdict=summary.verdict.level,
        limits=tuple(limits(summary.server_side, _most_seqs(summary), late=not within)),
        server=_figures(summary.server_side),
    )


def lates(
    found: Attainment,
    samples: Mapping[str, Sample],
    classes: Mapping[str, RunSummary] | None = None,
) -> tuple[Late, ...]:
    """Return the requests late for each of a run's objectives; one of a class: of its own."""
    of_each = {name: run.samples for name, run in (classes or {}).items()}
    return tuple(
        _late(outcome, of_each.get(outcome.objective.of_class or "", samples))
        for outcome in found.on_shares
    )


def _short(found: Attainment) -> Iterator[str]:
    """Yield the objectives on rates that a run missed, with what there was."""
    for one in found.missed:
        if isinstance(one, RateOutcome):
            yield f"{one.objective.words}: {one.figure}"


def _late(outcome: Outcome, samples: Mapping[str, Sample]) -> Late:
    one, share = outcome.objective, outcome.share
    sample = samples.get(one.metric or "")
    low, high = share.late_bounds(BOUND) if share.of else (0.0, 1.0)
    at = quantile(sample.values, 100 * one.share) if sample is not None else None
    unit = 1000 if one.of_jobs else 1
    return Late(
        objective=one.words,
        figure="" if one.metric is None else one.words.rpartition(" ≤ ")[0],
        limit_ms=None if one.limit is None else one.limit * unit,
        value_ms=unit * at if at is not None else None,
        allowed=max(0.0, outcome.allowed),
        of=share.of,
        late=share.late,
        low=low,
        high=high,
        together=share.together,
    )


def _over(run: Run, findings: Sequence[Finding]) -> str | None:
    """Return why the load is too high, whatever was late; None: nothing says so."""
    if run.stopped is not None and run.stopped.startswith(GROWING):
        return run.stopped
    found = {f.code: f for f in findings if f.severity > Severity.NOTE}
    if "not_stationary" in found:
        return GROWING
    grave = [f for f in found.values() if f.code in OVER and f.severity == Severity.INVALID]
    return grave[0].figures if grave else None


def spoilt(findings: Iterable[Finding]) -> str | None:
    """Return why a run answers nothing, by its code; None: it can be believed."""
    listed = list(findings)
    codes = {f.code for f in listed}
    for found in listed:
        own = not codes.isdisjoint(FOLLOWS.get(found.code, ()))
        if (
            found.severity == Severity.INVALID
            and found.code not in (*OVER, *CUT, *ON_THE_WAY)
            and not own
        ):
            whose = "the client is the limit: " if found.code in CLIENT else ""
            return f"{whose}INVALID ({found.code}): {found.figures}"
    return None


def _unmeasured(tiers: Mapping[str, Attainment]) -> str | None:
    """Return why an objective wasn't measured; a server without it can't meet or miss it."""
    for found in tiers.values():
        for outcome in found.on_shares:
            if outcome.unmeasured is not None:
                return outcome.words
    return None


# ---- what the server said ----


def limits(side: ServerSide, most_seqs: int | None, *, late: bool = True) -> Iterator[str]:
    """Yield what the server was short of, for people; nothing where it doesn't say.

    `late`: more requests were late than may be, so where none waits, the steps take long.
    """
    if (side.kv_cache_peak or 0.0) >= KV_FULL:
        yield "KV cache full"
    elif side.kv_cache_peak is not None and side.preemptions:
        yield f"KV cache at {100 * side.kv_cache_peak:.0f} %"
    if most_seqs is not None and (side.running_peak or 0) >= most_seqs:
        yield f"max_num_seqs ({most_seqs}) reached"
    if side.preemptions:
        yield f"{counted(side.preemptions, 'request')} preempted"
    running, waiting = side.running_peak, side.waiting_peak
    if running is not None and waiting is not None:
        slow = ": the steps take long" if late else ""
        waits = f"{waiting:.0f} waiting" if waiting else f"none waiting{slow}"
        yield f"{running:.0f} running, {waits}"


def _most_seqs(summary: RunSummary) -> int | None:
    """Return the server's max_num_seqs, where it is known."""
    settings = summary.server("settings") or {}
    found = settings.get("max_num_seqs")
    return int(str(found)) if str(found).isdecimal() else None


def _figures(side: ServerSide) -> dict[str, float | None]:
    """Return the server's figures that say by what it was limited."""
    return {
        "kv_cache_peak": side.kv_cache_peak,
        "running_peak": side.running_peak,
        "waiting_mean": side.waiting_mean,
        "waiting_peak": side.waiting_peak,
        "preemptions": side.preemptions,
        "queue_mean_ms": side.queue_mean_ms,
    }

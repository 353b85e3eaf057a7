"""A search in words: what it will do, each of its runs, and its answer."""

from __future__ import annotations

from collections.abc import Iterator

from ..figures.digits import counted
from ..scenario.scenario import Scenario
from .axis import SLO, UNITS, Of, objectives
from .found import OF, Found
from .kept import Search
from .probe import Probe, Purpose, pooled
from .steps import Space, Step, confirming

DOING: dict[Purpose, str] = {"find": "doubling", "close": "closing in", "confirm": "confirming"}
ONE = {"requests/s": "request/s", "streams": "stream", "sessions": "session"}


def load_words(of: Of, load: float) -> str:
    """Return a load for people: `22.1 requests/s`."""
    unit = UNITS[of]
    return f"{load:.4g} {ONE[unit] if load == 1 else unit}"


def minutes(seconds: float) -> str:
    """Return a time for people: `40 s`, `2.5 min`, `35 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.2g} min" if seconds < 600 else f"{seconds / 60:.0f} min"


def between(estimate_s: tuple[float, float]) -> str:
    """Return an estimate for people: `4.5 to 22 min`'s ends, or the one."""
    low, high = (minutes(seconds) for seconds in estimate_s)
    return low if low == high else f"{low} to {high}"


def asked_words(scenario: Scenario, of: Of, space: Space) -> Iterator[str]:
    """Yield what is looked for, and what must be met, tier by tier."""
    yield (
        f"{scenario.name}: the most {UNITS[of]} from {space.low:g} to {space.high:g} "
        "that meet the objectives"
    )
    for tier, of_tier in objectives(scenario).items():
        name = f"{tier}: " if tier != SLO else ""
        yield f"  {name}{', '.join(one.words for one in of_tier)}"


def step_words(of: Of, step: Step, requests: int) -> str:
    """Return a run that is to be made."""
    tier = f" for {step.tier}" if step.tier != SLO else ""
    return (
        f"{load_words(of, step.load)}, {counted(requests, 'request')}, {DOING[step.purpose]}{tier}"
    )


def probe_words(probe: Probe, space: Space) -> Iterator[str]:
    """Yield how a run came out, a line for each tier."""
    if probe.spoilt is not None:
        yield f"answers nothing: {probe.spoilt}"
        return
    for tier in space.tiers:
        name = f"{tier}: " if tier != SLO else ""
        word: str = probe.word(tier)
        if word == "not shown":
            word = f"{word}, {'within' if probe.holds(tier) else 'over'} so far"
        over = probe.limits and not probe.holds(tier)
        limits = f"; server: {', '.join(probe.limits)}" if over else ""
        yield f"{name}{word}: {probe.why(tier)}{limits}"


def answer_lines(search: Search) -> Iterator[str]:
    """Yield the answer of each tier, and what it is worth."""
    for found in search.found:
        name = f"{found.tier}: " if found.tier != SLO else ""
        yield f"{name}{_answer(search, found)}"
        if doubted := _doubted(search, found):
            yield f"{name}{doubted}"
        if found.short:
            yield f"{name}but that isn't enough: {'; '.join(found.short)}"
    if search.why is not None:
        yield f"the search ended before its end: {search.why}"


def _answer(search: Search, found: Found) -> str:
    if found.load is None:
        return _none_met(search, found)
    most = (
        f"meets the objectives up to {load_words(search.of, found.load)} ({_worth(search, found)})"
    )
    if found.beyond is None:
        more = ": --high tries more" if found.load >= search.space.high else ""
        return f"{most}, the highest that was tried{more}"
    if found.leaves_open:
        return f"{most}; at {found.beyond.load:.4g} it isn't sure: {_open(search, found)}"
    return f"{most}; at {found.beyond.load:.4g} it doesn't: {_beyond(found)}{_wide(search, found)}"


def _none_met(search: Search, found: Found) -> str:
    if found.beyond is None:
        return "nothing could be judged"
    even = "even " if found.end == "below low" else ""
    at = f"{even}at {load_words(search.of, found.beyond.load)}"
    if found.leaves_open:
        return f"isn't shown to meet the objectives {at}: {_open(search, found)}"
    return f"doesn't meet the objectives {at}: {_beyond(found)}"


def _worth(search: Search, found: Found) -> str:
    """Return how often the answer was confirmed, or that it wasn't."""
    own = [p for p in confirming(found.tier, search.probes) if p.load == found.load]
    requests = sum(p.counted for p in own)
    if not found.confirmed and own:
        runs = counted(len(own), "run")
        return f"not confirmed: {requests:,} requests in {runs} leave it open"
    if not found.confirmed:
        return "not confirmed: one run, and of short ones the queue hasn't grown to its length"
    sure = "" if found.sure is None else f"; 95 % from {found.sure:.3g}"
    few = "" if requests >= 0.9 * OF else f" with {requests:,} requests, the method asks {OF:,}"
    return f"confirmed {found.confirmed} times{few}{sure}"


def _doubted(search: Search, found: Found) -> str | None:
    """Return how many of the runs at the answer are INVALID; None: none is."""
    at = [p for p in search.probes if p.load == found.load and p.spoilt is None]
    bad = sum(p.verdict == "INVALID" for p in at)
    if not bad:
        return None
    which = "its one run" if len(at) == 1 else f"{bad} of its {len(at)} runs"
    return f"the verdict on {which} is INVALID: summarize.py says why, and what that did"


def _beyond(found: Found) -> str:
    beyond = found.beyond
    assert beyond is not None
    limited = f"; limited by: {', '.join(beyond.limits)}" if beyond.limits else ""
    return f"{beyond.why(found.tier)}{limited}"


def _open(search: Search, found: Found) -> str:
    """Return what the runs showed together at a load where each was within, and that isn't sure."""
    assert found.beyond is not None
    own = [p for p in confirming(found.tier, search.probes) if p.load == found.beyond.load]
    runs = own or [found.beyond]
    late = max(pooled([p.late[found.tier] for p in runs]), key=lambda one: one.high - one.allowed)
    share, allowed, high = (100 * x for x in (late.share, late.allowed, late.high))
    return (
        f"{late.objective}: {share:.3g} % late or failed of {allowed:.3g} %, but it may be up to "
        f"{high:.3g} % ({late.of:,} requests in {counted(len(runs), 'run')})"
    )


def _wide(search: Search, found: Found) -> str:
    """Return how wide the bracket is, where the search didn't close it."""
    assert found.load is not None
    assert found.beyond is not None
    if found.end != "unfinished" or search.space.closed(found.load, found.beyond.load):
        return ""
    wide = 100 * (found.beyond.load / found.load - 1)
    return f"; between the two, {wide:.0f} % apart, nothing is known"

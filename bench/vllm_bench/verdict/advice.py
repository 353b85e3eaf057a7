"""Which key of the scenario to set to what: for a longer run, or for less load."""

from __future__ import annotations

from ..figures.digits import counted
from ..figures.facts import Facts
from ..stats.distribution import quantile
from .finding import Setting

MORE_CLIENT = (
    "give the client more CPU: stop other work, move it off the server's machine, or use more "
    "--workers"
)


def less_load(facts: Facts) -> str:
    """Return the setting to lower so that server and client have less to do."""
    return "the request rate" if facts.load.is_open else "the concurrency"


def longer_window(facts: Facts, needed_s: float) -> Setting:
    """Return what makes the load be held for `needed_s`."""
    latency_s = max((quantile(facts.values("latency_ms"), 95) or 0.0) / 1000, 0.001)
    if facts.load.is_open:
        # The ramp, then until replies come as fast as requests, then the window.
        at_full_rate_s = facts.ramp_s / 2 + latency_s + needed_s
        return more_requests(facts, facts.load.value * at_full_rate_s)
    if facts.window is None:
        # Streams start one after the other and end their first request, then comes the window.
        return more_requests(facts, facts.load.value * (needed_s / latency_s + 2))
    per_s = len(facts.counted_rows) / facts.window.length_s
    return more_requests(facts, facts.rows + per_s * (needed_s - facts.window.length_s))


def more_requests(facts: Facts, count: float) -> Setting:
    """Return what makes a run of about `count` requests, by a key that the scenario has."""
    per_s = facts.load.value if facts.load.is_open else facts.rows / (facts.span_s or 1.0)
    if facts.setting("duration_s") is not None and per_s > 0:
        # While an open loop's rate grows from 0, its mean is half the rate.
        return Setting("duration_s", count / per_s + facts.ramp_s / 2)
    if facts.setting("trace") and facts.setting("num_requests") is None:
        return Setting("trace", count)
    return Setting("num_requests", count)


def why_no_window(facts: Facts) -> str:
    """Return why a run's load was never held."""
    return _no_open_window(facts) if facts.load.is_open else _no_closed_window(facts)


def _no_closed_window(facts: Facts) -> str:
    streams = len(set(facts.frame["stream_index"][facts.frame.has("t_sent_s")].tolist()))
    if streams < facts.load.value:
        return f"{counted(streams, 'stream')} of them sent a request"
    return "hardly a request was sent after every stream's first one had ended"


def _no_open_window(facts: Facts) -> str:
    ramp_s, last_s = facts.ramp_s, float(facts.frame["t_scheduled_s"].max())
    if ramp_s >= last_s > 0:
        return (
            f"ramp_s of {ramp_s:g} s lasts as long as the run, whose last request was due at "
            f"{last_s:.1f} s"
        )
    return (
        f"the last request was due at {last_s:.1f} s, and the steady window begins a long latency "
        f"(p95) after the {'ramp' if ramp_s else 'start'}"
    )

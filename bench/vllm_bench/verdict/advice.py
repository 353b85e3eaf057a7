"""What to set so that a run gets longer: in the words of its own scenario."""

from __future__ import annotations

import math

from ..figures.digits import counted
from ..figures.facts import Facts


def more_requests(facts: Facts, count: float) -> str:
    """Return which key to set to about which value for a run of `count` requests."""
    duration_s = facts.setting("duration_s")
    if isinstance(duration_s, int | float) and facts.load.is_open and facts.load.value > 0:
        seconds = count / facts.load.value + facts.ramp_s / 2  # its mean rate is half the rate
        return f"set duration_s to about {two_digits_up(seconds)}"
    if facts.setting("trace") and facts.setting("num_requests") is None:
        return (
            f"replay a longer piece of the trace, about {counted(two_digits_up(count), 'request')}"
        )
    return f"set num_requests to about {two_digits_up(count)}"


def longer_window(facts: Facts, needed_s: float) -> str:
    """Return which key to set to what, so that the load is held for `needed_s`."""
    latency_s = max((facts.latency_p50_ms or 0.0) / 1000, 0.001)
    if facts.load.is_open:
        # The ramp, then until replies come as fast as requests, then the window.
        at_full_rate_s = facts.ramp_s / 2 + latency_s + needed_s
        return more_requests(facts, facts.load.value * at_full_rate_s)
    if facts.window is None:
        return more_requests(facts, facts.load.value * (needed_s / latency_s + 1))
    return more_requests(facts, facts.rows * needed_s / facts.window.length_s)


def two_digits_up(number: float) -> int:
    """Return the number, rounded up to two digits that matter."""
    step = int(10 ** max(0, math.floor(math.log10(max(number, 1))) - 1))
    return math.ceil(number / step) * step


def less_load(facts: Facts) -> str:
    """Return what to lower so that a server or a client has less to do."""
    return "the request rate" if facts.load.is_open else "the concurrency"

"""What to set so that a run gets longer: in the words of its own scenario."""

from __future__ import annotations

import math

from .facts import Facts


def more_requests(facts: Facts, count: float) -> str:
    """Return which key to set to about which value for a run of `count` requests."""
    duration_s = facts.setting("duration_s")
    if isinstance(duration_s, int | float) and facts.load.is_open and facts.load.value > 0:
        return f"set duration_s to about {two_digits_up(count / facts.load.value)}"
    if facts.setting("trace") and facts.setting("num_requests") is None:
        return f"replay a longer piece of the trace, about {two_digits_up(count)} requests"
    return f"set num_requests to about {two_digits_up(count)}"


def two_digits_up(number: float) -> int:
    """Return the number, rounded up to two digits that matter."""
    step = int(10 ** max(0, math.floor(math.log10(max(number, 1))) - 1))
    return math.ceil(number / step) * step


def less_load(facts: Facts) -> str:
    """Return what to lower so that a server or a client has less to do."""
    return "the request rate" if facts.load.is_open else "the concurrency"

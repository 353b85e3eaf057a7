"""Turns of two servers: the order of visits, which are left, and how long they take. Pure.

A visit is one start of a server with the runs on it. Two visits are a pair: one of each side, with
a seed of its own, so that both send the same requests and pairs differ. A B B A A B B A: a server
room that warms up, or any other drift, touches both sides alike (METHOD.md).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..prompts.order import derive_seed
from ..scenario.load import LoadLevel, highest_level, levels_of
from ..scenario.scenario import Scenario

Side = Literal["a", "b"]

USUAL_VISITS = 8
FEWEST_FOR_A_WORD = 8  # four pairs: fewer give figures, and no word
MOST_VISITS = 1000
THROW_AWAY_S = 10.0  # of an open loop; a closed one has two requests a stream
ROUNDS_OF_STREAMS = 2
FEWEST_THROWN = 8  # requests
FEWEST_OF_A_CLASS = 8  # of the rarest class about: each has to have one


@dataclass(frozen=True, slots=True)
class Visit:
    """One start of one side's server, with the runs on it."""

    number: int  # from 1
    side: Side
    pair: int  # from 1


def visits(count: int) -> tuple[Visit, ...]:
    """Return so many visits in their order."""
    return tuple(_visit(number) for number in range(1, count + 1))


def _visit(number: int) -> Visit:
    pair = (number + 1) // 2
    swapped = (number % 2 == 0) != (pair % 2 == 0)  # A B, then B A
    return Visit(number, "b" if swapped else "a", pair)


def left(count: int, whole: Collection[int]) -> tuple[Visit, ...]:
    """Return the visits that are still to be made, when those with these numbers are whole."""
    return tuple(visit for visit in visits(count) if visit.number not in whole)


def pair_seed(seed: int, turn: int, pair: int) -> int:
    """Return the scenario seed of a pair; `turn` is 2 where a gate asks again on fresh seeds."""
    return derive_seed(seed, f"ab {turn} pair {pair}")


def of_pair(scenario: Scenario, label: str, seed: int) -> Scenario:
    """Return what a visit runs: the scenario with its side's label and its pair's seed."""
    return scenario.model_copy(update={"label": label, "seed": seed})


def thrown_away(scenario: Scenario) -> Scenario:
    """Return the short run after a server's start: its highest level, with prompts of its own.

    A first run compiles, captures and fills what later ones find; both sides get the same.
    """
    level = highest_level(scenario)
    short: dict[str, object] = {
        "seed": derive_seed(scenario.seed, "thrown away"),
        "repeats": 1,
        "slo": None,
        "telemetry": False,
        "warmup_requests": 0,
        "concurrencies": [],
        "request_rates": [],
        "speed": [],
        "duration_s": None,
    }
    return scenario.model_copy(update={**short, **_shortened(scenario, level)})


def _shortened(scenario: Scenario, level: LoadLevel) -> dict[str, object]:
    """Return the load of the highest level for a few seconds."""
    if level.concurrency is not None and scenario.by_class:  # they end together, by time
        own = {"concurrencies": [level.concurrency]} if scenario.concurrencies else {}
        return {**own, "duration_s": THROW_AWAY_S, "num_requests": None}
    if level.concurrency is not None:
        streams = {"concurrencies": [level.concurrency]}
        if scenario.trace is not None:
            return {**streams, "duration_s": THROW_AWAY_S, "num_requests": None}
        turns = scenario.conversations.turns if scenario.conversations else 1
        rounds = ROUNDS_OF_STREAMS * level.concurrency
        return {**streams, "num_requests": max(FEWEST_THROWN, rounds) * turns}
    if level.request_rate is not None:
        due = int(level.request_rate * THROW_AWAY_S)
        rarest = min((c.share for c in scenario.by_class.values() if c.share), default=1.0)
        asked = max(FEWEST_THROWN, due, math.ceil(FEWEST_OF_A_CLASS / rarest))
        most = asked if scenario.by_class else scenario.num_requests or asked
        rates = {"request_rates": [level.request_rate], "ramp_s": 0.0}
        return {**rates, "num_requests": min(asked, most)}
    return {"speed": [level.speed], "duration_s": THROW_AWAY_S, "num_requests": None}


# ---- how long ----


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds that are still to come; `at_least` where a part isn't known before it is seen."""

    seconds: float
    at_least: bool

    @property
    def words(self) -> str:
        """The time for people: `12 min`, `at least 3 min`."""
        return f"{'at least ' if self.at_least else 'about '}{duration(self.seconds)}"


def duration(seconds: float) -> str:
    """Return a time to come for people: `40 s`, `12 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def sending(scenario: Scenario) -> Estimate:
    """Return how long the scenario's runs send for, as far as its settings tell."""
    parts = [_sending(scenario, level) for level in levels_of(scenario)]
    known = [seconds for seconds in parts if seconds is not None]
    by_number = scenario.num_requests is not None and bool(scenario.concurrencies)
    return Estimate(scenario.repeats * sum(known), by_number or len(known) < len(parts))


def _sending(scenario: Scenario, level: LoadLevel) -> float | None:
    if scenario.duration_s is not None:
        return scenario.duration_s
    if level.request_rate is None:
        return None  # so many requests take as long as the server takes
    return scenario.arrivals(level.request_rate).seconds(scenario.num_requests or 0)


def time_left(
    to_come: Sequence[Visit],
    seen_s: Mapping[Side, Sequence[float]],
    runs: Estimate,
    start_s: float | None,
) -> Estimate:
    """Return how long these visits take, from those that were made.

    A side that wasn't visited yet is taken to be as the other one. Before any visit is whole,
    `runs` and a start are what one takes; `start_s` is None where no start was seen yet.
    """
    means = {side: statistics.fmean(times) for side, times in seen_s.items() if times}
    if not means:
        each_s = runs.seconds + (start_s or 0.0)
        return Estimate(len(to_come) * each_s, runs.at_least or start_s is None)
    usual_s = statistics.fmean(means.values())
    return Estimate(sum(means.get(visit.side, usual_s) for visit in to_come), at_least=False)

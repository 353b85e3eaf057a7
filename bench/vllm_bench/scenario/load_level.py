"""The levels of load of a scenario: each is one run, or one of several repeats."""

from __future__ import annotations

from dataclasses import dataclass

from .scenario import Scenario


@dataclass(frozen=True, slots=True)
class LoadLevel:
    """One of: streams held open, requests a second, or a trace at a speed."""

    concurrency: int | None = None
    request_rate: float | None = None
    speed: float | None = None

    @property
    def label(self) -> str:
        """The level in a run's name: `cc8`, `rate2.5`, `trace-x2`."""
        if self.concurrency is not None:
            return f"cc{self.concurrency}"
        if self.request_rate is not None:
            return f"rate{self.request_rate:g}"
        return f"trace-x{self.speed:g}"

    @property
    def words(self) -> str:
        """The level for people: `8 streams`."""
        if self.concurrency is not None:
            return f"{self.concurrency} stream{'s' * (self.concurrency != 1)}"
        if self.request_rate is not None:
            return f"{self.request_rate:g} requests/s"
        return f"the trace at {self.speed:g} times its speed"


def levels_of(scenario: Scenario) -> list[LoadLevel]:
    """Return the scenario's levels, in the order of its file."""
    return [
        *(LoadLevel(concurrency=streams) for streams in scenario.concurrencies),
        *(LoadLevel(request_rate=rate) for rate in scenario.request_rates),
        *(LoadLevel(speed=speed) for speed in scenario.speed),
    ]


def rows_expected(scenario: Scenario) -> int:
    """Return about how many rows all runs of the scenario have; of a whole trace nobody knows."""
    rates = [level.request_rate or 0.0 for level in levels_of(scenario)]
    if scenario.num_requests is not None:
        rows = scenario.num_requests * len(rates)
    else:
        rows = int(sum(rates) * (scenario.duration_s or 0))
    return scenario.repeats * rows

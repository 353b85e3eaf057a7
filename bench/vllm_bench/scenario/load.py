"""Load: what a level of load is, for scenarios and for runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .scenario import Scenario

Unit = Literal["streams", "requests/s"]
STREAM_RATE = 1.0  # requests/s of a stream: most replies take longer than a second
ONE: dict[Unit, str] = {"streams": "stream", "requests/s": "request/s"}


@dataclass(frozen=True, slots=True, order=True)
class Load:
    """A level of load. Levels of one unit can be ordered, and their ratio means something."""

    unit: Unit
    value: float
    # The speed of a trace's replay. It is shown, but levels are compared by their rate.
    speed: float | None = field(default=None, compare=False)

    @property
    def words(self) -> str:
        """The level for people: `8 streams`, `2.5 requests/s`, `0.7746 requests/s (trace x2)`."""
        unit = ONE[self.unit] if self.value == 1 else self.unit
        return f"{self._digits} {unit}{self._trace}"

    @property
    def number(self) -> str:
        """The level without its unit, for a table: `8`, `0.7746 (trace x2)`."""
        return f"{self._digits}{self._trace}"

    @property
    def _digits(self) -> str:
        """The number with four digits, more from 10000 on."""
        return f"{self.value:.0f}" if self.value >= 1000 else f"{self.value:.4g}"

    @property
    def _trace(self) -> str:
        return "" if self.speed is None else f" (trace x{self.speed:g})"

    @property
    def axis_words(self) -> str:
        return "requests per second asked for" if self.is_open else "concurrent streams"

    @property
    def is_open(self) -> bool:
        """Whether requests came by a schedule, without waiting for earlier ones."""
        return self.unit == "requests/s"


@dataclass(frozen=True, slots=True)
class LoadLevel:
    """One of: streams held open, requests per second, or a trace at a speed."""

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
        *([LoadLevel(concurrency=scenario.own_streams)] if scenario.own_streams else []),
    ]


def highest_level(scenario: Scenario) -> LoadLevel:
    """Return the level with most load, in its own unit."""
    return max(levels_of(scenario), key=lambda x: x.concurrency or x.request_rate or x.speed or 0.0)


def rows_expected(scenario: Scenario) -> int:
    """Return about how many rows all runs of the scenario have; of a full trace 0: unknown."""
    return scenario.repeats * sum(_rows_of(scenario, level) for level in levels_of(scenario))


def _rows_of(scenario: Scenario, level: LoadLevel) -> int:
    rate = level.request_rate or STREAM_RATE * (level.concurrency or 0)
    return max(scenario.num_requests or 0, int(rate * (scenario.duration_s or 0)))

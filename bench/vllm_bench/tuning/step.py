"""A start that is to be made: which configuration, with which load."""

from __future__ import annotations

from dataclasses import dataclass

from ..prompts.order import derive_seed
from ..scenario.by_flags import quick
from ..scenario.load import LoadLevel, highest_level
from ..scenario.scenario import Scenario
from .configurations import Configuration
from .trials import Stage


@dataclass(frozen=True, slots=True)
class Step:
    """A start that is to be made."""

    stage: Stage
    configuration: Configuration
    scenario: Scenario
    visit: int = 0
    pair: int = 0

    @property
    def key(self) -> tuple[Stage, str, int]:
        return self.stage, self.configuration.label, self.visit


def at_level(scenario: Scenario, level: LoadLevel) -> Scenario:
    """Return the scenario at one of its levels, or at another one."""
    return scenario.model_copy(
        update={
            "concurrencies": [level.concurrency] if level.concurrency is not None else [],
            "request_rates": [level.request_rate] if level.request_rate is not None else [],
            "speed": [level.speed] if level.speed is not None else [],
        }
    )


def of_pair(scenario: Scenario, pair: int) -> Scenario:
    """Return what both visits of a pair send: pairs differ."""
    seed = derive_seed(scenario.seed, f"tune pair {pair}")
    return scenario.model_copy(update={"seed": seed})


def screen(scenario: Scenario, seconds: float) -> Scenario:
    """Return the highest level, once, as short as can be believed."""
    one = at_level(scenario, highest_level(scenario))
    given = {"concurrencies": one.concurrencies} if one.concurrencies else {}
    short = {**quick(given), "duration_s": seconds}
    least = {"num_requests": None} if scenario.by_class else {}  # classes end together, by time
    return one.model_copy(update={"num_requests": None, **short, **least})

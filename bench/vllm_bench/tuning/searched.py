"""A configuration's capacity: the search of capacity.py, on a server that is up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import UsageError
from ..experiments.capacity import Searching, asked_of, estimate_s
from ..run.session import Session
from ..scenario.scenario import Scenario
from ..search.axis import SLO, UNITS, Of, objectives
from ..search.kept import FOLDER, Search
from ..search.words import answer_lines
from .trials import Highest


@dataclass(frozen=True, slots=True)
class Wanted:
    """How each configuration's capacity is looked for."""

    of: Of | None
    minutes: float  # at most, of each

    def check(self, scenario: Scenario) -> None:
        """Raise UsageError where there is nothing to search, or no slo to hold the two best by."""
        asked_of(scenario, self.of, None, None, self.minutes)
        if SLO not in objectives(scenario):
            raise UsageError(
                f"aim capacity: scenario {scenario.name} has slo_tiers alone, and one slo must say "
                "which configuration is better: set slo, or give --set slo.ttft_ms.p99=500"
            )

    def estimate_s(self, scenario: Scenario) -> float:
        """Return the seconds that a search takes, if it takes long."""
        return estimate_s(asked_of(scenario, self.of, None, None, self.minutes))[1]

    def search(
        self, scenario: Scenario, session: Session, say: Callable[[str], None]
    ) -> tuple[Highest, tuple[str, ...]]:
        """Return what was found, and the run at the highest load, from the session's folder on.

        Raises BenchError, OSError, KeyboardInterrupt.
        """
        asked = asked_of(scenario, self.of, None, None, self.minutes)
        own = dataclasses.replace(session, experiment={})
        searching = Searching(asked=asked, session=own, say=say)
        found = searching.run(searching.begun(resume=False))
        first = found.found[0]  # of several tiers the scenario's own slo, or the first
        words = " / ".join(answer_lines(found))
        below = first.end == "below low"
        highest = Highest(value=first.load, unit=UNITS[found.of], words=words, below=below)
        return highest, _shown(found)


def _shown(search: Search) -> tuple[str, ...]:
    """Return the last whole run at the load that was found: what it is like there."""
    load = search.found[0].load
    at = [p for p in search.probes if p.load == load and p.spoilt is None and p.stopped is None]
    return (f"{FOLDER}/{search.id}/{at[-1].run_id}",) if at else ()

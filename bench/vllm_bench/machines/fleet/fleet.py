"""The machines of a session: connected once, and a crew in each run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from ...crew.worker import FROZEN_S, RunError
from ...interrupts import Interrupts
from ...plan.plan import Plan
from ..clocks.pings import Pings
from ..deal import dealt
from ..messages import Forget
from .crew import MachineCrew
from .machine import Machine

END_LIMIT_S = 10.0  # for machines to end their portions of a run that was broken off


class MachineMissedError(RunError):
    """One was lost: no run of this session follows, and that says nothing of any server."""


class Fleet:
    """Machines that send together."""

    def __init__(
        self,
        machines: Sequence[Machine],
        workers: int | None = None,
        host: str = "127.0.0.1",
        *,
        rows_stay: bool = False,
    ) -> None:
        """`workers`: sending processes of each; None: as many as suit its portion and its cores.

        `host`: this machine's address, as they know it. `rows_stay`: they are fetched after a
        run's end.
        """
        self.machines, self.host = machines, host
        self.rows_stay = rows_stay
        self._workers = workers
        self._unfetched: dict[str, set[str]] = {}  # by run: machines that keep rows of it
        self._pings = Pings([machine.clock for machine in machines])

    def idle(self, plan: Plan) -> list[str]:
        """Return which machines have nothing to send of a plan: streams or requests are too few."""
        dealt = self._dealt(plan)
        return [str(m.machine) for m in dealt if not any(part.most_senders for part in m.drawn)]

    @property
    def missed(self) -> bool:
        """Return whether a run has ended without one of them: it is the last one."""
        return any(machine.missed for machine in self.machines)

    def check_there(self) -> None:
        """Look whether all of them are there. Raises MachineMissedError."""
        self._look_at_clocks()
        gone = [f"{m.name} {m.lost}" for m in self.machines if m.lost]
        if gone:
            raise MachineMissedError(
                f"{', '.join(gone)}: start again, with --resume for what is missing"
            )

    @contextlib.contextmanager
    def crew(self, plan: Plan, interrupts: Interrupts) -> Iterator[MachineCrew]:
        """Deal a plan to the machines, and have them man it. Raises RunError where one is lost."""
        self.check_there()
        crew = MachineCrew(
            plan.run_id, self.machines, self._dealt(plan), self._pings, rows_stay=self.rows_stay
        )
        try:
            for worker in crew.workers:
                interrupts.check()
                crew.hand_over(worker, self._workers)
            yield crew
        finally:
            crew.end(END_LIMIT_S)
            self._unfetched[plan.run_id] = crew.unfetched()

    def names(self) -> list[dict[str, str]]:
        """Return which machines these are, as the run's JSON says it."""
        return [{"machine": one.name, "host": one.facts.host} for one in self.machines]

    def forget(self, run_id: str, session: str) -> list[str]:
        """Let machines forget a run whose files are written; return those that still need it."""
        needed = self._unfetched.get(run_id, set())
        for machine in self.machines:
            if machine.name not in needed:
                machine.order(Forget(run_id, session, (machine.name,)))
        return sorted(needed)

    def _dealt(self, plan: Plan) -> list[Plan]:
        names = [machine.name for machine in self.machines]
        return dealt(plan, names, [machine.facts.cores for machine in self.machines])

    def _look_at_clocks(self) -> None:
        """See where all clocks are; a machine that doesn't tell its own is lost."""
        self._pings.burst(FROZEN_S)
        for machine in self.machines:
            if machine.lost is None and not machine.clock.answers:
                gone = machine.clock.closed
                machine.lose("died" if gone else "doesn't answer")

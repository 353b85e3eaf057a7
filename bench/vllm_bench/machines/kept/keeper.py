"""A machine's memory of the runs that it has sent: what a foreman writes, tells and forgets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ...crew.judged import Judged
from ...plan.plan import Plan
from ..messages import AllFetched, Fetch, Forget, FromDisk, MachineFacts
from .file import KeptFile, KeptRun, runs_in

BATCH_BYTES = 4_000_000


class Keeper:
    """What lies in one folder; without one nothing is kept."""

    def __init__(self, folder: Path | None, why_not: str = "") -> None:
        """`folder` is this user's alone (folder.py); `why_not`: there is none."""
        self.folder = folder
        self.why_not = why_not

    def runs(self) -> tuple[str, ...]:
        """Return the runs of which something is kept."""
        return tuple(dict.fromkeys(run.run_id for run in self._found()))

    def told_of(self, facts: MachineFacts) -> MachineFacts:
        """Return what is said of a machine, and of what is kept here."""
        kept_in = str(self.folder) if self.folder else None
        return dataclasses.replace(facts, runs_kept=self.runs(), kept_in=kept_in)

    def file(self, plan: Plan) -> KeptFile | None:
        """Return the file for this machine's portion of a run; None: there is no folder."""
        if self.folder is None:
            return None
        return KeptFile(self.folder, plan.run_id, plan.machine or "", plan.secrets, plan.session)

    def told(self, order: Fetch) -> Iterator[FromDisk | AllFetched]:
        """Yield all that is kept of a run, and its end."""
        problems: list[str] = []
        for run in self._meant(order):
            if order.machine in (None, run.machine):
                yield from _batches(run, problems)
        yield AllFetched(order.run_id, tuple(problems))

    def forget(self, order: Forget) -> None:
        """Remove what is kept of a run."""
        for run in self._meant(order):
            if run.machine in order.machines:
                with suppress(OSError):  # what stays is fetched again, and no row is doubled
                    run.path.unlink()

    def _meant(self, order: Fetch | Forget) -> list[KeptRun]:
        wanted = (order.run_id, order.session)
        return [run for run in self._found() if (run.run_id, run.session) == wanted]

    def _found(self) -> list[KeptRun]:
        return runs_in(self.folder) if self.folder else []


def _batches(run: KeptRun, problems: list[str]) -> Iterator[FromDisk]:
    """Yield what a file holds, up to what is wrong with it."""
    if not run.at_rest():
        problems.append(f"{run.path}: it is still being written")
        return
    batch: list[Judged] = []
    size, correction = 0, None
    try:
        correction = run.correction()
        for one in run.requests():
            batch.append(one)
            size += one.memory_bytes
            if size > BATCH_BYTES:
                yield FromDisk(run.run_id, run.machine, tuple(batch), correction)
                batch, size = [], 0
    except (OSError, ValueError) as e:
        problems.append(f"{run.path}: {e.strerror if isinstance(e, OSError) else e}")
    yield FromDisk(run.run_id, run.machine, tuple(batch), correction)

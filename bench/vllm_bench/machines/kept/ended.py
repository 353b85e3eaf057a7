"""The requests of a run on the machine that sends them: to its disk, and to the head.

All of them are written here as they end, and told at once; or, where rows stay, they are told as
counts, until the head fetches them after the run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from ...crew.judged import Elsewhere, Judged
from ...live.counts import Counts
from ...plan.plan import Plan
from ..messages import Correction, NotKept
from .keeper import Keeper


class Ended:
    """Where the requests of a machine's portion go."""

    def __init__(
        self, plan: Plan, keeper: Keeper, tell: Callable[[object], None], *, rows_stay: bool
    ) -> None:
        self._tell = tell
        self._file = keeper.file(plan)
        self._stay = rows_stay
        self._begun = False
        self._counts = Counts()
        self._away: bool | None = None
        self._why_not = keeper.why_not

    def begin(self) -> None:
        """Note the start: what ends from now on is measured, or of the tail.

        Not before: whoever has said a word is thought to be frozen while its processes start.
        """
        self._begun = True
        if self._file is None:
            self._keep_no_more(self._why_not)

    def write(self, ended: Sequence[Judged]) -> None:
        """Keep requests, and tell them."""
        if not self._stay or not self._begun:
            self._keep([one for one in ended if one.role == "measured"])
        elif self._keep(ended):
            self._count(ended)
            return
        self._tell(tuple(ended))

    def _keep(self, ended: Sequence[Judged]) -> bool:
        """Write requests to the disk; False: that isn't possible any more."""
        if self._file is not None:
            try:
                self._file.write(ended)
            except OSError as e:
                self._keep_no_more(f"{e.filename}: {e.strerror}")
        return self._file is not None

    def _keep_no_more(self, why: str) -> None:
        self.close()
        self._file = None
        self._tell(NotKept(why))

    def correct(self, correction: Correction) -> None:
        """Note how this machine's clock stands to the head's."""
        if self._file is not None:
            try:
                self._file.correct(correction)
            except OSError as e:
                self._keep_no_more(f"{e.filename}: {e.strerror}")

    def _count(self, ended: Sequence[Judged]) -> None:
        for one in ended:
            if one.role == "measured":
                self._counts.add(one.record)
            self._away = one.away and self._away is not False

    def stand(self) -> None:
        """Tell how much has ended that stays here."""
        if self._stay and self._begun:
            self._tell(Elsewhere(copy.deepcopy(self._counts), self._away))
            self._away = None

    def close(self) -> None:
        """No more come."""
        if self._file is not None:
            self._file.close()

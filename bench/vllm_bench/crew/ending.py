"""Why and when a run ends: by itself, by Ctrl-C, since it has shown enough, since it has failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..live.progress import Progress
from ..plan.plan import Plan
from ..records.request_record import RequestRecord
from ..send.outbox import Command

GRACE_S = 5.0  # for requests in flight after the first Ctrl-C
LEAST_AWAY_S = 2.0  # a process tells each second whether replies are under way
DRAIN_S = 60.0  # for requests of the tail: after an overload they could take hours

# Asked a few times a second with the rows since the last time and the seconds since the start: why
# the run has shown enough; None: it goes on.
Enough = Callable[[Sequence[RequestRecord], float], str | None]


class Ending:
    """What asks for a run's end, and what is told to who sends."""

    def __init__(self, plan: Plan, progress: Progress, tell: Callable[[Command], None]) -> None:
        """`tell` passes a command on to all who send."""
        self.why: str | None = None  # the run was broken off
        self.enough: str | None = None  # more of it would have shown nothing else
        self.cancelled = False
        self._plan, self._progress, self._tell = plan, progress, tell
        self._measuring = False
        self._draining = False
        self._cancel_at_s = float("inf")
        self._away_since_s = float("inf")  # since when the server has turned all away

    def begin(self) -> None:
        """Note the start: from now on there is something to lose."""
        self._measuring = True

    def pass_on(self, interrupts: int) -> None:
        """Pass Ctrl-C on to who sends: first no new requests, then cut off all."""
        now_s = time.monotonic()
        if interrupts and not self._progress.stopping:
            self._progress.stop()
            # Before the start nothing has been measured: no need to wait.
            self._cancel_at_s = now_s + (GRACE_S if self._measuring else 0)
            self._tell("stop")
        if not self.cancelled and (interrupts > 1 or now_s >= self._cancel_at_s):
            self.cancelled = True
            self._tell("cancel")

    def drain(self) -> None:
        """Send no more: all that was to be measured has ended."""
        if self._draining:
            return
        self._draining = True
        if all(part.open_loop for part in self._plan.drawn):  # what streams send has rows
            self._cancel_at_s = min(self._cancel_at_s, time.monotonic() + DRAIN_S)
        self._progress.phase = "waiting for unmeasured requests"
        self._tell("drain")

    def note_presence(self, *, away: bool) -> None:
        """Note whether the server took a request, or has one under way."""
        since_s = min(self._away_since_s, time.monotonic())
        self._away_since_s = since_s if away else float("inf")

    def if_gone(self, give_up_s: float, last_error: str | None) -> None:
        """End a run whose server answers nobody any more: no further row would say anything."""
        ending = self._progress.stopping or self._draining
        if ending or time.monotonic() - self._away_since_s < max(give_up_s, LEAST_AWAY_S):
            return
        why = self._progress.last_error or last_error
        self.break_off(
            f"gave up: for {give_up_s:g} s the server turned every request away ({why})", 0
        )

    def break_off(self, why: str, grace_s: float) -> None:
        """End a run that has failed; what was measured is kept."""
        if self.why is None:
            self.why = why
            self._progress.stop("stopping: the run has failed")
            self._cancel_at_s = time.monotonic() + grace_s
            self._tell("stop")

    def if_enough(self, enough: Enough | None, rows: Sequence[RequestRecord]) -> None:
        """End a run that has shown what its asker wants to know: what is under way is cut off."""
        if enough is None or not self._measuring or self._progress.stopping or self._draining:
            return
        self.enough = enough(rows, self._progress.elapsed_s)
        if self.enough is not None:
            self._progress.stop(self.enough)
            self._cancel_at_s = time.monotonic()
            self._tell("stop")

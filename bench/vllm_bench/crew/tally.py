"""The results of a run: replies are put together, judged, counted and handed on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from ..live.progress import Progress
from ..plan.plan import Plan
from ..plan.sessions.counts import SessionCounts
from ..quality.row import answer_row
from ..records.beside.answers import AnswerRow
from ..records.request_record import RequestRecord
from ..reply.back_off import turned_away
from ..reply.exchange import Exchange, Failure, PackedSegment
from ..reply.outcome import judge, reply_to
from ..reply.reply import Reply
from ..reply.token_reads import grouped
from .judged import NO_READS, Judged, Sink
from .unmeasured import Unmeasured

MOST_MODELS, MOST_NAME = 8, 200  # names that are kept of the models in replies, and characters
OTHER_MODELS = "(others)"  # further names, counted together


class Tally:
    """Takes segments and exchanges in the order of their stamps; hands what has ended to a sink."""

    def __init__(self, plan: Plan, progress: Progress, sink: Sink) -> None:
        self.unmeasured = Unmeasured()
        self.fingerprint: str | None = None
        self.replied_as: dict[str, int] = {}  # measured replies by the model that they name
        self.uses: Counter[str] | None = Counter() if plan.by_time else None  # of each prompt
        self.read_times = progress.read_times
        self.sessions = SessionCounts(plan)
        self._plan = plan
        self._progress = progress
        self._sink = sink
        self._start_ns = time.perf_counter_ns()  # of the warm-up, until the run's own start
        self._open: dict[int, Reply] = {}  # replies that have begun and not ended
        self._ended: list[Judged] = []  # not yet written

    def begin(self, start_ns: int) -> None:
        """Note the start. Raises OSError."""
        self._start_ns = start_ns
        self._sink.begin()

    def segment(self, part: PackedSegment) -> Failure | None:
        """Take a part of a reply; return the bound that it breaks: its exchange should end.

        What comes after that, until it does, isn't read.
        """
        reply = self._reply(part.request_index)
        if reply.excess is not None:
            return None
        reply.take(part)
        if self._plan.role(part.request_index) == "measured":
            self.read_times.segment(part, reply.stamps)
        return reply.excess

    def end(self, exchange: Exchange) -> Judged:
        """Take the end of a reply; return what it comes to."""
        index = exchange.request_index
        reply = self._reply(index)
        del self._open[index]
        judged = self._judged(exchange, reply)
        self.add(judged, reply.stamps)
        return judged

    def _judged(self, exchange: Exchange, reply: Reply) -> Judged:
        index = exchange.request_index
        outcome = judge(exchange, self._plan.expectation(index, self._start_ns), reply)
        measured = (role := self._plan.role(index)) == "measured"
        return Judged(
            role,
            outcome.record,
            grouped(reply, self._start_ns) if measured else NO_READS,
            self._answer(outcome.record, reply) if measured else None,
            outcome.model,
            outcome.fingerprint,
            turned_away(exchange),
        )

    def add(self, one: Judged, stamps: Sequence[int]) -> None:
        """Count a request that has ended, with the stamps of its token events, on any clock."""
        self.fingerprint = one.fingerprint or self.fingerprint
        self._ended.append(one)
        if one.role != "measured":
            self.unmeasured.count(one.role, one.record)
            return
        self._progress.count(one.record, stamps)
        self._count_model(one.model)
        if self.uses is not None:
            self.uses[one.record.prompt_id] += 1
        self.read_times.end(one.record, stamps)
        self.sessions.count(one.record.request_index, one.record)

    def _count_model(self, model: str | None) -> None:
        if model is None:
            return
        name = model[:MOST_NAME]
        if name not in self.replied_as and len(self.replied_as) >= MOST_MODELS:
            name = OTHER_MODELS
        self.replied_as[name] = self.replied_as.get(name, 0) + 1

    def write(self) -> list[RequestRecord]:
        """Hand on what has ended since the last time, and return its rows. Raises OSError."""
        ended, self._ended = self._ended, []
        if ended:
            self._sink.write(ended)
        return [one.record for one in ended if one.role == "measured"]

    def _answer(self, record: RequestRecord, reply: Reply) -> tuple[AnswerRow, str] | None:
        """Return the row of a success on a question, and what it says."""
        if self._plan.asked is None or record.error_kind is not None:
            return None
        wanted = self._plan.part(record.request_index).answers[record.prompt_id]
        text, hide = reply.text or "", self._plan.secrets
        return answer_row(record, text, wanted, cut=reply.text_cut, secrets=hide), text

    def _reply(self, index: int) -> Reply:
        if index not in self._open:
            self._open[index] = reply_to(self._plan.expectation(index, self._start_ns))
        return self._open[index]

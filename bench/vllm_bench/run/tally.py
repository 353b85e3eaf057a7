"""The results of a run: replies are put together, judged, counted and written."""

from __future__ import annotations

import dataclasses
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..live.progress import Progress
from ..plan.plan import Plan
from ..plan.requests import Role
from ..plan.sessions.counts import SessionCounts
from ..quality.row import answer_row
from ..records.beside.answers import AnswerRow, AnswerWriter
from ..records.beside.token_file import TokenWriter
from ..records.request_record import RecordWriter, RequestRecord
from ..reply.exchange import Exchange, Failure, PackedSegment
from ..reply.outcome import judge, reply_to
from ..reply.reply import Reply
from ..reply.token_reads import grouped

MOST_MODELS, MOST_NAME = 8, 200  # names that are kept of the models in replies, and characters
OTHER_MODELS = "(others)"  # further names, counted together


class Tally:
    """Takes segments and exchanges in the order of their stamps; writes the rows to a file."""

    def __init__(self, plan: Plan, progress: Progress, rows: RecordWriter) -> None:
        self.unmeasured = Unmeasured()
        self.fingerprint: str | None = None
        self.replied_as: dict[str, int] = {}  # measured replies by the model that they name
        self.read_times = progress.read_times
        self.sessions = SessionCounts(plan)
        self._plan = plan
        self._progress = progress
        self._rows = rows
        self._tokens: TokenWriter | None = None
        self._answers: AnswerWriter | None = None  # where the prompts are questions
        self._start_ns = time.perf_counter_ns()  # of the warm-up, until the run's own start
        self._open: dict[int, Reply] = {}  # replies that have begun and not ended
        self._ended: list[tuple[RequestRecord, Reply]] = []  # measured, not yet written

    def begin(
        self, start_ns: int, tokens_folder: Path | None, answers: AnswerWriter | None = None
    ) -> None:
        """Note the start. Raises OSError."""
        self._start_ns = start_ns
        self._answers = answers
        if tokens_folder is not None:
            self._tokens = TokenWriter(tokens_folder, self._plan.run_id)

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

    def end(self, exchange: Exchange) -> Role:
        """Take the end of a reply; return what its request was for."""
        index = exchange.request_index
        reply = self._reply(index)
        del self._open[index]
        outcome = judge(exchange, self._plan.expectation(index, self._start_ns), reply)
        self.fingerprint = outcome.fingerprint or self.fingerprint
        record, role = outcome.record, self._plan.role(index)
        if role == "measured":
            self._progress.count(record, reply.stamps)
            self._count_model(outcome.model)
            self.read_times.end(record, reply.stamps)
            self._ended.append((record, reply))
            self.sessions.count(index, record)
        else:
            self.unmeasured.count(role, record)
        return role

    def _count_model(self, model: str | None) -> None:
        if model is None:
            return
        name = model[:MOST_NAME]
        if name not in self.replied_as and len(self.replied_as) >= MOST_MODELS:
            name = OTHER_MODELS
        self.replied_as[name] = self.replied_as.get(name, 0) + 1

    def write(self) -> list[RequestRecord]:
        """Write what has ended since the last time, and return its rows. Raises OSError."""
        ended, self._ended = self._ended, []
        records = [record for record, _ in ended]
        if not ended:
            return records
        self._rows.write(records)
        if self._tokens is not None:
            for record, reply in ended:
                self._tokens.write(record.request_index, grouped(reply, self._start_ns))
            self._tokens.flush()
        if self._answers is not None:
            self._answers.write(
                [self._answer(*one) for one in ended if one[0].error_kind is None],
                self._plan.secrets,
            )
        return records

    def _answer(self, record: RequestRecord, reply: Reply) -> tuple[AnswerRow, str]:
        """Return the row of a success on a question, and what it says."""
        wanted = self._plan.part(record.request_index).answers[record.prompt_id]
        text, hide = reply.text or "", self._plan.secrets
        return answer_row(record, text, wanted, cut=reply.text_cut, secrets=hide), text

    def close(self) -> None:
        """Close the files beside the rows. Raises OSError."""
        for file in (self._tokens, self._answers):
            if file is not None:
                file.close()

    def _reply(self, index: int) -> Reply:
        if index not in self._open:
            self._open[index] = reply_to(self._plan.expectation(index, self._start_ns))
        return self._open[index]


@dataclass(slots=True)
class Unmeasured:
    """Requests of warm-up and tail: how many there were, and the tokens of the successful ones.

    The server counts them too, so a comparison with its counters needs them on the client's side.
    """

    warmup: int = 0
    priming: int = 0  # so that what is measured finds a beginning in the cache
    tail: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    warmup_prompt_tokens: int = 0  # of them, those of the warm-up
    last_error: str | None = None
    warmup_latencies_ms: list[float] = field(default_factory=list)  # of the successes

    def count(self, role: Role, record: RequestRecord) -> None:
        if role == "tail":
            self.tail += 1
        elif role == "priming":
            self.priming += 1
        else:
            self.warmup += 1
        if record.error_kind is not None:
            self.failed += 1
            self.last_error = record.error
        else:
            self.prompt_tokens += record.prompt_tokens or 0
            self.completion_tokens += record.completion_tokens or 0
            if role in ("warm-up", "priming"):
                self.warmup_prompt_tokens += record.prompt_tokens or 0
            if role == "warm-up" and record.latency_ms is not None:
                self.warmup_latencies_ms.append(record.latency_ms)

    @property
    def warmup_latency_s(self) -> float | None:
        """The median latency of the warm-up's successes; None: there was none."""
        if not self.warmup_latencies_ms:
            return None
        return statistics.median(self.warmup_latencies_ms) / 1000

    def facts(self) -> dict[str, int]:
        found = dataclasses.asdict(self)
        del found["last_error"], found["warmup_latencies_ms"]
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        if not self.failed:
            return ()
        total = self.warmup + self.priming + self.tail
        return (
            f"{self.failed} of {total} unmeasured requests (warm-up, priming and tail) failed, "
            f"the last one: {self.last_error}",
        )

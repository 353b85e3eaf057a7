"""A request whose reply has ended and was judged, and where such requests are kept."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..live.counts import Counts
from ..plan.plan import Plan
from ..plan.requests import Role
from ..records.beside.answers import AnswerRow, AnswerWriter
from ..records.beside.token_file import Reads, TokenWriter
from ..records.request_record import RecordWriter, RequestRecord
from ..records.row import lightly_pickled

NO_READS: Reads = (array("q"), array("H"), array("H"))


@lightly_pickled
@dataclass(frozen=True, slots=True)
class Judged:
    """All that is kept of a request."""

    role: Role
    record: RequestRecord
    reads: Reads = NO_READS  # those that brought tokens, in ns from the run's start
    answer: tuple[AnswerRow, str] | None = None  # of a success on a question; and what it says
    model: str | None = None  # as the reply names it
    fingerprint: str | None = None
    away: bool = False  # the server didn't take it

    @property
    def memory_bytes(self) -> int:
        """About what it takes."""
        said = len(self.answer[1]) if self.answer else 0
        return 1000 + 12 * len(self.reads[0]) + said

    @property
    def stamps(self) -> Sequence[int]:
        """The stamp of each token event, in ns from the run's start."""
        stamps, events, _ = self.reads
        if sum(events) == len(stamps):  # one each, as nearly always: a read has one at least
            return stamps
        return [stamp for stamp, count in zip(stamps, events, strict=True) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """How far a worker is whose requests stay with it until the run is over; each second."""

    counts: Counts  # of those that stay
    away: bool | None  # whether the server turned all away since the last time; None: none ended


class Sink(Protocol):
    """Where the requests of a run go as they end."""

    def begin(self) -> None:
        """Take note that the run starts. Raises OSError."""

    def write(self, ended: Sequence[Judged]) -> None:
        """Keep requests. Raises OSError."""

    def close(self) -> None:
        """No more come. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is written beside the rows, if it is."""

    tokens: Path | None = None  # the folder for the stamp of each token
    texts: bool = False  # what answers to questions say, beside whether they are right


class RunFiles:
    """The files of a run: its rows, the stamp of each token, answers to questions."""

    def __init__(self, plan: Plan, rows: Path, kept: Kept) -> None:
        """Create the rows' file: while it is open, the run doesn't look like a killed one.

        Raises OSError.
        """
        self._plan, self._path, self._kept = plan, rows, kept
        self._rows = RecordWriter(rows)
        self._tokens: TokenWriter | None = None
        self._answers: AnswerWriter | None = None

    def begin(self) -> None:
        """Create the files beside the rows. Raises OSError."""
        plan, kept = self._plan, self._kept
        if kept.tokens is not None:
            self._tokens = TokenWriter(kept.tokens, plan.run_id)
        if plan.asked is not None:
            answers = self._path.parent / "answers"
            self._answers = AnswerWriter(answers, plan.run_id, texts=kept.texts)

    def write(self, ended: Sequence[Judged]) -> None:
        """Write the measured ones of these requests. Raises OSError."""
        measured = [one for one in ended if one.role == "measured"]
        if not measured:
            return
        self._rows.write([one.record for one in measured])
        if self._tokens is not None:
            for one in measured:
                self._tokens.write(one.record.request_index, one.reads)
            self._tokens.flush()
        if self._answers is not None:
            answers = [one.answer for one in measured if one.answer is not None]
            self._answers.write(answers, self._plan.secrets)

    def close(self) -> None:
        """Close the files, the rows' last. Raises OSError."""
        try:
            for file in (self._tokens, self._answers):
                if file is not None:
                    file.close()
        finally:
            self._rows.close()

"""What of a run has ended, as counts."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from ..records.request_record import RequestRecord


@dataclass(slots=True, kw_only=True)
class Counts:
    """Requests that have ended, their tokens and failures. Times in seconds from the start."""

    ended: int = 0
    completion_tokens: int = 0  # of all requests, as the server counts them
    good_tokens: int = 0  # of those that succeeded
    first_sent_s: float = math.inf
    last_end_s: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    last_error: str | None = None
    classes: dict[str, list[int]] = field(default_factory=dict)  # ended, and failed, of each

    @property
    def failed(self) -> int:
        """How many failed."""
        return sum(self.errors.values())

    def add(self, record: RequestRecord) -> None:
        """Count one request."""
        self.ended += 1
        self.completion_tokens += record.completion_tokens or 0
        if record.t_sent_s is not None:
            self.first_sent_s = min(self.first_sent_s, record.t_sent_s)
        self.last_end_s = max(self.last_end_s, record.t_end_s)
        if record.class_ is not None:
            counts = self.classes.setdefault(record.class_, [0, 0])
            counts[0] += 1
            counts[1] += record.error_kind is not None
        if record.error_kind:
            self.errors[record.error_kind] += 1
            self.last_error = record.error
        else:
            self.good_tokens += record.completion_tokens or 0

    def put_in(self, others: Counts, times: int = 1) -> None:
        """Count what others have counted; `times` is -1: take it out again."""
        self.ended += times * others.ended
        self.completion_tokens += times * others.completion_tokens
        self.good_tokens += times * others.good_tokens
        self.first_sent_s = min(self.first_sent_s, others.first_sent_s)
        self.last_end_s = max(self.last_end_s, others.last_end_s)
        for kind, count in others.errors.items():
            self.errors[kind] += times * count
        self.errors = +self.errors
        self.last_error = others.last_error or self.last_error
        for name, (ended, failed) in others.classes.items():
            counts = self.classes.setdefault(name, [0, 0])
            counts[0] += times * ended
            counts[1] += times * failed

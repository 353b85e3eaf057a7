"""Requests that are sent and not measured: a warm-up before the window, a tail behind it.

The server counts them all the same; its ledger is only right with these on the client's side.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ..plan.plan import Role
from ..records.request_record import RequestRecord


@dataclass(slots=True)
class Unmeasured:
    """How many there were, and what the successful ones brought."""

    warmup: int = 0
    tail: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    last_error: str | None = None

    def count(self, role: Role, record: RequestRecord) -> None:
        """Add one."""
        if role == "tail":
            self.tail += 1
        else:
            self.warmup += 1
        if record.error_kind is not None:
            self.failed += 1
            self.last_error = record.error
        else:
            self.prompt_tokens += record.prompt_tokens or 0
            self.completion_tokens += record.completion_tokens or 0

    def facts(self) -> dict[str, int]:
        """Return what the run's JSON says of them."""
        found = dataclasses.asdict(self)
        del found["last_error"]
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know."""
        if not self.failed:
            return ()
        total = self.warmup + self.tail
        return (
            f"{self.failed} of {total} unmeasured requests (warm-up and tail) failed, "
            f"the last one: {self.last_error}",
        )

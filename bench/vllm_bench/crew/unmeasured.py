"""What is counted of requests that have no rows: warm-up, priming, the tail of an open loop."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass, field

from ..plan.requests import Role
from ..records.request_record import RequestRecord


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

"""Every limit that a verdict depends on, with the reason for it."""

from __future__ import annotations

from dataclasses import dataclass

from .finding import Severity


@dataclass(frozen=True, slots=True)
class Limit:
    """A value above `suspect` makes a run SUSPECT, above `invalid` (None: never) INVALID."""

    suspect: float
    invalid: float | None
    reason: str

    def severity(self, value: float) -> Severity | None:
        """Return what `value` does to a run; None where it is within the limit."""
        if self.invalid is not None and value > self.invalid:
            return Severity.INVALID
        return Severity.SUSPECT if value > self.suspect else None


ERRORS = Limit(
    0.001,
    0.01,
    "share of requests; one in a thousand no longer touches p99, one in a hundred is p99 itself, "
    "and work refused is work that the rest didn't have to wait for",
)
SEND_LAG_FLOOR_MS = 2.0  # what a busy loop's scheduling costs at worst; below it nobody would act
SEND_LAG = Limit(
    0.02,
    0.10,
    "p99 of the lag over the median TTFT (latency without streaming): 2 % is the smallest effect "
    "worth claiming, and at 10 % the client's lateness is part of the result",
)
LOOP_LAG_FLOOR_MS = 2.0  # a loop that is this late now and then shifts no percentile worth naming
LOOP_LAG = Limit(
    0.05,
    0.20,
    "p99 of the sending loop's lag over the median gap between tokens (TTFT where there is none): "
    "a stamp can be so late, and past a fifth of a gap the gaps are the client's as much as the "
    "server's",
)
CLIENT_CPU = Limit(
    0.70,
    0.90,
    "share of a core that a sending process took in its busiest second: queues form well before 1",
)
LENGTH_MISMATCH = Limit(
    0.01,
    0.05,
    "share of replies whose length isn't the one asked for: two runs stop being the same work",
)
TOKENS_PER_CHUNK = Limit(
    1.05,
    None,
    "above it a gap between chunks is no longer a gap between tokens; the rest stays right",
)
LEDGER = Limit(
    0.0,
    0.01,
    "share of the client's own tokens: counters are exact, so any difference is somebody "
    "else's work or a lost reply, and past 1 % it has changed the load",
)
MIN_WINDOW_S = 10.0  # start-up and drain of a second or two would weigh too much in less
MIN_WINDOW_LATENCIES = 3.0  # fewer generations of requests than this never reach a steady state

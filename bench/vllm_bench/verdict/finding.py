"""A doubt about a run: what was found, how bad it is, and what to do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.IntEnum):
    """What a finding does to the verdict."""

    NOTE = 0  # worth knowing; changes nothing
    SUSPECT = 1  # the figures may mislead
    INVALID = 2  # the figures don't mean what they say


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason code with its figures and the remedy, each a sentence for people."""

    code: str
    severity: Severity
    figures: str
    advice: str


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
SEND_LAG = Limit(
    0.02,
    0.10,
    "p99 of the lag (below 368 requests the highest percentile that they allow) over the median "
    "TTFT (latency without streaming), over the requests that didn't wait for `max_in_flight`: "
    "2 % is the smallest effect worth claiming, and at 10 % the client's lateness is part of the "
    "result",
)
LOOP_LAG_FLOOR_MS = 2.0  # a loop that is this late now and then shifts no percentile worth naming
LOOP_LAG = Limit(
    0.05,
    0.20,
    "p99 of the sending loop's lag over the median gap between tokens (TTFT where there is none): "
    "a stamp can be so late, and past a fifth of a gap the gaps are the client's as much as the "
    "server's",
)
RATE_SHORTFALL = Limit(
    0.01,
    0.05,
    "share of the load that was asked for and not held (of a schedule's rate, not sent): 1 % is "
    "half the smallest effect worth claiming, and past 5 % the run is one of another level",
)
CAP_BOUND = Limit(
    0.01,
    0.10,
    "share of requests that waited for another one to end: from one in a hundred on p99 is the "
    "cap's, and past a tenth requests come when the server lets them, as in a closed loop: the "
    "load was the cap's, not the schedule's",
)
NOT_STATIONARY = Limit(
    0.05,
    0.20,
    "share of the arrivals late in the run that only lengthened the queue: waits then grow for as "
    "long as the run lasts, and past a fifth any mean or percentile is a matter of its length",
)
# Times the root of the queue's length, and the arrivals' cv where it is above 1: what arrivals do
# by chance.
QUEUE_NOISE = 3.0
MIN_ARRIVALS = 30  # fewer say nothing about a trend
CLOCK_DRIFT_MS = Limit(
    5.0,
    50.0,
    "ms by which wall clock and monotonic clock moved apart during the run: samples and logs of "
    "others are placed by the wall clock, 5 ms is a gap between tokens, 50 ms a TTFT",
)
CACHE_HITS = Limit(
    0.01,
    0.10,
    "share of prompt tokens found in the prefix cache although a salt a request was to keep it "
    "out: prefill that wasn't done makes TTFT and throughput look that much better",
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
MIN_WINDOW_S = 10.0  # a hiccup of a second would weigh too much in less
MIN_WINDOW_LATENCIES = 3.0  # fewer generations of requests than this never reach a steady state

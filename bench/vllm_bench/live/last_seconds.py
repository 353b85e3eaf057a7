"""Figures of the last ten seconds of a run, computed each second for the live view.

Runs in the parent, on what the sending processes report; it reads no clock. A request counts
when it has ended, like its row: tokens of a reply in flight are not known here.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..records.request_record import RequestRecord
from ..send.outbox import Pulse

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPAN_S = 10.0
MOST_SECONDS = 600  # of history: no terminal is wider


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The ten seconds before one moment. None: there was nothing of that kind.

    TTFT and ITL are of requests that succeeded. `running`, `waiting` and `kv_cache_usage`
    (0-1) are the server's own values at the last reading, and `server_tokens_per_s` what it
    generated between the last two, for all clients.
    """

    requests_per_s: float | None = None
    tokens_per_s: float | None = None  # generated, of the requests that ended
    failed: int = 0
    in_flight: int | None = None
    ttft_p50_ms: float | None = None
    ttft_p95_ms: float | None = None
    itl_p50_ms: float | None = None
    itl_p95_ms: float | None = None
    send_lag_p99_ms: float | None = None
    loop_lag_p99_ms: float | None = None
    cpu_share: float | None = None  # of a core, of the busiest sending process
    running: float | None = None
    waiting: float | None = None
    kv_cache_usage: float | None = None
    server_tokens_per_s: float | None = None


@dataclass(frozen=True)
class _Ended:
    """A request that has ended, and the stamp (ns) of each of its token events."""

    record: RequestRecord
    stamps: Sequence[int]

    @cached_property
    def gaps_ms(self) -> array[float]:
        """Its waits between tokens, for a view alone; none of a failure."""
        failed = self.record.error_kind is not None
        return token_gaps_ms(() if failed else self.stamps, self.record.completion_tokens)


class LastSeconds:
    """Requests that ended lately, and the figures of each second so far, in s from the start."""

    def __init__(self) -> None:
        self._ended: deque[_Ended] = deque()
        self._pulses: deque[tuple[float, Pulse]] = deque()
        # Where rows stay elsewhere: the time, and by then requests ended, failed, and tokens.
        self._counted: deque[tuple[float, int, int, int]] = deque()
        self._total: tuple[float, float] | None = None  # the server's clock, tokens
        self._server_tokens_per_s: float | None = None
        self.history: deque[Figures] = deque(maxlen=MOST_SECONDS)

    def ended(self, record: RequestRecord, stamps: Sequence[int] = ()) -> None:
        """Take a request that has ended, and the stamp (ns) of each of its token events."""
        self._ended.append(_Ended(record, stamps))
        # A request that is reported late comes after ones that ended later, and is dropped later.
        while self._ended[0].record.t_end_s <= record.t_end_s - SPAN_S:
            self._ended.popleft()

    def counted(self, at_s: float, ended: int, failed: int, tokens: int) -> None:
        """Take how many requests have ended where no row comes from, since the last time."""
        self._counted.append((at_s, ended, failed, tokens))
        while self._counted[0][0] <= at_s - SPAN_S:
            self._counted.popleft()

    def count_no_more(self) -> None:
        """Forget what was counted without rows: they come now."""
        self._counted.clear()

    def pulse(self, pulse: Pulse, start_ns: int) -> None:
        """Take one second of a sending process; the run began at `start_ns` of its clock."""
        end_s = (pulse.at_ns - start_ns) / 1e9
        self._pulses.append((end_s, pulse))
        while self._pulses[0][0] <= end_s - SPAN_S:
            self._pulses.popleft()

    def take(
        self, now_s: float, in_flight: int | None = None, server: Mapping[str, float] | None = None
    ) -> Figures:
        """Return the figures of the ten seconds before `now_s`, and keep them as history."""
        begin_s, span_s = now_s - SPAN_S, min(now_s, SPAN_S)
        inside = [one for one in self._ended if one.record.t_end_s > begin_s]
        ended = [one.record for one in inside]
        good = [record for record in ended if record.error_kind is None]
        pulses = [pulse for end_s, pulse in self._pulses if end_s > begin_s]
        counted = [counts for at_s, *counts in self._counted if at_s > begin_s]
        others, failed, tokens = (sum(each) for each in zip((0, 0, 0), *counted, strict=True))
        tokens += sum(record.completion_tokens or 0 for record in ended)
        ttft = percentiles([r.ttft_ms for r in good if r.ttft_ms is not None], 50, 95)
        itl = percentiles(_pooled(one.gaps_ms for one in inside), 50, 95)
        lag = percentiles([r.send_lag_ms for r in ended if r.send_lag_ms is not None], 99)
        ticks = percentiles(_pooled((p.lags_us for p in pulses), "uint32") / 1000, 99)
        figures = Figures(
            requests_per_s=(len(ended) + others) / span_s if span_s > 0 else None,
            tokens_per_s=tokens / span_s if span_s > 0 else None,
            failed=len(ended) - len(good) + failed,
            in_flight=in_flight,
            ttft_p50_ms=ttft[0],
            ttft_p95_ms=ttft[1],
            itl_p50_ms=itl[0],
            itl_p95_ms=itl[1],
            send_lag_p99_ms=lag[0],
            loop_lag_p99_ms=ticks[0],
            cpu_share=max((p.cpu_share for p in pulses), default=None),
            **self._server(server or {}),
        )
        self.history.append(figures)
        return figures

    def _server(self, said: Mapping[str, float]) -> dict[str, float | None]:
        if "generation_tokens_total" not in said:
            self._total = self._server_tokens_per_s = None
        else:
            now = (said["t_s"], said["generation_tokens_total"])
            before = self._total
            if before is not None and now[0] > before[0]:
                # Below 0 if the server was restarted.
                rate = (now[1] - before[1]) / (now[0] - before[0])
                self._server_tokens_per_s = rate if rate >= 0 else None
            self._total = now
        return {
            **{key: said.get(key) for key in ("running", "waiting", "kv_cache_usage")},
            "server_tokens_per_s": self._server_tokens_per_s,
        }


def token_gaps_ms(stamps: Sequence[int], tokens: int | None) -> array[float]:
    """Return the waits between tokens, one for each token event after the first read.

    A read that brought several tokens shares its wait among them, as the summary's ITL does;
    where events have several tokens, all events are assumed to have the same number.
    """
    import numpy as np

    if not stamps:
        return array("d")
    per_event = max(1.0, (tokens or 0) / len(stamps))
    at = np.asarray(stamps, dtype=np.int64)
    waits = (at[1:] - at[:-1]) / 1e6
    if not waits.all():  # reads that brought several
        begins = waits.nonzero()[0] + 1  # of each read but the first
        events = np.diff(begins, append=len(at))
        waits = np.repeat(waits[begins - 1] / events, events)
    return array("d", (waits / per_event).tobytes())


def percentiles(values: Sequence[float] | NDArray[Any], *wanted: float) -> list[float | None]:
    """Return percentiles, interpolated linearly between ranks; None of nothing."""
    import numpy as np

    if len(values) == 0:
        return [None] * len(wanted)
    return [float(found) for found in np.percentile(values, wanted)]


def _pooled(parts: Iterable[array[float] | bytes], dtype: str = "float64") -> NDArray[Any]:
    import numpy as np

    return np.frombuffer(b"".join(parts), dtype=dtype)

"""A run's rows, split once into what the summary and the verdict both ask for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..records.run_info import RunInfo
from ..scenario.load import Load
from .in_flight import InFlight, busy_streams, in_flight, waited_for_cap
from .statistics import Values, floats, ordered, quantile
from .token_gaps import TokenReads
from .window import Window, closed_window, open_window

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Facts:
    """Rows of a run and what was written beside them; derived values are computed when asked."""

    frame: pd.DataFrame
    info: RunInfo | None
    reads: TokenReads | None = None  # when each token of the successes came
    reads_absent: str = "the tokens' stamps were not kept"  # why reads is None
    gpu_rows: pd.DataFrame | None = None  # see gpu_rows.py; None: not sampled
    server_rows: pd.DataFrame | None = None  # see server_rows.py; None: not sampled

    @cached_property
    def load(self) -> Load:
        """How hard the run pushed."""
        return load_of(self.frame, self.info)

    @cached_property
    def flight(self) -> InFlight | None:
        """Requests in flight over time."""
        return in_flight(self.frame)

    @cached_property
    def window(self) -> Window | None:
        """The stretch in which the load was held."""
        if self.load.is_open:
            arrivals_s = floats(self.frame["t_scheduled_s"])
            return open_window(arrivals_s, self.ramp_s, self.latency_p50_ms)
        # A stream whose person thinks about an answer is held, though nothing is in flight.
        held = busy_streams(self.frame) if self.has_turns else self.flight
        return closed_window(held, self.load.value)

    @property
    def ramp_s(self) -> float:
        """How long an open loop's rate rises from 0 at the start; 0: it doesn't."""
        return self.plan_number("ramp_s") or 0.0

    @cached_property
    def has_turns(self) -> bool:
        """Whether the requests are turns of conversations."""
        return bool(self.frame["turn"].notna().any())

    @property
    def rows(self) -> int:
        """Requests that ended, however they did."""
        return len(self.frame)

    @property
    def arrivals(self) -> int:
        """Requests that were to be answered: those planned, or more where there are more rows.

        One that has no row, because the run broke off, was not answered.
        """
        return max(self.rows, self.info.num_requests if self.info else 0)

    @cached_property
    def failed(self) -> NDArray[np.bool_]:
        """Whether each row's request failed."""
        failed = self.frame["error_kind"].notna() | self.frame["error"].notna()
        return failed.to_numpy(dtype=bool)

    @cached_property
    def succeeded(self) -> pd.DataFrame:
        """Rows of the requests that succeeded: the only ones whose times are compared."""
        rows: pd.DataFrame = self.frame.loc[~self.failed]
        return rows

    @cached_property
    def failures(self) -> pd.DataFrame:
        """Rows of the requests that failed."""
        rows: pd.DataFrame = self.frame.loc[self.failed]
        return rows

    @cached_property
    def cancelled(self) -> int:
        """Requests that the client itself gave up, because it was told to stop."""
        return int((self.frame["error_kind"] == "cancelled").sum())

    def values(self, column: str) -> Values:
        """Return a column's values over the successes, absences left out; see `times`."""
        return floats(self.times(column)[~self.failed])

    def times(self, column: str) -> pd.Series[Any]:
        """Return a column, a row each; `…_from_schedule_ms` from when the request was due."""
        if not column.endswith("_from_schedule_ms"):
            return self.frame[column]
        return self.frame[column.replace("_from_schedule", "")] + self.frame["send_lag_ms"]

    @cached_property
    def tokens_per_chunk(self) -> Values:
        """Generated tokens by event that brought some, for each success that was streamed."""
        rows = self.succeeded[self.succeeded["token_events"] > 0]
        return floats(rows["completion_tokens"] / rows["token_events"])

    @cached_property
    def token_gap_p50_ms(self) -> float | None:
        """Median ITL, or median TPOT where that is longer, in ms; for thresholds.

        Where tokens come in bursts, half of all gaps are next to nothing.
        """
        reads = self.reads
        tpot_ms = quantile(self.values("tpot_ms"), 50)
        if tpot_ms is None or reads is None or reads.itl_ms.size == 0:
            return tpot_ms
        return max(tpot_ms, ordered(reads.itl_ms, reads.tokens_after_gap).percentile(50))

    def total(self, column: str) -> int:
        """Return a column's sum over the successes."""
        return int(self.values(column).sum())

    @cached_property
    def send_lag_ms(self) -> Values:
        """Lags of every request that was sent, failed ones too; waits for the cap among them."""
        return floats(self.frame["send_lag_ms"])

    @cached_property
    def waited_for_cap(self) -> NDArray[np.bool_]:
        """Whether each row's request waited for the cap on requests in flight; no cap: none did."""
        cap = self.plan_number("max_in_flight")
        if cap is None:
            return np.zeros(self.rows, dtype=bool)
        return waited_for_cap(self.frame, int(cap), self.processes)

    @property
    def processes(self) -> int:
        """How many processes sent."""
        workers = self.info.client_health.get("workers") if self.info else None
        return max(1, len(workers)) if isinstance(workers, list) else 1

    @cached_property
    def own_lag_ms(self) -> Values:
        """Lags that are the client's own: of the requests that didn't wait for the cap."""
        return floats(self.frame.loc[~self.waited_for_cap, "send_lag_ms"])

    @cached_property
    def span_s(self) -> float | None:
        """Seconds from the first t_sent to the last t_end; None where nothing was sent."""
        sent = floats(self.frame["t_sent_s"])
        if sent.size == 0:
            return None
        span = float(self.frame["t_end_s"].max()) - float(sent.min())
        return span if span > 0 else None

    @cached_property
    def ttft_p50_ms(self) -> float | None:
        """Median time to first token, in ms; for thresholds."""
        return quantile(self.values("ttft_ms"), 50)

    @cached_property
    def latency_p50_ms(self) -> float | None:
        """Median latency, in ms; for thresholds."""
        return quantile(self.values("latency_ms"), 50)

    def setting(self, key: str) -> Any:
        """Return a key of the run's scenario; None where it isn't known."""
        return self.info.scenario.get(key) if self.info else None

    def plan_number(self, key: str) -> float | None:
        """Return a number of the run's plan; None where it has none."""
        value = self.info.plan.get(key) if self.info else None
        return float(value) if isinstance(value, int | float) else None

    @property
    def streaming(self) -> bool:
        """Whether replies were streamed; from the rows where no settings are known."""
        told = self.setting("stream")
        return bool(told) if told is not None else bool((self.frame["token_events"] > 0).any())

    @property
    def choices(self) -> int:
        """Completions asked for by each request (`n`)."""
        body = self.setting("extra_body")
        asked = body.get("n") if isinstance(body, dict) else None
        return asked if isinstance(asked, int) and asked > 0 else 1


def load_of(frame: pd.DataFrame, info: RunInfo | None) -> Load:
    """Return a run's load: the rate that its schedule was to have, or the streams to hold open."""
    rate = info.request_rate if info else _first(frame, "request_rate")
    if rate is not None:
        speed = info.plan.get("speed") if info else None
        known = float(speed) if isinstance(speed, int | float) else None
        return Load("requests/s", float(rate), known)  # a numpy number is none that JSON knows
    streams = info.concurrency if info else _first(frame, "concurrency")
    return Load("streams", int(streams or 0))


def _first(frame: pd.DataFrame, column: str) -> Any:
    """Return what a column of equal values holds; None where it is empty."""
    known = frame[column].dropna()
    return known.iloc[0] if len(known) else None


@dataclass(frozen=True, slots=True)
class Stretch:
    """Seconds from the run's start."""

    start_s: float
    end_s: float
    steady: bool  # it is the steady window

    @property
    def length_s(self) -> float:
        """How long it is."""
        return self.end_s - self.start_s

    @property
    def words(self) -> str:
        """What it is, for people."""
        what = "steady window" if self.steady else "whole run"
        return f"{what} of {self.length_s:.1f} s"


def stretch_of(facts: Facts) -> Stretch | None:
    """Return the steady window, else the time from the first send to the last end, if any."""
    window = facts.window
    if window is not None:
        return Stretch(window.start_s, window.end_s, steady=True)
    sent = floats(facts.frame["t_sent_s"])
    if sent.size == 0 or facts.span_s is None:
        return None
    return Stretch(float(sent.min()), float(facts.frame["t_end_s"].max()), steady=False)

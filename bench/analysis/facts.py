"""A run's rows, split once into what the summary and the verdict both ask for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from loadgen.records import RunInfo

from .statistics import Values, floats, quantile

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Facts:
    """Rows of a run and what was written beside them; derived values are computed when asked."""

    frame: pd.DataFrame
    info: RunInfo | None

    @property
    def rows(self) -> int:
        """Requests that ended, however they did."""
        return len(self.frame)

    @cached_property
    def _failed(self) -> NDArray[np.bool_]:
        failed = self.frame["error_kind"].notna() | self.frame["error"].notna()
        return failed.to_numpy(dtype=bool)

    @cached_property
    def succeeded(self) -> pd.DataFrame:
        """Rows of the requests that succeeded: the only ones whose times are compared."""
        rows: pd.DataFrame = self.frame.loc[~self._failed]
        return rows

    @cached_property
    def failures(self) -> pd.DataFrame:
        """Rows of the requests that failed."""
        rows: pd.DataFrame = self.frame.loc[self._failed]
        return rows

    @cached_property
    def cancelled(self) -> int:
        """Requests that the client itself gave up, because it was told to stop."""
        return int((self.frame["error_kind"] == "cancelled").sum())

    def values(self, column: str) -> Values:
        """Return a column's values over the successes, absences left out."""
        return floats(self.succeeded[column])

    def total(self, column: str) -> int:
        """Return a column's sum over the successes."""
        return int(self.values(column).sum())

    @cached_property
    def send_lag_ms(self) -> Values:
        """Lags of every request that was sent: failed ones too, since it is the client's."""
        return floats(self.frame["send_lag_ms"])

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

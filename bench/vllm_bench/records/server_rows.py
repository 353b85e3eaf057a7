"""What a run's server said of itself each second, as the summary and the pictures ask for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .sampled import read_samples

if TYPE_CHECKING:
    import pandas as pd

ALL = "all"  # the rows of all engines together, beside those of each
SPENT = ("ttft", "itl", "queue", "prefill", "decode")  # <name>_mean_ms and <name>_count
DTYPES = {
    "t_s": "float64",
    "engine": "string",
    **dict.fromkeys(
        (
            "fetch_ms",
            "running",
            "waiting",
            "kv_cache_usage",  # 0 to 1
            "preemptions_total",
            "prefix_cache_queries_total",
            "prefix_cache_hits_total",
            "prompt_tokens_total",
            "generation_tokens_total",
            *(f"{name}_{part}" for name in SPENT for part in ("mean_ms", "count")),
        ),
        "float64",
    ),
}


def read_server_rows(run: Path) -> pd.DataFrame | None:
    """Read `server_metrics/<run_id>.csv`, by rising t_s; None where nothing was sampled.

    Raises RecordsError.
    """
    return read_samples(run.parent / "server_metrics" / f"{run.stem}.csv", "server metrics", DTYPES)

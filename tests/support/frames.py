"""A run's rows as a pandas frame, for tests that look at them from all sides."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from vllm_bench.records.request_record import read_rows


def read_frame(path: Path) -> pd.DataFrame:
    """Return the rows of a file; an empty cell is None or NaN."""
    return pd.DataFrame(read_rows(path).columns)

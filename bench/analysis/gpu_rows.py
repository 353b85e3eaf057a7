"""The GPU samples beside a run, as far as the verdict asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loadgen.records import RecordsError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["t_s", "gpu_index", "throttle_reasons"]


def read_gpu_rows(run: Path) -> pd.DataFrame | None:
    """Read `telemetry/<run_id>.csv`; None where nothing was sampled. Raises RecordsError."""
    import pandas as pd

    path = run.parent / "telemetry" / f"{run.stem}.csv"
    if not path.exists():
        return None
    try:
        rows = pd.read_csv(path, usecols=COLUMNS, dtype={"throttle_reasons": "string"})
    except (OSError, ValueError) as e:
        raise RecordsError(f"{path}: not GPU samples: {e}") from e
    whole: pd.DataFrame = rows.dropna(subset=["t_s", "gpu_index"])
    filled: pd.DataFrame = whole.fillna({"throttle_reasons": "none"})
    return filled

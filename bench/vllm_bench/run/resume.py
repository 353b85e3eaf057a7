"""Which runs of a folder are complete, so that --resume leaves them out.

A run is complete when it ended by itself and has a row for each of its requests. It replaces a
run with the same key (see same_run.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..records.request_record import RecordsError, count_rows
from ..records.run_info import read_run_info
from ..records.same_run import RunKey

NO_RUNS = (
    "summary.csv",
    "summary_levels.csv",
)  # what summarize.py writes into the folder of the runs


def complete_runs(folder: Path, tell: Callable[[str], None]) -> dict[RunKey, Path]:
    """Return the rows of each key's complete run; of several, the one that began last.

    `tell` gets one line on each run that can't be read; such a run is run again.
    """
    found: list[tuple[float, RunKey, Path]] = []
    for path in sorted(folder.glob("*.csv")):
        if path.name in NO_RUNS or not path.with_suffix(".json").exists():
            continue
        try:
            info = read_run_info(path.with_suffix(".json"))
            rows = count_rows(path)
        except RecordsError as e:
            tell(str(e))
            continue
        key = RunKey.of(info)
        if key is not None and info.status == "complete" and rows == info.num_requests:
            found.append((info.clock_start.wall_s, key, path))
    return {key: path for _, key, path in sorted(found, key=lambda run: run[0])}

"""Which runs of a folder are whole, so that --resume leaves them out.

A run is whole when it is complete, has a row for each of its requests, and one of them at least
succeeded: without any the server was gone, or refused the key, and nothing was measured. One that
lost a machine is `incomplete`, even if all its rows have been fetched since. Where some succeeded,
failures are what was measured (a server that turns requests away), and another run would find the
same. A whole run stands for each run with the same key (see same_run.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from ..records.request_record import RecordsError, read_rows
from ..records.row import Rows
from ..records.run_info import read_head, read_run_info
from ..records.same_run import RunKey

NO_RUNS = ("summary.csv", "summary_levels.csv")  # what summarize.py writes beside the runs


def complete_runs(
    folder: Path, wanted: Collection[RunKey], tell: Callable[[str], None], *, profiled: bool = False
) -> dict[RunKey, Path]:
    """Return the rows of each wanted key's whole run; of several, the one that began last.

    `tell` gets one line on each run that can't be read, and on each without a success; these are
    run again, and so is one that lacks rows. Where runs with a profile of the server are wanted
    (`profiled`), those without count for nothing, and the other way round.
    """
    found: list[tuple[float, RunKey, Path]] = []
    for path in sorted(folder.glob("*.csv")):
        if path.name in NO_RUNS or not path.with_suffix(".json").exists():
            continue
        try:
            info = read_run_info(path.with_suffix(".json"))
            key = RunKey.of(info)
            if key is None or key not in wanted or info.status != "complete":
                continue
            if bool(info.observed.get("profile")) != profiled:
                continue
            rows = read_rows(path)
        except RecordsError as e:
            tell(str(e))
            continue
        if len(rows) == info.num_requests and _measured(rows, path, tell):
            found.append((info.clock_start.wall_s, key, path))
    return {key: path for _, key, path in sorted(found, key=lambda run: run[0])}


def continued(complete: Sequence[Path | None]) -> str | None:
    """Return the session of the newest of these runs: what they lack belongs to it."""
    heads = [read_head(rows.with_suffix(".json")) for rows in complete if rows is not None]
    newest = max(heads, key=lambda head: head.clock_start.wall_s, default=None)
    return newest.session if newest else None


def _measured(rows: Rows, path: Path, tell: Callable[[str], None]) -> bool:
    if not rows.has("error_kind").all():
        return True
    tell(f"{path.stem}: all its requests failed: it is run again")
    return False

"""`results/capacity/<id>.json` and `.csv`: a search as far as it has come.

Written after each run, so that a killed script loses nothing and `--resume` goes on: the next step
follows from the runs alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked

from ..records.beside.going_on import KeptError, read_kept, readable
from ..records.row import Column, to_csv
from ..records.safe_file import write_atomically
from .axis import UNITS, Of
from .found import Found, answers
from .probe import Late, Probe
from .steps import Space

FOLDER = "capacity"  # in the results: the files, and a folder of runs for each search

Status = Literal["going on", "done", "out of time", "interrupted", "failed", "stuck"]


@checked(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Search:
    """A search: what was asked, and the runs so far."""

    schema_version: Literal[1] = 1
    kind: Literal["capacity"] = "capacity"
    id: str
    status: Status = "going on"
    why: str | None = None  # it ended before its answer
    asked: str  # checksum of scenario, server and space
    scenario: dict[str, Any]  # settings, secrets masked
    of: Of
    space: Space
    minutes: float
    estimate_s: tuple[float, float]
    took_s: float = 0.0
    server: dict[str, Any]
    probes: tuple[Probe, ...] = ()

    @property
    def found(self) -> tuple[Found, ...]:
        return answers(self.space, self.probes)

    @property
    def exit_code(self) -> int:
        """Return 3 where no load meets a tier's objectives, 4 where one is open.

        A tier is open where no load was judged to meet them, or the search couldn't go on.
        """
        found = self.found
        below = any(one.end == "below low" and not one.leaves_open for one in found)
        if below or any(one.short for one in found):
            return 3
        unsure = self.status == "stuck" and any(one.end == "unfinished" for one in found)
        return 4 if unsure or any(one.load is None for one in found) else 0

    def with_probe(self, probe: Probe) -> Search:
        return replace(self, probes=(*self.probes, probe))


_SEARCH = TypeAdapter(Search)


@dataclass(frozen=True, slots=True)
class _Row:
    """One run, for one tier."""

    search: Search
    probe: Probe
    tier: str

    @property
    def word(self) -> str:
        return "spoilt" if self.probe.spoilt is not None else self.probe.word(self.tier)

    @property
    def holds(self) -> str:
        held = "yes" if self.probe.holds(self.tier) else "no"
        return "" if self.probe.spoilt is not None else held

    @property
    def worst(self) -> Late:
        return self.probe.worst(self.tier)


COLUMNS: tuple[Column[_Row], ...] = (
    Column("number", "which run of the search, from 1", "probe.number"),
    Column(
        "purpose",
        "find: doubling; close: bisection; confirm: on fresh seeds, whether the answer is right",
        "probe.purpose",
    ),
    Column("load", "in `unit`", "probe.load"),
    Column("unit", "requests/s, streams or sessions", lambda r: UNITS[r.search.of]),
    Column("tier", "of slo_tiers; empty: the scenario's slo", "tier"),
    Column("made_for", "the tier for which the run was made; all count it", "probe.tier"),
    Column("outcome", "met, missed, not shown; spoilt: it answers nothing", "word"),
    Column("holds", "whether this run met: the search goes up, or down", "holds"),
    Column(
        "why",
        "the objective furthest over, or nearest; or why it is spoilt",
        lambda r: r.probe.why(r.tier),
    ),
    Column("objective", "the one in `why`", "worst.objective"),
    Column("value_ms", "its percentile, of the successes", "worst.value_ms"),
    Column("limit_ms", "its limit", "worst.limit_ms"),
    Column("late_share", "share of the counted requests that were late", "worst.share"),
    Column("late_share_low", "its lower bound, one-sided, 95 %", "worst.low"),
    Column("late_share_high", "its upper bound", "worst.high"),
    Column("allowed_share", "the share that may be late", "worst.allowed"),
    Column("requests", "planned", "probe.requests"),
    Column("counted", "of which the figures are", "probe.counted"),
    Column("stopped", "why it was ended early; empty: it wasn't", "probe.stopped"),
    Column("verdict", "on the run", "probe.verdict"),
    Column("limited_by", "what the server was short of", lambda r: ", ".join(r.probe.limits)),
    Column(
        "kv_cache_peak", "share of KV blocks in use, largest reading", "probe.server.kv_cache_peak"
    ),
    Column("running_peak", "requests in the batch, largest reading", "probe.server.running_peak"),
    Column("waiting_peak", "requests in the queue, largest reading", "probe.server.waiting_peak"),
    Column("preemptions", "requests that lost their KV blocks", "probe.server.preemptions"),
    Column("seconds", "that the run took, with start, end and rest", "probe.seconds"),
    Column("run_id", "its files are in the folder of the search", "probe.run_id"),
)


def write_search(results: Path, search: Search) -> None:
    """Write both files; readers see all of each or nothing. Raises OSError."""
    path = results / FOLDER / f"{search.id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [_Row(search, probe, tier) for probe in search.probes for tier in search.space.tiers]
    write_atomically(path.with_suffix(".csv"), to_csv(COLUMNS, rows))
    whole = {**asdict(search), "found": [_found(one) for one in search.found]}
    write_atomically(path, orjson.dumps(whole, option=orjson.OPT_INDENT_2) + b"\n")


def _found(one: Found) -> dict[str, Any]:
    beyond = None if one.beyond is None else one.beyond.number
    return {**asdict(one), "beyond": beyond}


def read_search(path: Path) -> Search:
    """Read a search's JSON. Raises KeptError."""
    found = read_kept(path, "a search of capacity.py", _search)
    if found.id != path.stem:
        raise KeptError(f"{path}: of another search: {found.id}")
    return found


def _search(data: bytes) -> Search:
    raw = orjson.loads(data)
    if isinstance(raw, Mapping):
        raw = {key: value for key, value in raw.items() if key != "found"}  # from the rows
    return _SEARCH.validate_python(raw)


def searches(results: Path) -> Iterator[Search]:
    """Return the searches of a results folder, the newest first; what can't be read is left out."""
    paths = (results / FOLDER).glob("*.json")
    newest_first = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)
    return readable(newest_first, read_search)

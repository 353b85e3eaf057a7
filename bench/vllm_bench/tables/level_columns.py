"""`summary_levels.csv`: a row a level of load, over its repeats. The only place for its columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..figures.metrics import FROM_SCHEDULE
from ..figures.objectives import Attainment
from ..summary.levels import Figure, Level, Series
from ..summary.stability import output_tokens_per_s, stability
from .columns import cell
from .summary_column import Value


@dataclass(frozen=True, slots=True)
class LevelRow:
    """A level, and what its TTFT is worth beside the others (None: nothing to compare)."""

    level: Level
    state: str | None


@dataclass(frozen=True, slots=True)
class LevelColumn:
    """A column: its name, its meaning, and where its value comes from."""

    name: str
    doc: str
    value: Callable[[LevelRow], Value]


def _percentile(metric: str, percentile: float) -> Figure:
    return lambda run: run.percentile(metric, percentile)


def _rate(run_part: str) -> Figure:
    return lambda run: getattr(run.steady, run_part) if run.steady else None


FIGURES: tuple[tuple[str, str, Figure], ...] = (
    *(
        (f"{metric.removesuffix('_ms')}_p{q:g}_ms", f"p{q:g} of {metric}", _percentile(metric, q))
        for metric in (*("ttft_ms", "tpot_ms", "itl_ms", "latency_ms"), *FROM_SCHEDULE.values())
        for q in (50.0, 95.0, 99.0)
    ),
    ("requests_per_s", "successes a second in the steady window", _rate("requests_per_s")),
    (
        "output_tokens_per_s",
        "generated tokens a second in the steady window (the whole run where stamps are missing)",
        output_tokens_per_s,
    ),
    (
        "output_tokens_per_s_per_gpu",
        "generated tokens a second and GPU in the steady window",
        lambda run: run.cost.output_tokens_per_s_per_gpu,
    ),
    (
        "energy_per_output_token_j",
        "GPU energy an output token in the steady window",
        lambda run: run.energy.per_output_token_j,
    ),
)


def _over_repeats(name: str, doc: str, figure: Figure) -> list[LevelColumn]:
    """Return a figure's centre, its 95 % t interval from three repeats on, and every run's."""

    def bound(row: LevelRow, side: str) -> Value:
        found = row.level.over_repeats(figure)
        return getattr(found.interval, side) if found and found.interval else None

    def every(row: LevelRow) -> Value:
        return " ".join(cell(figure(run)) or "-" for run in row.level.runs)

    return [
        LevelColumn(name, f"geometric mean of the runs' {doc}", lambda r: r.level.centre(figure)),
        LevelColumn(f"{name}_low", "its 95 % interval over the runs", lambda r: bound(r, "low")),
        LevelColumn(f"{name}_high", "... from three runs on", lambda r: bound(r, "high")),
        LevelColumn(f"{name}_runs", "each run's, in the order of run_ids", every),
    ]


def _attained(value: Callable[[Attainment], Value]) -> Callable[[LevelRow], Value]:
    return lambda r: value(r.level.attainment) if r.level.attainment else None


LEVEL_COLUMNS: tuple[LevelColumn, ...] = (
    LevelColumn("scenario", "scenario's name", lambda r: r.level.scenario),
    LevelColumn("load", "level of load", lambda r: r.level.load.value),
    LevelColumn("load_unit", "streams or requests/s", lambda r: r.level.load.unit),
    LevelColumn("model", "model asked for", lambda r: r.level.runs[0].setting("model")),
    LevelColumn(
        "server_version", "the server's own word", lambda r: r.level.runs[0].server("version")
    ),
    LevelColumn("runs", "repeats", lambda r: len(r.level.runs)),
    LevelColumn("run_ids", "which", lambda r: " ".join(run.run_id for run in r.level.runs)),
    LevelColumn("verdict", "the worst of the runs'", lambda r: r.level.verdict),
    LevelColumn("reasons", "codes of any of them", lambda r: r.level.reasons or None),
    LevelColumn("requests", "of all runs", lambda r: sum(s.requests for s in r.level.runs)),
    LevelColumn("succeeded", "of all runs", lambda r: sum(s.succeeded for s in r.level.runs)),
    *(column for figure in FIGURES for column in _over_repeats(*figure)),
    LevelColumn(
        "objectives_met",
        "yes or no, over the requests of all runs",
        _attained(lambda a: "yes" if a.met else "no"),
    ),
    LevelColumn("attainment", "of all arrivals of all runs", _attained(lambda a: a.share)),
    LevelColumn(
        "attainment_low",
        "Wilson's 95 % interval",
        _attained(lambda a: a.interval.low if a.interval else None),
    ),
    LevelColumn(
        "attainment_high", "...", _attained(lambda a: a.interval.high if a.interval else None)
    ),
    LevelColumn("goodput_per_s", "good requests a second", _attained(lambda a: a.goodput_per_s)),
    LevelColumn("ttft_stability", "the TTFT beside the lowest level's", lambda r: r.state),
)


def level_rows(series: Iterable[Series]) -> list[LevelRow]:
    """Return a row a level, each scenario's by rising load."""
    rows = []
    for one in series:
        judged = stability(one.levels)
        states = [level.state for level in judged.levels] if judged else [None] * len(one.levels)
        rows += [LevelRow(lv, state) for lv, state in zip(one.levels, states, strict=True)]
    return rows


def level_column_docs() -> list[tuple[str, str]]:
    """Return (column, meaning) for every column, in the file's order."""
    return [(column.name, column.doc) for column in LEVEL_COLUMNS]


def levels_to_csv(series: Iterable[Series]) -> bytes:
    """Return summary_levels.csv. A value that doesn't exist is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(column.name for column in LEVEL_COLUMNS)
    for row in level_rows(series):
        writer.writerow(cell(column.value(row)) for column in LEVEL_COLUMNS)
    return out.getvalue().encode()

"""The columns of summary_levels.csv: one row per level of load, over its repeats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ..classes.fairness import Fairness, fairness
from ..classes.slowdown import PERCENTILES, Apart, Slowdown
from ..records.row import Column, Value, follow, in_file
from ..stats.repeated import Repeated
from ..summary.levels import Level, Series
from ..summary.stability import stability
from .columns import BY_NAME, REPEATED, RunColumn, words_by_tier
from .group import PERCENTILE


@dataclass(frozen=True, slots=True)
class LevelRow:
    """A level, and the state of its TTFT compared with the others (None: nothing to compare).

    `fair` has the fairness to the classes of the runs that it is of.
    """

    level: Level
    state: str | None
    fair: Fairness | None = None

    def slowed(self, percentile: float) -> Slowdown | None:
        """Return its class's slowdown."""
        found = self.fair.of(percentile) if self.fair else []
        return next((one for one in found if one.class_name == self.level.class_), None)

    def apart(self, percentile: float) -> Apart | None:
        """Return worst over best of its classes, where it is of all of them."""
        found = self.fair.apart if self.fair and self.level.class_ is None else ()
        return next((one for one in found if one.percentile == percentile), None)


def level_match(level: Level) -> float | None:
    """Return the share of a level's answers that are right; None: there are none."""
    sides = [run.answers for run in level.runs if run.answers is not None]
    scored = sum(side.n for side in sides)
    return sum(side.right for side in sides) / scored if scored else None


def over_runs(level: Level, figure: RunColumn) -> Repeated | None:
    """Return a figure over a level's runs: a percentile of all their rows, or their mean."""
    found = PERCENTILE.fullmatch(figure.name)
    if found is None:
        return level.over_repeats(figure.value)
    return level.over_rows(f"{found['metric']}_ms", float(found["percentile"]))


def _columns(figure: RunColumn) -> Iterator[Column[LevelRow]]:
    """Yield a figure over a level's runs, its 95 % interval, and each run's value."""

    def found(row: LevelRow) -> Repeated | None:
        return over_runs(row.level, figure)

    def every(row: LevelRow) -> Value:
        runs, believed = row.level.runs, row.level.believed
        cells = [in_file(figure.value(run)) if run in believed else "" for run in runs]
        return " ".join(cell or "-" for cell in cells) if believed else None

    name, rows = figure.name, PERCENTILE.fullmatch(figure.name)
    whose = "{} over the rows of all runs that count" if rows else "geometric mean of the runs' {}"
    how = "by batch means" if rows else "over the runs, from three runs on"
    yield Column(name, whose.format(figure.doc), lambda row: follow(found(row), "centre"))
    yield from _interval(name, f", {how}", found)
    yield Column(
        f"{name}_runs",
        "the value of each run, in the order of run_ids; -: none, or an INVALID run",
        every,
    )


def _interval(
    name: str, how: str, found: Callable[[LevelRow], Repeated | Slowdown | None]
) -> Iterator[Column[LevelRow]]:
    """Yield both ends of a figure's 95 % interval; `how` it was found, in words."""

    def high(row: LevelRow) -> Value:
        one = found(row)
        bounded = one is not None and one.interval is not None and one.interval.bounded
        return follow(one, "interval.high") if bounded else None

    low = f"low end of its 95 % interval{how}"
    yield Column(f"{name}_low", low, lambda row: follow(found(row), "interval.low"))
    yield Column(f"{name}_high", "high end of that interval; empty: no upper bound", high)


def _slowdown(percentile: float) -> Iterator[Column[LevelRow]]:
    """Yield a class's slowdown with its interval, and worst over best in the row of all."""

    def found(row: LevelRow) -> Slowdown | None:
        return row.slowed(percentile)

    def compared(row: LevelRow) -> Value:
        return None if follow(found(row), "ratio") is None else follow(found(row), "figure")

    name = f"slowdown_p{percentile:g}"
    what = "what is compared of the class: TTFT, of sessions a job"
    yield Column(f"{name}_of", what, compared)
    ratio = f"its p{percentile:g} in the mix / alone (--alone)"
    yield Column(name, ratio, lambda row: follow(found(row), "ratio"))
    yield from _interval(name, "", found)
    yield Column(
        f"worst_over_best_p{percentile:g}",
        "the largest of the classes' slowdowns / the smallest; 1: nobody is favoured",
        lambda row: follow(row.apart(percentile), "ratio"),
    )


def _as_of_a_run(name: str, found: str | Callable[[LevelRow], Value]) -> Column[LevelRow]:
    """Return a column that means what the run's column of that name does."""
    return Column(name, BY_NAME[name].doc, found)


LEVEL_COLUMNS: tuple[Column[LevelRow], ...] = (
    _as_of_a_run("scenario", "level.scenario"),
    _as_of_a_run("class", "level.class_"),
    _as_of_a_run("load", "level.load.value"),
    _as_of_a_run("load_unit", "level.load.unit"),
    _as_of_a_run("model", lambda row: row.level.runs[0].setting("model")),
    _as_of_a_run("server_version", lambda row: row.level.runs[0].server("version")),
    Column("runs", "repeats", lambda row: len(row.level.runs)),
    Column("run_ids", "which", lambda row: " ".join(run.run_id for run in row.level.runs)),
    Column(
        "runs_counted",
        "those that the figures are of: not INVALID ones, and none where repeats disagree",
        lambda row: len(row.level.figures_of),
    ),
    Column("verdict", "their worst verdict; INVALID where none counts", "level.verdict"),
    Column("reasons", "codes of all runs that are not VALID", "level.reasons"),
    Column(
        "disagree",
        "what lies further apart than repeats do, so that there is no mean; empty: nothing",
        "level.disagree",
    ),
    Column(
        "requests",
        "requests of all runs that ended",
        lambda row: sum(run.requests for run in row.level.runs),
    ),
    Column(
        "requests_counted",
        "those sent in steady windows of runs that count, of which the figures are",
        lambda row: sum(run.counted for run in row.level.figures_of),
    ),
    Column(
        "succeeded",
        "successes of all runs",
        lambda row: sum(run.succeeded for run in row.level.runs),
    ),
    *(column for figure in REPEATED for column in _columns(figure)),
    Column(
        "prefix_cache_hit_rate",
        "share of prompt tokens found in the prefix cache, 0 to 1, mean of the runs",
        "level.hit_rate",
    ),
    Column(
        "objectives",
        "met, missed or not shown, over the counted requests of the runs that count",
        "level.attainment.word",
    ),
    _as_of_a_run("tiers", lambda row: words_by_tier(row.level.tiers)),
    Column(
        "attainment",
        "share of these requests that met every objective on one, 0 to 1",
        "level.attainment.share",
    ),
    _as_of_a_run("attainment_low", "level.attainment.interval.low"),
    _as_of_a_run("attainment_high", "level.attainment.interval.high"),
    Column(
        "goodput_per_s",
        "requests per second that met every objective on one",
        "level.attainment.goodput_per_s",
    ),
    Column(
        "answers_match",
        "exact match of the answers to questions, over all runs, 0 to 1",
        lambda row: level_match(row.level),
    ),
    *(column for q in PERCENTILES for column in _slowdown(q)),
    Column(
        "fairness_index",
        "Jain's index of what each class got by its share or streams, where every class had to "
        "wait; 1: as promised",
        lambda row: follow(row, "fair.jain.index") if row.level.class_ is None else None,
    ),
    Column("ttft_stability", "the TTFT compared with the lowest level's", "state"),
)


def level_rows(series: Iterable[Series]) -> list[LevelRow]:
    """Return one row per level, each scenario's by rising load, and after it its classes'."""
    every = list(series)
    fair = {one.run_ids: one for one in fairness(every)}
    return [row for one in every for row in _rows(one, fair)]


def _rows(series: Series, fair: Mapping[tuple[str, ...], Fairness]) -> Iterator[LevelRow]:
    of_each = {name: _of_levels(part) for name, part in series.parts}
    for level in series.levels:
        found = fair.get(tuple(run.run_id for run in level.runs))
        yield replace(of_each[""][level], fair=found)
        yield from (replace(of_each[n][part], fair=found) for n, part in level.classes.items())


def _of_levels(one: Series) -> dict[Level, LevelRow]:
    judged = stability(one.levels)
    states = [level.state for level in judged.levels] if judged else [None] * len(one.levels)
    return {lv: LevelRow(lv, state) for lv, state in zip(one.levels, states, strict=True)}

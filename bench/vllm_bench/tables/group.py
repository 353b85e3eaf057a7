"""How a table for people shows figures: under which heading, in which cell, with which mark."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..figures.digits import needs, short
from ..figures.metrics import IN_A_CELL
from ..records.text import ABSENT
from ..scenario.load import Unit
from ..stats.batches import Interval
from ..summary.summary import RunSummary
from ..verdict.finding import Family
from ..verdict.verdict import Level


class Where(enum.Flag):
    """The tables for people. The report has one column per figure, others join some in a cell."""

    TERMINAL = enum.auto()
    MARKDOWN = enum.auto()
    RUNS = enum.auto()  # the report's, one row per run
    SERVER = enum.auto()  # the report's, samples of server and GPUs
    LEVELS = enum.auto()  # the report's, one row per level, over its repeats
    TEXT = TERMINAL | MARKDOWN


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring columns under one heading: the heading of each, and the column's name."""

    heading: str
    columns: Mapping[str, str]
    where: Where
    unit: Unit | None = None  # only for loads in this unit; None: for all
    joint: str = "/"  # between figures that share a cell
    percent: bool = False  # shares from 0 to 1, shown in %
    cell: Callable[[RunSummary], str] | None = (
        None  # the text of the cell, if it isn't just the columns
    )

    only_if: Callable[[RunSummary], bool] | None = None  # shown where it is true of a run

    @property
    def text_heading(self) -> str:
        """The heading of the cell that shows all of its figures; in one or two lines."""
        line = "\n" if len(self.columns) > 1 else " "
        return f"{self.heading}{line}{self.joint.join(self.columns)}".strip()


def thinks(run: RunSummary) -> bool:
    """Whether replies of the run had thoughts: without them TTFA is TTFT."""
    return run.thinking is not None


def has_jobs(run: RunSummary) -> bool:
    """Whether requests of the run were turns of sessions."""
    return run.jobs is not None


def schedule(run: RunSummary) -> str:
    """Return the rate of the schedule, its cv, and the rate at which requests were sent."""
    rates, cv = run.arrival_rates, run.plan("realised_cv")
    spread = f" (cv {short(cv)})" if isinstance(cv, int | float) else ""
    meant = run.realised_rate or (rates.scheduled if rates else None)
    return f"{short(meant)}{spread} / {short(rates.sent if rates else None)}"


def in_flight(run: RunSummary) -> str:
    """Return the mean and the largest number of requests in flight."""
    return f"{run.in_flight.mean:.1f} / {run.in_flight.peak}" if run.in_flight else ABSENT


def interval_words(found: Interval, show: Callable[[float], str] = short) -> str:
    """Return `100 to 140`, or `≥ 100` where there is no upper bound."""
    return f"{show(found.low)} to {show(found.high)}" if found.bounded else f"≥ {show(found.low)}"


PERCENTILE = re.compile(r"(?P<metric>\w+)_p(?P<percentile>\d+)_(?P<unit>m?s)")


def lacking(run: RunSummary, column: str) -> str:
    """Return why there is no such figure: `needs 368`, `not streamed`; nothing where unknown."""
    found = PERCENTILE.fullmatch(column)
    if found and f"{found['metric']}_{found['unit']}" in run.distributions:
        return needs(float(found["percentile"]))
    why = next((run.absent[m] for m in run.absent if column.startswith(m.removesuffix("ms"))), "")
    return IN_A_CELL.get(why, "no stamps") if why else ""


# ---- marks on figures that a doubt is about ----

# The run's word is in the verdict's column, and a doubt about all figures is said there alone: a
# mark is on those of a family of their own.
MARKS: dict[Level, str] = {"INVALID": "\N{BALLOT X}", "SUSPECT": "?"}
PATTERNS: tuple[tuple[Family, str], ...] = (  # of the columns of summary.csv, the first that fits
    ("TTFT", r"(client_)?ttft_(?!error)"),
    ("gaps", r"itl_|chunk_gap_|max_gap_"),
    ("GPUs", r"gpu_|energy_|output_tokens_per_s_per_w$"),
    (
        "pace",
        r"job_|jobs_|ttfa_|thinking_|answer_tpot_|tpot_|latency_|user_speed_|goodput_|cost_|(window_|whole_run_)?\w+_per_s",
    ),
)


def family_of(column: str) -> Family | None:
    """Return the family of a column's figures; None: none has it alone."""
    return next((family for family, form in PATTERNS if re.match(form, column)), None)


def word_on(runs: Sequence[RunSummary], column: str) -> Level:
    """Return the worst word on a column's figures by doubts about their family alone."""
    family = family_of(column)
    words = {run.verdict.alone(family) for run in runs} if family else set()
    return next((level for level in MARKS if level in words), "VALID")


def mark(runs: Sequence[RunSummary], column: str) -> str:
    """Return what stands behind a figure of these runs: ` ?`, ` ✗`, or nothing."""
    found = MARKS.get(word_on(runs, column))
    return f" {found}" if found else ""


def legend(runs: Sequence[RunSummary]) -> Iterator[str]:
    """Yield what each mark means, with the codes behind it."""
    doubts = [f for run in runs for f in run.verdict.findings if f.about != "all"]
    for level, sign in MARKS.items():
        of = (f"{f.about} ({f.code})" for f in doubts if f.severity.name == level)
        named = ", ".join(dict.fromkeys(of))
        if named:
            yield f"{sign}: {level} as to {named}"

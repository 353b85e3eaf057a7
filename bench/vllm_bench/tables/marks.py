"""Marks on figures that a doubt is about: the run's word is in the verdict's column.

A doubt about all figures is said there alone; a mark is on those of a family of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..summary.summary import RunSummary
from ..verdict.finding import Family
from ..verdict.verdict import Level

MARKS: dict[Level, str] = {"INVALID": "\N{BALLOT X}", "SUSPECT": "?"}
PATTERNS: tuple[tuple[Family, str], ...] = (  # of the columns of summary.csv, the first that fits
    ("TTFT", r"(client_)?ttft_(?!error)"),
    ("gaps", r"itl_|chunk_gap_|max_gap_"),
    ("GPUs", r"gpu_|energy_|output_tokens_per_s_per_w$"),
    ("pace", r"tpot_|latency_|user_speed_|goodput_|cost_|(window_|whole_run_)?\w+_per_s"),
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

"""Which of the two best is better, and by how much: what their turns say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..compare.comparison import Comparison, Row
from ..compare.measures import MEASURES
from .configurations import Aim

# What two are compared by when they are measured again: a measure's name (compare/measures.py).
MEASURE: dict[Aim, str] = {
    "throughput": "output_tokens_per_s",
    "capacity": "goodput_per_s",
    "ttft": "ttft_p95_ms",
}
TITLE = {measure.name: measure.title for measure in MEASURES}

Outcome = Literal["better", "equivalent", "cannot tell", "nothing"]


@dataclass(frozen=True, slots=True)
class Answer:
    """Which of the two best is better, by how much, or that it can't be told."""

    outcome: Outcome
    best: str  # the name of the one to start with
    other: str
    words: str  # a sentence for people


def answer(aim: Aim, a: str, b: str, comparison: Comparison, gpus: Mapping[str, int]) -> Answer:
    """Return what the turns of two configurations say; `a` was first before them.

    `gpus` has each one's GPUs, by name: throughput is compared by GPU.
    """
    row = next((r for lv in comparison.levels for r in lv.rows if _is_it(aim, r)), None)
    if row is None or row.effect is None:
        why = "; ".join(comparison.refusals) or (row.why if row else "") or "no pair counts"
        return Answer("nothing", a, b, f"cannot tell between {a} and {b}: {why}")
    if aim == "throughput" and gpus.get(a, 1) != gpus.get(b, 1):
        return _by_gpu(a, b, row, gpus.get(a, 1) / gpus.get(b, 1))
    change = _change(row.effect.ratio, row)
    what = f"{b} against {a}: {TITLE[row.measure.name]} {change}"
    if row.word in ("faster", "slower"):
        best, other = (b, a) if row.word == "faster" else (a, b)
        return Answer("better", best, other, f"{best} is better than {other}. {what}")
    if row.word == "equivalent":
        alike = f"within {100 * row.measure.margin:g} % of each other: cannot tell between them"
        return Answer("equivalent", a, b, f"{a} and {b} are {alike}. {what}")
    more = f", about {row.more_pairs} more pairs would" if row.more_pairs else ""
    why = f" ({row.why})" if row.word is None and row.why else more
    return Answer("cannot tell", a, b, f"cannot tell between {a} and {b}{why}. {what}")


def _is_it(aim: Aim, row: Row) -> bool:
    return row.measure.name == MEASURE[aim]


def _change(ratio: float, row: Row) -> str:
    """Return `+8.3 % (95 % interval 6.1 to 10.4)`."""
    interval = row.effect.interval if row.effect else None
    if interval is None:
        return f"{_percent(ratio)} %, of one pair"
    low, high = _percent(interval.low), _percent(interval.high)
    return f"{_percent(ratio)} % (95 % interval {low} to {high})"


def _percent(ratio: float) -> str:
    return f"{round(100 * (ratio - 1), 1) + 0.0:+.1f}"  # no -0.0


def _by_gpu(a: str, b: str, row: Row, factor: float) -> Answer:
    """Return the answer where the two have another number of GPUs: by the interval alone."""
    assert row.effect is not None
    interval, ratio = row.effect.interval, row.effect.ratio * factor
    if interval is None or row.word is None:
        what = f"{b} against {a}: tokens/s a GPU {_percent(ratio)} %"
        return Answer("cannot tell", a, b, f"cannot tell between {a} and {b}: {row.why}. {what}")
    low, high = interval.low * factor, interval.high * factor
    what = (
        f"{b} against {a}: tokens/s a GPU {_percent(ratio)} % "
        f"(95 % interval {_percent(low)} to {_percent(high)})"
    )
    if low <= 1 <= high:
        return Answer("cannot tell", a, b, f"cannot tell between {a} and {b}. {what}")
    best, other = (b, a) if low > 1 else (a, b)
    return Answer("better", best, other, f"{best} is better than {other}. {what}")

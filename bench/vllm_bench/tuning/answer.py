"""Which of the two best is better, and by how much: what their turns say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ..compare.comparison import Comparison, Effect, Row
from ..compare.measures import MEASURES
from ..stats.batches import Interval
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
    row = next(
        (r for lv in comparison.levels for r in lv.rows if r.measure.name == MEASURE[aim]), None
    )
    if row is None or row.effect is None:
        why = "; ".join(comparison.refusals) or (row.why if row else "") or "no pair counts"
        return Answer("nothing", a, b, f"cannot tell between {a} and {b}: {why}")
    if aim == "throughput" and gpus.get(a, 1) != gpus.get(b, 1):
        return _by_gpu(a, b, row, gpus.get(a, 1) / gpus.get(b, 1))
    title, effect = TITLE[row.measure.name], row.effect
    what = f"{b} against {a}: {title} {_change(effect.ratio, effect.interval)}"
    if row.word in ("faster", "slower"):
        return _better(a, b, title, effect, b_is_better=row.word == "faster")
    if row.word == "equivalent":
        alike = f"within {100 * row.measure.margin:g} % of each other: cannot tell between them"
        return Answer("equivalent", a, b, f"{a} and {b} are {alike}. {what}")
    more = f", about {row.more_pairs} more pairs would" if row.more_pairs else ""
    why = f" ({row.why})" if row.word is None and row.why else more
    return Answer("cannot tell", a, b, f"cannot tell between {a} and {b}{why}. {what}")


def by_objectives(found: Answer, missed: Mapping[str, bool]) -> Answer:
    """Return the answer where one of the two alone missed the objectives in its turns: the other.

    The level of the turns is one where the first of them met; the second may owe its place to
    another one. `missed` is by name.
    """
    late = [name for name in (found.best, found.other) if missed.get(name)]
    if len(late) != 1 or found.outcome == "nothing":
        return found
    fine = found.other if late == [found.best] else found.best
    if found.outcome == "better" and fine == found.best:
        return found
    words = f"{fine} is better than {late[0]}, which missed the objectives in its turns"
    return Answer("better", fine, late[0], f"{words}; without them: {found.words}")


def _better(a: str, b: str, title: str, effect: Effect, *, b_is_better: bool) -> Answer:
    """Return the answer with the better one's margin over the other."""
    best, other = (b, a) if b_is_better else (a, b)
    ratio, interval = effect.ratio, effect.interval
    if not b_is_better:
        ratio, interval = 1 / ratio, interval and Interval(1 / interval.high, 1 / interval.low)
    words = f"{best} is better than {other}: {title} {_change(ratio, interval)}"
    return Answer("better", best, other, words)


def _change(ratio: float, interval: Interval | None) -> str:
    """Return `+8.3 % (95 % interval +6.1 to +10.4)`."""
    if interval is None:
        return f"{_percent(ratio)} %, of one pair"
    low, high = _percent(interval.low), _percent(interval.high)
    return f"{_percent(ratio)} % (95 % interval {low} to {high})"


def _percent(ratio: float) -> str:
    return f"{round(100 * (ratio - 1), 1) + 0.0:+.1f}"  # no -0.0


def _by_gpu(a: str, b: str, row: Row, factor: float) -> Answer:
    """Return the answer where the two have another number of GPUs: by the interval alone."""
    assert row.effect is not None
    title, ratio, interval = "tokens/s a GPU", row.effect.ratio * factor, row.effect.interval
    if interval is not None:
        interval = Interval(interval.low * factor, interval.high * factor)
    if row.word is not None and interval is not None and not interval.low <= 1 <= interval.high:
        effect = replace(row.effect, ratio=ratio, interval=interval)
        return _better(a, b, title, effect, b_is_better=interval.low > 1)
    why = f" ({row.why})" if row.word is None and row.why else ""
    what = f"{b} against {a}: {title} {_change(ratio, interval)}"
    return Answer("cannot tell", a, b, f"cannot tell between {a} and {b}{why}. {what}")

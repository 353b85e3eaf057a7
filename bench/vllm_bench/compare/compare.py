"""Compare two sides: pairs, figures, words; and what a sceptic should know about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..figures.digits import counted
from ..stats.paired import Paired, paired
from .comparison import Comparison, Effect, LevelRows, Measure, Row, Unit, Word, geometric_mean
from .differences import differences
from .judge import MIN_PAIRS, Judged, judged
from .measures import WHERE_KNOWN, at_load, with_margins
from .notes import notes, other_hardware
from .pairs import Matched, Side, Told, matched

MOST_LOADS = 4  # of a side that are named
Seen = Unit | Told
Sides = tuple[Sequence[Seen], Sequence[Seen]]  # of A, and of B


@dataclass(frozen=True, slots=True)
class How:
    """How to compare; ways that can't work raise UsageError in `compare`."""

    margins: Mapping[str, float] = field(default_factory=dict)  # others than usual, by measure
    same_hardware: bool = True  # refuse a word where the hardware differs


def compare(a: Side, b: Side, how: How | None = None) -> Comparison:
    """Return what B does against A. Raises UsageError: a margin that can't be."""
    how = how or How()
    measures = with_margins(how.margins)
    found = matched(a, b)
    hardware = other_hardware(a, b) if how.same_hardware else None
    levels = tuple(level_rows(level, measures, hardware) for level in found)
    return Comparison(
        a.name,
        b.name,
        differences(a, b),
        levels,
        tuple(notes(found, a, b)),
        tuple(_refusals(levels, a, b)),
    )


# ---- one level ----


def level_rows(
    level: Matched, measures: Sequence[Measure], refusal: str | None = None
) -> LevelRows:
    """Return a level's figures with their words; `refusal`: why there shall be none."""
    sides: Sides = level.alone_a, level.alone_b
    if level.pairs:
        sides = [pair.a for pair in level.pairs], [pair.b for pair in level.pairs]
    refusal = _too_few(level) or refusal
    shown = [at_load(m, level.load) for m in measures if known_to(m, sides)]
    found = [(m, _paired(m, sides) if level.pairs else None) for m in shown]
    words = {} if refusal else _words(found)
    rows = tuple(_row(m, sides, one, words.get(m.name) or refusal) for m, one in found)
    return LevelRows(level.scenario, level.load, level.pairs, level.dropped, rows, refusal)


def _too_few(level: Matched) -> str | None:
    """Return why there are too few pairs for a word, and what to do about it."""
    number = len(level.pairs)
    if number >= MIN_PAIRS:
        return None
    if level.dropped:
        thrown = f" ({counted(len(level.dropped), 'pair')} thrown away: {level.dropped[0]})"
        return f"{counted(number, 'pair')} of {MIN_PAIRS}{thrown}"
    if not level.pairs:
        ours, theirs = counted(len(level.alone_a), "run"), counted(len(level.alone_b), "run")
        return f"unpaired, of {ours} of A and {theirs} of B: {_why_unpaired(level)}"
    return (
        f"{counted(number, 'pair')}, and a word needs {MIN_PAIRS}: run both with "
        f"repeats: {MIN_PAIRS} or more, or by turns (make ab)"
    )


def _why_unpaired(level: Matched) -> str:
    """Return why no run has a partner, by the first of each side, and what to do about it."""
    a, b = level.alone_a[0], level.alone_b[0]
    if isinstance(a, Told) or isinstance(b, Told):
        return "another tool sent other requests; measure both with bench.py"
    one, other = a.runs[0], b.runs[0]
    if one.plan("sha256") is None or other.plan("sha256") is None:
        return "a run doesn't say what it sent; run both again"
    if one.plan("sha256") == other.plan("sha256"):
        return "their repeats differ; run both with the same repeats"
    if one.setting("model") != other.setting("model"):
        return "they asked for models of different names; serve both under one name"
    return "they sent different requests (plan); run both with the same scenario and seed"


def known_to(measure: Measure, sides: Sides) -> bool:
    """Whether a measure has a row: goodput and energy only where any run has them."""
    if not all(sides):
        return False
    seen = (*sides[0], *sides[1])
    return measure.name not in WHERE_KNOWN or any(one.value(measure) is not None for one in seen)


def _paired(measure: Measure, sides: Sides) -> Paired | None:
    """Return a measure over the pairs; None where a figure is missing or 0."""
    a, b = ([value for one in seen if (value := one.value(measure))] for seen in sides)
    return None if why_none(measure, sides) else paired(a, b)


def _words(found: Sequence[tuple[Measure, Paired | None]]) -> dict[str, Judged]:
    """Return the word on each measure that has one, by the measures' names."""
    known = [(measure, one) for measure, one in found if one is not None]
    return {m.name: word for (m, _), word in zip(known, judged(known), strict=True)}


def _row(measure: Measure, sides: Sides, found: Paired | None, word: Judged | str | None) -> Row:
    """Return a measure's figures with the word on them, or why there shall be none."""
    a, b = (mean_of(measure, seen) for seen in sides)
    why = why_none(measure, sides)
    if word is None and (of := _all_or_nothing(measure, sides)):
        return Row(measure, a, b, Effect(0.0, None, None) if a else None, of, None)
    # Unpaired runs have a ratio alone.
    effect = Effect(b / a, None, None) if a and b and why is None else None
    if found is not None:
        effect = Effect(found.ratio, found.interval(), found.spread)
    if isinstance(word, Judged):
        told = word.p, word.more_pairs, word.smallest
        return Row(measure, a, b, effect, word.word, None, *told)
    return Row(measure, a, b, effect, None, why or word)


def _all_or_nothing(measure: Measure, sides: Sides) -> Word | None:
    """Return the word on a figure that is 0 in each pair's one side, and never in the other.

    It has no ratio, but goodput that is gone in each of four pairs is no matter of chance.
    """
    a, b = ([one.value(measure) for one in seen] for seen in sides)
    alike = None in (*a, *b) or any(a) == any(b) or not (all(a) or all(b))
    if alike or _asked_apart(measure, sides):
        return None
    return "faster" if any(b) == measure.more_is_better else "slower"


def mean_of(measure: Measure, seen: Sequence[Seen]) -> float | None:
    """Return the geometric mean over a side; None where a figure is missing; 0 where one is 0."""
    found = [one.value(measure) for one in seen]
    known = [value for value in found if value is not None]
    return geometric_mean(known) if known and len(known) == len(found) else None


def why_none(measure: Measure, sides: Sides) -> str | None:
    """Return why a measure has no ratio: a figure is missing or 0; None: it has one."""
    lacking = next((w for seen in sides for one in seen if (w := one.lacking(measure))), None)
    if lacking:
        return lacking
    if _asked_apart(measure, sides):
        return "the runs' objectives (slo) differ, and so does what is good"
    if measure.name.startswith("ttfa_") and (apart := _answered_apart(sides)):
        return apart
    zero = [side for side, seen in zip("AB", sides, strict=True) if not mean_of(measure, seen)]
    return f"0 in {' and '.join(zero)}: only figures above 0 have a ratio" if zero else None


def _asked_apart(measure: Measure, sides: Sides) -> bool:
    """Whether a measure is of objectives, and these differ."""
    asked = {objectives for seen in sides for objectives in map(_asked, seen)}
    return measure.name == "goodput_per_s" and len(asked) > 1


UNANSWERED_APART = 0.01  # as from which share on `unanswered` is a note of a run


def _answered_apart(sides: Sides) -> str | None:
    """Return that one side left more replies without an answer; None: both left as many.

    TTFA is of the answered: thinking for so long that the limit cuts it would look faster.
    """
    a, b = map(_unanswered, sides)
    if abs(a - b) <= UNANSWERED_APART:
        return None
    return f"{100 * a:.3g} % of A's replies and {100 * b:.3g} % of B's never came to an answer"


def _unanswered(side: Sequence[Seen]) -> float:
    """Return the share of a side's counted successes that never came to an answer."""
    runs = [run for seen in side if isinstance(seen, Unit) for run in seen.runs]
    known = [run.thinking for run in runs if run.thinking]
    every = sum(one.of for one in known)
    return sum(one.unanswered for one in known) / every if every else 0.0


def _asked(seen: Seen) -> frozenset[object]:
    """Return the objectives of a unit's runs; of another tool's none are known."""
    runs = seen.runs if isinstance(seen, Unit) else ()
    parts = [run.attainment.on_requests for run in runs if run.attainment]
    return frozenset(outcome.objective for part in parts for outcome in part)


# ---- all levels ----


def _refusals(levels: Sequence[LevelRows], a: Side, b: Side) -> Iterator[str]:
    """Yield why there is no word at all, where there is none."""
    if not levels:
        has = "; ".join(f"{letter}: {_loads(side)}" for letter, side in (("A", a), ("B", b)))
        yield f"no level of load in common ({has}): run both with one scenario"
    elif not any(level.words for level in levels):
        yield from dict.fromkeys(level.refusal for level in levels if level.refusal)


def _loads(side: Side) -> str:
    loads = sorted({*(run.load for run in side.runs), *(told.load for told in side.told)})
    more = ", …" if len(loads) > MOST_LOADS else ""
    return (", ".join(load.words for load in loads[:MOST_LOADS]) or "none") + more

"""A comparison in words: the answer in one sentence, and what stands under each level's figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ..figures.digits import counted, short
from ..records.text import ABSENT, printable
from ..stats.repeated import repeated
from .comparison import WORDS, Comparison, Effect, LevelRows, Row, Word

MOST_LEVELS = 3  # that the answer names for one word
LONGEST = 2000  # characters of a reason
LONGEST_NAME = 40  # characters of a side's name in the answer
MOST_PERCENT = 99_999.0
FROM_SCHEDULE = " from schedule"
Judged = tuple[LevelRows, Row]


def answer(found: Comparison) -> str:
    """Return the answer in one sentence, of the headline measures."""
    rows = [(level, row) for level in found.levels for row in level.rows if row.measure.headline]
    faster, slower = (_with(rows, word) for word in ("faster", "slower"))
    a, b = (f"{side} ({shown_name(name)})" for side, name in (("A", found.a), ("B", found.b)))
    if faster and slower:
        listed = f"faster in {_listed(found, faster)}; slower in {_listed(found, slower)}"
        return f"It depends: {b} against {a} is {listed}{_others(found)}"
    if faster or slower:
        word = "faster" if faster else "slower"
        return f"{b} is {word} than {a}: {_listed(found, faster or slower)}{_others(found)}"
    if any(row.word == "not slower" for _, row in rows):
        return f"{b} is not slower than {a}, as far as these nights show: {_all(found)}"
    if not any(row.word for _, row in rows):
        why = found.refusals[0] if found.refusals else "no figure on both sides"
        return f"No answer: {printable(why, LONGEST)}"
    if all(row.word in (None, "equivalent") for _, row in rows):
        each = "each measure within its margin"
        if any(_is_silent(row) for _, row in rows):
            each = "each measure that has a word within its margin"
        return f"{a} and {b} are equivalent, {each}: {_all(found)}"
    return f"No difference found between {a} and {b}: {_all(found)}"


def shown_name(name: str) -> str:
    """Return a side's name, harmless and short."""
    return printable(name, LONGEST_NAME)


def _with(rows: Sequence[Judged], word: Word) -> list[Judged]:
    return [(level, row) for level, row in rows if row.word == word]


def _listed(found: Comparison, judged: Sequence[Judged]) -> str:
    """Return the first measure of each level with its change, and how many more there are."""
    levels: dict[int, list[Judged]] = {}
    for level, row in judged:
        levels.setdefault(id(level), []).append((level, row))
    parts = [_first(found, of) for of in levels.values()]
    more = f", and at {len(parts) - MOST_LEVELS} more levels" if len(parts) > MOST_LEVELS else ""
    return ", ".join(parts[:MOST_LEVELS]) + more


def _first(found: Comparison, judged: Sequence[Judged]) -> str:
    level, row = judged[0]
    more = f" and {len(judged) - 1} more" if len(judged) > 1 else ""
    return f"{row.measure.title} {change(row.effect)}{more} at {level_name(found, level)}"


def _others(found: Comparison) -> str:
    """Return what there is at the levels where no headline measure is faster or slower."""
    quiet = [
        level
        for level in found.levels
        if not any(r.word in ("faster", "slower") for r in level.rows if r.measure.headline)
    ]
    parts = [_quiet(found, level) for level in quiet[:MOST_LEVELS]]
    more = [f"{len(quiet) - MOST_LEVELS} more levels without"] if len(quiet) > MOST_LEVELS else []
    return "".join(f"; {part}" for part in (*parts, *more))


def _all(found: Comparison) -> str:
    return "; ".join(_quiet(found, level) for level in found.levels)


def _quiet(found: Comparison, level: LevelRows) -> str:
    """Return what the words at a level are, in numbers: `9 equivalent at 8 streams`."""
    words = Counter(row.word for row in level.rows if row.word and row.measure.headline)
    parts = [f"{words[word]} {word}" for word in WORDS if words[word]]
    if parts and (silent := [row for row in level.rows if _is_silent(row)]):
        parts.append(f"{len(silent)} without a word")
    told = ", ".join(parts)
    pairs = f" (about {counted(level.more_pairs, 'pair')} more)" if level.more_pairs else ""
    return f"{told or 'no word'} at {level_name(found, level)}{pairs}"


def _is_silent(row: Row) -> bool:
    """Whether a side has a figure that matters, and nothing can be said of it."""
    return row.word is None and row.measure.headline and not row.a == row.b is None


# ---- levels and figures ----


def level_name(found: Comparison, level: LevelRows) -> str:
    """Return a level for people, with its scenario where there are several."""
    many = len({one.scenario for one in found.levels}) > 1
    return f"{printable(level.scenario)}, {level.load.words}" if many else level.load.words


def level_title(level: LevelRows) -> str:
    """Return a level's heading: `short_chat · 8 streams · 4 pairs`."""
    some = level.pairs or level.dropped
    pairs = counted(len(level.pairs), "pair") if some else "unpaired"
    pairs = pairs if level.nights is None else counted(level.nights, "night")
    return " · ".join(filter(None, (printable(level.scenario), level.load.words, pairs)))


def measure_name(row: Row) -> str:
    """Return a measure's name with its unit, short enough for a table."""
    measure = row.measure
    title = measure.title.replace(FROM_SCHEDULE, "")
    unit = "%" if measure.name == "success_rate" else measure.unit
    return f"{title} {unit}".rstrip() if unit != "J" else title


def value(row: Row, figure: float | None) -> str:
    """Return a figure for people; a rate of success in percent."""
    if figure is not None and row.measure.name == "success_rate":
        return f"{100 * figure:.4g}"
    return short(figure)


def plus_minus(level: LevelRows, row: Row) -> tuple[str, str]:
    """Return, for A and B, half of the mean's 95 % interval over the pairs; empty: too few."""
    sides = ([pair.a for pair in level.pairs], [pair.b for pair in level.pairs])
    a, b = (_half([unit.value(row.measure) for unit in side]) for side in sides)
    return a, b


def _half(values: Sequence[float | None]) -> str:
    known = [value for value in values if value]
    found = repeated(known) if known and len(known) == len(values) else None
    if found is None or found.interval is None:
        return ""
    half = 100 * (found.interval.high / found.centre - 1)
    return f"±{half:.{0 if half >= 9.95 else 1}f}%"


def change(effect: Effect | None) -> str:
    """Return a change with its 95 % interval: `+5.9 % (+5.1 to +6.7)`."""
    if effect is None:
        return ABSENT
    ends = [] if effect.interval is None else [effect.interval.low, effect.interval.high]
    parts = [100 * (ratio - 1) for ratio in (effect.ratio, *ends)]
    size = max(map(abs, parts))
    digits = 2 if size < 1 else 1 if size < 99.95 else 0
    shown, *interval = [_signed(part, digits) for part in parts]
    return f"{shown} %" + (f" ({' to '.join(interval)})" if interval else "")


def _signed(percent: float, digits: int) -> str:
    if percent > MOST_PERCENT:
        return f">+{MOST_PERCENT:.0f}"
    shown = f"{percent:+.{digits}f}"
    return shown if float(shown) else f"{0:.{digits}f}"


def share(fraction: float | None) -> str:
    """Return a fraction in percent: `3.1 %`."""
    return ABSENT if fraction is None else f"{short(100 * fraction)} %"


# ---- lines under a level's figures ----


def level_lines(level: LevelRows, *, smallest: bool) -> Iterator[str]:
    """Yield what there is to say about a level; `smallest`: also what could have been shown."""
    if level.refusal:
        yield f"no words: {printable(level.refusal, LONGEST)}"
    for why, names in _by_why(level).items():
        yield f"{names}: {why}"
    if needed := [(r.more_pairs, r.measure.title) for r in level.rows if r.more_pairs]:
        parts = ", ".join(f"{number} for {title}" for number, title in needed)
        yield f"cannot tell: about so many pairs more would: {parts}"
    known = [(share(r.smallest), r.measure.title) for r in level.rows if r.smallest is not None]
    if smallest and known:
        what = "these pairs" if level.nights is None else "these nights"
        yield f"{what} could have shown: " + ", ".join(f"{t} {s}" for s, t in known)
    if any(FROM_SCHEDULE in row.measure.title for row in level.rows):
        yield "TTFT and latency count from when each request was due"
    untold = [line for line in level.dropped if line not in (level.refusal or "")]
    if untold:
        what = "pair" if level.nights is None else "night"
        also = "" if len(untold) == len(level.dropped) else "also "
        yield f"{also}{counted(len(untold), what)} thrown away:"
    for line in untold:
        yield f"- {printable(line, LONGEST)}"


def _by_why(level: LevelRows) -> dict[str, str]:
    """Return why measures have no word, beside the level's own reason, and which they are."""
    found: dict[str, list[str]] = {}
    for row in level.rows:
        if row.word is None and row.why and row.why != level.refusal:
            found.setdefault(printable(row.why, LONGEST), []).append(row.measure.title)
    return {why: ", ".join(titles) for why, titles in found.items()}

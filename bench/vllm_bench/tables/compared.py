"""A comparison for people: on a terminal, on a pipe, and as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..compare import words
from ..compare.comparison import Comparison, LevelRows, Row
from ..figures.digits import markdown_list, markdown_table
from ..records.text import ABSENT, markdown, printable

STYLES = {"faster": "bold green", "slower": "bold red", "cannot tell": "yellow"}
HEADINGS = ("", "A", "B", "change (95 % interval)", "")
NIGHTS = ("", "A", "B", "limit", "change", "")
SMALLEST = "could show"
FIGURES = ("A", "B", "limit", SMALLEST)  # columns that stand to the right
NOTHING = "nothing that the runs tell"
DIFFERS, WORTH = "What differs, A → B", "Worth knowing"
CHANGE = "change: of B against A; faster is better: more tokens/s, less latency, fewer J"
OF_PAIRS = (
    "A, B: geometric means over the pairs, ± half of their 95 % interval",
    CHANGE,
    "faster, slower: p < .05 (Holm, over the level's measures), and the interval lies beyond half "
    "the margin; equivalent: the 96 % interval lies within the margin",
)
OF_NIGHTS = (
    "A: the nights' geometric mean; limit: beyond it B is slower than the next night may be "
    "(p < .05, Holm over the level's measures), and by more than half the margin",
    "could show: the smallest change for the worse that is found in nine cases of ten",
)
LONGEST = 2000  # characters of a line of ours
Table = list[list[str]]
Parts = list[tuple[str, str]]  # texts, each with its style
Line = tuple[Parts, int]  # and how far it is indented


def _legend(found: Comparison) -> tuple[str, ...]:
    """Return how to read the figures."""
    if any(level.nights is not None for level in found.levels):
        return OF_NIGHTS
    paired = any(level.pairs for level in found.levels)
    return OF_PAIRS[int(not paired) : 3 if any(level.words for level in found.levels) else 2]


def _headings(level: LevelRows) -> list[str]:
    if level.nights is not None:
        return list(NIGHTS)
    name, a, b, changed, word = HEADINGS
    known = any(row.effect and row.effect.interval for row in level.rows)
    return [name, a, b, changed if known else "change", word]


def _cells(level: LevelRows, row: Row, *, bare: bool = False) -> list[str]:
    """Return a measure's line; `bare`: without ±."""
    around = ("", "") if bare else words.plus_minus(level, row)
    sides = (
        f"{words.value(row, figure)} {more}".rstrip()
        for figure, more in zip((row.a, row.b), around, strict=True)
    )
    limit = [] if level.nights is None else [words.value(row, row.limit)]
    name, change, word = words.measure_name(row), words.change(row.effect), row.word or ""
    return [name, *sides, *limit, change, word]


def _shown(level: LevelRows) -> list[Row]:
    """Return the measures that a side has a figure of; why others have none stands below."""
    return [row for row in level.rows if row.a is not None or row.b is not None]


def _tables(level: LevelRows) -> Iterator[Table]:
    """Yield the table with all of its columns, then narrower ones."""
    rows, headings = _shown(level), _headings(level)
    full = [_cells(level, row) for row in rows]
    smallest = [words.share(row.smallest) for row in rows]
    more = [[*cells, share] for cells, share in zip(full, smallest, strict=True)]
    yield _without_empty([[*headings, SMALLEST], *more])
    yield _without_empty([headings, *full])
    yield _without_empty([headings, *(_cells(level, row, bare=True) for row in rows)])


def _without_empty(table: Table) -> Table:
    """Return the table without columns that have nothing under their heading."""
    columns = [of for of in zip(*table, strict=True) if {*of[1:]} - {"", ABSENT}]
    return [list(cells) for cells in zip(*columns, strict=True)]


# ---- lines ----


def lines(found: Comparison, width: int | None) -> Iterator[Line]:
    """Yield what a terminal of this width shows, or a pipe, which has none (None)."""
    yield _line(words.answer(found), "bold")
    yield _line("")
    for side, name in (("A", found.a), ("B", found.b)):
        yield _line(f"{side}  {printable(name)}")
    yield _line(DIFFERS, "bold")
    for one in found.differences:
        yield _line(f"{printable(one.what)}: {printable(one.a)} → {printable(one.b)}", indent=2)
    if not found.differences:
        yield _line(NOTHING, indent=2)
    for level in found.levels:
        yield from _of_level(level, width)
    if found.notes:
        yield from (_line(""), _line(WORTH, "bold"))
        yield from (_line(printable(note, LONGEST), indent=2) for note in found.notes)
    yield _line("")
    yield from (_line(line, "dim") for line in _legend(found))


def _line(text: str, style: str = "", indent: int = 0) -> Line:
    return [(text, style)], indent


def _of_level(level: LevelRows, width: int | None) -> Iterator[Line]:
    yield from (_line(""), _line(words.level_title(level), "bold"))
    table, gap = _that_fits(level, width)
    if table:
        sizes = [max(map(len, column)) for column in zip(*table, strict=True)]
        right = [heading in FIGURES for heading in table[0]]
        yield from ((_row(cells, sizes, right, gap), 0) for cells in table)
    else:
        yield from (line for row in _shown(level) for line in _block(level, row))
    shown = bool(table) and SMALLEST in table[0]
    for line in words.level_lines(level, smallest=not shown):
        yield _line(printable(line, LONGEST), "dim", indent=2)


def _that_fits(level: LevelRows, width: int | None) -> tuple[Table, int]:
    """Return the widest table that fits, and the spaces between its columns; else none."""
    for table in _tables(level):
        needed = sum(max(map(len, column)) for column in zip(*table, strict=True))
        for gap in (2, 1):
            if table and (width is None or needed + gap * (len(table[0]) - 1) <= width):
                return table, gap
    return [], 0


def _row(cells: Sequence[str], sizes: Sequence[int], right: Sequence[bool], gap: int) -> Parts:
    """Return a line whose cells have these sizes, and stand to the right or to the left."""
    aligned = (
        cell.rjust(size) if at_right else cell.ljust(size)
        for cell, size, at_right in zip(cells, sizes, right, strict=True)
    )
    parts = [(cell, STYLES.get(cell.strip(), "")) for cell in aligned]
    return [part for cell in parts for part in ((" " * gap, ""), cell)][1:]


def _block(level: LevelRows, row: Row) -> Iterator[Line]:
    """Yield a measure's lines where no table fits."""
    name, a, b, *limit, change, word = _cells(level, row)
    yield [(name, ""), (": " if word else "", ""), (word, STYLES.get(word, ""))], 0
    yield _line(", ".join([f"A {a}", f"B {b}", *(f"limit {of}" for of in limit)]), indent=2)
    yield _line(change, indent=2)


# ---- Markdown ----


def to_markdown(found: Comparison) -> str:
    """Return the comparison to paste into a pull request. All untrusted text is escaped."""
    sides = [f"{side}: {markdown(name)}" for side, name in (("A", found.a), ("B", found.b))]
    parts = [
        f"**{markdown(words.answer(found), LONGEST)}**",
        markdown_list(sides),
        *_differences(found),
    ]
    for level in found.levels:
        parts.append(f"### {markdown(words.level_title(level))}")
        headings, *rows = next(_tables(level)) or [[]]
        rule = ["---:" if heading in FIGURES else "---" for heading in headings]
        parts += [markdown_table([headings, rule, *rows])] if rows else []
        lines = [markdown(line, LONGEST) for line in words.level_lines(level, smallest=False)]
        parts += [markdown_list(lines)] if lines else []
    if found.notes:
        parts += [f"{WORTH}:", markdown_list(markdown(note, LONGEST) for note in found.notes)]
    parts.append(markdown_list(markdown(line, LONGEST) for line in _legend(found)))
    return "\n\n".join(parts) + "\n"


def _differences(found: Comparison) -> Iterator[str]:
    if not found.differences:
        yield f"What differs: {NOTHING}."
        return
    rows = [[markdown(one.what), markdown(one.a), markdown(one.b)] for one in found.differences]
    yield markdown_table([["what differs", "A", "B"], ["---"] * 3, *rows])

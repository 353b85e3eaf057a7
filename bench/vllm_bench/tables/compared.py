"""A comparison for people: on a terminal, on a pipe, and as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ..compare import words
from ..compare.comparison import Comparison, LevelRows, Row
from ..figures.digits import markdown_table
from ..records.text import markdown, printable

STYLES = {"faster": "bold green", "slower": "bold red", "cannot tell": "yellow"}
HEADINGS = ("", "A", "B", "change (95 % interval)", "")
SMALLEST = "could show"
NOTHING = "nothing that the runs tell"
DIFFERS, WORTH = "What differs, A → B", "Worth knowing"
PAIRED = "A, B: geometric means over the pairs, ± half of their 95 % interval"
LEGEND = (
    "change: of B against A; faster is better: more tokens/s, less latency, fewer J",
    "faster, slower: p < .05 (Holm, over the level's measures), and the interval lies beyond half "
    "the margin; equivalent: the 90 % interval lies within the margin",
)
Table = list[list[str]]


def _legend(found: Comparison) -> tuple[str, ...]:
    return (PAIRED, *LEGEND) if any(level.pairs for level in found.levels) else LEGEND[:1]


def _cells(level: LevelRows, row: Row, *, bare: bool = False) -> list[str]:
    """Return a measure's line; `bare`: without ±."""
    around = ("", "") if bare else words.plus_minus(level, row)
    sides = (
        f"{words.value(row, figure)} {more}".rstrip()
        for figure, more in zip((row.a, row.b), around, strict=True)
    )
    return [words.measure_name(row), *sides, words.change(row.effect), row.word or ""]


def _shown(level: LevelRows) -> list[Row]:
    """Return the measures that a side has a figure of; why others have none stands below."""
    return [row for row in level.rows if row.a is not None or row.b is not None]


def _full(level: LevelRows) -> Table:
    """Return the table with all of its columns."""
    rows = [[*_cells(level, row), words.share(row.smallest)] for row in _shown(level)]
    return [[*HEADINGS, SMALLEST], *rows]


# ---- terminal ----


def print_comparison(found: Comparison, console: Console) -> None:
    """Print it; on a pipe lines are neither folded nor cut."""
    plain = not console.is_terminal
    for line, indent in _lines(found, None if plain else console.width):
        text = line if isinstance(line, Text) else Text(line)
        shown = Text(" " * indent) + text if plain else Padding(text, (0, 0, 0, indent))
        console.print(shown, soft_wrap=plain)


def _lines(found: Comparison, width: int | None) -> Iterator[tuple[Text | str, int]]:
    """Yield lines with their indents; `width`: None on a pipe."""
    yield Text(words.answer(found), style="bold"), 0
    yield "", 0
    for side, name in (("A", found.a), ("B", found.b)):
        yield f"{side}  {printable(name)}", 0
    yield Text(DIFFERS, style="bold"), 0
    for one in found.differences:
        yield f"{printable(one.what)}: {printable(one.a)} → {printable(one.b)}", 2
    if not found.differences:
        yield NOTHING, 2
    for level in found.levels:
        yield from _of_level(level, width)
    if found.notes:
        yield Text(f"\n{WORTH}", style="bold"), 0
        yield from ((printable(note), 2) for note in found.notes)
    yield "", 0
    yield from ((Text(line, style="dim"), 0) for line in _legend(found))


def _of_level(level: LevelRows, width: int | None) -> Iterator[tuple[Text | str, int]]:
    yield Text(f"\n{words.level_title(level)}", style="bold"), 0
    table, gap = _that_fits(level, width)
    if table:
        sizes = [max(map(len, column)) for column in zip(*table, strict=True)]
        yield from ((_row(cells, sizes, gap), 0) for cells in table)
    else:
        yield from (line for row in _shown(level) for line in _block(level, row))
    shown = bool(table) and SMALLEST in table[0]
    for line in words.level_lines(level, smallest=not shown):
        yield Text(printable(line, len(line)), style="dim"), 2


def _that_fits(level: LevelRows, width: int | None) -> tuple[Table, int]:
    """Return the widest table that fits, and the spaces between its columns; else none."""
    full = _full(level)
    bare = [[*HEADINGS], *(_cells(level, row, bare=True) for row in _shown(level))]
    for table in (full, [row[:-1] for row in full], bare):
        needed = sum(max(map(len, column)) for column in zip(*table, strict=True))
        for gap in (2, 1):
            if width is None or needed + gap * (len(table[0]) - 1) <= width:
                return table, gap
    return [], 0


def _row(cells: Sequence[str], sizes: Sequence[int], gap: int) -> Text:
    """Return a line: figures of A and B to the right, words to the left."""
    aligned = [
        cell.rjust(size) if place in (1, 2, 5) else cell.ljust(size)
        for place, (cell, size) in enumerate(zip(cells, sizes, strict=True))
    ]
    parts = [(cell, STYLES.get(cell.strip(), "")) for cell in aligned]
    spaced = [part for cell in parts for part in ((" " * gap, ""), cell)]
    line = Text.assemble(*spaced[1:])
    line.rstrip()
    return line


def _block(level: LevelRows, row: Row) -> Iterator[tuple[Text | str, int]]:
    """Yield a measure's lines where no table fits."""
    name, a, b, change, word = _cells(level, row)
    yield Text.assemble(name, ": " if word else "", (word, STYLES.get(word, ""))), 0
    yield f"A {a}, B {b}", 2
    yield change, 2


# ---- Markdown ----


def to_markdown(found: Comparison) -> str:
    """Return the comparison to paste into a pull request. All untrusted text is escaped."""
    sides = [f"{side}: {markdown(name)}" for side, name in (("A", found.a), ("B", found.b))]
    parts = [f"**{markdown(words.answer(found))}**", _list(sides), *_differences(found)]
    for level in found.levels:
        parts.append(f"### {markdown(words.level_title(level))}")
        rule = ["---", "---:", "---:", "---", "---", "---:"]
        parts.append(markdown_table([_full(level)[0], rule, *_full(level)[1:]]))
        lines = [markdown(line) for line in words.level_lines(level, smallest=False)]
        parts += [_list(lines)] if lines else []
    if found.notes:
        parts += [f"{WORTH}:", _list(markdown(note) for note in found.notes)]
    parts.append(_list(markdown(line) for line in _legend(found)))
    return "\n\n".join(parts) + "\n"


def _differences(found: Comparison) -> Iterator[str]:
    if not found.differences:
        yield f"What differs: {NOTHING}."
        return
    rows = [[markdown(one.what), markdown(one.a), markdown(one.b)] for one in found.differences]
    yield markdown_table([["what differs", "A", "B"], ["---"] * 3, *rows])


def _list(items: Iterator[str] | Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)

"""The summary on a terminal, or in a pipe: the verdict first, then one table per series.

Untrusted text is passed as `Text`, which rich prints unchanged, without reading markup in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..classes.fairness import fairness, fairness_lines
from ..compare.comparison import Comparison
from ..records.text import printable
from ..summary.levels import Series, series_of
from ..summary.series_names import named_series
from ..summary.summary import RunSummary, headline, shared_notes
from ..verdict.finding import Severity
from ..verdict.verdict import finding_text
from . import compared
from .group import Where
from .level_lines import sections
from .text_tables import figure_rows, footnotes, population, runs_table, setup_words

UNBOUNDED = 10_000  # characters of a line on a pipe
STYLES = {"VALID": "bold green", "SUSPECT": "bold yellow", "INVALID": "bold red"}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # rich would exit with 1: what a broken pipe means is the script's to say.
        raise BrokenPipeError


def wide_console() -> Console:
    """Return a console on the terminal, or one of unlimited width on a pipe: folded tables can't be
    searched."""
    console = _Console()
    if not console.is_terminal:
        console.width = UNBOUNDED
    return console


def print_summary(summaries: Sequence[RunSummary], console: Console) -> None:
    """Print verdicts, tables and errors to the console."""
    width = console.width if console.is_terminal else None
    for part in _parts(summaries, width):
        # In a pipe lines aren't cut, so that they can be searched for.
        console.print(part, soft_wrap=not console.is_terminal)


def _parts(summaries: Sequence[RunSummary], width: int | None) -> Iterable[RenderableType]:
    """Yield what is printed; on a pipe, which has no width, nothing folds."""
    plain = width is None
    yield Text(f"Verdict: {headline(summaries)}", style="bold")
    yield from _doubts(summaries, plain=plain)
    for name, series in named_series(series_of(summaries)):
        yield Text()
        yield Text(f"{printable(name)} · {printable(setup_words(series.runs))}", style="bold")
        yield from (Text(printable(line)) for line in population(series))
        yield from _table(series, width)
        yield from (Text(printable(note), style="dim") for note in footnotes(series))
        for title, table, lines in sections(series):
            yield Text(title, style="bold")
            yield from _by_figure(table, width) if table else ()
            yield from (_indented(printable(line), plain) for line in lines)
    fair = fairness(series_of(summaries))
    yield from [Text("\nFairness", style="bold")] if fair else []
    yield from (_indented(line, plain) for one in fair for line in fairness_lines(one))
    yield from _errors(summaries)


def _indented(line: str, plain: bool) -> RenderableType:
    """Return a line that keeps its indent where a terminal folds it; on a pipe it isn't folded."""
    return Text(f"  {line}") if plain else Padding(Text(line), (0, 0, 0, 2))


def _doubts(summaries: Sequence[RunSummary], *, plain: bool) -> Iterable[RenderableType]:
    for summary in summaries:
        if summary.verdict.doubts:
            level = summary.verdict.level
            yield Text.assemble((level, STYLES[level]), f" {printable(summary.run_id)}")
            yield from (_indented(finding_text(f), plain) for f in summary.verdict.doubts)
    for note, runs in shared_notes(summaries):
        of = f" [{printable(runs)}]" if len(summaries) > 1 else ""
        before = "beside the verdict: " if note.severity > Severity.NOTE else ""
        yield Text(f"{before}{finding_text(note)}{of}", style="dim")


def _table(series: Series, width: int | None) -> Iterable[RenderableType]:
    """Yield a row per run, or where the terminal is narrower a row per figure."""
    headings, rows = runs_table(series, Where.TERMINAL)
    cells = [[heading, *of] for heading, *of in zip(headings, *rows, strict=True)]
    if width is not None and sum(1 + _width(of) for of in cells) > width:
        heads = [list(of) for of in zip(*(row[:3] for row in rows), strict=True)]
        top = [[heading, *of] for heading, of in zip(headings, heads, strict=False)]
        yield from _by_figure([*top, *figure_rows(series, Where.TERMINAL)], width)
        return
    table = Table(
        box=box.MARKDOWN if width is None else box.SIMPLE_HEAD,
        padding=(0, int(width is None)),
        show_edge=False,
    )
    for heading in headings:
        table.add_column(
            heading.replace("\n", " ") if width is None else heading,
            justify="right" if heading != "verdict" else "left",
            no_wrap=True,
        )
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    yield table


def _width(cells: Sequence[str]) -> int:
    return max(len(line) for cell in cells for line in cell.split("\n"))


def _by_figure(rows: Sequence[Sequence[str]], width: int | None) -> Iterable[Text]:
    """Yield a line per figure, a column per run; runs that don't fit follow in a further block.

    A figure in words that are too long for a column stands below, for all runs.
    """
    room = (width or UNBOUNDED) - _width([row[0] for row in rows]) - 2
    long = [row for row in rows if _width(row[1:]) > room]
    rows = [row for row in rows if row not in long]
    names, *columns = [(_width(column), column) for column in zip(*rows, strict=True)]
    while columns:
        room, fits = (width or UNBOUNDED) - names[0], 0
        while fits < len(columns) and (room := room - 2 - columns[fits][0]) >= 0:
            fits += 1
        block, columns = columns[: fits or 1], columns[fits or 1 :]
        for place, name in enumerate(names[1]):
            figures = [(of[place].rjust(2 + size), STYLES.get(of[place], "")) for size, of in block]
            yield Text.assemble(name.ljust(names[0]), *figures)
        yield from [Text()] if columns else []
    for name, *of in long:
        yield Text(f"{name}: {' | '.join(of)}")


def _errors(summaries: Sequence[RunSummary]) -> Iterable[Text]:
    for summary in summaries:
        if summary.errors:
            yield Text(f"\nErrors in {printable(summary.run_id)}")
        for group in summary.errors:
            message = printable(group.example)
            yield Text(f"  {group.count} {printable(group.kind)}, such as: {message}")


def print_comparison(found: Comparison, console: Console) -> None:
    """Print a comparison to the console; on a pipe no line is folded or cut."""
    plain = not console.is_terminal
    for parts, indent in compared.lines(found, None if plain else console.width):
        text = Text.assemble(*parts)
        text.rstrip()
        if plain or not text:
            console.print(Text(" " * indent) + text, soft_wrap=plain)
        else:
            console.print(Padding(text, (0, 0, 0, indent), expand=False))

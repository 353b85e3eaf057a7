"""`summary.md`: the summary to paste into a pull request. All untrusted text is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..classes.fairness import fairness, fairness_lines
from ..figures.digits import markdown_list, markdown_table
from ..records.text import code, markdown
from ..summary.again import again
from ..summary.environment import environment
from ..summary.levels import Series, series_of
from ..summary.series_names import named_series
from ..summary.summary import RunSummary, headline, shared_notes
from ..verdict.finding import Finding
from .group import Where
from .level_lines import sections
from .text_tables import (
    cache_notes,
    footnotes,
    interval_rows,
    population,
    runs_table,
    setup_words,
    turn_rows,
    unbounded,
)

MEANINGS = (
    "**ok**: requests that succeeded / all that ended. Times are of the successes only; a "
    "failure stays in the count, and misses every objective.",
    "**TTFT**: from the request's last byte sent to the first token. **TTFA**: to the first of the "
    "answer, after any thoughts, of the replies that came to one. **latency**: to the event "
    "that ended the reply. **TPOT**: (latency - TTFT) / (output tokens - 1), one value per "
    "request. **ITL**: the gap before each read, shared among its tokens, one value per token. "
    "**worst gap**: the longest wait between two reads that brought tokens, in any reply.",
    "**window**: from when every stream had ended its first request to when the first one found "
    "no more work. Percentiles, objectives and means are of the requests sent in it (**figures "
    "of**). **req/s, tok/s**: successes by the share of their time that lies in it, and tokens "
    "whose stamps do; then the same over the *whole run*, ramp and drain included.",
    "**from schedule**: counted from when the request was meant to go, so that no wait in the "
    "client is hidden. An open loop (requests/s) is judged by it; its window lasts from p95 of "
    "latency after the ramp to the last measured arrival.",
    "**needs 368**: the percentile takes 368 successes; percentiles interpolate linearly.",
    "**intervals**: 95 %, by means of ten batches of the window, since requests near saturation "
    "wait for each other. **≥**: there is no upper bound yet.",
)
INTERVAL_HEADINGS = ("metric", "p50", "p95", "p99")
TURN_HEADINGS = ("turn", "n", "TTFT ms p50", "p95", "prompt tokens", "of them cached")


def to_markdown(summaries: Sequence[RunSummary]) -> str:
    """Return summary.md for summaries in their order."""
    named = named_series(series_of(summaries))
    parts = [
        "# Benchmark summary",
        *_verdicts(summaries),
        *(_scenario(name, series) for name, series in named),
        *_fairness(summaries),
        *_errors(summaries),
        *_environment(summaries),
        *_again(named),
        "## What the columns mean\n\n" + markdown_list(MEANINGS),
    ]
    return "\n\n".join(parts) + "\n"


def _verdicts(summaries: Sequence[RunSummary]) -> Iterable[str]:
    yield f"## Verdict: {headline(summaries)}"
    for summary in summaries:
        if summary.verdict.doubts:
            yield f"**{summary.verdict.level}** {code(summary.run_id)}\n\n" + markdown_list(
                _finding(f) for f in summary.verdict.doubts
            )
    notes = shared_notes(summaries)
    if notes:
        yield "Worth knowing:\n\n" + markdown_list(
            _finding(note, runs if len(summaries) > 1 else "") for note, runs in notes
        )


def _finding(found: Finding, runs: str = "") -> str:
    """Return a finding as a line: its code, how bad it is, what it is about, and of which runs."""
    of = found.severity.name + (f" as to {found.about}" if found.about != "all" else "")
    named = f", {code(runs)}" if runs else ""
    return f"`{found.code}` ({of}){named}: {markdown(found.figures)} → {markdown(found.advice)}"


def _scenario(name: str, series: Series) -> str:
    runs, unit = series.runs, series.levels[0].load.unit
    head = f"## {markdown(name)}\n\n{markdown(setup_words(runs))}"
    description = next((d for r in runs if (d := r.setting("description"))), None)
    if description:
        head += f"\n\n{markdown(description)}"
    head += "\n\n" + markdown_list(population(series))
    headings, rows = runs_table(series, Where.MARKDOWN)
    notes = markdown_list([_asked(runs), *footnotes(series), *cache_notes(runs)])
    table = _table([heading.replace("\n", " ") for heading in headings], rows)
    parts = [head, table, notes]
    for title, figures, lines in sections(series):
        parts.append(f"### {title}")
        cells = [list(map(markdown, row)) for row in figures[1:]]  # names from elsewhere, too
        parts += [_table(figures[0], cells)] if figures else []
        parts += [markdown_list(markdown(line) for line in lines)] if lines else []
    turns = turn_rows(series)
    if turns:
        parts += ["### TTFT by turn", _table((unit, *TURN_HEADINGS), turns)]
    intervals = interval_rows(series)
    if intervals:
        above = "Percentiles in ms with their intervals within the run:"
        parts += [above, _table((unit, *INTERVAL_HEADINGS), intervals)]
        parts += [markdown_list(lines)] if (lines := unbounded(series)) else []
    return "\n\n".join(parts)


def _asked(runs: Sequence[RunSummary]) -> str:
    keys = ("prefill_tokens", "max_new_tokens", "num_requests", "duration_s", "max_in_flight")
    asked = [f"`{k}` {v}" for k in keys if (v := runs[0].setting(k)) is not None]
    exact = runs[0].setting("ignore_eos")
    return f"Asked for: {', '.join(asked) or 'unknown'}" + (
        ", exactly (`ignore_eos`)" * bool(exact)
    )


def _fairness(summaries: Sequence[RunSummary]) -> Iterable[str]:
    found = fairness(series_of(summaries))
    if found:
        lines = (markdown(line) for one in found for line in fairness_lines(one))
        yield "## Fairness\n\n" + markdown_list(lines)


def _errors(summaries: Sequence[RunSummary]) -> Iterable[str]:
    rows = [
        [code(s.run_id), code(e.kind), str(e.count), code(e.example)]
        for s in summaries
        for e in s.errors
    ]
    if rows:
        yield "## Errors\n\n" + _table(["run", "kind", "requests", "first message"], rows)


def _environment(summaries: Sequence[RunSummary]) -> Iterable[str]:
    facts = environment(summaries)
    if facts:
        yield "## Environment\n\n" + _table(["what", "value"], [[w, markdown(v)] for w, v in facts])


def _again(named: Sequence[tuple[str, Series]]) -> Iterable[str]:
    known = [(name, found) for name, series in named if (found := again(series, name))]
    if known:
        yield "## Run it again"
    for name, found in known:
        commands = "".join(f"{command}\n" for command in found.commands)
        by_hand = "; put in by hand what is masked as ***" * found.masked
        yield (
            f"<details>\n<summary>{markdown(name)}: save as <code>{found.file}</code>"
            f"{markdown(by_hand)}</summary>\n\n{_fenced(found.text, 'yaml')}\n\n"
            f"{_fenced(commands, 'bash')}\n\n</details>"
        )


def _fenced(text: str, language: str) -> str:
    """Return lines unchanged in a fence longer than any fence in them."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}{fence}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return markdown_table([headings, ["---"] * len(headings), *rows])

"""Plans on paper: what runs would send, as lines for people, and the file of each plan."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..prompts.listing import histogram, length_summary
from ..prompts.prompt import PromptSet
from ..records.row import cell_text
from ..records.safe_file import replacing
from ..records.text import escaped, masked
from ..scenario.scenario import Scenario
from .arrivals import realised
from .part import Part
from .plan import Plan

SHOWN_BODY_CHARS = 400
SKETCH_COLUMNS = 60
BARS = " ▁▂▃▄▅▆▇█"


def dry_run_lines(
    scenario: Scenario,
    plans: Sequence[Plan],
    why_no_server: str | None,
    complete: Sequence[Path | None],
) -> Iterator[str]:
    """Yield where requests would go, then each run: how many, when, of which length.

    A run whose rows are in `complete` would not be made again.
    """
    target = plans[0].drawn[0].target
    left = [plan for plan, rows in zip(plans, complete, strict=True) if rows is None]
    runs = f"{len(left)} run{'s' * (len(left) != 1)}"
    but = f"; {len(plans) - len(left)} already complete" if len(left) < len(plans) else ""
    yield f"{scenario.name}: {runs}, {length_of(left)}{but}"
    yield f"  to {'https' if target.tls else 'http'}://{target.host}:{target.port}{target.path}"
    if why_no_server:
        yield f"  which does not answer now ({why_no_server}): a run gets token counts from it"
    shown: set[int] = set()
    for plan, rows in zip(plans, complete, strict=True):
        yield from _run_lines(plan)
        if rows is not None:
            yield f"    {rows.stem} is complete: not run again"
        for part in plan.drawn:
            yield from (f"    {line}" for line in _part_lines(part))
            if id(part.prompts) not in shown:
                shown.add(id(part.prompts))
                yield from (f"    {line}" for line in _prompt_lines(part.prompts))
    for part in plans[0].parts:
        body = _first_body(part)
        shown_body = body if len(body) <= SHOWN_BODY_CHARS else body[:SHOWN_BODY_CHARS] + "…"
        yield f"  first request{f' of {part.name}' if part.name else ''}: {shown_body}"


def _run_lines(plan: Plan) -> Iterator[str]:
    yield f"  {plan.words}: {length_of([plan])} after {plan.warmups} to warm up"
    yield f"    plan sha256 {plan.sha256}"
    if plan.start is not None:
        yield f"    start: {_start(plan)}"
    times_s = plan.measured_s
    if times_s:
        rate, cv = realised(times_s)
        came = (
            f", {rate:.4g} requests/s, CV of the gaps {cv:.2f}" if rate and cv is not None else ""
        )
        yield f"    arrivals over {times_s[-1]:.4g} s{came}"
        yield f"    {sketch(times_s)}"


def _part_lines(part: Part) -> Iterator[str]:
    prompts, pool, drawn = part.prompts.prompts, part.requests.pool, len(part.prompts.prompts)
    places = _places(part)
    known = [tokens for at in places if (tokens := prompts[at].tokens) is not None]
    asked = sum(pool[at].max_tokens for at in places)
    load = f"{part.name}: {part.level.words}, " if part.name else ""
    told = f"{sum(known):,} prompt tokens, " if len(known) == len(places) else ""
    again = "" if part.duration_s is None else f", in {drawn} prompts that are used again in turn"
    yield f"{load}{told}{asked:,} tokens asked for at most{again}"


def _places(part: Part) -> Sequence[int]:
    """Return which prompts a part sends; each once where it goes by time, and nobody knows."""
    plays = part.plays
    if plays is None or part.duration_s is not None:
        return range(len(part.prompts.prompts))
    return [plays.position(*plays.at(number)) for number in range(part.measured)]


def length_of(plans: Sequence[Plan]) -> str:
    """Return the requests and seconds of some runs: `4 min, at least 1,600 measured requests`."""
    measured = sum(plan.measured for plan in plans)
    requests = f"{measured:,} measured request{'s' * (measured != 1)}"
    if all(plan.duration_s is None for plan in plans):
        return requests
    seconds = sum(plan.duration_s or max(plan.measured_s, default=0.0) for plan in plans)
    lasts = f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return f"{lasts}, at least {requests}" if measured else lasts


def _start(plan: Plan) -> str:
    if plan.start == "together":
        why = "" if plan.scenario.start == "together" else ", since nothing warms the server up"
        return f"together{why}"
    talks = [part.scenario.conversations for part in plan.drawn]
    think = " and the think time" if any(t and t.think_time_s for t in talks) else ""
    return f"staggered over about one latency, as the warm-up will tell it{think}"


def sketch(times_s: Sequence[float], columns: int = SKETCH_COLUMNS) -> str:
    """Return arrivals over time as a line of bars; the highest bar has the most arrivals."""
    import numpy as np

    span_s = times_s[-1] or 1.0
    places = np.minimum(columns - 1, np.asarray(times_s) * columns / span_s).astype(np.int64)
    counts = np.bincount(places, minlength=columns).tolist()
    most = max(counts)
    # Rounded up, so that a single arrival is visible.
    bars = "".join(BARS[-(-count * (len(BARS) - 1) // most)] for count in counts)
    return f"|{bars}| at most {most} in {span_s / columns:.3g} s"


def _prompt_lines(prompts: PromptSet) -> Iterator[str]:
    lengths = [p.tokens for p in prompts.prompts if p.tokens is not None]
    yield (
        f"prompts: {escaped(prompts.dataset)}, {prompts.distinct} different of "
        f"{prompts.source_count:,} in the set, sha256 {prompts.sha256}"
    )
    if lengths:
        yield f"prompt tokens by {prompts.counted_by}: {length_summary(lengths)}"
        yield from histogram(lengths)
    yield from (f"note: {escaped(note)}" for note in prompts.notes)


def _first_body(part: Part) -> str:
    first = part.requests[0]
    if part.talk is not None:
        opening = part.plays.position(0, 0) if part.plays else 0
        first = part.talk.request(first, part.talk.adds(opening))
    return escaped(masked(first.body.decode(), part.secrets))


LINES_AT_ONCE = 10_000
COLUMNS = "request_index,t_scheduled_s,prompt_id,prompt_tokens,max_tokens,class"


def write_plan(path: Path, plan: Plan) -> None:
    """Write one row per measured request; times in seconds from the start. Raises OSError.

    Where a closed loop goes by time: one row per prompt, which it uses again in this order. Turns
    of sessions have no times: each goes when those that it waits for have ended.
    """
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        rows = itertools.chain.from_iterable(map(_lines_of, plan.parts))
        lines = itertools.chain([COLUMNS + "\n"], rows)
        while some := "".join(itertools.islice(lines, LINES_AT_ONCE)):
            file.write(some.encode(errors="backslashreplace"))


def _lines_of(part: Part) -> Iterator[str]:
    """Yield the lines of a part's requests; what all uses of a prompt share is written once."""
    times_s = part.measured_s
    ends = dict[tuple[int, int], str]()
    prompts, pool, plays = part.prompts.prompts, part.requests.pool, part.plays
    for number in range(plays.first(plays.wanted) if plays else len(prompts)):
        place = plays.position(*plays.at(number)) if plays else number
        prompt, piece = prompts[place], pool[place]
        end = ends.get((id(prompt), piece.max_tokens))
        if end is None:
            if len(ends) >= LINES_AT_ONCE:
                ends.clear()
            cells = ["", cell_text(piece.prompt_id), prompt.tokens, piece.max_tokens, part.name]
            end = ends[id(prompt), piece.max_tokens] = _csv_line(cells)
        # A closed loop has no times: a request goes when a stream is free.
        time = f"{times_s[number]:.9f}" if times_s and not plays else ""
        yield f"{number * part.of + part.place},{time}{end}"


def _csv_line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()

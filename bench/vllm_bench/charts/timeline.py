"""A run on one clock: panels for its requests, its server and its GPUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..figures.absent import why_no_rows
from ..figures.facts import Facts
from ..figures.metrics import FROM_SCHEDULE, TITLES, headline_metric, why_absent
from ..figures.window import Window
from ..records.beside.samples import ALL, slowed_by
from ..records.row import Rows
from ..records.text import printable
from ..stats.distribution import filled
from .chart import Axis, Band, Chart, Line, Panel, Span, log_times, series_colour
from .over_time import (
    DOTS_A_COLUMN,
    PICTURE,
    Room,
    bin_width_s,
    dot_places,
    intervals,
    line_places,
    rate,
    sampled,
    silence_s,
    stepped,
)

ROW_IN = 1.3
PERCENT = (0.0, 104.0)
TOKENS = Axis(words="tokens/s", unit="tokens/s")
KV_CACHE = Axis(words="KV cache\nin use (%)", unit="%", span=PERCENT)
GPU_PANELS = {  # name, column of the samples, axis
    "utilisation": ("utilization_percent", Axis(words="GPU\nbusy (%)", unit="%", span=PERCENT)),
    "power": ("power_w", Axis(words="power (W)", unit="W")),
    "temperature": ("temperature_c", Axis(words="temp. (°C)", unit="°C")),
}
MOST_ASIDE = 0.25  # of the run's length: samples further away aren't shown
LEAST_SEEN = 0.02  # of the chart's width: narrower parts get no name
ABOVE = 1.25  # of the longest time: height of failures, which may have no time


def timeline(facts: Facts, room: Room = PICTURE) -> Chart | None:
    """Return a run's timeline; None where no request took any time."""
    end_s = float(facts.frame["t_end_s"].max()) if facts.rows else 0.0
    if end_s <= 0:
        return None
    panels = [
        *_request_panels(facts, end_s, room),
        *_kv(facts.server_rows, room.line),
        *_gpus(facts.gpu_rows, room.line),
    ]
    shown = _shown(facts, end_s)
    grounds = tuple(_grounds(facts.window, end_s, shown))
    return Chart(
        title="Timeline",
        doc="requests, tokens, the server and its GPUs on one clock",
        note=_note(facts, panels),
        x=Axis(words="seconds from the run's start", unit="s", span=shown),
        panels=[replace(panel, bands=(*grounds, *panel.bands)) for panel in panels],
        wide=True,
        panel_in=ROW_IN,
    )


def _shown(facts: Facts, end_s: float) -> Span:
    """Return the run's seconds with the samples before and after it."""
    rows = [found for found in (facts.server_rows, facts.gpu_rows) if found is not None]
    times = [found["t_s"] for found in rows if len(found)]
    margin = MOST_ASIDE * end_s
    first = min([0.0, *(float(t.min()) for t in times)])
    last = max([end_s, *(float(t.max()) for t in times)])
    return max(first, -margin), min(last, end_s + margin)


def _grounds(window: Window | None, end_s: float, shown: Span) -> Iterator[Band]:
    """Return the background of the steady window, and those of the time outside it."""
    if window is None:
        yield Band(name="no steady window", spans=[(0.0, end_s)], role="aside")
    else:
        steady = (window.start_s, window.end_s)
        yield Band(name="steady window", spans=[steady], role="window")
        outside = [(0.0, steady[0]), (steady[1], end_s)]
        yield Band(name="start-up and drain", spans=outside, role="aside")
    around = [(shown[0], 0.0), (end_s, shown[1])]  # warm-up, and what has no rows
    seen = [(a, b) for a, b in around if b - a > LEAST_SEEN * (shown[1] - shown[0])]
    yield Band(name="before and after the run", spans=seen, role="outside")


def _placed(lines: Iterable[Line | None], first: int = 0) -> tuple[Line, ...]:
    """Return the lines that exist, each with its own colour, dashes and mark."""
    found = [line for line in lines if line is not None]
    return tuple(
        replace(line, place=at, colour=series_colour(first + at)) for at, line in enumerate(found)
    )


# ---- requests ----


def _request_panels(facts: Facts, end_s: float, room: Room) -> Iterator[Panel]:
    bins = f"{bin_width_s(end_s):g} s bins"
    due, ended = (facts.frame[c] for c in ("t_scheduled_s", "t_end_s"))
    rates = rate(f"arrivals\n({bins})", due, None, end_s), rate("ended", ended, None, end_s)
    yield Panel(y=Axis(words="requests/s", unit="requests/s"), lines=_placed(rates))
    flight = _placed(_in_flight(facts, room.line), 2)
    if flight:
        yield Panel(y=Axis(words="requests", unit="requests"), lines=flight)
    if facts.reads is not None:
        stamps = facts.reads.t_ns / 1e9
        tokens = rate(f"output tokens\n({bins})", stamps, facts.reads.tokens, end_s)
        yield Panel(y=TOKENS, lines=_placed([tokens], 5))
    yield _times(facts, room)


def _in_flight(facts: Facts, most: int) -> Iterator[Line | None]:
    flight = facts.flight
    if flight is not None:
        yield stepped("in flight (client)", flight.times_s, flight.levels.astype(np.float64), most)
    if facts.server_rows is not None:
        together = facts.server_rows.of(facts.server_rows["engine"] == ALL)
        for column in ("running", "waiting"):
            yield sampled(f"{column} (server)", together, column, most=most)


def _times(facts: Facts, room: Room) -> Panel:
    """Return a dot per success, at the moment its time counts from, and a cross per failure.

    Dots of requests that the figures are not of are pale.
    """
    metric = headline_metric("ttft_ms" if facts.streaming else "latency_ms", facts.load)
    kinds = [*_of_classes(facts), (~facts.counted, ("outside the window", "pale"))]
    found = (_dots(facts, metric, of, look, room.dots) for of, look in kinds)
    dots = [line for line in found if line is not None]
    top = ABOVE * max((float(line.y.max()) for line in dots), default=1.0)
    words = f"{TITLES[metric]} (ms)".replace(" schedule", "\nschedule")
    heights = np.concatenate([line.y for line in dots] or [np.array([])])
    return Panel(
        y=Axis(words=words, unit="ms", log=log_times(heights)),
        lines=[*dots, *_failures(facts, top, room.line)],
    )


def _of_classes(facts: Facts) -> Iterator[tuple[NDArray[np.bool_], tuple[str, str]]]:
    """Yield the counted rows of each class with its name and colour; of no classes all of them."""
    if not facts.classes:
        yield facts.counted, ("succeeded", "c0")
    for place, name in enumerate(facts.classes, start=1):
        own = facts.counted & (facts.frame["class"] == name)
        yield own, (printable(name, 32), series_colour(place))


def _dots(
    facts: Facts, metric: str, of: NDArray[np.bool_], look: tuple[str, str], most: int
) -> Line | None:
    """Return the dots of the successes among some rows; None where there is none."""
    begin = "t_scheduled_s" if metric in FROM_SCHEDULE.values() else "t_sent_s"
    taken, begun = facts.times(metric), facts.frame[begin]
    known = of & ~facts.failed & ~np.isnan(taken) & ~np.isnan(begun)
    if not known.any():
        return None
    times, values = begun[known], taken[known]
    kept = dot_places(times, values, most)
    requests = facts.frame["request_index"][known][kept]
    name, colour = look
    return Line(
        name=f"{TITLES[metric]}, {name}",
        legend=f"{name}: {times.size:,}",
        x=times[kept],
        y=values[kept],
        role="dots",
        colour=colour,
        words=[f"request {index}" for index in requests],
        of=times.size,
    )


def _failures(facts: Facts, top: float, most: int) -> Iterator[Line]:
    """Return the failures of each kind, the commonest first, at the moment of send or schedule."""
    rows = facts.failures
    at_s = filled(rows["t_sent_s"], rows["t_scheduled_s"])
    order = np.argsort(at_s, kind="stable")
    kinds = np.array(facts.failure_kinds, dtype=object)[order]
    for place, (kind, _) in enumerate(Counter(kinds).most_common()):
        those = order[kinds == kind]
        times = at_s[those]
        kept = line_places(times, times, most)
        shown, at = rows.of(those[kept]), times[kept]
        cells = zip(shown["request_index"], at, shown["t_end_s"], shown["error"], strict=True)
        yield Line(
            name=f"{kind}: {times.size:,}",
            x=at,
            y=np.full(at.size, top),
            role="crosses",
            place=place,
            colour="error",
            words=[
                f"request {index}, begun at {begun:.2f} s, failed at {end:.2f} s: {kind}\n"
                f"{words or ''}"
                for index, begun, end, words in cells
            ],
            hover="{words}",
            of=times.size,
        )


# ---- the server and its GPUs ----


def _kv(rows: Rows | None, most: int) -> Iterator[Panel]:
    """Return the use of the KV cache, one line per engine."""
    if rows is None:
        return
    by_engine = dict(rows.by("engine"))
    named = {"KV cache": rows.of(rows["engine"] == ALL)}
    if len(by_engine.keys() - {ALL}) > 1:
        named = {f"engine {name}": of for name, of in by_engine.items() if name != ALL}
    lines = (sampled(name, of, "kv_cache_usage", 100, most) for name, of in named.items())
    found = _placed(lines, 6)
    if found:
        yield Panel(y=KV_CACHE, lines=found)


def _gpus(rows: Rows | None, most: int) -> Iterator[Panel]:
    """Return one panel per sensor: a line for each GPU, and when its clocks were throttled."""
    if rows is None or not len(rows):
        return
    held = tuple(_throttled(rows))
    for column, axis in GPU_PANELS.values():
        lines = tuple(_of_each_gpu(rows, column, most))
        if lines:
            yield Panel(y=axis, lines=lines, bands=held)


def _of_each_gpu(rows: Rows, column: str, most: int) -> Iterator[Line]:
    """Return each GPU's line, the same look in all panels, and a mark where readings end."""
    last_s = float(rows["t_s"].max())
    for place, (index, of_one) in enumerate(rows.by("gpu_index")):
        line = sampled(f"GPU {index}", of_one, column, most=most)
        if line is None:
            continue
        yield replace(line, place=place, colour=series_colour(place))
        silent_s = last_s - float(line.x[-1])
        if silent_s > silence_s(of_one["t_s"]):
            name, x, y = f"GPU {index}: no more readings", line.x[-1:], line.y[-1:]
            yield Line(name=name, x=x, y=y, role="points", place=6, colour="error")


def _throttled(rows: Rows) -> Iterator[Band]:
    """Return when clocks were throttled, for each reason of all GPUs together."""
    spans: dict[str, list[Span]] = {}
    gpus: dict[str, list[str]] = {}
    for index, of_one in rows.by("gpu_index"):
        names = [slowed_by(reasons) for reasons in of_one["throttle_reasons"]]
        held = np.array([bool(found) for found in names])
        why = ", ".join(sorted(set().union(*names)))
        if why:
            times = of_one["t_s"]
            spans.setdefault(why, []).extend(intervals(times, held))
            gpus.setdefault(why, []).append(str(index))
    for why, found in spans.items():
        name = f"clocks throttled\nGPU {', '.join(gpus[why])}\n({why})"
        yield Band(name=name, spans=_merged(found), role="throttled")


def _merged(spans: Sequence[Span]) -> list[Span]:
    """Return the intervals in order, those that touch as one."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found


# ---- what is missing ----


def _note(facts: Facts, panels: Sequence[Panel]) -> str:
    absent = ", ".join(f"{what} ({why})" for what, why in _absent(facts, panels))
    no_window = "The load was never held, so there is no steady window"
    parts = [
        f"Not shown: {absent}" if absent else "",
        *_thinned(line for panel in panels for line in panel.lines),
        no_window if facts.window is None else "",
    ]
    return ". ".join(part for part in parts if part)


def _absent(facts: Facts, panels: Sequence[Panel]) -> Iterator[tuple[str, str]]:
    """Return what is missing in the timeline, each with the reason."""
    there = {panel.y.words for panel in panels}
    if TOKENS.words not in there:
        yield "tokens/s", why_absent(facts, "itl_ms")
    if facts.server_rows is None:
        yield "the server", why_no_rows(facts.info, "server_metrics", "its metrics")
    elif KV_CACHE.words not in there:
        yield "KV cache", "the server doesn't report it"
    missing = [what for what, (_, axis) in GPU_PANELS.items() if axis.words not in there]
    if facts.gpu_rows is None:
        yield "GPUs", why_no_rows(facts.info, "gpu", "they")
    elif missing:
        yield f"GPU {', '.join(missing)}", "no sensor gave a value"


def _thinned(lines: Iterator[Line]) -> Iterator[str]:
    """Return which points were left out because there is no room for them."""
    found = [line for line in lines if line.of > line.x.size]
    for line in found:
        if line.role == "dots":
            yield (
                f"{line.x.size:,} of {line.of:,} dots are drawn: of each "
                f"column the lowest, the highest, and {DOTS_A_COLUMN - 2} evenly between"
            )
        if line.role == "crosses":
            yield f"Of {line.name} failures {line.x.size:,} are marked"
    if any(line.role in ("steps", "samples") for line in found):
        yield "Lines run through the lowest and the highest point of each column"

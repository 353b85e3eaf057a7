"""What stands in a picture, read off the figure; and levels of made runs to draw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from vllm_bench.charts.chart import Chart, Heading, Line
from vllm_bench.charts.pen_matplotlib import draw
from vllm_bench.charts.pictures import DrawnRun, all_series, drawn_run
from vllm_bench.figures.facts import Facts
from vllm_bench.records.beside.token_file import save
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.request_record import RequestRecord
from vllm_bench.summary.levels import Series
from vllm_bench.summary.summary import facts_of, summarize

from tests.support.made_runs import made_info, made_record, write_run


def level(
    streams: int, count: int = 400, spread: float = 0.3, repeat: int = 0, **changes: Any
) -> Iterator[RequestRecord]:
    """Return records of one level: TTFT grows with the number of streams."""
    rng = np.random.default_rng(streams + 1000 * repeat)
    for i in range(count):
        ttft_ms = float(50 * streams * rng.lognormal(0, spread))
        fields = {"ttft_ms": ttft_ms, "latency_ms": ttft_ms + 190, **changes}
        run_id = f"made-cc{streams}-{repeat}"
        yield made_record(i, run_id=run_id, concurrency=streams, **fields)


def written(folder: Path, records: Sequence[RequestRecord], **changes: Any) -> Path:
    """Write a run of these records and return the path of its rows."""
    return write_run(folder, records, made_info(records, **changes))


def facts_at(path: Path) -> Facts:
    """Return the facts of a run that was written."""
    return facts_of(load_run(path))


def drawn_at(path: Path) -> DrawnRun:
    """Return what charts keep of a run that was written."""
    run = load_run(path)
    facts = facts_of(run)
    return drawn_run(summarize(run, facts), facts)


def series_at(paths: Sequence[Path]) -> tuple[Series, list[DrawnRun]]:
    """Return runs that were written as one series, and as what charts keep of them."""
    runs = [drawn_at(path) for path in paths]
    ((_, series),) = all_series(runs)
    return series, runs


def picture(chart: Chart, title: str = "made") -> Figure:
    """Return a chart drawn by matplotlib."""
    return draw(chart, Heading(title, "", ""))


def by_name(lines: Iterable[Line]) -> dict[str, Line]:
    """Return lines by their names in the legend, without what stands on a second line."""
    return {(line.label or line.name).partition("\n")[0]: line for line in lines}


def write_tokens(run: Path, stamps_s: dict[int, Sequence[float]], tokens: int = 1) -> None:
    """Write when each token of these requests came: `tokens` at each stamp."""
    counts = [len(stamps) for stamps in stamps_s.values()]
    of_all = [round(1e9 * t) for stamps in stamps_s.values() for t in stamps]
    (run.parent / "tokens").mkdir(exist_ok=True)
    arrays = {
        "request_index": np.array(list(stamps_s), dtype=np.int32),
        "first_read": np.cumsum([0, *counts]).astype(np.int64),
        "t_ns": np.array(of_all, dtype=np.int64),
        "events": np.ones(len(of_all), dtype=np.uint16),
        "tokens": np.full(len(of_all), tokens, dtype=np.uint16),
    }
    save(arrays, run.parent / "tokens" / f"{run.stem}.npz")


def texts(figure: Figure) -> str:
    """Return every text of a figure."""
    return "\n".join(t.get_text() for t in figure.findobj(Text))


def legend_words(figure: Figure) -> list[str]:
    """Return what the legend under a picture says."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def overflowing(figure: Figure) -> list[str]:
    """Return the texts that don't lie within the figure once it is laid out."""
    figure.draw_without_rendering()
    page = figure.bbox
    found = []
    ticks = {
        id(t) for axes in figure.axes for t in [*axes.get_xticklabels(), *axes.get_yticklabels()]
    }
    for text in figure.findobj(Text):
        # A tick beyond its axis has a label that is not drawn.
        if text.get_visible() and text.get_text().strip() and id(text) not in ticks:
            box = text.get_window_extent()
            inside = (
                box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
            )
            if not inside:
                found.append(text.get_text())
    return found

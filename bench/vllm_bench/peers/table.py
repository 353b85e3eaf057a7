"""The table of load generators beside one another, as docs/ACCURACY.md has it."""

from __future__ import annotations

from collections.abc import Mapping

from ..figures.digits import markdown_table, short
from ..records.text import ABSENT
from .peer import Load
from .turn import Turn

HEADINGS = (
    "streams, requests", "client", "TTFT told", "TTFT recorded", "told less recorded: mean", "p99",
    "ITL error p99", "merged, %", "CPU µs/chunk", "MB",
)  # fmt: skip
RULE = ["---", "---", *["--:"] * (len(HEADINGS) - 2)]


def markdown(rows: Mapping[tuple[Load, str], Turn]) -> str:
    """Return the medians as a Markdown table, a row for each load and client; times in ms."""
    cells = [
        [f"{load.streams}, {load.requests:,}", name, *_figures(turn)]
        for (load, name), turn in rows.items()
    ]
    return markdown_table([HEADINGS, RULE, *cells])


def _figures(turn: Turn) -> list[str]:
    return [
        short(turn.ttft_mean_ms),
        short(turn.record_mean_ms),
        f"{turn.ttft_error_mean_ms:+.2f}",
        f"{turn.ttft_error_p99_ms:+.2f}",
        ABSENT if turn.itl_error_p99_ms is None else f"{turn.itl_error_p99_ms:.3f}",
        ABSENT if turn.merged_percent is None else f"{turn.merged_percent:.2f}",
        short(turn.cpu_us),
        short(turn.memory_mb),
    ]

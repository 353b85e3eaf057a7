"""`plans/<run_id>.csv`: what a run is going to measure, written before its first request."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from ..records.whole_file import write_whole
from .material import Part
from .plan import Plan

COLUMNS = ("request_index", "t_scheduled_s", "prompt_id", "prompt_tokens", "max_tokens")


def write_plan(path: Path, part: Part, plan: Plan) -> None:
    """Write a row a measured request; times in seconds from the start. Raises OSError."""
    path.parent.mkdir(exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(part, plan))
    write_whole(path, text.getvalue().encode(errors="backslashreplace"))


def _rows(part: Part, plan: Plan) -> Iterator[tuple[object, ...]]:
    times_s = part.timetable.measured_s
    for index, prompt in enumerate(part.material.prompts.prompts):
        # A closed loop has no times: a request goes when a stream is free.
        at = f"{times_s[index]:.9f}" if times_s else ""
        request = plan.requests[index]
        yield index, at, request.prompt_id, prompt.tokens, request.max_tokens

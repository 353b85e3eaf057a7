"""The record of one request, and the files of a run: `<run_id>.csv` and `<run_id>.json`.

`RequestRecord` alone names the CSV's columns: writer, reader and documentation come from it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import BenchError
from .row import (
    RESTORE,
    Rows,
    bad_row,
    column_types,
    columns,
    complete_lines,
    csv_defaults,
    csv_lines,
    doc,
    lightly_pickled,
    rows_of,
)
from .safe_file import lock, new_file, read_regular

# How a reply ends at its most tokens; the second is of Mistral's servers, at the context's end.
LIMIT_ENDS = ("length", "model_length")
ErrorKind = Literal[
    "connect",
    "timeout_first_token",
    "timeout_stall",
    "timeout_total",
    "http_4xx",
    "http_429",
    "http_5xx",
    "error_event",
    "truncated",
    "protocol",
    "empty",
    "content_filter",
    "bad_finish",
    "oversized",
    "overlong",
    "cancelled",
]

WaitKind = Literal["tool", "think", "unknown"]
Thoughts = Literal["apart", "content", "hidden"]

# The statuses with which a server, or the gateway before it, says: not now.
TURNED_AWAY = (429, 502, 503, 504)


class RecordsError(BenchError):
    """A results file that can't be read; the text is one line for people."""


@lightly_pickled
@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request, complete when it is made. An empty cell is a value that doesn't exist."""

    run_id: str = doc("the run that the request belongs to; also the file's name")
    scenario: str = doc("scenario's name")
    class_: str | None = doc(
        "the class of users that it is a request of; empty: the scenario has none", default=None
    )
    machine: str | None = doc(
        "the machine that sent it, by its host name; empty: there was one alone", default=None
    )
    concurrency: int | None = doc("streams held open by a closed loop; empty in an open one")
    request_rate: float | None = doc(
        "requests per second that an open loop should send; for a trace its realised_rate"
    )
    request_index: int = doc("place in the plan, from 0")
    request_id: str = doc("sent as X-Request-Id; the server's chunks carry it")
    trace_id: str | None = doc(
        "with --traceparent: the id of its trace, under which the server's spans are found",
        default=None,
    )
    prompt_id: str = doc("the prompt's name in its set")
    conversation_id: str | None = doc(
        "the play of a session (a conversation, a recorded session) that this turn belongs to: the "
        "session's name, from its second play on with `~2` and so on"
    )
    turn: int | None = doc(
        "which turn of its session, from 1; a stream's first play may begin deeper, and then has "
        "no row of the turns before"
    )
    session_turns: int | None = doc(
        "how many turns its session has; empty: no session, or a run of an earlier version",
        default=None,
    )
    agent: str | None = doc(
        "the sub-agent whose turn it is; empty: the session's own", default=None
    )
    after: str | None = doc(
        "the turns whose ends it waited for, as `3 7`; empty: it was the first", default=None
    )
    planned_wait_s: float | None = doc(
        "how long it waited after the last of these ends, by the plan; empty: it was the first, "
        "or due by a stamp",
        default=None,
    )
    wait_kind: WaitKind | None = doc(
        "what that wait was: a tool that ran, a person who thought, or unknown", default=None
    )
    stream_index: int = doc("which stream sent it; in an open loop, which connection")
    t_scheduled_s: float = doc(
        "when it was meant to go, from the run's start: by the schedule, or in a closed loop when "
        "its stream came free"
    )
    t_sent_s: float | None = doc("when it was handed to the socket; empty: it was never sent")
    t_end_s: float = doc("the event with finish_reason, or the moment of failure")
    send_lag_ms: float | None = doc("t_sent - t_scheduled")
    waited_ms: float = doc(
        "how long its stream waited before t_scheduled, because the server had turned its last "
        "request away; 0: it hadn't",
        default=0.0,
    )
    connect_ms: float | None = doc("time to open a connection, if one was opened for this request")
    resent: int = doc(
        "how often it was sent again, because the server had closed its connection as it came; "
        "t_sent is the first time",
        default=0,
    )
    ttft_ms: float | None = doc("first token event - t_sent; empty without streaming")
    ttfa_ms: float | None = doc(
        "first token event of the answer, text or a tool call and no thought - t_sent; empty: it "
        "never came, or its thoughts came within its text"
    )
    latency_ms: float | None = doc("t_end - t_sent")
    tpot_ms: float | None = doc(
        "(latency - ttft) / (completion_tokens - 1), from 2 tokens on; of n choices tokens / n"
    )
    max_gap_ms: float | None = doc("the longest wait between two reads that brought tokens")
    prompt_tokens_planned: int | None = doc(
        "prompt tokens, by the server's /tokenize before the run; empty: not asked, or a turn of a "
        "conversation"
    )
    prompt_tokens: int | None = doc("prompt tokens, by the server's usage")
    completion_tokens: int | None = doc(
        "generated tokens, by the server's usage; without it by the token ids of each event"
    )
    cached_tokens: int | None = doc(
        "prompt tokens found in the prefix cache, if the server reports it"
    )
    possible_cached_tokens: int | None = doc(
        "prompt tokens that a cache which never forgets would have found, in whole blocks, by the "
        "plan; empty: it doesn't say what repeats",
        default=None,
    )
    thoughts: Thoughts | None = doc(
        "how its thoughts came: apart (in fields of their own), content (within the text, as "
        "`<think>`: the server has no --reasoning-parser), hidden (usage alone tells of them); "
        "empty: there were none",
        default=None,
    )
    thinking_tokens: int | None = doc(
        "of the completion tokens, those of thoughts: by the server's usage where it can be true, "
        "else counted where each event's tokens are known; empty: neither",
        default=None,
    )
    token_events: int = doc("events that brought tokens: text, thoughts, tool calls or token ids")
    visible_events: int = doc(
        "of these, those with text or tool calls that aren't thoughts; of a reply in one piece 1 "
        "if it has an answer"
    )
    token_reads: int = doc("socket reads that completed at least one token event")
    answer_valid: int | None = doc(
        "with response_format: 1 if the answer has that form (valid by its JSON schema, or a JSON "
        "object), else 0; empty without it, and for a failure",
        default=None,
    )
    max_tokens: int = doc("the most generated tokens that were asked for")
    http_status: int | None = doc("HTTP status of the reply; empty: no reply came")
    finish_reason: str | None = doc("as the server gives it: stop, length, ...")
    error_kind: ErrorKind | None = doc("why it failed, from a closed list; empty: success")
    error: str | None = doc("what went wrong, in the server's own words if it gave any")


COLUMNS = columns(RequestRecord)


class RecordWriter:
    """Appends rows to a new `<run_id>.csv`, with one write per call: a kill damages no older row.

    It locks the file (see safe_file.py), so that others can see that the run is still going on.
    """

    def __init__(self, path: Path) -> None:
        """Create the file with its header. Raises FileExistsError, OSError."""
        # Open for reading too: some file systems lock only such files.
        self._fd = new_file(path, os.O_APPEND)
        lock(self._fd)
        self._write(",".join(COLUMNS) + "\n")

    def write(self, records: Iterable[RequestRecord]) -> None:
        """Append the records now. Raises OSError (a full disk, say)."""
        self._write(csv_lines(records))

    def _write(self, text: str) -> None:
        data = text.encode(errors="backslashreplace")  # half a surrogate pair isn't valid UTF-8
        while data:
            data = data[os.write(self._fd, data) :]

    def close(self) -> None:
        os.close(self._fd)


MOST_BYTES = 2**30  # a million rows have about 400 MB
# Columns that may be absent since earlier versions didn't have them, and their cells then.
ABSENT = csv_defaults(RequestRecord)
# Columns that earlier versions called otherwise.
RENAMED = {b"ttft_visible_ms": b"ttfa_ms"}
MOST_OF_A_NAME = 300  # characters of a machine's: a host's has at most 253
CLASS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")  # as scenarios may call one
MOST_COUNT, MOST_S = 1_000_000_000, 10_000_000.0  # 10 million seconds are 115 days
LEAST_AND_MOST: dict[str, tuple[float, float]] = {
    "request_index": (0, MOST_COUNT),
    **dict.fromkeys(("stream_index", "token_events", "visible_events"), (0, MOST_COUNT)),
    **dict.fromkeys(("token_reads", "max_tokens"), (0, MOST_COUNT)),
    **dict.fromkeys(("t_scheduled_s", "t_sent_s", "t_end_s"), (-MOST_S, MOST_S)),
}


def read_rows(path: Path) -> Rows:
    """Read a run's rows. A last line that a kill cut off is left out.

    Raises RecordsError where the file is missing, has a wrong header or a damaged row.
    """
    whole = _checked_lines(path)
    try:
        rows = rows_of(whole, column_types(RequestRecord), ABSENT)
        _refuse_impossible(rows)
    except (ValueError, OverflowError) as e:
        raise RecordsError(f"{path}: damaged row: {e}") from e
    return rows


def _refuse_impossible(rows: Rows) -> None:
    """Raise ValueError where a number can't be, or a request has two rows."""
    import numpy as np

    for name, (least, most) in LEAST_AND_MOST.items():
        wrong = (rows[name] < least) | (rows[name] > most)
        if wrong.any():
            line = int(wrong.argmax()) + 2  # the header is line 1
            raise ValueError(f"line {line}: {name} isn't from {least:g} to {most:g}")
    for name in {*rows["class"].tolist()} - {None}:
        if not CLASS_NAME.fullmatch(name):
            raise ValueError(f"class is {name[:40]!r}, which is no name of a class")
    if any(len(name) > MOST_OF_A_NAME for name in {*rows["machine"].tolist()} - {None}):
        raise ValueError(f"a machine's name has over {MOST_OF_A_NAME} characters")
    indexes, at = np.unique(rows["request_index"], return_index=True)
    if indexes.size < len(rows):
        twice = np.setdiff1d(np.arange(len(rows)), at)[0]
        raise ValueError(f"line {twice + 2} repeats request {rows['request_index'][twice]}")


def count_rows(path: Path) -> int:
    """Count a run's rows without reading their cells. Raises RecordsError like `read_rows`."""
    return _checked_lines(path).count(b"\n") - 1


def _checked_lines(path: Path) -> bytes:
    try:
        whole = complete_lines(read_regular(path, MOST_BYTES))
    except OSError as e:
        raise RecordsError(f"{path}: can't be read: {e.strerror}") from e
    whole = _renamed(whole)
    _check_header(path, whole.split(b"\n", 1)[0].decode(errors="replace"))
    problem = bad_row(whole)
    if problem:
        raise RecordsError(f"{path}: damaged row: {problem}")
    return whole


def _renamed(whole: bytes) -> bytes:
    """Return a file with the names that its columns have today."""
    header, line_end, rows = whole.partition(b"\n")
    names = header.split(b",")
    if RENAMED.keys().isdisjoint(names):
        return whole
    return b",".join(RENAMED.get(name, name) for name in names) + line_end + rows


def known_columns(header: str) -> int:
    """Return how many of a run's columns a header names, whatever program saved it."""
    return len(set(re.split(r"[,;\t]", re.sub(r"[\ufeff\r\n\"]", "", header))) & set(COLUMNS))


def _check_header(path: Path, header: str) -> None:
    given = header.split(",") if header else []
    if given == [name for name in COLUMNS if name in given or name not in ABSENT]:
        return
    if not given:
        raise RecordsError(f"{path}: empty: no run, or one that was killed before its first row")
    if known_columns(header) < len(COLUMNS) / 2:
        raise RecordsError(f"{path}: not a run: a run is a <run_id>.csv that bench.py wrote")
    if re.search(r"[;\t\r\ufeff\"]", header):
        raise RecordsError(f"{path}: not as it was written (separators, line ends): {RESTORE}")
    missing = [c for c in COLUMNS if c not in given and c not in ABSENT]
    extra = [c for c in given if c not in COLUMNS]
    what = [f"missing {', '.join(missing)}"] if missing else []
    what += [f"unknown {', '.join(extra)[:200]}"] if extra else []
    problem = "; ".join(what) or "columns out of order"
    raise RecordsError(f"{path}: not a run of this version: {problem}")

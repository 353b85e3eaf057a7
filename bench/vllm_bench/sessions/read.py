"""Reads recorded sessions: a file, or a folder of files of one format. The content tells which.

What looks like something else is refused in one line, with what it looks like and what is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..records.text import printable
from ..traces.rows import CSV_FORMATS
from .formats import aiperf, aiperf_dag, bailian, mlperf, opentelemetry, tracelab, weka
from .formats.fields import Tally
from .rows import NotJsonError, Row, files_of, rows_of
from .session import Session, SessionError, SessionKind, Sessions

Given = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """A format that is read."""

    kind: SessionKind
    fits: Callable[[Given], bool]
    read: Callable[[Iterable[Row], Tally], Iterator[Session]]
    shown: str
    blocks_shared: bool = False


FORMATS = (
    Format("weka", weka.fits, weka.read, '{"id", "block_size", "requests": […]}'),
    Format("bailian", bailian.fits, bailian.read, '{"chat_id", "parent_chat_id", …}', True),
    Format("tracelab", tracelab.fits, tracelab.read, '{"session_id", "round_index", …}'),
    Format("mlperf", mlperf.fits, mlperf.read, '{"conversation_id", "turn", "role", …}'),
    Format("aiperf_dag", aiperf_dag.fits, aiperf_dag.read, '{"session_id", "turns": [{"messages"'),
    Format("aiperf", aiperf.fits, aiperf.read, '{"session_id", "turns": [{"text", …}]}'),
    Format(
        "opentelemetry", opentelemetry.fits, opentelemetry.read, "spans with gen_ai.* attributes"
    ),
)
PLAIN = {"timestamp", "input_length", "output_length"}  # Mooncake's, which has no sessions
# What else there is, by keys of its first object, and why it isn't read.
OTHERS: tuple[tuple[frozenset[str], str], ...] = (
    (
        frozenset({"session_id", "input_length"}),
        "Mooncake's rows with session_id, whose lengths may be of whole prompts or of new tokens",
    ),
    (frozenset({"session_id", "session_context"}), "veeksha's sessions"),
    (frozenset({"session_id", "llm_calls"}), "Copilot's sessions"),
    (frozenset({"session_id", "turns"}), "Copilot's sessions, or AIPerf's without texts"),
    (frozenset({"session_id", "input", "output"}), "LMCache's agents, which have no waits"),
    (frozenset({"out_lens", "obs_lens"}), "tpu-inference's trajectories"),
    (frozenset({"events"}), "TensorRT-LLM's scaffolding traces"),
    (frozenset({"conversations"}), "conversations without waits: give them as dataset: file:…"),
    (frozenset({"messages"}), "chats without waits: give them as dataset: file:…"),
    (frozenset({"prompt"}), "prompts: give them as dataset: file:…"),
    (frozenset({"text"}), "texts: give them as dataset: file:…"),
)


def is_session_trace(path: Path) -> bool:
    """Whether a file, or a file of a folder, begins as one of the formats; nothing is raised."""
    try:
        files = files_of(path)
    except SessionError:
        return False
    return any(map(_is_known, files))


def _is_known(file: Path) -> bool:
    try:
        return _format_of(file) is not None
    except SessionError:
        return False


def read_sessions(path: Path) -> Sessions | None:
    """Read all sessions of a file or a folder; None: it is a trace of requests without sessions.

    Raises SessionError, one line that names the file, the place in it, and what is expected.
    """
    path = path.expanduser()
    files = files_of(path)
    found = [(file, _format_of(file)) for file in files]
    known = [(file, form) for file, form in found if form is not None]
    if not known:
        if len(files) == 1 and _is_plain(files[0]) and not path.is_dir():
            return None
        raise _refusal(path, files)
    (first, form), *_ = known
    for file, other in known:
        if other is not form:
            raise SessionError(
                f"{path}: {first.name} looks like {form.kind}, {file.name} like {other.kind}:"
                " a folder must have one format"
            )
    tally = Tally()
    tally.left_out["files that hold no sessions"] += len(found) - len(known)
    rows = (row for file, _ in known for row in rows_of(file))
    return _made(path, form, list(form.read(rows, tally)), tally)


def _format_of(file: Path) -> Format | None:
    """Return what a file begins as; None: as none, or it isn't JSON. Raises SessionError."""
    try:
        first = next((row.given for row in rows_of(file)), None)
    except NotJsonError:
        return None
    return next((form for form in FORMATS if first is not None and form.fits(first)), None)


def _made(path: Path, form: Format, sessions: Sequence[Session], tally: Tally) -> Sessions:
    if not sessions:
        why = "".join(f": {number:,} {what}" for what, number in (+tally.left_out).items())
        raise SessionError(f"{path}: {form.kind}: no sessions{why}")
    seen: set[str] = set()
    for session in sessions:
        if session.id in seen:
            twice = f"session {printable(session.id)} is there twice"
            raise SessionError(f"{path}: {form.kind}: {twice}")
        seen.add(session.id)
    starts = [session.starts_s for session in sessions if session.starts_s is not None]
    dated, began = len(starts) == len(sessions), min(starts, default=0.0)
    placed = [replace(s, starts_s=(s.starts_s or 0.0) - began if dated else None) for s in sessions]
    placed.sort(key=lambda session: (session.starts_s or 0.0, session.id))
    left_out = dict(+tally.left_out)
    notes = [*tally.told(), *(f"{number:,} left out: {what}" for what, number in left_out.items())]
    if tally.unknown_waits:
        known = "waits aren't known: the most that they may have been"
        notes.append(f"{tally.unknown_waits:,} {known}")
    return Sessions(
        kind=form.kind,
        sessions=tuple(placed),
        block_tokens=tally.block_tokens,
        blocks_shared=form.blocks_shared,
        notes=tuple(f"{form.kind}: {note}" for note in notes),
        left_out=left_out,
        unknown_waits=tally.unknown_waits,
    )


def _is_plain(file: Path) -> bool:
    """Whether a file is a trace of requests without sessions. Raises SessionError."""
    try:
        first = next((row.given for row in rows_of(file)), {})
    except NotJsonError as e:
        return any(known.fits(str(e).split(",")) for known in CSV_FORMATS)
    return first.keys() >= PLAIN and "session_id" not in first


def _refusal(path: Path, files: Sequence[Path]) -> SessionError:
    """Return what the first file looks like, and what is read. Raises SessionError."""
    try:
        said = _looks_like(next((row.given for row in rows_of(files[0])), {}))
    except NotJsonError as e:
        said = f"begins with {str(e)!r}"
    one = f"no file has sessions: {files[0].name}" if path.is_dir() else "no recorded sessions: it"
    shown = ", ".join(f"{form.shown} ({form.kind})" for form in FORMATS)
    return SessionError(f"{path}: {one} {said}; read are {shown}, or a trace of requests")


def _looks_like(first: Given) -> str:
    for keys, what in OTHERS:
        if keys <= first.keys():
            return f"looks like {what}"
    names = ", ".join(printable(key, 30) for key in list(first)[:6])
    return f"has the keys {names}" if names else "has no keys"

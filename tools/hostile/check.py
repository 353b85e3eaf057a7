"""Whether anything was lost, made up or left behind by a bench.py to which something happened.

Pure, and by the server's own record. Each finding begins with a word: lost, false, damaged, code,
status, traceback, hang, behind, reader, resume.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .left import LeftRun, Served
from .processes import NS

# How the server ended requests that may rightly count as successes: replies that came whole.
WHOLE = {
    "ok", "stall", "merge", "split_bytes", "split_utf8", "crlf", "comments",
    "no_usage", "short", "long", "claim_prompt", "all_in_one", "other_model", "only_thinks",
}  # fmt: skip
CLAIMS = {"claim"}  # its usage is a lie, which the verdict tells
UNLUCKY = {"cancelled", "timeout_first_token", "timeout_stall", "timeout_total"}
BROKEN = ("Traceback (most recent", "Exception in thread", "Exception ignored", "Fatal Python")
BROKEN_TASKS = ("never retrieved", "never awaited", "ResourceWarning")
RECORD_NS = NS // 2  # the server's record is written that often, twice
ROWS_NS = NS  # after it a row that was due has to be on disk


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be demanded of a bench.py to which something of a kind happens."""

    codes: frozenset[int] = frozenset({0, 4})
    # Rows of the second before it may be lost; `takes_all`: rows are taken away by somebody.
    rows_cut: bool = False
    takes_all: bool = False
    one_sender: bool = False  # what one sending process had in its hands may be lost
    record_cut: bool = False  # the server's record lacks its last moments
    spoils: bool = False  # replies that the server sent whole may fail
    stops: bool = False  # no request may be sent after it
    litter: bool = False  # other files lie there, which scripts that read may refuse
    silent: bool = False  # it can't say how it ended: `running` may stay in its JSON


@dataclass(slots=True)
class Case:
    """What happened, and what was left."""

    rules: Rules
    requests: int  # of each level
    levels: int
    code: int | None  # None: it didn't end by itself
    told: Mapping[str, str]  # what each program wrote, by its name
    runs: Sequence[LeftRun]
    served: Sequence[Served]
    struck_ns: int | None = None  # None: it had ended before
    stalled_ns: int = 0  # how long the machine kept everybody waiting then
    behind: Sequence[str] = ()  # processes that outlived it
    readers: Mapping[str, int | None] = field(default_factory=dict)  # their exit codes
    verdicts: Mapping[str, str] = field(default_factory=dict)  # summarize.py's
    resumed: int | None = 0
    runs_after: Sequence[LeftRun] | None = None  # None: not resumed
    turns: int = 1  # of a conversation: those behind one that failed aren't sent

    @property
    def measured(self) -> list[Served]:
        """What the server recorded of requests that should have rows."""
        return [one for one in self.served if one.index < self.requests]


def findings(case: Case) -> list[str]:
    """Return all that is wrong; nothing is what we hope for."""
    disk = (_rows, _lost, _false, _spoilt, _status)
    checks = (*disk, _ended, _words, _behind, _readers, _verdicts, _resume)
    return [f"{check.__name__[1:]}: {found}" for check in checks for found in check(case)]


def demanded(case: Case) -> set[str]:
    """Return the requests that must have a row."""
    rules = case.rules
    if rules.takes_all:
        return set()
    if case.struck_ns is None or not (rules.rows_cut or rules.one_sender):
        return {one.request_id for one in case.measured}
    begin = case.struck_ns - ROWS_NS - case.stalled_ns
    kept = [one for one in case.measured if one.outcome in WHOLE and one.ended_ns < begin]
    if rules.one_sender and not rules.rows_cut:
        later = case.struck_ns + NS // 10 + case.stalled_ns
        kept += [one for one in case.measured if one.outcome == "ok" and one.ended_ns > later]
    return {one.request_id for one in kept}


def _rows(case: Case) -> Iterator[str]:
    for run in case.runs:
        yield from (f"damaged: {run.run_id}: {what}" for what in run.damaged)
        if run.torn and not case.rules.rows_cut:
            yield f"damaged: {run.run_id}: its last line is cut"
        twice = [index for index, n in Counter(r.index for r in run.rows).items() if n > 1]
        if twice:
            yield f"twice: {run.run_id}: {twice[:5]}"
        made_up = [r.index for r in run.rows if not 0 <= r.index < case.requests]
        made_up += [r.index for r in run.rows if r.request_id != f"{run.run_id}-{r.index}"]
        if made_up:
            yield f"made up: {run.run_id}: {made_up[:5]}"


def _lost(case: Case) -> Iterator[str]:
    found = {row.request_id for run in case.runs for row in run.rows}
    missing = sorted(demanded(case) - found)
    if missing:
        yield f"{len(missing)} rows, of {', '.join(missing[:3])}"


def _false(case: Case) -> Iterator[str]:
    """Successes that the server doesn't know of, or that have other tokens than it sent."""
    by_id: dict[str, list[Served]] = {}
    for one in case.served:
        by_id.setdefault(one.request_id, []).append(one)
    for run in case.runs:
        for row in (row for row in run.rows if not row.error_kind):
            known = by_id.get(row.request_id, [])
            if not known and _is_unrecorded(case, run.ended_ns(row)):
                continue
            whole = [one for one in known if one.finished and one.outcome in WHOLE | CLAIMS]
            counts = {one.sent_tokens for one in whole}
            if not whole:
                yield f"{row.request_id}: a success; the server: {[o.outcome for o in known]}"
            elif row.completion_tokens not in {*counts, None} and not _claims(whole):
                yield f"{row.request_id}: {row.completion_tokens} tokens; the server: {counts}"


def _claims(served: Sequence[Served]) -> bool:
    return any(one.outcome in CLAIMS for one in served)


def _is_unrecorded(case: Case, ended_ns: int) -> bool:
    if not case.rules.record_cut or case.struck_ns is None:
        return False
    return ended_ns > case.struck_ns - RECORD_NS - case.stalled_ns


def _spoilt(case: Case) -> Iterator[str]:
    """Yield replies that came whole over a sound network, and are told as failures."""
    rules = case.rules
    if rules.spoils or rules.one_sender:
        return
    rows = {row.request_id: row for run in case.runs for row in run.rows}
    for one in case.measured:
        row = rows.get(one.request_id)
        if one.outcome == "ok" and row and row.error_kind and row.error_kind not in UNLUCKY:
            yield f"{one.request_id}: {row.error_kind}; the server answered it wholly"


def _ended(case: Case) -> Iterator[str]:
    if case.code is None:
        yield "hang: it didn't end"
        return
    if case.code not in case.rules.codes:
        yield f"code: {case.code}; right would be {sorted(case.rules.codes)}"
    elif case.code in (0, 3, 4) and not (case.rules.takes_all or case.rules.one_sender):
        whole = whole_levels(case, case.runs)
        if len(whole) < case.levels and not case.rules.spoils:
            yield f"code: {case.code}, and {len(whole)} of {case.levels} levels are whole"
    if case.rules.stops and case.struck_ns is not None:
        last_ns = max((one.received_ns for one in case.served), default=0)
        late_s = (last_ns - case.struck_ns - case.stalled_ns) / NS
        if late_s > 1.0:
            yield f"deaf: a request was sent {late_s:.1f} s after it was told to stop"


def whole_levels(case: Case, runs: Sequence[LeftRun]) -> set[tuple[object, object]]:
    """Return the levels that have a complete run with a row for each request."""
    return {run.level for run in runs if run.status == "complete" and _is_whole(case, run)}


def _is_whole(case: Case, run: LeftRun) -> bool:
    """Whether each request has a row, but for turns behind one that failed."""
    turns, rows = case.turns, {row.index for row in run.rows}
    failed = (row.index for row in run.rows if row.error_kind)
    unsent = {i for at in failed for i in range(at + 1, at - at % turns + turns)}
    return rows | unsent == set(range(case.requests))


def _status(case: Case) -> Iterator[str]:
    for run in case.runs:
        if run.locked:
            yield f"{run.run_id}: somebody still holds its lock"
        if run.info is None:
            if run.rows and not case.rules.takes_all:
                yield f"{run.run_id}: rows without a JSON that can be read"
        elif run.status not in ("complete", "incomplete", "interrupted", "failed", "running"):
            yield f"{run.run_id}: {run.status}"
        elif run.status == "running" and not case.rules.silent and case.code is not None:
            yield f"{run.run_id}: still running, by its JSON"
        elif run.status == "complete" and not (case.rules.takes_all or _is_whole(case, run)):
            yield f"{run.run_id}: complete with {len(run.rows)} of {case.requests} rows"


def _words(case: Case) -> Iterator[str]:
    for name, text in case.told.items():
        bad = [mark for mark in (*BROKEN, *BROKEN_TASKS) if mark in text]
        if bad:
            last = [line for line in text.splitlines() if line.strip()][-1]
            yield f"traceback: {name}: {last[:160]}"


def _behind(case: Case) -> Iterator[str]:
    yield from case.behind


def _readers(case: Case) -> Iterator[str]:
    for name, code in case.readers.items():
        if code is None:
            yield f"{name}: it didn't end"
        elif code not in (0, 1):
            yield f"{name}: exit code {code}"
        elif code == 1 and case.code in (0, 4) and not (case.rules.takes_all or case.rules.litter):
            yield f"{name}: exit code 1 for runs that ended"


def _verdicts(case: Case) -> Iterator[str]:
    """Yield runs that summarize.py passed over, and broken ones that it believed."""
    if "summarize" not in case.readers:
        return
    for run in case.runs:
        whole = run.status == "complete" and _is_whole(case, run)
        if run.rows and run.run_id not in case.verdicts:
            yield f"{run.run_id}: not summed up"
        elif not whole and case.verdicts.get(run.run_id) == "VALID":
            yield f"{run.run_id}: VALID, and it isn't whole"


def _resume(case: Case) -> Iterator[str]:
    """Whether `--resume` made what was missing, and nothing else."""
    if case.runs_after is None:
        return
    if case.resumed not in (0, 4):
        yield f"exit code {case.resumed}"
    whole = whole_levels(case, case.runs_after)
    if len(whole) < case.levels:
        yield f"{len(whole)} of {case.levels} levels are whole"
    for run in case.runs_after:
        if run.status == "running" and run.rows:
            yield f"{run.run_id}: still running, by its JSON"
    for level in whole:
        good = [run for run in case.runs_after if run.level == level and _is_good(run)]
        if not good:
            yield f"level {level}: no request of it succeeded, and it wasn't run again"


def _is_good(run: LeftRun) -> bool:
    return run.status == "complete" and any(not row.error_kind for row in run.rows)

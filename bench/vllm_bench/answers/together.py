"""The runs of a session, judged together: each level of questions against the questions alone.

The runs needn't all be asked for: what is found of one doesn't depend on which others are shown.
The pass alone and the other levels of its session are found in the folder.
"""

from __future__ import annotations

import functools
import glob
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..records.beside.answers import read_answers
from ..records.find_runs import head_of
from ..records.request_record import RecordsError
from ..records.row import Rows
from ..records.run_info import RunInfo
from ..verdict.verdict import Verdict
from .lost import CODES, findings, judged
from .side import AnswersSide, answers_side, paired


class Answering(Protocol):
    """What a run's summary tells of its answers."""

    @property
    def folder(self) -> Path: ...
    @property
    def name(self) -> str: ...
    @property
    def info(self) -> RunInfo | None: ...
    @property
    def answers(self) -> AnswersSide | None: ...
    @property
    def verdict(self) -> Verdict: ...
    def answered(self: R, answers: AnswersSide | None, verdict: Verdict) -> R:
        """Return the run with these answers, and this verdict."""


R = TypeVar("R", bound=Answering)


def with_answers_judged(summaries: Sequence[R]) -> list[R]:
    """Return the runs with what their answers say together; to be called again changes nothing.

    A run without questions, or of which nothing new is said, stays the same object.
    """
    sessions: dict[object, list[int]] = {}
    for place, run in enumerate(summaries):
        if run.info and _questions(run.info):
            asked = run.info.scenario
            key = (run.folder, run.info.session, asked.get("name"), str(asked.get("quality")))
            sessions.setdefault(key, []).append(place)
    found = list(summaries)
    for places in sessions.values():
        for place, run in zip(places, _of_session([found[p] for p in places]), strict=True):
            found[place] = run
    return found


def _questions(info: RunInfo | None) -> Mapping[str, Any]:
    """Return which pass over which questions a run is (see plan/plan.py); empty: none."""
    return (info.plan.get("quality") or {}) if info else {}


def _heads(folder: Path, scenario: str) -> Iterator[tuple[Path, RunInfo]]:
    """Yield all runs of a scenario's questions that lie in a folder, whatever their session."""
    for path in folder.glob(f"{glob.escape(scenario)}*.json"):
        with suppress(FileNotFoundError):  # removed meanwhile
            info = _head(path, path.lstat().st_mtime_ns)
            if info and _questions(info):
                yield path, info


@functools.lru_cache(4096)  # runs.py asks for each run of a folder
def _head(path: Path, _changed_ns: int) -> RunInfo | None:
    return head_of(path)


def _of_session(runs: Sequence[R]) -> list[R]:
    """Return the runs of one session, each level's answers judged."""
    passes = [_questions(run.info).get("pass") for run in runs]
    others = _others(runs)
    alone = _best([r for r, asked in zip(runs, passes, strict=True) if asked == "alone"])
    rows, side = _alone(others) if alone is None else (_rows(alone), alone.answers)
    sides = [_against(run, rows, side) for run in runs]
    levels = [place for place, asked in enumerate(passes) if asked == "load"]
    shown = [one for p in levels if (one := sides[p]) is not None]
    of_levels = iter(judged(shown, side, _ps(others, rows)))
    for place in levels:
        sides[place] = None if sides[place] is None else next(of_levels)
    return [
        _told(run, one, found=place in levels)
        for place, (run, one) in enumerate(zip(runs, sides, strict=True))
    ]


def _best(alone: Sequence[R]) -> R | None:
    """Return the pass alone that is whole: --resume makes another where one was broken off."""
    return max(alone, key=lambda run: _worth(run.info), default=None)


def _worth(info: RunInfo | None) -> tuple[bool, float]:
    """Return what is greater of a whole run, and of two of a kind of the later one."""
    return (info.status == "complete", info.clock_start.wall_s) if info else (False, 0)


def _others(runs: Sequence[Answering]) -> list[tuple[Path, RunInfo]]:
    """Return the runs of the same session that lie beside these, and weren't asked for."""
    info, shown = runs[0].info, {run.name for run in runs}
    if info is None:
        return []
    same = (info.session, info.scenario.get("name"))
    return [
        (path, other)
        for path, other in _heads(runs[0].folder, str(same[1]))
        if (other.session, other.scenario.get("name")) == same and path.stem not in shown
    ]


def _alone(others: Sequence[tuple[Path, RunInfo]]) -> tuple[Rows | None, AnswersSide | None]:
    """Return the answers alone of a session whose run of them wasn't asked for, from its files."""
    found = [(path, info) for path, info in others if _questions(info).get("pass") == "alone"]
    path, _ = max(found, key=lambda one: _worth(one[1]), default=(None, None))
    rows = _readable(path) if path else None
    return rows, None if rows is None else answers_side(rows, "alone")


def _ps(others: Sequence[tuple[Path, RunInfo]], alone: Rows | None) -> list[float]:
    """Return the p of each level that wasn't asked for: Holm's method is over all of them."""
    levels = [_readable(path) for path, info in others if _questions(info).get("pass") == "load"]
    return [paired(rows, alone, 0, 0).p for rows in levels if rows is not None and alone]


def _rows(run: Answering) -> Rows | None:
    return _readable(run.folder / f"{run.name}.csv")


def _readable(path: Path) -> Rows | None:
    """Return a run's answers; None where they are missing, or damaged: its own summary says so."""
    try:
        return read_answers(path)
    except RecordsError:
        return None


def _against(run: Answering, alone: Rows | None, side: AnswersSide | None) -> AnswersSide | None:
    """Return a run's answers with their pairs, where there are any."""
    questions, own = _questions(run.info), run.answers
    rows = None if questions.get("pass") == "alone" else _rows(run)
    if own is None or rows is None or alone is None or side is None or side.match is None:
        return own
    asked = int(questions.get("questions") or 0)
    return replace(own, against=paired(rows, alone, side.match, asked))


def _told(run: R, side: AnswersSide | None, *, found: bool) -> R:
    """Return a run with its answers; of a level also with what is found about them."""
    verdict = run.verdict
    if found:
        others = [f for f in verdict.findings if f.code not in CODES]
        every = sorted([*others, *findings(side)], key=lambda f: -f.severity)
        verdict = replace(verdict, findings=tuple(every))
    same = (side, verdict) == (run.answers, run.verdict)
    return run if same else run.answered(side, verdict)

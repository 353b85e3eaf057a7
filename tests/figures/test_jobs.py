"""Jobs: put together from rows of turns, by hand and against a walk over every path."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.figures.jobs.jobs import Jobs, by_depth
from vllm_bench.figures.jobs.plays import Play, plays_of
from vllm_bench.figures.window import waits_on
from vllm_bench.records.request_record import RecordWriter, RequestRecord, read_rows
from vllm_bench.records.row import Rows
from vllm_bench.summary.summary import RunSummary

from tests.support.made_runs import failed_record, made_info, made_record, summed

Made = dict[str, Any]


def turn(play: str, number: int, sent_s: float, end_s: float, of: int = 3, **more: Any) -> Made:
    """Return a turn that waited for the one before."""
    after = more.pop("after", str(number - 1) if number > 1 else None)
    return {
        **{"conversation_id": play, "turn": number, "session_turns": of, "after": after},
        **{"t_sent_s": sent_s, "t_end_s": end_s, "latency_ms": 1000 * (end_s - sent_s), **more},
    }


def rows_of(folder: Path, *made: Made) -> Rows:
    path = folder / "made-cc4-pref256-max20-20251124T120000Z.csv"
    path.unlink(missing_ok=True)
    writer = RecordWriter(path)
    writer.write([_record(i, m) for i, m in enumerate(made)])
    writer.close()
    return read_rows(path)


def _record(index: int, made: Made) -> Any:
    failed = made.get("error_kind") is not None
    return (failed_record if failed else made_record)(index, **made)


def plays(folder: Path, *made: Made) -> list[Play]:
    return list(plays_of(rows_of(folder, *made)))


CHAIN = (
    turn("a", 1, 0.0, 1.0),
    turn("a", 2, 3.0, 5.0, planned_wait_s=2.0, wait_kind="tool"),
    turn("a", 3, 5.5, 7.0, planned_wait_s=0.5, wait_kind="think"),
)


def test_a_chain_is_its_time_and_its_waits(tmp_path: Path) -> None:
    (found,) = plays(tmp_path, *CHAIN)
    assert (found.whole, found.failed, found.last_row) == (True, False, 2)
    assert (found.job_s, found.job_wait_s, found.job_served_s) == (7.0, 2.5, 4.5)


def test_of_children_the_waits_of_the_one_that_ended_last_count(tmp_path: Path) -> None:
    made = [
        turn("a", 1, 0.0, 1.0, 4),
        turn("a", 2, 1.5, 2.0, 4, after="1", agent="x", planned_wait_s=0.5),
        turn("a", 3, 4.0, 9.0, 4, after="1", agent="y", planned_wait_s=3.0),
        turn("a", 4, 10.0, 11.0, 4, after="2 3", planned_wait_s=1.0),
    ]
    (found,) = plays(tmp_path, *made)
    assert (found.job_s, found.job_wait_s) == (11.0, 4.0)


def test_a_failed_play_and_one_that_goes_on_have_no_time(tmp_path: Path) -> None:
    bad = turn("b", 2, 3.0, 4.0, error_kind="http_5xx", error="x", http_status=500)
    jobs = Jobs.of(rows_of(tmp_path, *CHAIN, turn("b", 1, 0.0, 1.0), bad, turn("c", 1, 0.0, 1.0)))
    assert jobs is not None
    words = ["whole" if p.whole else "failed" if p.failed else p.goes_on for p in jobs.plays]
    assert words == ["whole", "failed", True]
    assert [not math.isnan(v) for v in jobs.over_rows("job_s")] == [
        False,
        False,
        True,
        *[False] * 3,
    ]
    assert jobs.ends.tolist() == [False, False, True, False, True, False]


def test_a_turn_that_was_never_sent_ends_its_session_too(tmp_path: Path) -> None:
    never: Made = {"error_kind": "connect", "error": "refused", "t_sent_s": None}
    begun = (turn("a", 1, 0.0, 1.0), {**turn("a", 2, 3.0, 4.0), **never})
    found = plays(tmp_path, *begun, {**turn("b", 1, 3.0, 4.0), **never})
    assert [(p.failed, p.goes_on, p.ended, p.last_row) for p in found] == [
        (True, False, False, 1),
        (True, False, False, 2),
    ]


def test_a_play_that_began_at_depth_is_not_whole(tmp_path: Path) -> None:
    (found,) = plays(tmp_path, *CHAIN[1:])
    assert (found.whole, found.failed, found.goes_on) == (False, False, False)


def test_of_turns_due_by_a_stamp_the_wait_is_until_they_were_due(tmp_path: Path) -> None:
    made = (
        turn("a", 1, 0.0, 1.0),
        turn("a", 2, 15.01, 16.0, t_scheduled_s=15.0),  # 14 s after the last answer
        turn("a", 3, 16.0, 18.0, t_scheduled_s=16.0),  # held by it
    )
    (found,) = plays(tmp_path, *made)
    assert (found.job_s, found.job_wait_s) == (18.0, 14.0)
    depths = by_depth(rows_of(tmp_path, *made))
    assert depths["after a gap over 10 s"].tolist() == [False, True, False]


def test_what_began_deeper_ends_as_a_job_and_has_no_time(tmp_path: Path) -> None:
    (found,) = plays(tmp_path, *CHAIN[1:])
    assert (found.ended, found.whole) == (True, False)
    (cut,) = plays(tmp_path, CHAIN[1])
    assert (cut.ended, cut.whole, cut.goes_on) == (False, False, False)


def test_classes_that_replay_the_same_sessions_have_jobs_of_their_own(tmp_path: Path) -> None:
    later = [
        {**m, "class_": "b", "t_sent_s": m["t_sent_s"] + 50, "t_end_s": m["t_end_s"] + 50}
        for m in CHAIN
    ]
    found = plays(tmp_path, *({**m, "class_": "a"} for m in CHAIN), *later[:2])
    assert [(p.whole, p.goes_on) for p in found] == [(True, False), (False, True)]
    assert found[0].job_s == 7.0
    (tmp_path / "window").mkdir()
    rows = rows_of(tmp_path / "window", *({**m, "class_": "a"} for m in CHAIN), *later[:2])
    assert waits_on(rows).tolist() == [False] * 3 + [True] * 2


def test_rows_without_sessions_have_no_jobs(tmp_path: Path) -> None:
    assert Jobs.of(rows_of(tmp_path, {}, {})) is None


@given(st.data())
def test_the_path_is_the_one_that_a_walk_over_all_paths_finds_longest(data: st.DataObject) -> None:
    """Each turn begins at the last end that it waits for and its own wait: as it is sent."""
    count = data.draw(st.integers(1, 7))
    numbers = st.integers(0, 50).map(lambda n: n / 8)
    made: list[Made] = []
    for number in range(1, count + 1):
        after = data.draw(st.sets(st.integers(1, number - 1), min_size=1)) if number > 1 else set()
        wait_s = data.draw(numbers) if after else 0.0
        begins = max((made[n - 1]["t_end_s"] for n in after), default=0.0) + wait_s
        words = " ".join(map(str, sorted(after))) or None
        lasts = data.draw(numbers) + number / 1024  # no two end together
        more: Made = {"after": words, "planned_wait_s": wait_s if after else None}
        made.append(turn("a", number, begins, begins + lasts, count, **more))

    planned = [m["planned_wait_s"] for m in made]

    def waits_s(number: int) -> float:
        awaited = [int(n) for n in (made[number - 1]["after"] or "").split()]
        last = max(awaited, key=lambda n: float(made[n - 1]["t_end_s"]), default=None)
        return 0.0 if last is None else planned[number - 1] + waits_s(last)

    columns = ["conversation_id", "turn", "session_turns", "t_sent_s", "t_end_s", "after"]
    for m in made:  # a first turn has no wait, one that is due by a stamp none that was planned
        m["t_scheduled_s"] = m["t_sent_s"]
        if data.draw(st.booleans()):
            m["planned_wait_s"] = None
    (found,) = plays_of(_frame(made, [*columns, "planned_wait_s", "t_scheduled_s"]))
    ends = [m["t_end_s"] for m in made]
    assert found.job_s == pytest.approx(max(ends) - made[0]["t_sent_s"])
    assert found.job_wait_s == pytest.approx(waits_s(1 + ends.index(max(ends))))
    assert found.job_served_s >= -1e-9


def _frame(made: list[Made], columns: list[str]) -> Rows:
    import numpy as np

    kinds = {"conversation_id": object, "after": object}
    found = {
        name: np.array([m[name] for m in made], dtype=kinds.get(name, np.float64))
        for name in columns
    }
    return Rows({**found, "error_kind": np.array([None] * len(made), dtype=object)})


def job_records(jobs: int) -> list[RequestRecord]:
    """Return the rows of four streams, each with one job after the other, of three turns in 4 s."""
    made: list[Made] = []
    for number in range(jobs):
        stream, at = number % 4, 4.0 * (number // 4) + (number % 4) / 4
        for n in (1, 2, 3):
            sent = at + (0.0, 1.5, 3.0)[n - 1]
            wait: Made = {} if n == 1 else {"planned_wait_s": 0.5, "wait_kind": "tool"}
            ends = sent + 0.95
            made.append(turn(f"s{number}", n, sent, ends, stream_index=stream, **wait))
    made.sort(key=lambda m: float(m["t_sent_s"]))
    return [made_record(i, **m) for i, m in enumerate(made)]


def run_of(folder: Path, jobs: int, **changes: Any) -> RunSummary:
    folder.mkdir(exist_ok=True)
    records = job_records(jobs)
    info = made_info(records, **changes)
    return summed(folder, records, info)


def test_a_run_has_its_jobs_an_hour_and_objectives_in_seconds(tmp_path: Path) -> None:
    slo = {"job_served_s": {"p50": 3.5}}
    found = run_of(tmp_path, 80, scenario={"slo": slo, "gpus": 2})
    assert found.jobs is not None
    assert found.window is not None
    assert found.jobs.per_h == pytest.approx(3600 * found.jobs.ended / found.window.length_s)
    assert found.jobs.per_h_per_gpu == pytest.approx((found.jobs.per_h or 0) / 2)
    assert found.jobs.per_h_per_user == pytest.approx(3600 / 3.95)
    assert found.jobs.wait_share == pytest.approx(1 / 3.95)
    assert found.percentile("job_served_s", 50) == pytest.approx(2.95)
    assert found.attainment is not None
    (outcome,) = found.attainment.outcomes
    assert (outcome.word, outcome.share.of) == ("met", found.jobs.ended)  # type: ignore[union-attr]
    assert found.attainment.share is None  # no single request meets it
    missed = run_of(tmp_path / "b", 80, scenario={"slo": {"job_served_s": {"p50": 2.0}}})
    assert missed.attainment is not None
    assert missed.attainment.word == "missed"


def test_turns_are_told_by_depth_and_after_long_gaps(tmp_path: Path) -> None:
    made = [
        turn("a", n, n, n + 0.5, 30, planned_wait_s=12.0 if n == 9 else 1.0) for n in range(1, 31)
    ]
    found = by_depth(rows_of(tmp_path, *made))
    assert {name: int(which.sum()) for name, which in found.items()} == {
        **{"1": 1, "2-5": 4, "6-20": 15, "over 20": 10},
        "after a gap over 10 s": 1,
    }


def test_the_words_on_jobs_name_what_there_is_in_numbers_that_agree(tmp_path: Path) -> None:
    few = run_of(tmp_path, 80).jobs
    assert few is not None
    counts = {"turns_not_sent": 1, "gaps_cut": 1, "gaps_cut_s": 2.5, "held": 3}
    words = replace(few, ended=1, failed=2, still_going=0, **counts).words  # type: ignore[arg-type]
    parts = words.split(", ")
    assert [part.split()[:2] for part in parts] == [
        *(["1", "job"], ["2", "failed"], ["1", "turn"], ["3", "turns"], ["1", "wait"]),
    ]

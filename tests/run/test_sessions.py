"""Sessions of a run: what is counted of them, and replays against a server in this process."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from vllm_bench.plan.part import Part
from vllm_bench.plan.sessions.counts import SessionCounts

from tests.plan.test_sessions import part_of, recorded, session, turn
from tests.support.far_end import TinyVllm
from tests.support.made_plans import made_part, plan_of
from tests.support.made_runs import made_record
from tests.support.running import ROOT, info, rows, run_bench, tiny_scenario

EXAMPLES = ROOT / "examples" / "agents"


def counted(
    part: Part, failing: dict[int, str], due_s: dict[int, float] | None = None, **more: Any
) -> Any:
    """Return the facts of a run whose sessions end where a request of them fails."""
    plan, ended = plan_of(part), set[int]()
    counts = SessionCounts(plan)
    assert part.plays is not None
    for number in range(part.measured):
        play, _ = part.plays.at(number)
        if play not in ended:
            error: Any = failing.get(number)
            due = (due_s or {}).get(number, float(number))
            counts.count(number, made_record(number, error_kind=error, t_scheduled_s=due, **more))
            ended |= {play} if error else set()
    return counts.facts(), counts.not_sent(part)


def test_of_five_turns_whose_second_fails_three_are_not_sent() -> None:
    part = part_of(recorded(session("a", 1, 1, 1, 1)), concurrencies=[1], depth="first")
    facts, not_sent = counted(part, {1: "http_5xx"})
    assert (facts["plays"], facts["ended"], facts["failed"]) == (1, 0, 1)
    assert facts["turns_not_sent"] == not_sent == 3


def test_a_session_that_was_cut_off_has_neither_ended_nor_failed() -> None:
    part = made_part(6, concurrencies=[1], conversations={"turns": 3})
    facts, not_sent = counted(part, {4: "cancelled"})
    assert (facts["plays"], facts["ended"], facts["failed"], not_sent) == (2, 1, 0, 0)
    assert counted(part, {2: "http_4xx"})[0]["failed"] == 1  # its last turn
    assert SessionCounts(plan_of(made_part(6, concurrencies=[1]))).facts() == {}


def test_cut_waits_unknown_ones_and_plays_that_come_again_are_counted() -> None:
    part = part_of(recorded(session("a", 5, 90, 100)), concurrencies=[3], depth="first")
    facts, _ = counted(part, {})
    assert (facts["gaps_cut"], facts["gaps_cut_s"], facts["wrapped"]) == (6, 3 * 70.0, 2)
    steps = part.plays.scripts[0].steps if part.plays else ()
    assert {step.wait_kind for step in steps[1:]} == {"tool"}


def test_what_the_last_answer_kept_from_being_due_at_its_stamp_is_held() -> None:
    stamped = [turn(not_before_s=0.0), *(turn((n,), not_before_s=n + 1.0) for n in range(3))]
    sessions = recorded(session("a", starts_s=0.0))
    one = sessions.sessions[0]
    sessions = recorded(type(one)("a", 0.0, tuple(stamped)))
    part = part_of(sessions, concurrencies=[], speed=[1.0])
    facts, _ = counted(part, {}, {0: 5.0, 1: 6.0, 2: 8.5, 3: 8.0})
    assert facts["held"] == 1


@pytest.mark.parametrize(("late_s", "held"), [(0.0, 0), (0.2, 2)])
@pytest.mark.parametrize("ppm", [-90, 0, 90])
def test_a_machine_whose_clock_parts_from_the_heads_holds_no_turn_up(
    ppm: float, late_s: float, held: int
) -> None:
    """Rows have the head's time, and stamps are kept by the machine's own."""
    stamps_s = (0.0, 300.0, 900.0)
    turns = (turn((n - 1,) if n else (), not_before_s=at) for n, at in enumerate(stamps_s))
    one = recorded(session("a", starts_s=0.0)).sessions[0]
    sessions = recorded(type(one)("a", 0.0, tuple(turns)))
    part = part_of(sessions, concurrencies=[], speed=[1.0], max_gap_s=1000)
    due_s = {n: 5 + at * (1 + ppm * 1e-6) + (late_s if n else 0) for n, at in enumerate(stamps_s)}
    facts, _ = counted(part, {}, due_s, machine="vm")
    assert facts["held"] == held


def play_of(found: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {name: group.set_index("turn") for name, group in found.groupby("conversation_id")}


def assert_waits_are_kept(found: pd.DataFrame) -> None:
    """Each turn was due its wait after the last end of those that it waited for, or later."""
    for play in play_of(found).values():
        for _, row in play[play["after"].notna()].iterrows():
            ends = [play["t_end_s"][int(before)] for before in row["after"].split()]
            lag = row["t_scheduled_s"] - max(ends) - row["planned_wait_s"]
            assert -1e-5 < lag < 0.1  # the server sends a reply's last token and last byte at once
            assert row["t_sent_s"] >= row["t_scheduled_s"] - 1e-6
        for _, chain in play.groupby(play["agent"].fillna("")):
            for one, other in itertools.pairwise(chain.sort_values("t_sent_s").itertuples()):
                assert other.t_sent_s >= one.t_end_s


@pytest.mark.process
def test_a_recorded_trace_is_replayed_with_its_waits_and_lengths(
    tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.max_model_len = 10_000
    settings: dict[str, Any] = {"trace": str(EXAMPLES), "concurrencies": [3], "max_gap_s": 0.3}
    path = tiny_scenario(
        tmp_path, tiny_vllm.base_url, **settings, num_requests=None, depth="first", dataset="sample"
    )
    run_bench(tmp_path, path)
    run, found = info(tmp_path), rows(tmp_path)
    assert len(found) == run.num_requests == 18
    told = {name: run.sessions[name] for name in ("plays", "ended", "failed", "gaps_cut")}
    assert told == {"plays": 3, "ended": 3, "failed": 0, "gaps_cut": 12}
    assert (run.plan["history"], run.plan["max_gap_s"]) == ("recorded", 0.3)
    assert_waits_are_kept(found)
    review = play_of(found)["review_a_change"]
    recording = json.loads((EXAMPLES / "review_a_change.json").read_text())["requests"]
    own = [(one["in"], one["out"]) for one in recording if one["type"] == "n"]
    mine = review[review["agent"].isna()]
    assert list(zip(mine["prompt_tokens"], mine["completion_tokens"], strict=True)) == own
    agents = [group for _, group in review[review["agent"].notna()].groupby("agent")]
    begins, ends = [g["t_sent_s"].min() for g in agents], [g["t_end_s"].max() for g in agents]
    assert max(begins) < min(ends)  # under way together
    assert review["t_sent_s"][8] > max(ends)
    assert {str(stream) for stream in review["stream_index"]} == {str(review["stream_index"][1])}

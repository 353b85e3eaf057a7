"""Sessions as a run plays them: their numbers, waits and depths, and which sessions it takes."""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.plan.dealt.own import Own
from vllm_bench.plan.part import Part
from vllm_bench.plan.parts.facts import plan_facts
from vllm_bench.plan.plan import Plan
from vllm_bench.plan.request import make_target
from vllm_bench.plan.sessions.drawn import Wish, played
from vllm_bench.plan.sessions.recorded import drawn_begin, scripts_of
from vllm_bench.plan.sessions.script import Course, Plays, Script, Step
from vllm_bench.prompts.prompt import PromptSet
from vllm_bench.scenario.load import levels_of
from vllm_bench.scenario.scenario import Scenario, ScenarioError
from vllm_bench.sessions.session import Session, Sessions, Turn

from tests.plan.test_request import scenario
from tests.support.made_plans import made_part, made_prompts, plan_of

S = 1_000_000_000  # ns


@st.composite
def many_plays(draw: st.DrawFn) -> Plays:
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    scripts = tuple(Script(f"s{n}", Course((Step(),) * size)) for n, size in enumerate(lengths))
    order = array("I", draw(st.permutations(range(len(scripts)))))
    streams = draw(st.integers(0, 2 * len(scripts)))
    sizes = [lengths[order[play % len(order)]] for play in range(streams)]
    begins = tuple(draw(st.integers(0, size - 1)) for size in sizes)
    return Plays(scripts, order, len(scripts), begins)


@given(many_plays())
def test_each_number_is_one_turn_of_one_play_and_they_follow_without_gaps(plays: Plays) -> None:
    number = 0
    for play in range(3 * len(plays.order) + 2):
        assert plays.first(play) == number
        begin = plays.begin(play)
        for place in range(begin, begin + plays.size(play)):
            assert plays.at(number) == (play, place)
            number += 1
            assert plays.until(number) == play + 1
    assert plays.until(0) == 0


def test_as_many_lanes_as_turns_may_be_under_way_at_once() -> None:
    fork = (Step(), Step((0,)), Step((0,)), Step((2,)), Step((0, 1, 3)))
    assert Course(fork).lanes == 2
    assert Course(tuple(Step((n - 1,) if n else ()) for n in range(9))).lanes == 1


TALK = {"concurrencies": [2], "conversations": {"turns": 5, "think_time_s": 7.0}}


def waits(part: Part) -> list[Step]:
    assert part.plays is not None
    return [step for script in part.plays.scripts for step in script.steps if step.after]


def test_a_share_of_the_turns_brings_a_tools_result_after_its_time() -> None:
    talk = {**TALK["conversations"], "tool_calls": {"share": 0.7, "wait_s": 4}}  # type: ignore[dict-item]
    settings: dict[str, Any] = {**TALK, "conversations": talk, "max_gap_s": 30}
    steps = waits(made_part(5000, **settings))
    tools = [step for step in steps if step.wait_kind == "tool"]
    assert len(tools) / len(steps) == pytest.approx(0.7, abs=0.03)
    assert {step.wait_ns for step in steps if step.wait_kind == "think"} == {7 * S}
    took_s = [(step.wait_ns + step.cut_ns) / S for step in tools]
    assert statistics.median(took_s) == pytest.approx(4, rel=0.1)
    assert statistics.quantiles(took_s, n=10)[-1] == pytest.approx(27.3, rel=0.15)  # 4 e^(1.28 1.5)
    assert max(step.wait_ns for step in tools) == 30 * S
    assert all((step.wait_ns == 30 * S) == (step.cut_ns > 0) for step in tools)


def test_tool_waits_are_the_seeds_and_part_of_the_plans_hash() -> None:
    talk = {"turns": 3, "tool_calls": {"share": 0.5}}
    settings: dict[str, Any] = {"concurrencies": [2], "conversations": talk}
    plan, same = made_part(12, **settings), made_part(12, **settings)
    assert (plan.plays, plan.sha256) == (same.plays, same.sha256)
    others = [
        made_part(12, **{**settings, "seed": 3}),
        made_part(12, **{**settings, "max_gap_s": 1}),
        made_part(12, **{**settings, "conversations": {"turns": 3}}),
    ]
    assert len({plan.sha256, *(other.sha256 for other in others)}) == 4


def test_rows_say_what_a_turn_waits_for() -> None:
    part = made_part(5, **{**TALK, "conversations": {"turns": 3, "think_time_s": 2.5}})
    told = [part.expectation(n, 0) for n in range(5)]
    assert [(t.conversation_id, t.turn, t.session_turns) for t in told] == [
        *(("c0", 1, 3), ("c0", 2, 3), ("c0", 3, 3), ("c1", 1, 2), ("c1", 2, 2))
    ]
    assert [(t.after, t.planned_wait_s, t.wait_kind) for t in told[:3]] == [
        *((None, None, None), ("1", 2.5, "think"), ("2", 2.5, "think"))
    ]


def turn(after: Sequence[int] = (), wait_s: float = 0.0, **more: Any) -> Turn:
    counts = {"prompt_tokens": 100, "output_tokens": 10}
    kind = "tool" if after else None
    return Turn(tuple(after), wait_s, kind, **{**counts, **more})  # type: ignore[arg-type]


def session(name: str, *waits_s: float, starts_s: float | None = None, **more: Any) -> Session:
    """Return a chain of turns whose prompts grow by 100 tokens."""
    turns = [turn(prompt_tokens=100, **more)]
    for n, wait_s in enumerate(waits_s):
        turns.append(turn((n,), wait_s, history=n, prompt_tokens=100 * (n + 2), **more))
    return Session(name, starts_s, tuple(turns))


def recorded(*sessions: Session) -> Sessions:
    return Sessions("weka", sessions, notes=("weka: said",))


def texts(sessions: Sessions) -> PromptSet:
    return made_prompts(sessions.turns)


def part_of(sessions: Sessions, max_model_len: int | None = None, **settings: Any) -> Part:
    usual: dict[str, Any] = {"trace": "t", "num_requests": None}
    made = scenario(**{**usual, **settings})
    level = levels_of(made)[0]
    found = played(sessions, Wish(made, level, 1, texts, max_model_len))
    return Part(
        made,
        level,
        1,
        make_target(made, None),
        found.prompts,
        made_prompts(2, first=1000).prompts,
        found.times_s,
        output_tokens=found.output_tokens,
        plays=found.plays,
        primes=found.primes,
        prime_plays=found.prime_plays,
    )


THREE = recorded(session("a", 5, 90), session("b", 1), session("c"))


def test_waits_are_cut_and_the_notes_say_how_many_and_by_how_much() -> None:
    part = part_of(THREE, concurrencies=[1])
    assert sorted(step.wait_ns for step in waits(part)) == [1 * S, 5 * S, 60 * S]
    (cut,) = [note for note in part.prompts.notes if "max_gap_s" in note]
    assert "60 cuts 1 of 6 waits, by 30 s" in cut
    longer = part_of(THREE, concurrencies=[1], max_gap_s=3)
    assert sorted(step.wait_ns for step in waits(longer)) == [1 * S, 3 * S, 3 * S]
    assert part.sha256 != longer.sha256


def test_stamps_come_closer_as_the_gaps_between_them_are_cut() -> None:
    stamped = [0.0, 10.0, 500.0, 505.0]
    turns = tuple(turn((n - 1,) if n else (), not_before_s=at) for n, at in enumerate(stamped))
    (script,) = scripts_of([Session("s", 0.0, turns)], 60)
    assert [step.not_before_ns for step in script.steps] == [0, 10 * S, 70 * S, 75 * S]
    assert [step.cut_ns for step in script.steps] == [0, 0, 430 * S, 0]


def test_without_a_number_each_session_is_played_once_in_an_order_of_the_seeds() -> None:
    part = part_of(THREE, concurrencies=[2], depth="first")
    assert part.plays is not None
    names = [part.requests.name_of(play) for play in range(3)]
    assert sorted(names) == ["a", "b", "c"]
    assert part.measured == 6
    assert part.most_tickets == 3


def test_sessions_that_run_out_are_played_again_under_another_name_and_salt() -> None:
    part = part_of(THREE, concurrencies=[5], depth="first")  # each stream has one
    assert part.most_tickets == 5
    again = [request for request in part.requests[: part.measured] if request.turn == 1][3:]
    assert all(str(request.conversation_id).endswith("~2") for request in again)
    assert {request.cache_salt for request in again} == {f"{part.whole.run_id}-use2"}
    assert any("played before" in note for note in part.prompts.notes)
    at_least = part_of(THREE, concurrencies=[1], depth="first", num_requests=8)
    assert 8 <= at_least.measured <= 8 + 2  # in whole sessions
    assert (
        part_of(THREE, concurrencies=[4], num_requests=1).most_tickets == 4
    )  # one for each stream


def test_answers_are_as_long_as_recorded_and_prompts_are_those_of_their_turns() -> None:
    part = part_of(THREE, concurrencies=[1], depth="first")
    assert part.plays is not None
    assert {request.max_tokens for request in part.requests[:6]} == {10}
    assert part.talk is None
    for number, request in enumerate(part.requests[:6]):
        place = part.plays.position(*part.plays.at(number))
        assert request.prompt_id == f"p{place}"
        assert request.body


def test_streams_begin_at_depths_drawn_over_a_sessions_time_and_what_is_behind_is_primed() -> None:
    part = part_of(recorded(session("a", *[10.0] * 19)), concurrencies=[40])
    assert part.plays is not None
    begins = part.plays.begins
    assert len(begins) == 40
    assert 5 < statistics.mean(begins) < 15
    assert {p.id for p in part.primes} == {f"p{begin - 1}" for begin in begins if begin}
    requests = part.requests
    primers = [r for r in requests[part.most_measured :] if part.role(r.index) == "priming"]
    assert {r.max_tokens for r in primers} == {1}
    assert part_of(THREE, concurrencies=[9], cache="cold").primes == ()
    assert part_of(THREE, concurrencies=[9], history="live").plays.begins == ()  # type: ignore[union-attr]


def test_a_play_that_begins_deeper_is_primed_under_its_own_salt() -> None:
    part = part_of(recorded(*(session(n, *[10.0] * 9) for n in "abc")), concurrencies=[8])
    assert part.plays is not None
    requests = part.requests
    primers = [r for r in requests[part.most_measured :] if part.role(r.index) == "priming"]
    first = [requests[part.plays.first(play)] for play in range(8)]
    wanted = {(f"p{place - 1}", first[play].cache_salt) for play, place in _deeper(part.plays)}
    assert {(r.prompt_id, r.cache_salt) for r in primers} == wanted
    assert len({salt for _, salt in wanted}) == 3


def _deeper(plays: Plays) -> list[tuple[int, int]]:
    """Return each play that begins deeper, and where its first turn is among those of all."""
    begins = enumerate(plays.begins)
    return [(play, plays.position(play, begin)) for play, begin in begins if begin]


def test_the_drawn_turn_is_the_next_one_after_a_moment_of_the_session() -> None:
    steps = [Step(), Step((0,), 10 * S), Step((1,), 90 * S)]
    found = [drawn_begin(steps, [0, 0, 0], share) for share in (0.0, 0.05, 0.1, 0.5, 1.0)]
    assert found == [0, 1, 1, 2, 2]


def test_live_turns_add_what_is_new_and_begin_anew_where_the_context_shrank() -> None:
    turns = (
        turn(prompt_tokens=100),
        turn((0,), history=0, prompt_tokens=250),
        turn((1,), history=1, prompt_tokens=90),
    )
    seen: list[Sessions] = []

    def noted(sessions: Sessions) -> PromptSet:
        seen.append(sessions)
        return texts(sessions)

    made = scenario(trace="t", concurrencies=[1], num_requests=None, history="live")
    wish = Wish(made, levels_of(made)[0], 1, noted, None)
    found = played(recorded(Session("s", None, turns)), wish)
    assert [t.prompt_tokens for t in seen[0].sessions[0].turns] == [100, 250 - 110, 90]
    assert [step.history for step in found.plays.scripts[0].steps] == [None, 0, None]
    assert found.plays.live


def test_a_session_that_the_server_cannot_hold_is_left_out_whole_and_counted() -> None:
    part = part_of(THREE, max_model_len=250, concurrencies=[1], depth="first")
    assert part.plays is not None
    assert sorted(script.name for script in part.plays.scripts) == ["b", "c"]
    assert any("1 of 3 sessions left out" in note for note in part.prompts.notes)
    with pytest.raises(ScenarioError, match="max_model_len"):
        part_of(THREE, max_model_len=50, concurrencies=[1])


STARTED = recorded(
    session("a", 5, starts_s=0.0), session("b", starts_s=8.0), session("c", 1, starts_s=20.0)
)


def test_by_the_clock_sessions_start_at_their_times_at_the_replays_speed() -> None:
    part = part_of(STARTED, concurrencies=[], speed=[2.0])
    assert list(part.times_s) == [0.0, 4.0, 10.0]
    assert part.measured == 5
    share = part.share(1, 2)
    assert share.due_ns is not None
    assert (list(share.due_ns), share.play_numbers) == ([4 * S], Own(2, (1,)))
    short = part_of(STARTED, concurrencies=[], speed=[1.0], duration_s=10.0)
    assert list(short.times_s) == [0.0, 8.0]
    few = part_of(STARTED, concurrencies=[], speed=[1.0], num_requests=3)
    assert list(few.times_s) == [0.0, 8.0]
    plan = Plan(part.scenario, part.level, 1, (part,))
    assert plan_facts(plan)["history"] == "recorded"
    with pytest.raises(ScenarioError, match="concurrencies"):
        part_of(THREE, concurrencies=[], speed=[1.0])


def test_by_time_each_play_is_left_as_it_is_at_the_end() -> None:
    part = part_of(THREE, concurrencies=[1], duration_s=9.0)
    assert part.share(0, 1).plays_last_ns == 9 * S
    assert part_of(THREE, concurrencies=[1], duration_s=9.0, num_requests=2).plays_last_s is None
    assert part_of(THREE, concurrencies=[1], duration_s=9.0, history="live").plays_last_s is None


def test_a_class_of_agents_has_its_own_trace_beside_others(tmp_path: Any) -> None:
    classes = {
        "chat": {"share": 1.0},
        "agents": {"streams": 2, "trace": "sessions", "max_gap_s": 5},
        "talks": {"streams": 1, "conversations": {"turns": 2, "tool_calls": {"share": 0.5}}},
    }
    made = Scenario(
        name="mix",
        model="tiny",
        max_new_tokens=4,
        prefill_tokens=64,
        request_rates=[1],
        duration_s=9,
        classes=classes,  # type: ignore[arg-type]
    )
    agents = made.of_class("agents")
    assert (agents.trace, agents.concurrencies, agents.prefill_tokens) == ("sessions", [2], None)
    assert agents.holds_sessions
    part = replace(part_of(THREE, concurrencies=[2]), name="agents", place=1, of=3)
    plan = plan_of(part)
    rows = [plan.expectation(3 * n + 1, 0) for n in range(3)]
    assert [row.request_id.rsplit("-", 1)[1] for row in rows] == ["1", "4", "7"]
    assert all(row.turn for row in rows)

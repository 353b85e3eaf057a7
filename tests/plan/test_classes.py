"""Classes in one plan: whose each stream and arrival is, and that a class alone sends the same."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm_bench.experiments.visits import thrown_away
from vllm_bench.plan.classes import divided, drawn_classes, flows_of, scenarios_of
from vllm_bench.plan.draw import plans_of
from vllm_bench.plan.drawing.part import Material
from vllm_bench.plan.dry_run import length_of
from vllm_bench.plan.part import Part
from vllm_bench.plan.parts.facts import plan_facts
from vllm_bench.plan.plan import Plan
from vllm_bench.plan.times import drawn_times
from vllm_bench.scenario.load import LoadLevel, levels_of
from vllm_bench.scenario.scenario import Scenario, ScenarioError
from vllm_bench.tuning.step import screen

from tests.plan.test_draw import Words, source
from tests.plan.test_request import scenario

OPEN: dict[str, Any] = {"concurrencies": [], "request_rates": [10.0], "num_requests": 60}
CLOSED: dict[str, Any] = {"concurrencies": [8], "num_requests": None, "duration_s": 9.0}
OWN: dict[str, Any] = {"concurrencies": [], "num_requests": None, "duration_s": 9.0}
SHARED = {"chat": {"share": 0.7}, "legal": {"share": 0.3, "model": "red", "priority": 5}}
HYBRID = {"chat": {"share": 1.0}, "agents": {"streams": 3, "max_new_tokens": 9}}
STREAMS = {"chat": {"streams": 5}, "agents": {"streams": 3}}

shares = st.lists(st.integers(1, 100), min_size=1, max_size=6).map(
    lambda parts: {f"c{i}": part / sum(parts) for i, part in enumerate(parts)}
)


def plans(each_alone: bool = False, **given: Any) -> list[Plan]:
    made = scenario(**given)
    materials = [Material(each, source(), Words()) for each in scenarios_of(made)]
    return plans_of(made, materials, each_alone=each_alone)


def sent(part: Part, count: int = 50) -> list[tuple[int, bytes]]:
    """What a part sends: each request's number, and its JSON without the run's own salt."""
    found = []
    for request in part.requests[:count]:
        body = json.loads(request.body)
        body.pop("cache_salt", None)
        found.append((request.index, json.dumps(body).encode()))
    return found


def by_name(plan: Plan) -> dict[str | None, Part]:
    return {part.name: part for part in plan.parts}


# ---- streams ----


@given(shares, st.integers(0, 500))
def test_streams_are_divided_without_a_rest_and_each_class_has_one(
    parts: dict[str, float], more: int
) -> None:
    streams = len(parts) + more
    found = divided(streams, parts)
    assert list(found) == list(parts)
    assert sum(found.values()) == streams
    assert min(found.values()) >= 1
    for name, share in parts.items():
        if share * streams >= 1 and all(s * streams >= 1 for s in parts.values()):
            assert abs(found[name] - share * streams) < 1


@given(shares, st.integers(1, 20))
def test_a_larger_share_never_has_fewer_streams(parts: dict[str, float], times: int) -> None:
    found = divided(len(parts) * times, parts)
    for name, share in parts.items():
        assert all(found[name] >= found[n] for n in parts if parts[n] < share)


def test_a_closed_loop_is_divided_by_shares_and_streams_of_their_own_stay() -> None:
    (plan,) = plans(**CLOSED, classes=SHARED)
    assert [part.level.concurrency for part in plan.parts] == [6, 2]
    (own,) = plans(**OWN, classes=STREAMS)
    assert [part.level.concurrency for part in own.parts] == [5, 3]
    assert own.level == LoadLevel(concurrency=8)
    assert {part.duration_s for part in (*plan.parts, *own.parts)} == {9.0}
    assert own.duration_s == 9.0


# ---- arrivals ----

SHAPES: list[dict[str, Any]] = [
    {},
    {"num_requests": None, "duration_s": 6.0},
    {"arrival": "bursts", "burst_size": 8},
    {"arrival": "constant"},
    {"ramp_s": 3.0},
    {"arrival": "gamma", "cv": 2.0},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_arrivals_of_all_classes_are_the_schedule_without_classes(
    shape: dict[str, Any],
) -> None:
    given = {**OPEN, **shape}
    (plan,) = plans(**given, classes=SHARED)
    (whole,) = plans(**given)
    assert list(plan.measured_s) == list(whole.measured_s)
    times = sorted(t for part in plan.parts for t in part.times_s)
    assert times == list(whole.parts[0].times_s)  # the tail too
    assert plan.measured == whole.measured
    for part in plan.parts:
        assert len(part.prompts.prompts) == part.measured
        assert all(t >= plan.measured_s[-1] for t in part.times_s[part.measured :])


@settings(max_examples=25)
@given(shares, st.integers(0, 5), st.integers(1, 3))
def test_shares_are_kept_about_and_a_longer_draw_begins_with_the_shorter(
    parts: dict[str, float], seed: int, repeat: int
) -> None:
    made = scenario(**OPEN, seed=seed)
    long = drawn_classes(made, parts, 4000, repeat)
    assert drawn_classes(made, parts, 50, repeat) == long[:50]
    counts = Counter(long)
    for name, share in parts.items():  # five standard deviations
        assert abs(counts[name] - 4000 * share) <= 5 * (4000 * share * (1 - share)) ** 0.5 + 1


def test_the_same_seed_draws_the_same_classes_and_repeats_draw_others() -> None:
    (one,), (again,) = (plans(**OPEN, classes=SHARED) for _ in range(2))
    assert one.sha256 == again.sha256
    assert [sent(p) for p in one.parts] == [sent(p) for p in again.parts]
    first, second = plans(**OPEN, classes=SHARED, repeats=2)
    assert first.sha256 == one.sha256
    assert first.sha256 != second.sha256
    assert list(first.parts[0].times_s) != list(second.parts[0].times_s)
    assert plans(**OPEN, classes=SHARED, seed=9)[0].sha256 != one.sha256


def test_a_class_without_any_request_is_refused_in_a_line() -> None:
    few = {"a": {"share": 0.999}, "b": {"share": 0.001}}
    with pytest.raises(ScenarioError, match="classes: b: none of the run's requests") as refused:
        plans(**OPEN, classes=few)
    assert "\n" not in str(refused.value)


# ---- the hybrid ----


@pytest.mark.parametrize("shape", [{}, {"num_requests": None, "duration_s": 6.0}], ids=str)
def test_streams_beside_arrivals_end_with_the_last_measured_arrival(shape: dict[str, Any]) -> None:
    (plan,) = plans(**{**OPEN, **shape}, classes=HYBRID)
    chat, agents = plan.parts
    assert (chat.open_loop, agents.open_loop) == (True, False)
    assert (chat.level.request_rate, agents.level.concurrency) == (10.0, 3)
    assert agents.duration_s == plan.duration_s == plan.measured_s[-1]
    assert list(plan.measured_s) == list(chat.measured_s)
    assert plan.request_rate == 10.0
    assert len(agents.begins) == 3
    assert chat.begins == ()


def test_seconds_that_arrivals_decide_are_told_in_three_digits() -> None:
    (plan,) = plans(**OPEN, classes=HYBRID)
    seconds = plan.duration_s
    assert seconds is not None
    assert float(length_of([plan]).split(" s")[0]) == float(f"{seconds:.3g}") != seconds


def test_the_time_of_a_mix_and_of_each_class_alone_is_that_of_all() -> None:
    every = plans(each_alone=True, **OPEN, classes=HYBRID)
    mix, chat, agents = every
    assert (chat.duration_s, agents.duration_s) == (None, mix.duration_s)
    lasts = sum((mix.duration_s or 0.0, chat.measured_s[-1], agents.duration_s or 0.0))
    assert float(length_of(every).split(" s")[0]) == float(f"{lasts:.3g}")


# ---- numbers ----

MIXES = [
    {**OPEN, "classes": SHARED},
    {**CLOSED, "classes": SHARED},
    {**OPEN, "classes": HYBRID},
    {**OWN, "classes": STREAMS},
    {**OPEN, "classes": {"only": {"share": 1}}},
]


@pytest.mark.parametrize("mix", MIXES, ids=str)
@pytest.mark.parametrize("workers", [1, 3])
def test_every_request_and_every_lane_has_one_number(mix: dict[str, Any], workers: int) -> None:
    (plan,) = plans(**mix)
    lanes: list[int] = []
    warm: list[int] = []
    timed: list[int] = []
    for number in range(workers):
        for part, share in zip(plan.parts, plan.shares(number, workers), strict=True):
            lanes += [
                share.lane_numbers.number(i) for i in range(share.lanes and share.lanes + 5)
            ]  # more are opened later
            warm += [request.index for request in share.warmup]
            if share.due_ns is not None:
                timed += [request.index for request in share.requests]
                assert len(share.requests) == len(share.due_ns)
            assert all(plan.part(r.index) is part for r in (*share.requests[:20], *share.warmup))
    assert len(set(lanes)) == len(lanes)
    assert len({*warm, *timed}) == len(warm) + len(timed)
    assert len(warm) == plan.warmups == sum(1 for i in warm if plan.role(i) == "warm-up")
    due = sum(len(part.times_s) for part in plan.parts)
    assert len(timed) == due
    assert sum(1 for i in timed if plan.role(i) == "measured") == len(plan.measured_s)


def test_a_process_may_have_nothing_of_a_class() -> None:
    (plan,) = plans(**{**OWN, "classes": {"a": {"streams": 1}, "b": {"streams": 4}}})
    lanes = [[share.lanes for share in plan.shares(n, 4)] for n in range(4)]
    assert lanes == [[1, 1], [0, 1], [0, 1], [0, 1]]


def test_a_row_names_its_class_and_the_whole_runs_load() -> None:
    (plan,) = plans(**OPEN, classes=HYBRID)
    for part in plan.parts:
        expected = plan.expectation(part.requests[3].index, 0)
        assert expected.class_ == part.name
        assert (expected.concurrency, expected.request_rate) == (None, 10.0)
        assert expected.request_id == part.requests[3].request_id


# ---- alone ----


@pytest.mark.parametrize("mix", MIXES[:-1], ids=str)
def test_a_class_alone_sends_what_it_sends_in_the_mix(mix: dict[str, Any]) -> None:
    together, *alone = plans(each_alone=True, **mix)
    assert together.alone is None
    assert [plan.alone for plan in alone] == [part.name for part in together.parts]
    for plan in alone:
        (part,), mixed = plan.parts, by_name(together)[plan.alone]
        assert part.sha256 == mixed.sha256
        assert sent(part) == sent(mixed)
        assert list(part.times_s) == list(mixed.times_s)
        assert part.begins == mixed.begins
        assert [p.text for p in part.warmup] == [p.text for p in mixed.warmup]
        assert plan.level == mixed.level  # its own: the rest of the load isn't there
        assert plan.scenario.label == f"alone-{plan.alone}"
        assert plan.run_id != together.run_id
        assert plan_facts(plan)["alone"] == plan.alone
        assert plan_facts(plan)["classes"] == {
            plan.alone: plan_facts(together)["classes"][plan.alone]
        }
        assert plan.sha256 not in (together.sha256, part.sha256)
        assert ("duration_s" in plan_facts(plan)) == (not part.open_loop or "duration_s" in mix)


def test_alone_comes_after_each_run_of_the_mix_and_keeps_a_label() -> None:
    found = plans(each_alone=True, **OPEN, classes=SHARED, repeats=2, label="x")
    assert [(p.repeat, p.alone) for p in found] == [
        *((1, None), (1, "chat"), (1, "legal")),
        *((2, None), (2, "chat"), (2, "legal")),
    ]
    assert [p.scenario.label for p in found[:3]] == ["x", "x-alone-chat", "x-alone-legal"]
    assert len({p.words for p in found}) == 6
    for classes in (None, {"only": {"share": 1}}):  # nobody else is there
        assert [p.alone for p in plans(each_alone=True, **OPEN, classes=classes)] == [None]


# ---- what the JSON says ----


def test_the_plan_of_each_class_is_told_as_a_runs_own() -> None:
    (plan,) = plans(**OPEN, classes={**SHARED, "agents": {"streams": 2, "priority": 9}})
    told = plan_facts(plan)["classes"]
    assert list(told) == ["chat", "legal", "agents"]
    parts = by_name(plan)
    for name, of_class in told.items():
        part = parts[name]
        assert of_class["num_requests"] == part.measured
        assert of_class["plan"]["sha256"] == part.sha256
        assert of_class["prompts"]["sha256"] == part.prompts.sha256
    assert told["chat"]["request_rate"] == pytest.approx(7.0)
    assert told["chat"]["plan"]["shape"] == "poisson"
    assert told["agents"]["plan"]["shape"] == "closed"
    assert told["agents"]["plan"]["duration_s"] == plan.duration_s
    assert told["agents"]["concurrency"] == 2
    assert [c["scenario"]["priority"] for c in told.values()] == [None, 5, 9]
    assert told["legal"]["scenario"]["model"] == "red"


def test_classes_draw_no_prompts_in_common_order() -> None:
    (plan,) = plans(**OPEN, classes={"a": {"share": 0.5}, "b": {"share": 0.5}})
    a, b = ([p.text for p in part.prompts.prompts] for part in plan.parts)
    count = min(len(a), len(b))
    assert a[:count] != b[:count]


def test_a_change_of_one_class_leaves_the_others_as_they_were() -> None:
    (one,) = plans(**OPEN, classes=SHARED)
    changed = {**SHARED, "legal": {**SHARED["legal"], "priority": 9}}
    (two,) = plans(**OPEN, classes=changed)
    assert one.sha256 != two.sha256
    assert by_name(one)["chat"].sha256 == by_name(two)["chat"].sha256
    assert by_name(one)["legal"].sha256 != by_name(two)["legal"].sha256


def test_fields_of_a_class_are_in_its_requests_alone() -> None:
    (plan,) = plans(**OPEN, classes=SHARED)
    bodies = {p.name: json.loads(p.requests[0].body) for p in plan.parts}
    assert bodies["legal"]["priority"] == 5
    assert bodies["legal"]["model"] == "red"
    assert "priority" not in bodies["chat"]


def made(classes: dict[str, Any], **shape: Any) -> Scenario:
    return scenario(**{**OPEN, **shape}, classes=classes)


def test_flows_are_in_the_scenarios_order() -> None:
    mixed = {"z": {"streams": 1}, "a": {"share": 0.5}, "m": {"share": 0.5}}
    found = flows_of(made(mixed), LoadLevel(request_rate=10.0), 1)
    assert [flow.name for flow in found] == ["z", "a", "m"]
    measured, times_s = drawn_times(made(mixed), 10.0, 1)
    assert sum(flow.measured for flow in found) == measured == 60
    assert found[0].lasts_s == times_s[59]


@pytest.mark.parametrize(
    "mix",
    [*MIXES, {**OPEN, "classes": {"rare": {"share": 0.02}, "rest": {"share": 0.98}}, "seed": 5}],
    ids=str,
)
def test_short_runs_of_other_scripts_have_each_class(mix: dict[str, Any]) -> None:
    """The run that ab.py throws away, and the shortest that tune.py believes."""
    whole = scenario(**mix)
    for made in (thrown_away(whole), screen(whole, 14.0)):
        materials = [Material(each, source(), Words()) for each in scenarios_of(made)]
        (plan,) = plans_of(made, materials)
        assert [part.name for part in plan.parts] == list(whole.by_class)
        assert plan.level == levels_of(whole)[0]
        closed = [part for part in plan.parts if not part.open_loop]
        assert {part.duration_s for part in closed} <= {plan.duration_s}
        assert all(part.measured == 0 for part in closed)


def test_no_class_finds_another_s_prompts_in_the_prefix_cache() -> None:
    """Two classes draw from one data set: alone neither would find what the other had sent."""
    classes = {"a": {"share": 0.5}, "b": {"share": 0.5}}
    mixed, *alone = plans(each_alone=True, classes=classes, **OPEN)
    salts = [
        {request.cache_salt for request in part.requests[: part.measured]} for part in mixed.parts
    ]
    assert all(salts)
    assert salts[0].isdisjoint(salts[1])
    assert len(alone) == 2

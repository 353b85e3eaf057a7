"""The keys that shape a load: what they mean, what they refuse, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from vllm_bench.plan.arrivals import arrival_times
from vllm_bench.scenario.load_keys import Arrivals
from vllm_bench.scenario.nested.groups import Conversations
from vllm_bench.scenario.scenario import Scenario, ScenarioError, load_scenarios

ROOT = Path(__file__).resolve().parents[2]

CLOSED = {"concurrencies": [4], "num_requests": 10}
OPEN = {"request_rates": [2, 4.5], "num_requests": 10}
TRACE = {"trace": "azure.csv"}


def write(folder: Path, scenarios: dict[str, Any], defaults: dict[str, Any] | None = None) -> Path:
    path = folder / "scenarios.yaml"
    defaults = {"model": "tiny", "max_new_tokens": 8, **(defaults or {})}
    path.write_text(yaml.safe_dump({"defaults": defaults, "scenarios": scenarios}))
    return path


def load(folder: Path, keys: dict[str, Any], defaults: dict[str, Any] | None = None) -> Scenario:
    return load_scenarios(write(folder, {"one": keys}, defaults))["one"]


def refusal(folder: Path, keys: dict[str, Any], defaults: dict[str, Any] | None = None) -> str:
    path = write(folder, {"one": keys}, defaults)
    with pytest.raises(ScenarioError) as raised:
        load_scenarios(path)
    text = str(raised.value)
    assert text.startswith(f"{path}: scenario one: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: scenario one: ")


# What is allowed, and what it means


def test_a_closed_loop_has_none_of_an_open_ones_keys(tmp_path: Path) -> None:
    found = load(tmp_path, CLOSED)
    assert (found.concurrencies, found.num_requests) == ([4], 10)
    assert (found.request_rates, found.speed) == ([], [])
    assert (found.arrival, found.trace, found.duration_s) == (None, None, None)
    assert (found.repeats, found.warmup_requests, found.conversations) == (1, None, None)


def test_a_closed_loop_starts_staggered_unless_told_otherwise_and_nothing_else_does(
    tmp_path: Path,
) -> None:
    assert load(tmp_path, CLOSED).start == "staggered"
    assert load(tmp_path, {**CLOSED, "start": None}).start == "staggered"
    assert load(tmp_path, {**CLOSED, "start": "together"}).start == "together"
    assert (load(tmp_path, OPEN).start, load(tmp_path, TRACE).start) == (None, None)


def test_request_rates_arrive_as_poisson_unless_told_otherwise(tmp_path: Path) -> None:
    found = load(tmp_path, OPEN)
    assert (found.request_rates, found.arrival, found.concurrencies) == ([2.0, 4.5], "poisson", [])
    assert load(tmp_path, {**OPEN, "arrival": None}).arrival == "poisson"
    assert load(tmp_path, {**OPEN, "arrival": "constant"}).arrival == "constant"


def test_a_trace_runs_at_its_own_speed_and_whole_unless_told_otherwise(tmp_path: Path) -> None:
    found = load(tmp_path, TRACE)
    assert (found.trace, found.speed) == ("azure.csv", [1.0])
    assert (found.num_requests, found.duration_s) == (None, None)


@pytest.mark.parametrize(
    ("given", "speeds"), [(2, [2.0]), (0.5, [0.5]), ([1, 2.5], [1.0, 2.5]), (None, [1.0])]
)
def test_speed_is_one_number_or_several(tmp_path: Path, given: Any, speeds: list[float]) -> None:
    assert load(tmp_path, {**TRACE, "speed": given}).speed == speeds


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, Arrivals("poisson", 3.0)),
        ({"arrival": "constant", "ramp_s": 5}, Arrivals("constant", 3.0, ramp_s=5.0)),
        ({"arrival": "gamma", "cv": 0.01}, Arrivals("gamma", 3.0, cv=0.01)),
        ({"arrival": "gamma", "cv": 20}, Arrivals("gamma", 3.0, cv=20.0)),
        ({"arrival": "bursts", "burst_size": 1}, Arrivals("bursts", 3.0, burst_size=1)),
    ],
)
def test_the_keys_make_arrivals(tmp_path: Path, keys: dict[str, Any], expected: Arrivals) -> None:
    found = load(tmp_path, {"request_rates": [3], "duration_s": 60, **keys}).arrivals(3.0)
    assert found == expected
    assert len(arrival_times(found, seed=0, count=3)) == 3


@pytest.mark.parametrize(
    "keys",
    [
        {**OPEN, "max_in_flight": 1, "warmup_requests": 0, "repeats": 5},
        {**TRACE, "max_in_flight": 64, "num_requests": 7},
        {**TRACE, "duration_s": 120.5},
        {**CLOSED, "warmup_requests": 3, "repeats": 2},
        {"concurrencies": [4], "duration_s": 9.0},
        {**CLOSED, "duration_s": 9.0, "start": "together"},
        {**CLOSED, "conversations": {"turns": 3, "think_time_s": 1.5}},
    ],
)
def test_what_fits_together_is_taken(tmp_path: Path, keys: dict[str, Any]) -> None:
    found = load(tmp_path, keys)
    for key, value in keys.items():
        kept = getattr(found, key)
        assert (kept.model_dump(exclude_unset=True) if key == "conversations" else kept) == value


def test_conversations_have_no_think_time_unless_told_otherwise(tmp_path: Path) -> None:
    found = load(tmp_path, {**CLOSED, "conversations": {"turns": 3}})
    assert found.conversations == Conversations(turns=3, think_time_s=0.0)


# Defaults


@pytest.mark.parametrize(
    ("own", "shape"), [(OPEN, "request_rates"), (TRACE, "trace"), (CLOSED, "concurrencies")]
)
@pytest.mark.parametrize("default", [CLOSED, OPEN, TRACE])
def test_a_scenarios_own_shape_replaces_the_one_in_defaults(
    tmp_path: Path, own: dict[str, Any], shape: str, default: dict[str, Any]
) -> None:
    found = load(tmp_path, own, default)
    assert [
        key for key in ("concurrencies", "request_rates", "trace") if getattr(found, key)
    ] == [shape]  # fmt: skip


def test_a_scenarios_own_length_replaces_the_one_in_defaults(tmp_path: Path) -> None:
    found = load(tmp_path, {"request_rates": [1], "duration_s": 9}, {"num_requests": 5})
    assert (found.duration_s, found.num_requests) == (9.0, None)
    closed = load(tmp_path, {"concurrencies": [1], "num_requests": 3}, {"duration_s": 60})
    assert (closed.duration_s, closed.num_requests) == (None, 3)  # shorter, if it says so


def test_a_key_set_to_nothing_replaces_no_other(tmp_path: Path) -> None:
    found = load(tmp_path, {"trace": None, "duration_s": None}, CLOSED)
    assert (found.concurrencies, found.num_requests) == ([4], 10)


def test_flags_replace_too(tmp_path: Path) -> None:
    path = write(tmp_path, {"one": CLOSED})
    found = load_scenarios(path, {"request_rates": [1], "duration_s": 2})["one"]
    assert (found.request_rates, found.concurrencies) == ([1.0], [])
    assert (found.duration_s, found.num_requests) == (2.0, None)


def test_settings_written_to_a_file_can_be_read_again(tmp_path: Path) -> None:
    for keys in (CLOSED, OPEN, TRACE, {**CLOSED, "conversations": {"turns": 2}}):
        found = load(tmp_path, keys)
        assert Scenario.model_validate(orjson.loads(orjson.dumps(found.masked()))) == found


def test_the_repositorys_own_scenarios_load() -> None:
    found = load_scenarios(ROOT / "bench" / "scenarios.yaml")
    assert all(s.duration_s for name, s in found.items() if name != "smoke_test")  # by time
    assert found["smoke_test"].concurrencies == [8]
    assert found["smoke_test"].num_requests == 50


# Refusals

ONE_OF = "give one of concurrencies, request_rates, trace, not "
NONE_OF = "give one of concurrencies: [N, …], request_rates: [R, …], trace: FILE"

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"num_requests": 5}, NONE_OF),
    ({"num_requests": 5, "concurrencies": []}, NONE_OF),
    ({"num_requests": 5, "request_rates": []}, NONE_OF),
    ({**OPEN, **TRACE}, ONE_OF + "request_rates and trace"),
    ({**OPEN, "history": "live"}, "history goes only with sessions"),
    ({**CLOSED, "max_gap_s": 9}, "max_gap_s goes only with sessions"),
    ({**CLOSED, "depth": "first"}, "depth goes only with sessions"),
    ({**CLOSED, "length_divisor": 4}, "length_divisor goes only with a trace of sessions"),
    ({**TRACE, "history": "live", "endpoint": "completions"}, "history: live needs endpoint: ch"),
    ({**TRACE, "depth": "drawn"}, "depth: drawn goes with a trace, concurrencies and"),
    ({**CLOSED, **TRACE, "history": "live", "depth": "drawn"}, "depth: drawn goes with a trace,"),
    ({**CLOSED, **TRACE, "speed": 2}, "speed doesn't go with concurrencies"),
    ({**CLOSED, **TRACE, "conversations": {"turns": 2}}, "conversations don't go with trace"),
    ({**CLOSED, "conversations": {"turns": 2}, "history": "recorded"}, "history: recorded goes"),
    ({**CLOSED, "conversations": {"turns": 2}, "max_gap_s": 9}, "max_gap_s goes with conversati"),
    (
        {**CLOSED, "conversations": {"turns": 2, "tool_calls": {"share": 0}}},
        "conversations.tool_calls.share: must be above 0",
    ),
    (
        {**CLOSED, "conversations": {"turns": 2, "tool_calls": {"share": 0.5, "wait": 1}}},
        "unknown key conversations.tool_calls.wait; did you mean wait_s?",
    ),
    ({**CLOSED, **OPEN, **TRACE}, ONE_OF + "concurrencies and request_rates and trace"),
    ({"concurrencies": [4]}, "give num_requests, duration_s or both"),
    ({**OPEN, "start": "together"}, "start goes only with concurrencies"),
    ({**TRACE, "start": "staggered"}, "start goes only with concurrencies"),
    ({**CLOSED, "start": "slowly"}, "start: must be one of staggered, together"),
    ({"request_rates": [4]}, "give one of num_requests, duration_s"),
    ({**OPEN, "duration_s": 9}, "give one of num_requests, duration_s, not both"),
    (
        {**TRACE, "num_requests": 4, "duration_s": 9},
        "give one of num_requests, duration_s, not both",
    ),
    (
        {"request_rates": [2, 50_000], "duration_s": 3600},
        "duration_s: 3600 s at 50000 requests per second are 180,000,000 requests;"
        " a run has at most 20,000,000",
    ),
    ({**CLOSED, "arrival": "poisson"}, "arrival goes only with request_rates"),
    ({**TRACE, "arrival": "gamma", "cv": 2}, "arrival goes only with request_rates; cv goes only"),
    ({**CLOSED, "ramp_s": 2}, "ramp_s goes only with request_rates"),
    ({**CLOSED, "burst_size": 2}, "burst_size goes only with request_rates"),
    ({**OPEN, "arrival": "gamma"}, "cv is missing: arrival: gamma needs it"),
    ({**OPEN, "cv": 2}, "cv goes only with arrival: gamma, not with poisson"),
    ({**OPEN, "arrival": "bursts"}, "burst_size is missing: arrival: bursts needs it"),
    (
        {**OPEN, "arrival": "constant", "burst_size": 3},
        "burst_size goes only with arrival: bursts, not with constant",
    ),
    ({**OPEN, "speed": 2}, "speed goes only with trace"),
    ({**CLOSED, "speed": 1}, "speed goes only with trace"),
    ({**CLOSED, "max_in_flight": 3}, "max_in_flight goes with request_rates or trace"),
    ({**TRACE, "conversations": {"turns": 2}}, "conversations go only with concurrencies"),
    ({**OPEN, "conversations": {"turns": 2}}, "conversations go only with concurrencies"),
    ({**TRACE, "prefill_tokens": 256}, "prefill_tokens doesn't go with trace"),
    (
        {**CLOSED, "conversations": {"turns": 2}, "endpoint": "completions"},
        "conversations need endpoint: chat",
    ),
    ({**OPEN, "arrival": "normal"}, "arrival: must be one of constant, poisson, gamma, bursts"),
    ({**OPEN, "request_rates": [0]}, "request_rates.0: must be above 0 (given: '0')"),
    ({**OPEN, "request_rates": [1, 1.0]}, "request_rates: must not name a level twice"),
    ({**OPEN, "request_rates": 5}, "request_rates: must be a list, as in [0.5, 4]"),
    ({**OPEN, "request_rates": [float("inf")]}, "request_rates.0: must be a finite number"),
    ({**OPEN, "arrival": "gamma", "cv": 0}, "cv: must be 0.01 or more"),
    ({**OPEN, "arrival": "gamma", "cv": 21}, "cv: must be at most 20"),
    ({**OPEN, "arrival": "bursts", "burst_size": 0}, "burst_size: must be 1 or more"),
    ({**OPEN, "ramp_s": -1}, "ramp_s: must be 0 or more"),
    ({**OPEN, "max_in_flight": 0}, "max_in_flight: must be 1 or more"),
    ({**OPEN, "warmup_requests": -1}, "warmup_requests: must be 0 or more"),
    ({**OPEN, "repeats": 0}, "repeats: must be 1 or more"),
    ({"request_rates": [1], "duration_s": 0}, "duration_s: must be above 0"),
    ({"trace": ""}, "trace: must not be empty"),
    ({**TRACE, "speed": 0}, "speed.0: must be above 0"),
    ({**TRACE, "speed": [1, 1]}, "speed: must not name a level twice"),
    ({**TRACE, "speed": "fast"}, "speed.0: must be a number"),
    ({**CLOSED, "conversations": {}}, "conversations.turns is missing"),
    ({**CLOSED, "conversations": {"turns": 0}}, "conversations.turns: must be 1 or more"),
    (
        {**CLOSED, "conversations": {"turns": 2, "think_time": 1}},
        "unknown key conversations.think_time; did you mean think_time_s?",
    ),
    (
        {**CLOSED, "conversations": 3},
        "conversations: must be a mapping, as in {turns: 4, ",
    ),
    ({**OPEN, "request_rate": [3]}, "unknown key request_rate; did you mean request_rates?"),
]


@pytest.mark.parametrize(("keys", "text"), REFUSED, ids=[str(row[0]) for row in REFUSED])
def test_what_means_nothing_is_refused_in_one_line(
    tmp_path: Path, keys: dict[str, Any], text: str
) -> None:
    assert refusal(tmp_path, keys).startswith(text)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, {**CLOSED, "speed": 2, "cv": 1.5, "max_in_flight": 3})
    assert said.count(";") == 2


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({**CLOSED, "num_requests": 10**12}, "num_requests"),
        ({**CLOSED, "warmup_requests": 10**12}, "warmup_requests"),
        ({**CLOSED, "repeats": 10**9}, "repeats"),
        ({**OPEN, "ramp_s": 1e300}, "ramp_s"),
        ({**CLOSED, "conversations": {"turns": 2, "think_time_s": 1e300}}, "think_time_s"),
        ({**CLOSED, "timeout_first_token_s": 1e300}, "timeout_first_token_s"),
        ({**CLOSED, "timeout_stall_s": 1e300}, "timeout_stall_s"),
        ({**CLOSED, "timeout_total_s": 1e300}, "timeout_total_s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_number_that_no_run_could_hold_is_refused(
    tmp_path: Path, keys: dict[str, Any], key: str
) -> None:
    found = refusal(tmp_path, keys)
    assert f"{key}: " in found
    assert "at most" in found


def test_a_trace_at_no_speed_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, {**TRACE, "speed": []}).startswith("speed ")

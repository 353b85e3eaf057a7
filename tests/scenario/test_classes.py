"""Classes of users: what each may set, what a mistake says, and that no secret is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.run.prepare import check_files
from vllm_bench.scenario.load import levels_of
from vllm_bench.scenario.request_keys import RequestKeys
from vllm_bench.scenario.scenario import OF_CLASSES, Scenario, ScenarioError, load_scenarios

from tests.plan.test_request import scenario
from tests.scenario.test_scenario import refusal

OPEN: dict[str, Any] = {"concurrencies": [], "request_rates": [10.0], "num_requests": 100}
CLOSED: dict[str, Any] = {"concurrencies": [8], "num_requests": None, "duration_s": 9.0}
OWN: dict[str, Any] = {"concurrencies": [], "num_requests": None, "duration_s": 9.0}
SECRET = "sk-live-4711abcd"
REST = {"share": 0.9}


def of(legal: Any, shape: dict[str, Any] = OPEN, **others: Any) -> Scenario:
    """A scenario of a class `legal`, and of one with the rest of the load."""
    rest = {"streams": 2} if shape is OWN else REST
    return scenario(**{**shape, "classes": {"chat": rest, "legal": legal}, **others})


def file_of(folder: Path, legal: Any, shape: dict[str, Any] = OPEN, **others: Any) -> Path:
    rest = {"streams": 2} if shape is OWN else REST
    given = {
        **{"model": "m", "max_new_tokens": 8, **shape},
        **{"classes": {"chat": rest, "legal": legal}, **others},
    }
    path = folder / "s.yaml"
    path.write_text(json.dumps({"scenarios": {"mix": {k: v for k, v in given.items() if v}}}))
    return path


@pytest.mark.parametrize("name", ["a/b", "9", "-a", "a b", "a" * 33])
def test_a_name_that_no_class_may_have_is_refused_with_what_it_may_be(
    name: str, tmp_path: Path
) -> None:
    path = file_of(tmp_path, {"share": 1.0}, classes={name: {"share": 1.0}})
    with pytest.raises(ScenarioError, match="at most 32 letters, digits, _ and -"):
        load_scenarios(path)


def test_a_class_is_the_scenario_with_its_own_keys() -> None:
    own = {
        **{"share": 0.1, "model": "red", "priority": 5, "max_new_tokens": 99},
        **{"endpoint": "completions", "slo": {"ttft_ms": {"p99": 900}}},
        **{"extra_body": {"top_p": 0.5}, "max_in_flight": 7, "warmup_requests": 3},
    }
    found = of(own, temperature=0.5, slo={"success_rate": 0.9})
    chat, legal = found.of_class("chat"), found.of_class("legal")
    assert (chat.model, chat.priority, chat.max_new_tokens) == ("tiny", None, 16)
    assert (legal.model, legal.priority, legal.max_new_tokens) == ("red", 5, 99)
    assert (legal.temperature, chat.temperature) == (0.5, 0.5)
    assert (legal.max_in_flight, legal.warmup_requests, chat.max_in_flight) == (7, 3, None)
    assert chat.slo is not None
    assert legal.slo is not None
    assert chat.slo != legal.slo  # a class's own stand in place of the scenario's
    assert (legal.classes, legal.request_rates) == (None, [10.0])


def test_a_class_with_streams_is_a_closed_loop_beside_arrivals() -> None:
    found = of(
        {"streams": 3, "conversations": {"turns": 2}},
        classes={"chat": {"share": 1.0}, "legal": {"streams": 3, "conversations": {"turns": 2}}},
        **{"arrival": "gamma", "cv": 2.0, "ramp_s": 1.0, "max_in_flight": 5, "start": "together"},
    )
    legal, chat = found.of_class("legal"), found.of_class("chat")
    assert (legal.concurrencies, legal.request_rates, legal.max_in_flight) == ([3], [], None)
    assert (legal.start, chat.start) == ("together", None)
    assert (chat.arrival, chat.cv, chat.max_in_flight) == ("gamma", 2.0, 5)
    assert [level.label for level in levels_of(found)] == ["rate10"]


def test_classes_that_all_have_streams_are_one_closed_level() -> None:
    found = of({"streams": 3}, OWN)
    assert [level.concurrency for level in levels_of(found)] == [5]
    assert found.of_class("legal").duration_s == 9.0


@pytest.mark.parametrize(
    ("legal", "shape", "said"),
    [
        # What a class may not set, with the nearest that it may.
        ({"share": 0.1, "modle": "x"}, OPEN, ("classes.legal.modle", "did you mean model?")),
        ({"share": 0.1, "repeats": 3}, OPEN, ("classes.legal.repeats", "a class may set share")),
        ({"share": 0.1, "shar": 3}, OPEN, ("classes.legal.shar", "did you mean share?")),
        ({"share": 0.1, "base_url": "http://x/v1"}, OPEN, ("classes.legal.base_url",)),
        ({"share": 0.1, "name": "x"}, OPEN, ("classes.legal.name",)),
        ({"share": 0.1, "request_rates": [2]}, OPEN, ("classes.legal.request_rates",)),
        ({"share": 0.1, "classes": {}}, OPEN, ("classes.legal.classes",)),
        # What it may, with a wrong value.
        ({"share": 0.1, "max_new_tokens": 0}, OPEN, ("classes.legal.max_new_tokens: ", "1 or")),
        ({"share": 0.1, "priority": "high"}, OPEN, ("classes.legal.priority: ", "whole number")),
        ({"share": 0.1, "priority": True}, OPEN, ("classes.legal.priority: ",)),
        ({"share": 0.1, "slo": {"ttft_ms": {"p9": 1}, "x": 1}}, OPEN, ("classes.legal.slo",)),
        ({"share": 0.1, "dataset": "doly"}, OPEN, ("classes.legal.dataset: ", "dolly")),
        ({"share": 0.1, "conversations": {"turn": 2}}, CLOSED, ("turn", "did you mean turns?")),
        ({"share": 0.1, "conversations": {"turns": 2}}, OPEN, ("classes.legal: conversations",)),
        ({"share": 0.1, "trace": "a.csv"}, OPEN, ("classes.legal.trace goes only with streams",)),
        ({"share": 0.1, "max_in_flight": 3}, CLOSED, ("classes.legal: max_in_flight",)),
        ({"share": 0.1, "headers": {"Host": "x"}}, OPEN, ("classes.legal.headers: must not set",)),
        # Its part of the load.
        ({"share": 0.2}, OPEN, ("their shares are 1.1 together",)),
        ({"share": 0}, OPEN, ("classes.legal.share: must be above 0",)),
        ({"share": 0.1, "streams": 2}, OPEN, ("classes.legal: give one of share, streams",)),
        ({}, OPEN, ("classes.legal: give one of share, streams",)),
        ({"streams": 0}, OPEN, ("classes.legal.streams: must be 1 or more",)),
        ({"streams": 2}, CLOSED, ("with concurrencies each has a share",)),
        ({"share": 0.1}, {**CLOSED, "num_requests": 9}, ("give duration_s alone",)),
        ({"share": 0.1}, {**CLOSED, "concurrencies": [1]}, ("less than a stream for each class",)),
        ({"share": 0.1}, OWN, ("give one of concurrencies",)),
        ("fast", OPEN, ("classes.legal: must be a mapping",)),
    ],
    ids=str,
)
def test_a_mistake_in_a_class_is_one_line_with_its_place(
    tmp_path: Path, legal: Any, shape: dict[str, Any], said: tuple[str, ...]
) -> None:
    text = refusal(file_of(tmp_path, legal, shape))
    assert text.startswith("scenario mix: ")
    for part in said:
        assert part in text
    assert "\n" not in text
    assert len(text) < 900


@pytest.mark.parametrize("name", ["", "a b", "1", "x" * 33, "ä", "a/b", "../x"])
def test_a_class_has_a_short_plain_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "s.yaml"
    given = {"model": "m", "max_new_tokens": 8, "request_rates": [2], "num_requests": 9}
    path.write_text(json.dumps({"scenarios": {"mix": {**given, "classes": {name: {"share": 1}}}}}))
    with pytest.raises(ScenarioError) as refused:
        load_scenarios(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "legal",
    [
        {"headers": {"X-Key": SECRET}},  # neither share nor streams
        {"share": 0.1, "headers": {"X Key": SECRET}},
        {"share": 0.1, "headers": {"X-Key": [SECRET]}},
        {"share": 0.1, "headers": {"X-Key": SECRET + "é"}},
        {"share": 0.1, "headers": SECRET},
        {"share": 0.1, "extra_body": {"api_key": SECRET, "model": "x"}},
        {"share": 0.1, "extra_body": {"api_key": SECRET, "n": 0}},
        {"share": 0.1, "headers": {"X-Key": SECRET}, "modle": "x"},
        {"share": 0.1, "headers": {"X-Key": SECRET}, "endpoint": "chart"},
        {"share": 0.1, "streams": 1, "headers": {"X-Key": SECRET}},
        [{"headers": {"X-Key": SECRET}}],
    ],
    ids=str,
)
def test_no_mistake_in_a_class_shows_what_it_sends(tmp_path: Path, legal: Any) -> None:
    assert SECRET not in refusal(file_of(tmp_path, legal))


@pytest.mark.parametrize("key", ["headers", "extra_body"])
def test_classes_with_questions_are_refused_without_what_they_send(
    key: str, tmp_path: Path
) -> None:
    asked = {"num_requests": None, "quality": {"questions": 20}}
    said = refusal(file_of(tmp_path, {"share": 0.1, key: {"X-Key": SECRET}}, **asked))
    assert "classes doesn't go with quality" in said
    assert SECRET not in said


def test_what_a_class_sends_is_masked_in_the_json() -> None:
    own = {
        "headers": {"X-Key": SECRET},
        "extra_body": {"api_key": SECRET, "top_p": 0.5, "more": {"token": SECRET}},
    }
    found = of({"share": 0.1, **own})
    for settings in (found.masked(), found.of_class("legal").masked()):
        assert SECRET not in json.dumps(settings)
    legal = found.masked()["classes"]["legal"]
    assert legal["headers"] == {"X-Key": "***"}
    assert legal["extra_body"]["top_p"] == 0.5


def test_a_file_that_a_class_names_is_looked_for(tmp_path: Path) -> None:
    there = tmp_path / "mine.jsonl"
    there.write_text('{"prompt": "Hi"}\n')
    check_files(of({"share": 0.1, "dataset": f"file:{there}"}))
    with pytest.raises(ScenarioError, match=r"missing\.jsonl: no such file"):
        check_files(of({"share": 0.1, "dataset": f"file:{tmp_path}/missing.jsonl"}))
    with pytest.raises(ScenarioError, match="a folder, not a file"):
        check_files(of({"share": 0.1, "dataset": f"file:{tmp_path}"}))


def test_a_missing_file_of_questions_is_told_by_the_key_that_named_it(tmp_path: Path) -> None:
    asked = {"quality": {"set": f"file:{tmp_path}/missing.jsonl"}, "num_requests": None}
    with pytest.raises(ScenarioError, match=r"quality\.set: .*missing\.jsonl: no such file"):
        check_files(scenario(**asked))


def test_each_key_of_a_request_is_a_classs_too() -> None:
    assert {*RequestKeys.model_fields} <= {*OF_CLASSES}
    assert not {"classes", "seed", "label", "repeats", "base_url", "slo_tiers"} & {*OF_CLASSES}


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*OF_CLASSES, "share", "streams", "zzz"]), inner)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "B-1"]), ANY, max_size=3))
def test_any_classes_are_taken_or_refused_in_one_line(classes: dict[str, Any]) -> None:
    from pydantic import ValidationError
    from vllm_bench.scenario.scenario import _blamed  # as a file's scenario is refused

    try:
        found = scenario(**OPEN, classes=classes)
    except ValidationError as e:
        said = str(_blamed(e, Path("f"), "f: scenario x", set(), {}))
        assert said
        assert "\n" not in said
        return
    for name in found.by_class:
        assert found.of_class(name).classes is None

"""Settings by flags: a scenario without a file, or changes to those of one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.errors import UsageError
from vllm_bench.flags import ELSEWHERE, Parser, plain
from vllm_bench.scenario.by_flags import (
    ALONE,
    QUICK_ROUNDS,
    QUICK_S,
    assigned,
    makes_a_scenario,
    quick,
    usual,
    with_assigned,
)
from vllm_bench.scenario.scenario import KNOWN_KEYS, ScenarioError, load_scenarios


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scenarios.yaml"
    path.write_text("defaults: {model: m, seed: 3}\nscenarios: {a: {concurrencies: [1]}}\n")
    return path


def made(file: Path, **flags: object):
    (scenario,) = load_scenarios(file, flags, {ALONE: usual(flags)}).values()
    return scenario


def test_flags_alone_are_a_scenario_with_the_files_defaults(file):
    found = made(file, concurrencies=[32], prefill_tokens=256)
    assert (found.name, found.model, found.seed) == (ALONE, "m", 3)
    assert (found.concurrencies, found.duration_s, found.num_requests) == ([32], 60, None)
    assert made(file, request_rates=[2.0], num_requests=9).duration_s is None
    assert made(file, trace="t.csv").duration_s is None


def test_the_quickest_run_lasts_long_enough_for_a_window(file):
    flags = {"concurrencies": [8]}
    found = made(file, **{**quick(flags), **flags})
    assert (found.duration_s, found.num_requests) == (QUICK_S, 8 * QUICK_ROUNDS)
    by_number = {"request_rates": [4.0], "num_requests": 9}
    found = made(file, **{**quick(by_number), **by_number})
    assert (found.duration_s, found.num_requests) == (None, 9)
    several = {"concurrencies": [1, 64]}
    assert made(file, **{**quick(several), **several}).num_requests is None


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["seed=7"], {"seed": 7}),
        (["extra_body.top_p=0.9"], {"extra_body": {"top_p": 0.9}}),
        (["extra_body.stop=[a, b]"], {"extra_body": {"stop": ["a", "b"]}}),
        (
            ["slo.ttft_ms.p99.9=5", "slo.ttft_ms.p50=1"],
            {"slo": {"ttft_ms": {"p99.9": 5, "p50": 1}}},
        ),
        (["system_prompt=a=b"], {"system_prompt": "a=b"}),
        (["label="], {"label": None}),
    ],
)
def test_what_is_set_is_read_as_in_a_file(words, found):
    assert assigned("--set", words) == found


@pytest.mark.parametrize("word", ["seed", "=3", "a..b=1", "seed=[", "seed=!!python/name:x y"])
def test_what_cannot_be_set_is_named(word):
    with pytest.raises(ValueError, match="--set"):
        assigned("--set", [word])
    with pytest.raises(ValueError, match="value already"):
        assigned("--set", ["slo=1", "slo.ttft_ms=2"])


@pytest.mark.parametrize("word", ["ttft_ms=500", "p99=500", "ttft_ms.p99", "=3"])
def test_an_objective_without_its_percentile_is_shown_how_one_is_written(word):
    with pytest.raises(UsageError, match=r"--slo .*ttft_ms\.p99=500"):
        with_assigned({}, (), KNOWN_KEYS, [word])
    (slo,) = with_assigned({}, (), KNOWN_KEYS, ["ttft_ms={p99: 5}", "success_rate=1"]).values()
    assert slo == {"ttft_ms": {"p99": 5}, "success_rate": 1}


def test_what_is_wrong_with_flags_together_is_no_mistake_of_the_file(file):
    with pytest.raises(ScenarioError) as told:
        made(file, concurrencies=[1], request_rates=[2.0])
    assert str(told.value).startswith("the flags: ")


@pytest.mark.fuzz
@given(st.lists(st.text(max_size=30), max_size=3))
def test_no_text_is_more_than_refused(words):
    with suppress(ValueError):
        assert isinstance(assigned("--set", words), dict)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"concurrencies": [0]}, "--concurrency"),
        ({"slo": {"ttft_ms": {"p99": 0}}}, "--slo ttft_ms.p99"),
        ({"concurrencies": [1], "seed": "x"}, "--set seed"),
    ],
)
def test_a_mistake_in_a_flag_names_the_flag(file, flags, named):
    assert makes_a_scenario(flags) == ("concurrencies" in flags)
    with pytest.raises(ScenarioError) as refused:
        load_scenarios(file, flags)
    assert str(refused.value).startswith(f"{named}: ")


def refused(parser: Parser, words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words.split())
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_wrong_flag_is_one_line_in_our_words(capsys):
    parser = Parser(prog="bench.py")
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--kind", choices=["open", "closed"])
    parser.add_argument("--on", action="store_true")
    parser.add_argument("--name")
    for words, parts in (
        ("--max-concurrency 3", ("--max-concurrency", "--concurrency?")),
        ("--concurency 3", ("--concurency", "--concurrency?")),
        ("--what 3", ("--what", "--help")),
        ("--concurrency", ("--concurrency", "value")),
        ("--concurrency x", ("--concurrency: x", "whole number")),
        ("--kind oben", ("--kind: oben", "open, closed", "open?")),
        ("--on=3", ("--on", "no value")),
        ("short_chat", ("short_chat", "--name short_chat?")),
    ):
        line = refused(parser, words, capsys)
        assert line.startswith("bench.py: ")
        assert all(part in line for part in parts), line
        for foreign in ("argument", "unrecognized", "expected one", "invalid", "usage"):
            assert foreign not in line


def test_words_that_nobody_translated_are_passed_on():
    assert plain("something else") == "something else"


def test_flags_of_other_tools_are_not_our_own():
    own = {hint.split()[0] for hint in ELSEWHERE.values()}
    assert not own & ELSEWHERE.keys()

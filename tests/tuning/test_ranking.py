"""Which configuration comes first, by each aim; and what the turns of the two best say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vllm_bench.compare.comparison import Comparison, Effect, LevelRows, Row, Word
from vllm_bench.compare.measures import MEASURES
from vllm_bench.scenario.load import Load
from vllm_bench.stats.batches import Interval
from vllm_bench.tuning.answer import MEASURE, answer, by_objectives
from vllm_bench.tuning.configurations import Aim
from vllm_bench.tuning.one_start import gpus_said
from vllm_bench.tuning.ranking import better_half, mostly_missed, ranked
from vllm_bench.tuning.trials import Highest, Tried

from tests.tuning.made_trials import made_run, made_trial, tried

SLO = {"slo": {"ttft_ms": {"p50": 50.0}}}


def measured(folder: Path, name: str, *levels: dict[str, Any], **changes: Any) -> Tried:
    """A configuration with a run at each level."""
    runs = tuple(
        made_run(folder, f"{name.replace(' ', '')}-{place}", **level)
        for place, level in enumerate(levels)
    )
    return tried(folder, made_trial(name, run_ids=runs, **changes))


def names(aim: Aim, *found: Tried) -> list[str]:
    return [one.name for one in ranked(aim, found)]


def test_throughput_is_the_most_tokens_of_a_level(tmp_path: Path) -> None:
    slow = measured(tmp_path, "slow", {"concurrency": 4}, {"concurrency": 8})
    fast = measured(tmp_path, "fast", {"concurrency": 4}, {"concurrency": 16})
    assert names("throughput", slow, fast) == ["fast", "slow"]
    first = ranked("throughput", [slow, fast])[0].score
    assert first is not None
    assert first.load == Load("streams", 16)


def test_a_level_that_missed_the_objectives_doesnt_count_beside_one_that_did_not(
    tmp_path: Path,
) -> None:
    late = {"concurrency": 16, "scenario": SLO, "ttft_ms": 300.0}
    fine = {"concurrency": 4, "scenario": SLO, "ttft_ms": 10.0}
    both = measured(tmp_path, "both", fine, late)
    over = measured(tmp_path, "over", late)
    assert names("throughput", over, both) == ["both", "over"]
    placed = ranked("throughput", [over, both])
    assert [one.score.missed for one in placed if one.score] == [False, True]


def test_ttft_is_the_least_at_the_highest_level(tmp_path: Path) -> None:
    quick = measured(tmp_path, "quick", {"ttft_ms": 90.0}, {"concurrency": 8, "ttft_ms": 20.0})
    slow = measured(tmp_path, "slow", {"ttft_ms": 10.0}, {"concurrency": 8, "ttft_ms": 40.0})
    assert names("ttft", slow, quick) == ["quick", "slow"]


def test_ttft_is_compared_at_one_level_or_not_at_all(tmp_path: Path) -> None:
    """One whose highest level is INVALID isn't first by its TTFT at a lower one."""
    spoilt = measured(tmp_path, "spoilt", {"ttft_ms": 5.0}, {"concurrency": 8, "bad": 5})
    fine = measured(tmp_path, "fine", {"ttft_ms": 20.0}, {"concurrency": 8, "ttft_ms": 40.0})
    first, last = ranked("ttft", [spoilt, fine])
    assert (first.name, last.name, last.score) == ("fine", "spoilt", None)
    assert "8 streams" in last.why
    throughput = {one.name: one.score for one in ranked("throughput", [spoilt, fine])}
    assert throughput["spoilt"] is not None
    assert "INVALID at 8 streams" in throughput["spoilt"].doubt


def test_throughput_is_by_gpu(tmp_path: Path) -> None:
    two = measured(tmp_path, "two", {"concurrency": 6, "scenario": {"gpus": 2}})
    one = measured(tmp_path, "one", {"concurrency": 4, "scenario": {"gpus": 1}})
    assert names("throughput", two, one) == ["one", "two"]


def test_what_failed_or_is_invalid_comes_last_with_its_reason(tmp_path: Path) -> None:
    dead = tried(tmp_path, made_trial("dead", why="ended before it was ready", ready_s=None))
    bad = measured(tmp_path, "bad", {"bad": 5})
    fine = measured(tmp_path, "fine", {})
    placed = ranked("throughput", [dead, bad, fine])
    assert [one.name for one in placed] == ["fine", "dead", "bad"]
    assert placed[1].why == "ended before it was ready"
    assert placed[2].why.startswith("INVALID at 4 streams")
    assert [one.name for one in better_half(placed)] == ["fine"]


@pytest.mark.parametrize(("many", "half"), [(2, 2), (3, 2), (4, 2), (5, 3), (6, 3), (7, 4)])
def test_the_better_half_are_two_at_least(tmp_path: Path, many: int, half: int) -> None:
    found = [measured(tmp_path, f"n {n}", {"concurrency": n}) for n in range(1, many + 1)]
    assert len(better_half(ranked("throughput", found))) == half


def test_capacity_is_what_the_search_found(tmp_path: Path) -> None:
    def at(name: str, value: float | None) -> Tried:
        highest = Highest(value=value, unit="requests/s", words=f"up to {value}")
        return tried(tmp_path, made_trial(name, capacity=highest))

    assert names("capacity", at("a", 12.5), at("b", None), at("c", 22.1)) == ["c", "a", "b"]


def test_a_server_says_of_how_many_gpus_it_is() -> None:
    said = {"tensor_parallel_size": 4, "pipeline_parallel_size": "2", "data_parallel_size": None}
    assert gpus_said(said) == 8
    assert gpus_said({}) == 1


# ---- the turns ----


def compared(word: Word | None, ratio: float, spread: float = 0.01, **row: Any) -> Comparison:
    measure = next(m for m in MEASURES if m.name == MEASURE["throughput"])
    effect = Effect(ratio, Interval(ratio - spread, ratio + spread), 0.01)
    fields = {"measure": measure, "a": 100.0, "b": 100 * ratio, "effect": effect, "why": None}
    level = LevelRows("s", Load("streams", 8), (), (), (Row(**fields, word=word, **row),))
    return Comparison("a", "b", (), (level,), (), ())


@pytest.mark.parametrize(
    ("word", "ratio", "outcome", "best", "change"),
    [
        ("faster", 1.083, "better", "b", "+8.3 %"),
        ("slower", 0.8, "better", "a", "+25.0 %"),  # the margin of the better one
        ("equivalent", 1.001, "equivalent", "a", "+0.1 %"),
        ("cannot tell", 0.98, "cannot tell", "a", "-2.0 %"),
        (None, 1.5, "cannot tell", "a", "+50.0 %"),
    ],
)
def test_the_words_become_an_answer(
    word: Word | None, ratio: float, outcome: str, best: str, change: str
) -> None:
    found = answer("throughput", "a", "b", compared(word, ratio), {})
    assert (found.outcome, found.best) == (outcome, best)
    assert change in found.words
    assert ("cannot tell between" in found.words) == (outcome != "better")


def test_no_change_has_no_sign_of_less() -> None:
    assert "+0.0 %" in answer("throughput", "a", "b", compared("equivalent", 0.9999), {}).words


def test_without_a_pair_nothing_is_told() -> None:
    nothing = Comparison("a", "b", (), (), (), ("no runs in common: …",))
    found = answer("throughput", "a", "b", nothing, {})
    assert found.outcome == "nothing"
    assert "no runs in common" in found.words


def test_another_number_of_gpus_is_compared_by_gpu() -> None:
    """1.5 times the tokens of a server of two GPUs are three quarters by GPU."""
    comparison = compared("faster", 1.5)
    assert answer("throughput", "a", "b", comparison, {"a": 1, "b": 1}).best == "b"
    by_gpu = answer("throughput", "a", "b", comparison, {"a": 1, "b": 2})
    assert (by_gpu.outcome, by_gpu.best) == ("better", "a")
    assert "+33.3 %" in by_gpu.words
    assert answer("throughput", "a", "b", compared("faster", 2.0), {"a": 1, "b": 2}).outcome == (
        "cannot tell"
    )


@pytest.mark.parametrize(
    ("word", "missed", "outcome", "best"),
    [
        ("faster", {"b": True}, "better", "a"),  # more tokens/s, and every user waits
        ("faster", {"a": True}, "better", "b"),
        ("faster", {"a": True, "b": True}, "better", "b"),
        ("slower", {"b": True}, "better", "a"),
        ("equivalent", {"a": True}, "better", "b"),
        ("cannot tell", {"b": True}, "better", "a"),
        ("cannot tell", {}, "cannot tell", "a"),
    ],
)
def test_one_that_misses_the_objectives_in_its_turns_isnt_better_than_one_that_doesnt(
    word: Word, missed: dict[str, bool], outcome: str, best: str
) -> None:
    ratio = {"faster": 1.2, "slower": 0.8}.get(word, 1.0)
    turns = answer("throughput", "a", "b", compared(word, ratio), {})
    found = by_objectives(turns, missed)
    assert (found.outcome, found.best) == (outcome, best)
    assert {found.best, found.other} == {"a", "b"}
    nothing = answer("throughput", "a", "b", Comparison("a", "b", (), (), (), ("none",)), {})
    assert by_objectives(nothing, missed) == nothing


def test_half_of_the_turns_isnt_most_of_them(tmp_path: Path) -> None:
    late = {"scenario": SLO, "ttft_ms": 300.0}
    fine = {"scenario": SLO, "ttft_ms": 10.0}
    assert mostly_missed(measured(tmp_path, "a", late, late, fine).runs)
    assert not mostly_missed(measured(tmp_path, "b", late, fine).runs)
    assert not mostly_missed(measured(tmp_path, "c", {}).runs)
    assert not mostly_missed(())

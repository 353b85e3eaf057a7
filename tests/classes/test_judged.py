"""Objectives and verdict: of each class, and of all together the worst."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from vllm_bench.errors import UsageError
from vllm_bench.figures.facts import Facts
from vllm_bench.figures.objectives import Objective
from vllm_bench.scenario.scenario import Scenario
from vllm_bench.search.axis import axis_of, objectives
from vllm_bench.search.early import Counts
from vllm_bench.search.judged import lates
from vllm_bench.search.sizes import Size
from vllm_bench.summary.levels import series_of
from vllm_bench.tables.level_lines import exit_code
from vllm_bench.verdict.finding import Severity
from vllm_bench.verdict.verdict import verdicts

from tests.classes.made import info_of, made_run, mixed_order, rows_of
from tests.support.made_runs import frame_of

FAST = {"chat": 100.0, "legal": 100.0}
ASKED = {
    "chat": {"share": 0.7, "slo": {"ttft_ms": {"p50": 300}}},
    "legal": {"share": 0.3, "slo": {"ttft_ms": {"p50": 1000}}},
}


def test_each_class_is_judged_by_its_own_objectives(tmp_path: Path) -> None:
    run = made_run(tmp_path, rows_of(mixed_order(400), {"chat": 100.0, "legal": 2000.0}), ASKED)
    words = {name: part.attainment.word for name, part in run.classes.items() if part.attainment}
    assert words == {"chat": "met", "legal": "missed"}
    assert run.attainment is not None
    assert run.attainment.word == "missed"
    assert [o.objective.of_class for o in run.attainment.outcomes] == ["chat", "legal"]
    assert run.attainment.share is None  # a mean over classes would hide legal
    assert exit_code([run]) == 3


def test_the_same_requests_meet_where_each_class_does(tmp_path: Path) -> None:
    run = made_run(tmp_path, rows_of(mixed_order(400), {"chat": 100.0, "legal": 900.0}), ASKED)
    assert run.attainment is not None
    assert run.attainment.met
    assert exit_code([run]) == 0
    parts = [part.attainment for part in run.classes.values() if part.attainment]
    assert run.attainment.good == sum(part.good for part in parts)


def test_failures_of_a_class_miss_its_objectives_alone(tmp_path: Path) -> None:
    run = made_run(tmp_path, rows_of(mixed_order(400), {"chat": 100.0, "legal": -1.0}), ASKED)
    assert run.classes["legal"].attainment is not None
    assert run.classes["legal"].attainment.word == "missed"
    assert run.classes["chat"].attainment is not None
    assert run.classes["chat"].attainment.word == "met"


def test_a_scenario_s_own_objectives_are_each_class_s_and_rates_are_of_all(tmp_path: Path) -> None:
    slo = {"ttft_ms": {"p50": 300}, "requests_per_s": {"min": 9}}
    asked = {"chat": {"share": 0.7}, "legal": {"share": 0.3, "slo": {"ttft_ms": {"p50": 50}}}}
    run = made_run(tmp_path, rows_of(mixed_order(400), FAST), asked, scenario={"slo": slo})
    assert run.attainment is not None
    of = [(o.objective.of_class, o.objective.metric, o.word) for o in run.attainment.outcomes]
    assert of == [
        ("chat", "ttft_from_schedule_ms", "met"),
        ("legal", "ttft_from_schedule_ms", "missed"),
        (None, "requests_per_s", "met"),
    ]


def test_a_level_pools_classes_over_its_runs(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(400), FAST)
    runs = [made_run(tmp_path, rows, ASKED, name=f"mix{n}", repeat=n) for n in (1, 2)]
    ((level,),) = (one.levels for one in series_of(runs))
    assert level.attainment is not None
    assert level.attainment.met
    legal = level.classes["legal"].attainment
    assert legal is not None
    assert legal.arrivals == 2 * runs[0].classes["legal"].counted


# ---- the verdict ----


def test_what_is_wrong_with_a_class_names_it_and_the_run_has_the_worst(tmp_path: Path) -> None:
    order = mixed_order(600)
    ttft = {"chat": 100.0, "legal": [100.0] * 9 + [-1.0]}
    rows = rows_of(order, ttft)
    facts = Facts(frame_of(tmp_path, rows), info_of(rows, ASKED))
    whole, classes = verdicts(facts)
    named = [f for f in whole.findings if f.code == "errors" and f.figures.startswith("class ")]
    assert [f.figures.split(":")[0] for f in named] == ["class legal"]
    assert whole.level == "INVALID"
    assert classes["legal"].level == "INVALID"


def test_a_broken_class_is_no_doubt_about_the_others(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(600), FAST)
    long = [
        dataclasses.replace(r, completion_tokens=19) if r.class_ == "legal" else r for r in rows
    ]
    asked = {"chat": {"share": 0.7}, "legal": {"share": 0.3, "ignore_eos": True}}
    whole, classes = verdicts(Facts(frame_of(tmp_path, long), info_of(long, asked)))
    assert "length_mismatch" in [f.code for f in whole.doubts]
    assert "length_mismatch" in [f.code for f in classes["legal"].doubts]
    assert "length_mismatch" not in [f.code for f in classes["chat"].findings]


def test_settings_of_the_scenario_that_a_class_overrides_accuse_nobody(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(600), FAST, completion_tokens=19)
    asked = {
        "chat": {"share": 0.7, "ignore_eos": False},
        "legal": {"share": 0.3, "ignore_eos": False},
    }
    facts = Facts(frame_of(tmp_path, rows), info_of(rows, asked, scenario={"ignore_eos": True}))
    assert "length_mismatch" not in [f.code for f in verdicts(facts)[0].findings]


def test_too_few_of_a_class_is_a_note_and_no_doubt_about_the_run(tmp_path: Path) -> None:
    rows = rows_of(["legal" if i in (50, 90) else "chat" for i in range(400)], FAST)
    whole, classes = verdicts(Facts(frame_of(tmp_path, rows), info_of(rows)))
    few = [f for f in whole.findings if f.code == "few_samples"]
    assert [f.severity for f in few] == [Severity.NOTE]
    assert whole.level == classes["legal"].level == "VALID"
    run = made_run(tmp_path, rows)
    assert run.classes["legal"].percentile("ttft_ms", 50) is None


def test_a_class_that_came_short_is_seen_in_the_crowd(tmp_path: Path) -> None:
    asked = {"chat": {"share": 1.0}, "agents": {"streams": 4}}
    many = rows_of((["chat"] * 9 + ["agents"]) * 40, {"chat": 100.0, "agents": 100.0})
    # One stream of four works, the others never send: the run's own rate doesn't tell.
    whole, classes = verdicts(Facts(frame_of(tmp_path, many), info_of(many, asked)))
    assert "rate_shortfall" in [f.code for f in classes["agents"].doubts]
    assert whole.level == "INVALID"


def test_a_queue_that_grows_is_seen_though_each_class_is_small_and_streams_stand_beside(
    tmp_path: Path,
) -> None:
    """Three classes of 60 arrivals each are too few alone; streams don't hide what isn't served."""
    order = ["a", "b", "c", "agents"] * 60
    rows = [
        dataclasses.replace(
            row,
            ttft_ms=100.0 if row.class_ == "agents" else 50.0 * i,
            latency_ms=1000.0 if row.class_ == "agents" else 50.0 * i + 900,
            t_end_s=row.t_scheduled_s + (1.0 if row.class_ == "agents" else 0.05 * i + 0.9),
        )
        for i, row in enumerate(rows_of(order, dict.fromkeys(order, 100.0)))
    ]
    asked = {**{n: {"share": 1 / 3} for n in "abc"}, "agents": {"streams": 3}}
    info = info_of(rows, asked)
    info = dataclasses.replace(info, request_rate=7.5)
    whole, _ = verdicts(Facts(frame_of(tmp_path, rows), info))
    assert "not_stationary" in [f.code for f in whole.doubts]


def test_names_of_adapters_are_no_other_model(tmp_path: Path) -> None:
    asked = {"chat": {"share": 0.7}, "legal": {"share": 0.3, "model": "lora-legal"}}
    rows = rows_of(mixed_order(100), FAST)
    said = {"openai/gpt-oss-20b": 70, "lora-legal": 30}
    for replied, codes in ((said, 0), ({**said, "else": 1}, 1)):
        info = info_of(rows, asked, server={"replied_as": replied})
        found = verdicts(Facts(frame_of(tmp_path, rows), info))[0].findings
        assert sum(f.code == "other_model" for f in found) == codes


# ---- a search ----

SCENARIO = {
    **{"name": "mix", "model": "m", "dataset": "sample", "max_new_tokens": 8},
    **{"request_rates": [4.0], "num_requests": 100},
    "slo": {"ttft_ms": {"p95": 500}},
}


def test_a_search_has_each_class_s_objectives() -> None:
    classes = {"chat": {"share": 0.7}, "legal": {"share": 0.3, "slo": {"ttft_ms": {"p90": 2000}}}}
    found = objectives(Scenario.model_validate({**SCENARIO, "classes": classes}))
    assert [(o.of_class, o.share, o.limit_ms) for o in found[""]] == [
        ("chat", 0.95, 500.0),
        ("legal", 0.9, 2000.0),
    ]


def test_a_probe_holds_only_where_each_class_does(tmp_path: Path) -> None:
    run = made_run(tmp_path, rows_of(mixed_order(400), {"chat": 100.0, "legal": 2000.0}), ASKED)
    assert run.attainment is not None
    late = lates(run.attainment, run.samples, run.classes)
    assert [one.within for one in late] == [True, False]
    assert late[1].value_ms == pytest.approx(2000.1)


def test_classes_of_streams_are_not_searched_by_streams() -> None:
    keys = {k: v for k, v in SCENARIO.items() if k not in ("request_rates", "num_requests")}
    classes = {"a": {"streams": 2}, "b": {"streams": 2}}
    scenario = Scenario.model_validate({**keys, "duration_s": 5, "classes": classes})
    for of in ("rate", "concurrency"):
        with pytest.raises(UsageError):
            axis_of(scenario, of)  # type: ignore[arg-type]


def test_a_run_ends_early_by_the_late_ones_of_one_class() -> None:
    asked = [Objective("ttft_ms", 0.9, 300.0, "legal")]
    rows = rows_of(mixed_order(200), {"chat": 9000.0, "legal": 400.0})
    counts = Counts([asked], Size(200, 0), 1.0, [r.t_scheduled_s for r in rows], {"legal": 0.3})
    legal = [row for row in rows if row.class_ == "legal"]
    assert counts.enough([row for row in rows if row.class_ == "chat"], 0.0) is None
    assert counts.enough(legal[:6], 0.0) is None  # of 60 a tenth may be late
    assert counts.enough(legal[6:7], 0.0) is not None

"""TTFT over load, judged by rules that a table shows; and the knee of throughput."""

from __future__ import annotations

import csv
import dataclasses
import io

import numpy as np
import pytest
from vllm_bench.figures.attained import Attainment
from vllm_bench.figures.objectives import Objective, Outcome, RateObjective, RateOutcome
from vllm_bench.figures.throughput import Throughput
from vllm_bench.records.row import to_csv
from vllm_bench.scenario.load import Load
from vllm_bench.stats.distribution import Distribution
from vllm_bench.stats.rate import Rate
from vllm_bench.stats.share import Share
from vllm_bench.summary.capacity import capacity
from vllm_bench.summary.levels import Level, series_of
from vllm_bench.summary.stability import find_knee, stability
from vllm_bench.summary.summary import RunSummary, sorted_summaries
from vllm_bench.tables.level_columns import LEVEL_COLUMNS, level_rows
from vllm_bench.verdict.finding import Finding, Severity
from vllm_bench.verdict.verdict import Verdict

from tests.support.made_runs import made_info, made_record, summary_of, summed


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> RunSummary:
    """A healthy run to change."""
    records = [made_record(i) for i in range(100)]
    folder = tmp_path_factory.mktemp("plain")
    return summary_of(folder, records)


@pytest.fixture
def level(plain):
    """Return a level of one run with given TTFT percentiles and output rate."""

    def made(streams, p50=100.0, p95=150.0, *, rate=None, met=None) -> Level:
        shown = {q: v for q, v in ((50.0, p50), (95.0, p95)) if v is not None}
        ttft = Distribution(100, 1.0, 1.0, 1.0, 1.0, shown, {})
        steady = Throughput(10.0, 10, 10.0, None if rate is None else 10.0 * rate)
        reached = None
        if met is not None:
            share = Share((40,) * 10, (40 if met else 36,) * 10)
            outcome = Outcome(Objective("ttft_ms", 0.99, 500.0), share)
            reached = Attainment((outcome,), share, outcome.within, 10.0)
        return Level(
            (
                dataclasses.replace(
                    plain,
                    load=Load("streams", streams),
                    distributions={"ttft_ms": ttft},
                    steady=steady,
                    throughput=None,
                    attainment=reached,
                ),
            )
        )

    return made


def states(levels):
    found = stability(levels)
    assert found is not None
    return [one.state for one in found.levels]


def test_a_server_that_holds_up_is_called_so(level):
    levels = [level(8, 120, 180), level(16, 135, 210), level(32, 160, 280)]
    assert states(levels) == ["baseline", "stable", "acceptable"]


def test_a_server_that_does_not_is_unstable_then_overloaded(level):
    levels = [level(8, 120, 180), level(16, 450, 890), level(32, 1200, 2500)]
    assert states(levels) == ["baseline", "unstable", "overloaded"]


@pytest.mark.parametrize(
    ("streams", "p50", "p95", "expected"),
    [
        # 120 and 180 ms are 170 and 230 with the 50 ms that nobody notices.
        (32, 162, 180, "stable"),  # 212 is just less than a quarter more
        (32, 163, 180, "acceptable"),
        (32, 120, 237, "stable"),
        (32, 120, 238, "acceptable"),
        (32, 120, 409, "acceptable"),  # 1.99 x at 4 x the load
        (32, 120, 410, "unstable"),  # 2 x
        (16, 120, 410, "unstable"),  # 2 x at 2 x the load is no better
        (128, 120, 869, "acceptable"),  # at 16 x the load 2 x the root of 16 / 4 is allowed: 4 x
        (128, 120, 870, "unstable"),
        (32, 289, 300, "acceptable"),  # p50 just not doubled
        (32, 290, 300, "unstable"),
        (32, 1139, 1200, "unstable"),  # 6.99 x at 4 x the load
        (32, 1140, 1200, "overloaded"),
        (32, None, None, "cannot tell"),
        (32, 160, None, "cannot tell"),  # too few for a p95, which is half of stable
        (32, 200, None, "cannot tell"),
        (32, 290, None, "unstable"),  # the median alone says so
        (32, 1140, None, "overloaded"),
    ],
)
def test_each_rule_has_its_edge(level, streams, p50, p95, expected):
    assert states([level(8, 120, 180), level(streams, p50, p95)])[1] == expected


def test_without_the_lowest_level_s_p95_nothing_is_stable(level):
    assert states([level(8, 120, None), level(16, 120, 180)]) == ["baseline", "cannot tell"]


def test_an_invalid_level_is_not_judged_and_says_why(level, plain):
    levels = [level(8, 120, 180), level(16, 120, 180)]
    bad = Verdict((Finding("errors", Severity.INVALID, "many", "fix them"),))
    runs = (dataclasses.replace(levels[1].runs[0], verdict=bad),)
    found = stability([levels[0], Level(runs)])
    assert found is not None
    assert found.levels[0].invalid is None
    assert (found.levels[1].state, found.levels[1].p50_ms) == ("cannot tell", None)
    assert "INVALID (errors)" in found.lines[1]


def test_a_short_wait_may_grow_many_times_over(level):
    assert states([level(1, 8, 10), level(64, 45, 58)])[1] == "acceptable"


@pytest.mark.parametrize("base", [1.0, 12.0, 200.0])
def test_a_millisecond_more_never_skips_a_word(level, base):
    order = ["stable", "acceptable", "unstable", "overloaded"]
    found = [
        order.index(states([level(8, base, base), level(16, base + more, base + more)])[1])
        for more in range(1, 1500)
    ]
    assert set(np.diff(found)) == {0, 1}


def test_one_level_has_nothing_to_be_held_against(level):
    assert stability([level(8)]) is None


def test_past_the_knee_a_doubled_wait_is_overload(level):
    levels = [level(8, 120, 180, rate=1000), level(16, 300, 320, rate=1050)]
    assert states(levels) == ["baseline", "overloaded"]
    rising = [level(8, 120, 180, rate=1000), level(16, 289, 300, rate=1900)]
    assert states(rising) == ["baseline", "acceptable"]


@pytest.mark.parametrize(
    ("rates", "knee"),
    [
        ([(1, 100), (2, 200), (4, 400)], None),
        ([(1, 100), (2, 190), (4, 200), (8, 198)], 2),
        ([(1, 100), (2, 111), (4, 124)], None),  # 2 ^ 0.15 = 1.1096
        ([(1, 100), (2, 110), (4, 121)], 1),
        ([(1, 100), (2, 102), (4, 300)], None),  # a flat step and then a rise: noise
        ([(1, 100), (2, 90)], 1),
        ([(1, None), (2, 100), (4, 101)], 2),
        ([(10, 100), (11, 100), (12, 101)], None),  # too little more load to tell from chance
        ([(10, 100), (11, 100), (12, 101), (13, 101)], 10),  # 1.3 x in all
    ],
)
def test_the_knee_is_where_more_load_stops_bringing_more(level, rates, knee):
    found = find_knee([level(streams, rate=rate) for streams, rate in rates])
    assert (found.load.value if found else None) == knee


def test_the_knee_is_said_with_its_figures(level):
    found = find_knee([level(16, rate=1000), level(32, rate=1030)])
    assert found is not None
    assert (found.load.value, found.next_load.value) == (16, 32)
    assert found.gain == pytest.approx(0.03)
    assert "(+100 % load) brought +3.0 %" in found.words


@pytest.mark.parametrize(
    ("met", "highest", "missed"),
    [
        ([True, True], 1, None),
        ([True, False], 0, 1),
        ([False, False], None, 0),
        ([False, True], None, 0),  # luck
    ],
)
def test_capacity_is_the_highest_level_below_which_all_met(level, met, highest, missed):
    levels = [level(2 * i, met=m) for i, m in enumerate(met, start=1)]
    found = capacity(levels)
    assert found is not None
    assert found.met == (None if highest is None else levels[highest])
    assert found.beyond == (None if missed is None else levels[missed])
    assert missed is None or "TTFT p99" in found.words


def test_a_level_that_shows_nothing_ends_the_capacity_unless_a_higher_one_met(level):
    unsure = level(8, met=True)
    share = Share((4,) * 10, (4,) * 10)
    outcome = Outcome(Objective("ttft_ms", 0.99, 500.0), share)
    reached = Attainment((outcome,), share, outcome.within, 10.0)
    unsure = Level((dataclasses.replace(unsure.runs[0], attainment=reached),))
    for above in ((), (level(16, met=False),)):
        found = capacity([level(2, met=True), unsure, *above])
        assert found is not None
        assert found.beyond is unsure
        assert found.met is not None
        assert found.met.load.value == 2
    found = capacity([level(2, met=True), unsure, level(16, met=True)])
    assert found is not None
    assert (found.met and found.met.load.value, found.beyond) == (16, None)
    assert unsure.attainment is not None
    assert unsure.attainment.word == "not shown"


def rated(level, streams, rate, *, late=False, tier=None):
    """A level with 1 TTFT objective, and one on a rate: at least 100 requests/s."""
    share = Share((40,) * 10, (36 if late else 40,) * 10)
    ttft = Outcome(Objective("ttft_ms", 0.99, 500.0), share)
    done = RateOutcome(RateObjective("requests_per_s", 100.0), Rate((rate,) * 10, (1.0,) * 10, 400))
    reached = Attainment((ttft, done), share, ttft.within, 10.0)
    (run,) = level(streams).runs
    changes = {"tiers": {tier: reached}} if tier else {"attainment": reached}
    return Level((dataclasses.replace(run, **changes),))


@pytest.mark.parametrize("tier", [None, "batch"])
def test_a_rate_that_too_little_load_missed_ends_no_capacity(level, tier):
    levels = [rated(level, n, 20.0 * n, late=n > 16, tier=tier) for n in (2, 4, 8, 16, 32)]
    found = capacity(levels, tier)
    assert found is not None
    loads = [one and one.load.value for one in (found.first, found.met, found.beyond)]
    assert loads == [8, 16, 32]
    assert "from 8 streams up to 16 streams" in found.words
    assert "TTFT" in found.words.rpartition(";")[2]
    # One that is missed beside an objective on requests isn't for want of load.
    early = capacity([rated(level, 2, 40.0, late=True, tier=tier), *levels[2:]], tier)
    assert early is not None
    assert (early.met, early.beyond and early.beyond.load.value) == (None, 2)
    # Nor is one above a level that met.
    fell = capacity([*levels[2:3], rated(level, 16, 90.0, tier=tier)], tier)
    assert fell is not None
    assert (fell.first, fell.beyond and fell.beyond.load.value) == (None, 16)


def test_a_rate_that_no_level_reached_is_told(level):
    found = capacity([rated(level, n, 10.0 * n) for n in (2, 4)])
    assert found is not None
    assert (found.met, found.beyond and found.beyond.load.value) == (None, 4)
    assert "requests/s ≥ 100" in found.words


def test_without_objectives_there_is_no_capacity(level):
    assert capacity([level(2), level(4)]) is None


def runs_of(tmp_path, *of):
    """Summaries of runs, each (run id, streams, seconds a request, changes of its info)."""
    summaries = []
    for run_id, streams, took, changes in of:
        records = [
            made_record(
                i,
                run_id=run_id,
                concurrency=streams,
                latency_ms=1000.0 * took,
                ttft_ms=100.0 * took,
                t_sent_s=i // streams * took,
            )
            for i in range(100)
        ]
        info = made_info(records, **changes)
        summaries.append(summed(tmp_path, records, info))
    return sorted_summaries(summaries)


def test_runs_of_one_load_and_setting_are_repeats_and_others_are_not(tmp_path):
    summaries = runs_of(
        tmp_path,
        ("a", 4, 1.0, {}),
        ("b", 4, 1.1, {}),
        ("c", 8, 1.0, {}),
        ("d", 4, 1.0, {"server": {"version": "0.33.0"}}),
        ("e", 4, 1.0, {"scenario": {"max_new_tokens": 99}}),
        ("f", 4, 1.0, {"scenario": {"description": "again"}}),
        ("g", 4, 1.0, {"scenario": {"telemetry": True, "telemetry_gpus": [0]}}),
    )
    found = [
        [[r.run_id for r in lv.runs] for lv in series.levels] for series in series_of(summaries)
    ]
    assert sorted(found) == [[["a", "b", "f", "g"], ["c"]], [["d"]], [["e"]]]


def test_a_level_shows_its_mean_its_interval_and_every_repeat(tmp_path):
    summaries = runs_of(tmp_path, *((f"r{i}", 4, 1 + i / 10, {}) for i in range(3)))
    text = to_csv(LEVEL_COLUMNS, level_rows(series_of(summaries))).decode()
    (cells,) = csv.DictReader(io.StringIO(text))
    assert list(cells) == [c.name for c in LEVEL_COLUMNS]
    assert cells["run_ids"].split() == ["r0", "r1", "r2"]
    assert cells["ttft_p50_ms_runs"] == "100.0000 110.0000 120.0000"
    assert float(cells["ttft_p50_ms"]) == 110  # of all their rows
    # Three runs that differ by more than requests do: there is hardly a bound.
    assert (cells["ttft_p50_ms_low"], cells["ttft_p50_ms_high"]) == ("0.0000", "")

"""Which pictures runs allow, under which names, and why others are missing."""

from __future__ import annotations

import re

import pytest
from vllm_bench.charts.pictures import all_series, moment_pictures, series_pictures

from tests.charts.drawn import drawn_at, facts_at, level, series_at, written
from tests.support.made_runs import failed_record, made_record, whole_reply_record
from tests.support.reading import numbers


@pytest.fixture
def pictures(tmp_path):
    """Write runs and return the pictures of their series by name."""

    def made(runs, **changes):
        paths = [written(tmp_path, list(records), **changes) for records in runs]
        return {picture.name: picture for picture in series_pictures("made", *series_at(paths))}

    return made


def test_runs_of_several_levels_have_every_picture(pictures):
    found = pictures([level(c) for c in (1, 8)])
    metrics = ("ttft", "latency", "itl", "chunk_gap")
    assert set(found) == {
        *(f"made-cc{c}-0_{metric}_cdf" for c in (1, 8) for metric in metrics),
        *(f"made_{what}" for what in ("ttft_overlay", "latency_overlay", "load", "pareto")),
    }
    assert {name for name, picture in found.items() if picture.chart is None} == {
        f"made-cc{c}-0_{metric}_cdf"
        for c in (1, 8)
        for metric in metrics[2:]  # no stamps
    }


def test_a_runs_moments_are_a_timeline_and_its_requests(tmp_path):
    path = written(tmp_path, list(level(8)))
    timeline, requests = moment_pictures(drawn_at(path), facts_at(path))
    assert timeline.name.endswith("_timeline")
    assert requests.name.endswith("_waterfall")
    assert None not in (timeline.chart, requests.chart)
    path = written(tmp_path, [], run_id="none")
    assert [p.chart for p in moment_pictures(drawn_at(path), facts_at(path))] == [None, None]


def test_a_heading_names_scenario_model_data_level_and_verdict(pictures):
    failed = failed_record(50, run_id="made-cc8-0", concurrency=8)
    found = pictures([[*level(8, count=50), failed]], server={"simulator": True})
    over = found["made-cc8-0_ttft_cdf"].heading
    assert over.title.endswith(": made, 8 streams")
    assert over.setup.split(" · ")[:2] == ["openai/gpt-oss-20b", "dolly"]
    assert "simulated" in over.setup
    assert "50 of 51" in over.setup
    assert numbers(over.setup.partition("figures of")[2]) == [34]  # sent in the steady window
    assert re.findall(r"\w+", over.verdict)[1:3] == ["INVALID", "errors"]


def test_a_heading_of_an_open_loop_says_from_the_schedule(pictures):
    def come(rate):
        fields = {"run_id": f"made-r{rate:g}", "request_rate": rate, "send_lag_ms": 40.0}
        return [made_record(i, **fields) for i in range(80)]

    found = pictures([come(2.5), come(20.0)])
    title = found["made-r20_ttft_cdf"].heading.title
    assert "schedule" in title
    assert title.endswith(": made, 20 requests/s")
    assert "schedule" in found["made_latency_overlay"].heading.title


def test_what_cannot_be_drawn_says_why(pictures):
    whole = pictures(
        [[whole_reply_record(i, run_id="w") for i in range(80)]], scenario={"stream": False}
    )
    for metric in ("ttft", "itl", "chunk_gap"):
        assert "stream: false" in whole[f"w_{metric}_cdf"].why_not
    assert whole["w_latency_cdf"].chart is not None
    assert whole["made_*"].chart is None
    failed = pictures([[failed_record(i, run_id=f"f{n}") for i in range(10)] for n in range(2)])
    assert {picture.chart for picture in failed.values()} == {None}
    assert all(picture.why_not for picture in failed.values())


def test_an_untrusted_scenario_cannot_name_a_file_elsewhere(pictures):
    found = pictures([[made_record(0, scenario="../../x", run_id=f"r{n}")] for n in range(2)])
    assert all("/" not in name for name in found)


@pytest.mark.parametrize(
    ("changes", "bases"),
    [
        ([{"scenario": {"cache": c}} for c in ("run", "cold")], ["cache-run", "cache-cold"]),
        ([{"scenario": {"label": w}} for w in ("seqs16", "seqs64")], ["seqs16", "seqs64"]),
        ([{"server": {"system_fingerprint": f}} for f in "xy"], ["server-A", "server-B"]),
    ],
    ids=["a setting", "a label", "a hash"],
)
def test_other_settings_are_another_picture_named_for_people(tmp_path, changes, bases):
    runs = []
    for n, change in enumerate(changes):
        for c in (1, 8):
            runs.append(drawn_at(written(tmp_path, list(level(c, count=80, repeat=n)), **change)))
    found = [pic for name, one in all_series(runs) for pic in series_pictures(name, one, runs)]
    names = [picture.name for picture in found]
    assert len(names) == len(set(names))
    assert {f"made-{base}_{what}" for base in bases for what in ("load", "pareto")} <= set(names)


def test_a_label_stands_in_every_heading(tmp_path):
    path = written(tmp_path, list(level(8)), scenario={"label": "seqs16"})
    run = drawn_at(path)
    ((name, series),) = all_series([run])
    pictures = [*moment_pictures(run, facts_at(path)), *series_pictures(name, series, [run])]
    assert all("made (seqs16)" in p.heading.title for p in pictures if p.chart is not None)

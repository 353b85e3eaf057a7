"""summary.json keeps to the schema that is printed, and vLLM's format to vLLM's own keys."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from vllm_bench.records.beside.token_file import save
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.row import column_docs
from vllm_bench.serverside.server import ServerSide
from vllm_bench.stats.batches import Interval
from vllm_bench.summary.summary import sorted_summaries, summarize
from vllm_bench.tables.columns import BY_NAME, SUMMARY_COLUMNS
from vllm_bench.tables.document import RUN_FIGURES, to_json
from vllm_bench.tables.vllm_format import over_all, to_vllm

from tests.figures.test_token_gaps import arrays_of
from tests.support.made_runs import (
    failed_record,
    made_info,
    made_record,
    summary_of,
    summed,
    whole_reply_record,
    write_run,
)

ROOT = Path(__file__).resolve().parents[2]
REAL_VLLM = ROOT / "tests" / "data" / "vllm_bench_serve.json"
SLO = {"ttft_ms": {"p99": 500.0}, "success_rate": 0.999}
RATES = {"output_tokens_per_s": {"min": 80.0}, "requests_per_s": {"min": 1000.0}}
TIERS = {"interactive": SLO, "batch": RATES}


def streamed_run(folder: Path, streams: int, run_id: str, **changes):
    """Write a run with its tokens' stamps: TTFT 100 ms, then a token each 900 / 19 ms."""
    records = [
        made_record(i, run_id=run_id, concurrency=streams, ttft_ms=100.0 * (1 + i % 3))
        for i in range(400)
    ]
    path = write_run(folder, records, made_info(records, **changes))
    stamps = {
        r.request_index: [(1000 * r.t_sent_s + r.ttft_ms + k * 900 / 19, 1, 1) for k in range(20)]
        for r in records
    }
    (folder / "tokens").mkdir(exist_ok=True)
    save(arrays_of(stamps), folder / "tokens" / f"{run_id}.npz")
    return summarize(load_run(path))


@pytest.fixture(scope="module")
def summaries(tmp_path_factory):
    """Every shape of run: with stamps and objectives, failing, in one piece, empty, bare."""
    folder = tmp_path_factory.mktemp("runs")
    made = [
        streamed_run(folder, 4, "a", scenario={"slo": SLO}),
        streamed_run(folder, 8, "b", scenario={"slo": {**SLO, **RATES}, "slo_tiers": TIERS}),
    ]
    others = {
        "failing": [failed_record(i, run_id="failing", scenario="f") for i in range(9)],
        "whole": [whole_reply_record(i, run_id="whole", scenario="w") for i in range(9)],
    }
    for name, records in others.items():
        info = None if name == "failing" else made_info(records, scenario={"stream": False})
        made.append(summed(folder, records, info))
    nothing = made_info([], status="running", num_requests=5, scenario={"name": "none"})
    made.append(summed(folder, [], nothing, name="nothing"))
    open_ = [made_record(i, run_id="open", scenario="o", request_rate=20.0) for i in range(100)]
    made.append(summary_of(folder, open_))
    return sorted_summaries(made)


@pytest.fixture(scope="module")
def schema():
    """What `summarize.py --schema` prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "summarize.py"), "--schema"],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.process
def test_every_shape_of_run_keeps_to_the_schema(summaries, schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    found = json.loads(to_json(summaries))
    jsonschema.validate(found, schema)
    assert len(found["runs"]) == 6
    by_id = {run["run_id"]: run for run in found["runs"]}
    assert (
        by_id["a"]["distributions"]["itl_ms"]["n"] == 19 * by_id["a"]["figures"]["requests_counted"]
    )
    assert by_id["a"]["attainment"]["word"] == "not shown"  # 393 requests can't show 99.9 %
    words = {o["objective"]["metric"]: o["word"] for o in by_id["a"]["attainment"]["outcomes"]}
    assert words == {"ttft_ms": "met", None: "not shown"}
    outcomes = by_id["b"]["attainment"]["outcomes"]
    rates = {o["objective"]["metric"]: o for o in outcomes if "per_s" in o}
    assert {name: o["word"] for name, o in rates.items()} == {
        "output_tokens_per_s": "met",
        "requests_per_s": "missed",
    }
    assert rates["requests_per_s"]["interval"]["high"] < 1000
    tiers = {name: tier["word"] for name, tier in by_id["b"]["tiers"].items()}
    assert tiers == {"interactive": "not shown", "batch": "missed"}
    capacities = [one["tiers"] for one in found["scenarios"] if "b" in one["run_ids"]]
    assert [list(of) for of in capacities] == [["interactive", "batch"]]
    assert by_id["a"]["tiers"] == {}
    assert by_id["open"]["load"] == {"unit": "requests/s", "value": 20, "speed": None}
    assert by_id["whole"]["absent"]["itl_ms"].startswith("stream: false")
    assert by_id["failing"]["verdict"]["level"] == "INVALID"


def _without(document, *path):
    """Take away what lies at the end of a path."""
    for key in path[:-1]:
        document = document[key]
    del document[path[-1]]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.update(more=1),
        lambda d: d.update(schema_version=1),
        lambda d: d["runs"][0]["figures"].update(more=1),
        lambda d: d["runs"][0]["figures"].update(requests=[1]),
        lambda d: d["runs"][0]["absent"].update(more="why"),
        lambda d: d["runs"][0]["server_side"].update(more=1),
        lambda d: d["runs"][0]["verdict"].update(level="FINE"),
        lambda d: d["runs"][0]["verdict"]["findings"][0].update(severity="FINE"),
        lambda d: _without(d, "levels"),
        lambda d: _without(d, "levels", 0, "ttft_p50_ms"),
        lambda d: _without(d, "runs", 0, "figures", "requests"),
        lambda d: _without(d, "runs", 0, "cost", "gpus"),
    ],
)
def test_the_schema_refuses_what_the_file_must_not_be(summaries, schema, spoil):
    wrong = json.loads(to_json(summaries))
    spoil(wrong)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_every_column_of_a_run_is_in_the_document_once(summaries):
    document = json.loads(to_json(summaries))
    by_id = {run["run_id"]: run for run in document["runs"]}
    for summary in summaries:
        run = by_id[summary.run_id]
        for column in SUMMARY_COLUMNS:
            part = run.get(str(column.get).split(".")[0]) if isinstance(column.get, str) else None
            assert (column.name in run["figures"]) + (part is not None) <= 1, column.name
        for column in RUN_FIGURES:
            assert run["figures"][column.name] == column.value(summary)
    found = by_id["a"]
    assert found["distributions"]["ttft_ms"]["percentiles"]["99.0"] == 300
    assert found["attainment"]["interval"]["high"] == 1


def test_the_schema_says_what_figures_mean(schema):
    meanings = schema["$defs"]["ServerSide"]["properties"]
    assert (
        meanings["queue_mean_ms"]["description"] == dict(column_docs(ServerSide))["queue_mean_ms"]
    )
    figures = schema["$defs"]["Run"]["properties"]["figures"]["properties"]
    assert figures["littles_law"]["description"] == BY_NAME["littles_law"].doc


def test_the_same_files_through_numpy_by_hand_give_the_same_token_figures(tmp_path):
    found = streamed_run(tmp_path, 4, "a")
    arrays = np.load(tmp_path / "tokens" / "a.npz")
    t, first = arrays["t_ns"] / 1e9, arrays["first_read"]
    gaps = np.concatenate([1000 * np.diff(t[a:b]) for a, b in itertools.pairwise(first)])
    itl = found.distributions["itl_ms"]
    assert itl.percentile(99) == pytest.approx(np.percentile(gaps, 99))
    assert itl.mean == pytest.approx(gaps.mean())
    window = found.window
    assert window is not None
    assert found.steady is not None
    inside = ((t >= window.start_s) & (t < window.end_s)).sum()
    assert found.steady.output_tokens_per_s == pytest.approx(inside / window.length_s)
    assert found.peak_output_tokens_per_s == np.bincount(t.astype(int)).max()


def test_vllms_format_has_the_keys_of_a_real_result_with_the_same_types(summaries):
    real = json.loads(REAL_VLLM.read_text())
    ours = json.loads(to_vllm(next(s for s in summaries if s.run_id == "a")))
    assert list(ours) == list(real)
    for key, value in real.items():
        if value is not None:
            number = isinstance(value, int | float) and isinstance(ours[key], int | float)
            assert number or type(ours[key]) is type(value), key


def test_the_document_says_where_an_interval_has_no_end(summaries, schema):
    run = next(s for s in summaries if s.run_id == "a")
    ttft = run.distributions["ttft_ms"]
    endless = {**ttft.intervals, 95.0: Interval(100.0, math.inf)}
    ttft = dataclasses.replace(ttft, intervals=endless, needed={95.0: 900})
    changed = dataclasses.replace(run, distributions={**run.distributions, "ttft_ms": ttft})
    found = json.loads(to_json([changed]))
    jsonschema.validate(found, schema)
    (written,) = found["runs"]
    assert written["distributions"]["ttft_ms"]["intervals"]["95.0"] == {"low": 100, "high": None}
    assert written["distributions"]["ttft_ms"]["needed"] == {"95.0": 900}
    assert found["levels"][0]["ttft_p95_ms_low"] == 100
    assert found["levels"][0]["ttft_p95_ms_high"] is None


def test_vllms_figures_are_of_all_requests_of_the_run(tmp_path):
    streamed_run(tmp_path, 4, "a", scenario={"slo": SLO})
    run = load_run(tmp_path / "a.csv")
    own, theirs = summarize(run), json.loads(to_vllm(over_all(run)))
    assert own.counted < own.requests == theirs["completed"] == 400
    rows = run.frame["ttft_ms"]
    assert theirs["p99_ttft_ms"] == pytest.approx(np.percentile(rows, 99))
    assert theirs["mean_ttft_ms"] == pytest.approx(rows.mean())
    assert theirs["request_goodput"] == pytest.approx(400 / 100.75)


def test_vllms_figures_are_ours_under_its_names(summaries):
    run = next(s for s in summaries if s.run_id == "a")
    found = json.loads(to_vllm(run))
    assert (found["completed"], found["failed"], found["max_concurrency"]) == (400, 0, 4)
    assert found["p99_ttft_ms"] == run.percentile("ttft_ms", 99) == 300
    assert found["median_e2el_ms"] == 1000
    assert found["mean_itl_ms"] == pytest.approx(900 / 19)
    assert found["duration"] == pytest.approx(100.75)
    assert found["output_throughput"] == pytest.approx(400 * 20 / 100.75)


def test_vllms_format_says_null_where_there_is_nothing(summaries):
    for run in summaries:
        found = json.loads(to_vllm(run))
        assert list(found) == list(json.loads(REAL_VLLM.read_text()))
    nothing = json.loads(to_vllm(next(s for s in summaries if s.run_id == "whole")))
    assert nothing["mean_ttft_ms"] is None
    assert nothing["p99_e2el_ms"] is None  # nine requests have no p99
    assert nothing["median_e2el_ms"] == 1000

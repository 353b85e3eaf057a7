"""What server and GPUs did, in words: there where something was seen, and with its reasons."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import jsonschema
from vllm_bench.records.row import column_docs, to_csv
from vllm_bench.serverside.energy import SENSOR_NOTE
from vllm_bench.serverside.said import ServerSaid
from vllm_bench.summary.levels import series_of
from vllm_bench.summary.summary import RunSummary
from vllm_bench.tables.columns import SUMMARY_COLUMNS
from vllm_bench.tables.document import schema, to_json
from vllm_bench.tables.level_lines import server_lines, server_rows
from vllm_bench.tables.markdown import to_markdown

from tests.end_to_end.watched import TENTHS, counted, gpu, observed_gpus, watched
from tests.support.made_runs import server_row


def lines_of(*runs: RunSummary) -> list[str]:
    (series,) = series_of(runs)
    return server_lines(series)


def test_a_run_beside_which_nothing_was_sampled_has_no_lines(tmp_path: Path) -> None:
    run = watched(tmp_path)
    assert lines_of(run) == []
    assert "Server and GPUs" not in to_markdown([run])


def test_each_figure_of_server_gpus_energy_and_cost_has_a_row_of_its_own(tmp_path: Path) -> None:
    said = {"ttft_count": 4, "ttft_mean_ms": 80.0, "queue_count": 4, "queue_mean_ms": 20.0}
    rows = [server_row(float(t), kv_cache_usage=0.25, waiting=3.0, **said) for t in range(101)]
    gpus = gpu(0, energy_j=counted(300)) + gpu(1, energy_j=counted(300))
    price = {"gpu_hour_price": 2}
    run = watched(tmp_path, gpus, rows, observed=observed_gpus(0, 1), scenario=price)
    (series,) = series_of([run])
    (blank, name), *figures = server_rows(series)
    assert (blank, name) == ("", "4 streams")
    assert dict(figures) == {
        "TTFT, mean ms server": "80.0",
        "queue mean ms": "20.0",
        "queue % of TTFT": "25.0 %",
        "waiting mean": "3.00",
        "waiting peak": "3.00",
        "KV cache % mean": "25.0 %",
        "KV cache % peak": "25.0 %",
        "GPUs seen": "2",
        "GPUs expected": "2",
        "GPU use % mean": "90.0",
        "power W total": "600",
        "power W peak": "300",
        "heat °C peak": "60.0",
        "SM clock MHz mean": "1980",
        "memory MB peak": "70000",
        "throttled % of time": "0 %",
        "energy J/token": "7.50",
        "energy J/request": "150",
        "energy J": "58950",
        "energy tokens/s/W": "0.13",
        "output tokens/s per GPU": "40.0",
        "cost per 1M tokens": "13.9",
    }
    assert lines_of(run) == ["4 streams: energy by energy counter", SENSOR_NOTE]


def test_means_of_few_readings_say_of_how_many(tmp_path: Path) -> None:
    for count, said in ((2, ["2"]), (4, ["4"]), (5, [])):
        rows = [server_row(20.0 + t, running=1.0) for t in range(count)]
        (folder := tmp_path / str(count)).mkdir()
        lines = lines_of(watched(folder, metrics=rows))
        assert [word for line in lines for word in line.split() if word.isdigit()][1:] == said


def test_readings_that_lie_outside_the_window_are_told_as_the_reason(tmp_path: Path) -> None:
    noted = {"server_metrics": {"source": "http://gpu-host:8000/metrics", "rows": 3}}
    rows = [server_row(t, running=1.0) for t in (-1.0, 50.0, 200.0)]
    run = watched(tmp_path, metrics=rows, observed=noted)
    (line,) = lines_of(run)
    why = run.server_side.absent["running_mean"]
    assert why in line
    assert why.startswith("1 of")
    assert "98.2 s" in why


def test_trouble_is_told_gpu_by_gpu(tmp_path: Path) -> None:
    hot = gpu(0, throttle_reasons=lambda t: "hw_thermal_slowdown" if t < 50 else "none")
    gone = gpu(1, [t for t in TENTHS if t < 26])
    run = watched(
        tmp_path,
        hot + gone + gpu(2, utilization_percent=0),
        observed=observed_gpus(0, 1, 2, 3),
        scenario={"gpu_hour_price": 2},
    )
    slowed, part, idle, energy = lines_of(run)
    figures = dict(server_rows(*series_of([run]))[1:])
    assert (figures["GPUs seen"], figures["GPUs expected"]) == ("3", "4")
    assert "GPU 0's" in slowed
    assert "in 49 %" in slowed
    assert slowed.endswith("hw_thermal_slowdown 49 %")
    assert "GPU 1 " in part
    assert "24.5 %" in part
    assert "GPU 2 " in idle
    assert run.energy.absent["window_j"] in energy
    assert all(gpu in energy for gpu in ("GPU 1 ", "25.9 s", "GPU 3 "))
    assert SENSOR_NOTE not in lines_of(run)


def test_repeats_are_told_apart(tmp_path: Path) -> None:
    rows = [server_row(float(t), running=1.0) for t in range(101)]
    runs = []
    for name in "ab":
        (tmp_path / name).mkdir()
        run = watched(tmp_path / name, metrics=rows)
        runs.append(dataclasses.replace(run, folder=tmp_path))
    (series,) = series_of(runs)
    assert server_rows(series)[0] == ["", "4 streams, run 1", "4 streams, run 2"]


def test_a_price_that_buys_nothing_known_says_why(tmp_path: Path) -> None:
    run = watched(tmp_path, scenario={"gpu_hour_price": 2})
    (line,) = lines_of(run)
    assert line == f"4 streams: no cost: {run.cost.absent['per_million_output_tokens']}"
    assert "gpus" in run.cost.absent["gpus"]  # the key to set


def test_a_watched_run_keeps_to_the_schema_of_summary_json(tmp_path: Path) -> None:
    rows = [server_row(float(t), running=1.0, ttft_count=2, ttft_mean_ms=9.0) for t in range(101)]
    gpus = gpu(0, throttle_reasons="hw_slowdown") + gpu(1, energy_j=counted(300))
    run = watched(tmp_path, gpus, rows, observed=observed_gpus(0, 1))
    found = json.loads(to_json([run]))
    jsonschema.validate(found, schema())
    parts = found["runs"][0]
    assert parts["server_side"]["ttft_mean_ms"] == 9
    assert [g["throttled_by"] for g in parts["gpu_side"]["gpus"]] == [{"hw_slowdown": 1.0}, {}]
    assert parts["energy"]["source"] == "energy counter and power"
    assert parts["cost"]["gpus"] == 2


def test_each_column_has_its_value_or_its_part_a_reason(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    spent = {f"{n}_count": 4 for n in ("ttft", "queue", "prefill", "decode")}
    spent |= {f"{n}_mean_ms": 20.0 for n in ("ttft", "queue", "prefill", "decode")}
    gauges = {"kv_cache_usage": 0.5, "running": 4.0, "waiting": 0.0}
    full = watched(
        tmp_path / "full",
        gpu(0, energy_j=counted(300)),
        [server_row(float(t), **spent, **gauges) for t in range(101)],
        observed=observed_gpus(0),
        scenario={"gpu_hour_price": 2.0},
    )
    bare = watched(tmp_path)
    rows = list(csv.DictReader(io.StringIO(to_csv(SUMMARY_COLUMNS, [full, bare]).decode())))
    names = [column.name for column in SUMMARY_COLUMNS]
    names = names[names.index("cached_tokens_total") + 1 :]
    whole_reply = {"client_ttft_mean_ms", "client_ttft_count", "server_ttft_outside_ms"}
    counters = {"server_preemptions", "server_prefix_cache_hit_rate"}
    empty = {name for name in names if not rows[0][name]}
    empty -= {f"server_{name}" for name, _ in column_docs(ServerSaid)}  # where it says it
    assert empty == {
        *whole_reply,
        *counters,
        *("gpu_throttled_by", "gpu_absent", "energy_absent", "cost_absent", "trace_shared_share"),
        *(name for name in names if name.startswith(("prefix_", "answers_"))),
    }
    always = {"server_samples", "gpu_expected", "gpu_seen"}
    absent = {"server_absent", "gpu_absent", "energy_absent", "cost_absent"}
    assert {name for name in names if rows[1][name]} == {*always, *absent}

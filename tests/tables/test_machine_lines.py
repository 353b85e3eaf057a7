"""The table of machines: a row for each, where several sent; names as harmless as all text."""

from __future__ import annotations

import json

import pytest
from vllm_bench.page.tables import machines_table
from vllm_bench.records.text import ABSENT
from vllm_bench.summary.environment import environment
from vllm_bench.summary.levels import series_of
from vllm_bench.tables.columns import BY_NAME
from vllm_bench.tables.document import to_json
from vllm_bench.tables.level_lines import repeat_lines
from vllm_bench.tables.machines.machine_lines import MOST_ROWS, machine_lines, machine_rows
from vllm_bench.tables.markdown import to_markdown

from tests.machines.made import NAMES, made_health, of_machines, sent_by
from tests.support.made_runs import made_record, whole_reply_record
from tests.tables.test_text_tables import EVIL, printed, summary_of, table_rows


def table_of(*summaries):
    """The table's rows by their first cell, each a mapping of headings to cells."""
    (series,) = series_of(summaries)
    headings, *rows = machine_rows(series)
    return {row[0]: dict(zip(headings[1:], row[1:], strict=True)) for row in rows}


def test_each_machine_has_a_row(tmp_path):
    machines = {
        "node-b": {"offset_ms": -1234.5, "offset_error_ms": 0.02, "start_apart_ms": 0.31},
        "node-c": {"lost": "said nothing for 10 s", "rows": 25},
    }
    health = made_health(machines=machines, senders={"node-b": {"lag_p99_ms": 3.2}})
    found = table_of(summary_of(tmp_path, sent_by(200), client_health=health))
    assert list(found) == [f"4 streams: {name}" for name in NAMES]
    row = found["4 streams: node-b"]
    assert (row["rows"], row["failed"], row["lost"]) == ("50", "0", ABSENT)
    assert row["TTFT p50"] == "100"
    assert row["loop lag p99"] == "3.20"
    assert row["clock ±"] == "0.02"
    assert found["4 streams: node-c"]["lost"] == "said nothing for 10 s"


def test_what_isnt_known_of_a_machine_has_an_empty_cell(tmp_path):
    unknown = {"offset_ms": None, "offset_error_ms": None, "fetched": None}
    health = made_health(machines={"node-a": unknown})
    row = table_of(summary_of(tmp_path, sent_by(40), client_health=health))["4 streams: node-a"]
    assert (row["clock ±"], row["rows"]) == (ABSENT, "10")
    assert "lost" not in row


@pytest.mark.parametrize(
    ("entry", "cell"),
    [
        ({"lost": "died", "fetched": 7}, "10 (7 later)"),
        ({"fetched": 10}, "10"),  # rows stay on all machines until the run is over
        (None, "10 (7 later)"),  # the head was killed: names alone are known
    ],
)
def test_rows_that_came_after_a_loss_are_told(tmp_path, entry, cell):
    health = made_health(machines={"node-a": entry or {}})
    if entry is None:
        names = [{"machine": name, "host": name, "fetched": 7} for name in NAMES]
        health = {"machines": names}
    row = table_of(summary_of(tmp_path, sent_by(40), client_health=health))["4 streams: node-a"]
    assert row["rows"] == cell


def test_without_streaming_it_is_of_latency(tmp_path):
    records = of_machines([whole_reply_record(i) for i in range(100)])
    summary = summary_of(tmp_path, records, client_health=made_health(), scenario={"stream": False})
    assert table_of(summary)["4 streams: node-a"]["latency p50"] == "1000"
    assert ("latency ms", 1) in machines_table([summary]).groups  # p95 has too few


def test_in_an_open_loop_times_are_from_the_schedule(tmp_path):
    records = of_machines([made_record(i, request_rate=8.0) for i in range(400)])
    summary = summary_of(tmp_path, records, client_health=made_health())
    heading = next(h for h in table_of(summary)["8 requests/s: node-a"] if h.endswith("p50"))
    assert "schedule" in heading
    groups = machines_table([summary]).groups
    assert [name for name, _ in groups if name] == [heading.replace("p50", "ms")]


def test_a_run_of_one_machine_has_no_table(tmp_path):
    summary = summary_of(tmp_path, [made_record(i) for i in range(40)])
    (series,) = series_of([summary])
    assert machine_rows(series) == []
    assert machine_lines(series) == []
    assert "Machines" not in printed([summary])


def test_of_very_many_machines_the_odd_ones_are_shown(tmp_path):
    names = tuple(f"node-{n:02}" for n in range(40))
    slow = {7: 900.0, 31: 700.0}
    records = [
        made_record(i, concurrency=40, ttft_ms=slow.get(i % 40, 100.0)) for i in range(40 * 20)
    ]
    health = made_health(names, machines={"node-23": {"lost": "died"}})
    summary = summary_of(tmp_path, of_machines(records, names), client_health=health)
    found = table_of(summary)
    assert len(found) == MOST_ROWS
    for name in ("node-07", "node-31", "node-23"):
        assert f"40 streams: {name}" in found
    assert any("24 more" in line for line in machine_lines(*series_of([summary])))
    assert len(json.loads(to_json([summary]))["runs"][0]["machines"]) == 40  # all of them


def test_names_and_losses_are_harmless_where_they_are_shown(tmp_path):
    evil = "a|b `c` <script>x</script> @you [red]"
    names = (evil, *NAMES[1:])
    health = made_health(names, machines={evil: {"lost": EVIL}})
    summary = summary_of(
        tmp_path, of_machines(sent_by(40, names=names), names), client_health=health
    )
    text = printed([summary], force_terminal=True, color_system=None)
    assert "\x1b[31m" not in text
    assert "\x07" not in text
    markdown_text = to_markdown([summary])
    assert "<script>" not in markdown_text
    assert "@you" not in markdown_text
    rows = [row for row in table_rows(markdown_text) if "4 streams:" in row]
    assert len(rows) == 4
    assert len({row.count("|") for row in rows}) == 1


def test_the_csv_counts_machines(tmp_path):
    several = summary_of(tmp_path, sent_by(40), client_health=made_health())
    alone = summary_of(tmp_path, [made_record(i, run_id="x") for i in range(40)])
    assert (BY_NAME["machines"].value(several), BY_NAME["machines"].value(alone)) == (4, None)


def test_repeats_from_other_numbers_of_machines_are_told(tmp_path):
    several = summary_of(tmp_path, sent_by(100, run_id="a"), client_health=made_health())
    alone = summary_of(tmp_path, [made_record(i, run_id="b") for i in range(100)])
    (series,) = series_of([several, alone])
    assert len(series.levels) == 1  # repeats: the load is the same
    assert any("1 or 4 machines" in line for line in repeat_lines(series))
    assert dict(environment([several, alone]))["client machines"] == "4 of 4 cores each, 1"
    assert "client machines" not in dict(environment([alone]))
    (same,) = series_of([several, summary_of(tmp_path, sent_by(100), client_health=made_health())])
    assert not any("machines" in line for line in repeat_lines(same))

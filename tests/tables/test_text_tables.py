"""Tables for people, and untrusted text that must not become markup, escape sequences or a path."""

from __future__ import annotations

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from vllm_bench.figures.digits import allowed, counted, short, spread
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.text import ABSENT, code, file_name, markdown, printable
from vllm_bench.stats.distribution import describe
from vllm_bench.summary.again import again
from vllm_bench.summary.levels import series_of
from vllm_bench.summary.summary import headline, summarize
from vllm_bench.tables.columns import BY_NAME
from vllm_bench.tables.document import to_json
from vllm_bench.tables.group import Where, family_of, groups_of, lacking
from vllm_bench.tables.markdown import to_markdown
from vllm_bench.tables.terminal import _by_figure, print_summary, wide_console
from vllm_bench.tables.text_tables import figure_rows, footnotes, runs_table, setup_words

from tests.support.made_runs import (
    failed_record,
    made_record,
    summary_of,
    whole_reply_record,
    write_run,
)

EVIL = (
    "a|b `c` <script>x</script> [l](u) *s* _e_ $m$ @you #1\n| new \x1b[31mred\x07 \u202eback [red]"
)


def printed(summaries, **how) -> str:
    """Return what a console prints."""
    console = Console(file=io.StringIO(), width=how.pop("width", 200), **how)
    print_summary(summaries, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def table_rows(markdown_text):
    return [line for line in markdown_text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ABSENT),
        (0, "0"),
        (0.123, "0.12"),
        (9.99, "9.99"),
        (9.996, "10.0"),
        (99.94, "99.9"),
        (99.96, "100"),
        (1234.5, "1234"),
    ],
)
def test_numbers_have_the_digits_that_matter(value, text):
    assert short(value) == text


@pytest.mark.parametrize("column", ["ttft_p95_ms", "thinking_p95_s", "job_served_p95_s"])
def test_a_percentile_that_is_lacking_says_why_in_each_unit(column, tmp_path):
    metric = column.replace("_p95", "")
    few = {metric: describe(np.full(50, 1.0))}
    run = summary_of(tmp_path, [made_record(0)])
    found = dataclasses.replace(run, distributions=few, absent={})
    assert lacking(found, column) == "needs 72"


def test_a_percentile_without_the_samples_says_how_many_it_takes():
    found = describe(np.full(50, 120.0))
    assert allowed(found.percentile(50), 50) == "120"
    assert allowed(found.percentile(95), 95) == "needs 72"


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 requests"), (1, "1 request"), (5000, "5000 requests")]
)
def test_one_is_not_counted_as_many(count, words):
    assert counted(count, "request") == words


def test_a_run_of_one_request_is_told_in_the_singular(tmp_path):
    slo = {"slo": {"ttft_ms": {"p99": 50.0}}}
    records = [made_record(0, concurrency=1), failed_record(1, concurrency=1)]
    for name, chosen in (("fine", records[:1]), ("bad", records[1:])):
        (folder := tmp_path / name).mkdir()
        summary = summary_of(folder, chosen, scenario=slo)
        text = to_markdown([summary]) + printed([summary])
        assert not re.search(r"(?<!\d)1 requests", text), text
        assert "1 request" in text


def test_lengths_show_their_spread_only_where_there_is_one():
    assert spread(describe(np.array([20.0, 20.0]))) == "20"
    assert spread(describe(np.array([10.0, 21.0]))) == "15.5 (10 to 21)"


def test_printable_text_is_one_short_line_without_control_characters():
    assert printable("a\nb\x1b[31m\u202e") == "a b\\x1b[31m\\u202e"
    assert len(printable("x" * 10_000)) == 300


@given(st.text())
def test_no_text_brings_a_control_character_or_a_second_line(text):
    assert printable(text).isprintable()
    assert "\n" not in markdown(text)
    assert markdown(text).isprintable()


@given(st.text(alphabet=EVIL))
def test_no_text_brings_markup_into_markdown(text):
    for character in "|`<>[]*$@#":
        assert character not in markdown(text).replace("&#", "")
    assert "|" not in code(text)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("smoke_test-cc8", "smoke_test-cc8"),
        ("_emphasis_", "&#95;emphasis&#95;"),
        ("it's 5 %", "it's 5 %"),
        ("<b>", "&lt;b&gt;"),
        ("gpt-4 → é", "gpt-4 → é"),
    ],
)
def test_markdown_is_escaped_only_where_it_would_be_read(text, safe):
    assert markdown(text) == safe


@pytest.mark.parametrize(
    ("text", "safe"),
    [("../../etc/passwd", "_.._etc_passwd"), ("", "_"), ("smoke_test", "smoke_test")],
)
def test_a_file_name_cannot_leave_its_folder(text, safe):
    assert file_name(text) == safe


def test_markdown_tables_keep_their_shape_whatever_the_server_said(tmp_path):
    records = [*(made_record(i) for i in range(20)), failed_record(20, error=EVIL)]
    summary = summary_of(
        tmp_path, records, server={"version": EVIL}, scenario={"model": EVIL, "description": EVIL}
    )
    text = to_markdown([summary])
    widths = {
        "| streams | verdict": 3 + len(groups_of(Where.MARKDOWN, [summary])),
        "| streams | metric": 5,
        "| run |": 4,
        "| what": 2,
    }
    for block in text.split("\n\n"):
        if block.startswith("|"):
            heading = next(start for start in widths if block.startswith(start))
            for row in block.splitlines():
                assert row.count("|") == widths[heading] + 1, row
    assert "<script>" not in text.replace(text[text.index("```yaml") :], "")
    assert "\x1b" not in text


def test_markdown_has_verdicts_first_then_levels_errors_environment_and_the_command(tmp_path):
    records = [*(made_record(i) for i in range(20)), failed_record(20)]
    text = to_markdown([summary_of(tmp_path, records)])
    order = [
        "## Verdict: 1 INVALID",
        "`errors` (INVALID): 1 of 21 requests failed",
        "## made",
        "| 4 | INVALID | 20/21 |",
        "needs …: too few successes; p95 from 72, p99 from 368",
        "## Errors",
        "`http_5xx` | 1 | `HTTP 500: out of memory`",
        "## Environment",
        "| server version | 0.32.0 |",
        "<summary>made: save as <code>made.yaml</code></summary>",
        "  made:\n",
        "    max_new_tokens: 20\n",
        "python bench/bench.py --scenarios made.yaml --name made\n",
        "## What the columns mean",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_settings_to_run_again_are_the_report_s_and_end_no_fence_of_theirs(tmp_path):
    text = "end ```\n````\n</details><script>"
    summary = summary_of(tmp_path, [made_record(i) for i in range(20)], scenario={"model": text})
    found = again(series_of([summary])[0], "made")
    assert found is not None
    fence = "`````"
    markdown_text = to_markdown([summary])
    assert f"\n{fence}yaml\n{found.text}{fence}\n" in markdown_text
    assert "\n".join(found.commands) in markdown_text
    (scenario,) = json.loads(to_json([summary]))["scenarios"]
    assert scenario["again"]["text"] == found.text
    assert scenario["again"]["commands"] == list(found.commands)


def test_runs_without_their_settings_are_not_run_again(tmp_path):
    path = write_run(tmp_path, [made_record(i) for i in range(20)])
    assert "```yaml" not in to_markdown([summarize(load_run(path))])


def test_a_simulated_server_is_called_one_everywhere(tmp_path):
    records = [made_record(i) for i in range(20)]
    summary = summary_of(tmp_path, records, server={"simulator": True})
    assert setup_words([summary]).endswith("simulated server")
    assert "simulated server" in to_markdown([summary])
    assert "simulated server" in printed([summary])


def test_why_figures_are_missing_stands_in_the_cell_and_under_the_table_once(tmp_path):
    records = [whole_reply_record(i) for i in range(80)]
    summary = summary_of(tmp_path, records, scenario={"stream": False})
    (series,) = series_of([summary])
    not_streamed, too_few = footnotes(series)
    assert not_streamed.startswith("TTFT, TPOT, ITL, worst gap: stream: false")
    assert "p99 from 368" in too_few
    assert ["TTFT ms p50", "not streamed"] in figure_rows(series, Where.TERMINAL)


def test_a_footnote_names_its_runs_where_others_have_the_figure(tmp_path):
    summaries = []
    for streams, record in ((1, whole_reply_record), (4, made_record)):
        (folder := tmp_path / str(streams)).mkdir()
        records = [record(i, concurrency=streams) for i in range(80)]
        summaries.append(dataclasses.replace(summary_of(folder, records), folder=tmp_path))
    (series,) = series_of(summaries)
    notes = footnotes(series)
    assert any(note.startswith("TTFT") and note.endswith("[1 stream]") for note in notes)
    rows = {row[0]: row[1:] for row in figure_rows(series, Where.TERMINAL)}
    assert rows["TTFT ms p50"] == ["no value", short(summaries[1].percentile("ttft_ms", 50))]


def test_the_terminal_shows_the_verdict_first(tmp_path):
    summary = summary_of(tmp_path, [made_record(i) for i in range(100)])
    lines = printed([summary]).splitlines()
    assert lines[0] == f"Verdict: {headline([summary])}" == "Verdict: 1 VALID"
    assert any("100/100" in line and "VALID" in line for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("levels", [1, 3, 9])
def test_on_a_narrow_terminal_each_figure_stands_whole_and_p99_with_it(tmp_path, width, levels):
    summaries = []
    for place in range(levels):
        (folder := tmp_path / str(place)).mkdir()
        records = [
            made_record(i, concurrency=1 + place, ttft_ms=1000.0 + i + place, latency_ms=30_000.0)
            for i in range(400)
        ]
        summaries.append(dataclasses.replace(summary_of(folder, records), folder=tmp_path))
    text = printed(summaries, width=width, force_terminal=True, color_system=None)
    table = text[text.index("streams") : text.rindex("out tok/s run")]
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= width
    for q in (50, 95, 99):
        of = [line for line in table.splitlines() if line.startswith(f"TTFT ms p{q} ")]
        cells = [cell for line in of for cell in re.findall(r"needs \d+|[\d.]+", line[11:])]
        assert cells == [allowed(run.percentile("ttft_ms", q), q) for run in summaries]


def test_words_too_long_for_a_column_do_not_fold_the_figures_of_a_narrow_terminal():
    long = ["requests finished", "stop:296, length:25200", "stop:1"]
    rows = [["", "16 streams", "32 streams"], ["waiting mean", "0.08", "9.00"], long]
    lines = [line.plain for line in _by_figure(rows, 34)]
    assert [line.split() for line in lines[:2]] == [["16", "streams"], ["waiting", "mean", "0.08"]]
    assert lines[-1] == "requests finished: stop:296, length:25200 | stop:1"
    assert max(map(len, lines[:-1])) <= 34
    assert [line.plain for line in _by_figure(rows, None)][2].split() == " ".join(long).split()


def test_piped_output_is_plain_lines_that_never_fold(tmp_path):
    records = [*(made_record(i) for i in range(20)), failed_record(20, error="long " * 60)]
    text = printed([summary_of(tmp_path, records)], width=60)
    assert "\x1b" not in text
    assert any("INVALID errors" in line and line.endswith("look fast") for line in text.split("\n"))


def test_the_terminal_reads_no_markup_and_passes_no_escape_of_the_servers(tmp_path):
    records = [*(made_record(i) for i in range(20)), failed_record(20, error=EVIL)]
    summary = summary_of(tmp_path, records, scenario={"model": EVIL})
    text = printed([summary], force_terminal=True, color_system=None)
    assert "\x1b[31m" not in text
    assert "[red]" in text  # as it stands, not as a colour
    assert "\x07" not in text


def test_the_same_note_on_many_runs_is_told_once(tmp_path):
    local = {"on_client_machine": True}
    summaries = [
        summary_of(tmp_path, [made_record(i, run_id=f"r{n}") for i in range(20)], server=local)
        for n in range(3)
    ]
    text = printed(summaries)
    assert text.count("same_machine") == 1
    assert "[every run]" in text
    assert to_markdown(summaries).count("`every run`") == 1


def test_a_note_names_the_runs_that_have_it(tmp_path):
    summaries = [
        summary_of(
            tmp_path,
            [made_record(i, run_id=f"r{n}") for i in range(20)],
            server={"on_client_machine": n != 2},
        )
        for n in range(6)
    ]
    (said,) = [line for line in printed(summaries).splitlines() if "same_machine" in line]
    assert said.endswith("[r0, r1, r3 and 2 more]")
    assert "`r0, r1, r3 and 2 more`" in to_markdown(summaries)


def test_a_figure_of_a_doubted_family_is_marked_where_it_is_shown(tmp_path):
    # A gap of 1 ms, and a loop that is late by 6: TTFT and pace are right all the same.
    late = {"loop_lag_ms": {"ticks": 1000, "p99": 6.0}}
    records = [made_record(i, tpot_ms=1.0, ttft_ms=400.0) for i in range(100)]
    summary = summary_of(tmp_path, records, client_health=late)
    (series,) = series_of([summary])
    headings, (row,) = runs_table(series, Where.MARKDOWN)
    cells = dict(zip((h.replace("\n", " ") for h in headings), row, strict=True))
    marked = {heading for heading, cell in cells.items() if cell.endswith(" ?")}
    assert {h.split(" ")[0] for h in marked} == {"worst"}  # ITL has no figure here to mark
    assert cells["verdict"] == "VALID"
    for text in (printed([summary]), to_markdown([summary])):
        assert any("loop_lag" in line and "?" in line for line in text.splitlines())
    words = ("ttft", "pace", "gaps", "gpus")
    assert [BY_NAME[f"verdict_{word}"].value(summary) for word in words] == [
        "VALID",
        "VALID",
        "SUSPECT",
        "VALID",
    ]


@pytest.mark.parametrize(
    ("column", "family"),
    [
        ("ttft_from_schedule_p99_ms", "TTFT"),
        ("client_ttft_mean_ms", "TTFT"),
        ("client_ttft_error_mean_ms", None),
        ("latency_p50_ms", "pace"),
        ("window_output_tokens_per_s", "pace"),
        ("requests_per_s", "pace"),
        ("max_gap_worst_ms", "gaps"),
        ("itl_p99_ms", "gaps"),
        ("gpu_power_total_w", "GPUs"),
        ("output_tokens_per_s_per_w", "GPUs"),
        ("server_queue_mean_ms", None),
        ("prompt_tokens_mean", None),
    ],
)
def test_every_figure_belongs_to_a_family_or_to_none(column, family):
    assert family_of(column) == family


def test_on_a_pipe_of_any_width_no_figure_is_cut(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    rates = []
    for rate in (2.0, 16.0):
        (folder := tmp_path / str(rate)).mkdir()
        records = [
            made_record(i, run_id=f"r{rate}", request_rate=rate, concurrency=None, ttft_ms=12345.6)
            for i in range(100)
        ]
        rates.append(dataclasses.replace(summary_of(folder, records), folder=tmp_path))
    print_summary(rates, wide_console())
    table = [line for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert table
    assert not any("…" in line for line in table if "needs …" not in line)

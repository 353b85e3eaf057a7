"""Series of one scenario are told apart by what differs, and repeats by their number."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from vllm_bench.records.find_runs import load_run
from vllm_bench.summary.levels import named_series, series_of
from vllm_bench.summary.summary import RunSummary, sorted_summaries, summarize
from vllm_bench.tables.markdown import to_markdown
from vllm_bench.tables.terminal import print_summary

from tests.support.made_runs import made_info, made_record, write_run


def run(folder, run_id, *, streams=4, of="made", bare=False, **changes) -> RunSummary:
    """A healthy run of a scenario; `bare`: without its JSON."""
    records = [made_record(i, run_id=run_id, concurrency=streams, scenario=of) for i in range(100)]
    info = None if bare else made_info(records, **changes)
    return summarize(load_run(write_run(folder, records, info)))


def names(*runs):
    """The names of the runs' series, in the order of their first runs."""
    found = named_series(series_of(sorted_summaries(list(runs))))
    return [next(name for name, series in found if run in series.runs) for run in runs]


def terminal(summaries) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_summary(summaries, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def two_lengths(tmp_path):
    """Runs of one scenario with 8 and 64 tokens at most, two levels each."""
    return sorted_summaries(
        [
            run(tmp_path, f"r{most}-{n}", streams=n, scenario={"max_new_tokens": most})
            for most in (8, 64)
            for n in (4, 8)
        ]
    )


def test_one_series_has_no_more_than_its_scenario_s_name(tmp_path):
    assert names(run(tmp_path, "a"), run(tmp_path, "b", streams=8)) == ["made", "made"]
    assert names(run(tmp_path, "c"), run(tmp_path, "d", of="other")) == ["made", "other"]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (
            {"scenario": {"max_new_tokens": 8}},
            {"scenario": {"max_new_tokens": 64}},
            ["made: max_new_tokens=8", "made: max_new_tokens=64"],
        ),
        (
            {"scenario": {"ignore_eos": True}},
            {"scenario": {"extra_body": {"top_k": 5}}},
            [
                "made: ignore_eos=True, extra_body.top_k=none",
                "made: ignore_eos=False, extra_body.top_k=5",
            ],
        ),
        (
            {"server": {"version": "0.31.0"}},
            {},
            ["made: server version=0.31.0", "made: server version=0.32.0"],
        ),
        (
            {"server": {"cache_config": {"block_size": 16, "cache_dtype": "auto"}}},
            {"server": {"cache_config": {"block_size": 32, "cache_dtype": "auto"}}},
            ["made: server cache_config.block_size=16", "made: server cache_config.block_size=32"],
        ),
        (
            {"prompts": {"sha256": "1234567890"}},
            {"prompts": {"sha256": "abcdefghij"}},
            ["made: prompts sha256=12345678", "made: prompts sha256=abcdefgh"],
        ),
        ({}, {"bare": True}, ["made", "made: settings unknown"]),
    ],
)
def test_a_series_is_named_for_what_differs(tmp_path, one, other, expected):
    assert names(run(tmp_path, "a", **one), run(tmp_path, "b", **other)) == expected


def test_many_differences_are_counted_and_long_ones_cut(tmp_path):
    many = {f"key{i}": "x" * 100 for i in range(9)}
    _, name = names(run(tmp_path, "a"), run(tmp_path, "b", scenario={"extra_body": many}))
    assert name.endswith(", and 5 more")
    assert len(name) < 300


def test_each_series_has_a_table_and_lines_of_its_own(two_lengths):
    text = to_markdown(two_lengths)
    assert text.count("\n## made: ") == 2
    for most in (8, 64):
        own = text.split(f"\n## made: max_new_tokens={most}\n")[1].split("\n## ")[0]
        assert f"`max_new_tokens` {most}," in own
        assert own.count("\n### TTFT ") == 1
        assert own.count("| streams | verdict |") == 1
        rows = [line for line in own.splitlines() if line.startswith(("| 4 | V", "| 8 | V"))]
        assert len(rows) == 2
    printed = terminal(two_lengths)
    assert "made: max_new_tokens=8 · " in printed
    assert "made: max_new_tokens=64 · " in printed


def test_rows_of_repeats_have_their_number(tmp_path):
    runs = sorted_summaries(
        [run(tmp_path, f"r{n}", repeat=n) for n in (1, 2)] + [run(tmp_path, "once", streams=8)]
    )
    for text in (to_markdown(runs), terminal(runs)):
        found = [
            line.strip("| ").split("|")[0].strip()
            for line in text.splitlines()
            if "100/100" in line
        ]
        assert found == ["4, run 1", "4, run 2", "8"]
    assert "| 4, run 2 | TTFT |" in to_markdown(runs)

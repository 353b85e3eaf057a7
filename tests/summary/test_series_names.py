"""Series of one scenario are told apart by what differs, and repeats by their number."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from vllm_bench.summary.levels import series_of
from vllm_bench.summary.series_names import named_series, slug
from vllm_bench.summary.summary import RunSummary, sorted_summaries
from vllm_bench.tables.markdown import to_markdown
from vllm_bench.tables.terminal import print_summary

from tests.support.made_runs import made_info, made_record, summed


def run(
    folder, run_id, *, streams=4, of="made", bare=False, rate=None, tokens=1, **changes
) -> RunSummary:
    """A healthy run of a scenario, `tokens` in a chunk; `bare`: without its JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    load = {"concurrency": streams} if rate is None else {"request_rate": rate}
    events = {"token_events": 16 // tokens, "completion_tokens": 16}
    fields = {"run_id": run_id, "scenario": of, **load, **events}
    records = [made_record(i, **fields) for i in range(100)]
    info = None if bare else made_info(records, **changes)
    return summed(folder, records, info)


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
            ["max_new_tokens=8", "max_new_tokens=64"],
        ),
        (
            {"scenario": {"ignore_eos": True}},
            {"scenario": {"extra_body": {"top_k": 5}}},
            ["top_k=none, ignore_eos=True", "top_k=5, ignore_eos=False"],
        ),
        (
            {"server": {"version": "0.31.0"}},
            {},
            ["server version=0.31.0", "server version=0.32.0"],
        ),
        (
            {"server": {"cache_config": {"block_size": 16, "cache_dtype": "auto"}}},
            {"server": {"cache_config": {"block_size": 32, "cache_dtype": "auto"}}},
            ["block_size=16", "block_size=32"],
        ),
        (
            {"prompts": {"sha256": "1234"}},
            {"prompts": {"sha256": "abcd"}},
            ["prompts A", "prompts B"],
        ),
        (
            {"server": {"system_fingerprint": "12ab"}},
            {"server": {"system_fingerprint": "34cd"}},
            ["server A", "server B"],
        ),
        ({"scenario": {"label": "one"}}, {"scenario": {"label": "two"}}, ["one", "two"]),
        (
            {"scenario": {"label": "one", "cache": "cold"}},
            {"scenario": {"label": "one"}},
            ["one, cache=cold", "one, cache=run"],
        ),
        ({}, {"scenario": {"label": "new"}}, [None, "new"]),
        (
            {"scenario": {"start": "staggered"}},
            {"scenario": {"start": "together"}},
            ["start=staggered", "start=together"],
        ),
        ({"tokens": 1}, {"tokens": 8}, ["tokens per chunk=1", "tokens per chunk=8"]),
        ({}, {"bare": True}, [None, "settings unknown"]),
        ({"rate": 4.0}, {}, ["open loop", "closed loop"]),
    ],
)
def test_a_series_is_named_for_what_differs(tmp_path, one, other, expected):
    found = names(run(tmp_path, "a", **one), run(tmp_path, "b", **other))
    assert found == [f"made ({what})" if what else "made" for what in expected]


def test_folders_are_labels_as_far_as_they_differ(tmp_path):
    runs = [run(tmp_path / f / "results", "a") for f in ("old", "new")]
    assert names(*runs) == ["made (old/results)", "made (new/results)"]
    beside = [run(tmp_path / f, "a") for f in ("nightly", "pull-17")]
    assert names(*beside) == ["made (nightly)", "made (pull-17)"]


def test_of_many_series_only_those_that_are_called_alike_are_told_apart_further(tmp_path):
    runs = [
        run(tmp_path, f"{label}{most}", scenario={"label": label, "max_new_tokens": most})
        for label, most in (("a", 8), ("b", 8), ("b", 64))
    ]
    assert names(*runs) == ["made (a)", "made (b, max_new_tokens=8)", "made (b, max_new_tokens=64)"]


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("short_chat", "short_chat"),
        ("made (nightly)", "made-nightly"),
        ("made (max_new_tokens=8, cache=cold)", "made-max_new_tokens-8-cache-cold"),
        ("made (../../etc/x)", "made-.._..-etc-x"),
    ],
)
def test_a_file_s_name_says_the_same(name, base):
    found = slug(name)
    assert found == base or "/" not in found
    assert found == slug(found)


def test_many_differences_are_counted_and_long_ones_cut(tmp_path):
    many = {f"key{i}": "x" * 100 for i in range(9)}
    _, name = names(run(tmp_path, "a"), run(tmp_path, "b", scenario={"extra_body": many}))
    assert name.endswith(", and 5 more)")
    assert len(name) < 300


def test_each_series_has_a_table_and_lines_of_its_own(two_lengths):
    text = to_markdown(two_lengths)
    assert text.count("\n## made (") == 2
    for most in (8, 64):
        own = text.split(f"\n## made (max_new_tokens={most})\n")[1].split("\n## ")[0]
        assert f"`max_new_tokens` {most}," in own
        assert own.count("\n### TTFT ") == 1
        assert own.count("| streams | verdict |") == 1
        rows = re.findall(r"^\| [48] \| (?:VALID|SUSPECT|INVALID) \|", own, re.MULTILINE)
        assert len(rows) == 2
    printed = terminal(two_lengths)
    assert "made (max_new_tokens=8) · " in printed
    assert "made (max_new_tokens=64) · " in printed


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

"""A class's figures are those of its rows, and the classes' add up to the run's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from vllm_bench.figures.facts import Facts
from vllm_bench.figures.throughput import rate_of, window_throughput
from vllm_bench.figures.token_gaps import reads_of
from vllm_bench.records.by_class import as_sent
from vllm_bench.records.row import Rows, to_csv
from vllm_bench.summary import kept as kept_module
from vllm_bench.summary.kept import Kept
from vllm_bench.summary.levels import series_of
from vllm_bench.summary.summary import with_classes
from vllm_bench.tables.columns import BY_NAME, SUMMARY_COLUMNS
from vllm_bench.tables.document import document
from vllm_bench.tables.level_columns import level_rows

from tests.classes.made import MIX, alone_run, info_of, made_run, mixed_order, rows_of
from tests.support.made_runs import frame_of, made_record, summed, whole_reply_record

SPREAD = {"chat": [100.0, 120.0, 90.0, 300.0, 80.0], "legal": [400.0, 500.0, 450.0]}


def test_percentiles_are_of_a_class_s_own_rows_in_the_run_s_window(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(400), SPREAD)
    run = made_run(tmp_path, rows)
    assert run.window is not None
    for name, part in run.classes.items():
        inside = [
            r.ttft_ms
            for r in rows
            if r.class_ == name and run.window.start_s <= r.t_scheduled_s < run.window.end_s
        ]
        assert part.window == run.window
        assert part.counted == len(inside)
        for q in (50, 95):
            assert part.percentile("ttft_ms", q) == pytest.approx(np.percentile(inside, q))


@given(st.lists(st.sampled_from(["chat", "legal"]), min_size=30, max_size=80))
@settings(max_examples=20, deadline=None)
def test_classes_add_up_to_the_run(
    tmp_path_factory: pytest.TempPathFactory, order: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("adds-up")
    run = made_run(folder, rows_of(order, {"chat": 100.0, "legal": [200.0, -1.0]}))
    parts = list(run.classes.values())
    assert sum(p.requests for p in parts) == run.requests
    assert sum(p.counted for p in parts) == run.counted
    assert sum(p.succeeded for p in parts) == run.succeeded
    for figure in ("requests_per_s", "prompt_tokens_per_s"):
        if run.steady is not None:
            of_each = [getattr(p.steady, figure) for p in parts if p.steady]
            assert sum(of_each) == pytest.approx(getattr(run.steady, figure))


def test_a_class_has_its_own_settings_load_and_lanes(tmp_path: Path) -> None:
    asked = {"chat": {"share": 0.7, "model": "lora-chat"}, "agents": {"streams": 3}}
    rows = rows_of(["chat", "agents"] * 30, {"chat": 100.0, "agents": 50.0})
    # Lanes are numbered in turns: those of chat 0, 2, 4, those of agents 1, 3, 5.
    lanes = [dataclasses.replace(r, stream_index=(i % 2) + 2 * (i % 3)) for i, r in enumerate(rows)]
    facts = Facts(frame_of(tmp_path, lanes), info_of(lanes, asked))
    chat, agents = facts.classes["chat"], facts.classes["agents"]
    assert chat.setting("model") == "lora-chat"
    assert (chat.load.value, chat.load.is_open) == (7.0, True)
    assert (agents.load.value, agents.load.is_open) == (3.0, False)
    assert set(agents.frame["stream_index"].tolist()) == {0, 1, 2}
    assert facts.setting("model") == "openai/gpt-oss-20b"


def test_tokens_are_those_of_the_class(tmp_path: Path) -> None:
    rows = rows_of(["chat", "legal"] * 20, {"chat": 100.0, "legal": 200.0})
    frame = frame_of(tmp_path, rows)
    count, per = len(rows), 20
    sent_ns = (1e9 * frame["t_sent_s"]).astype("int64")
    arrays = {
        "request_index": frame["request_index"].astype("int32"),
        "first_read": np.arange(count + 1) * per,
        "t_ns": (sent_ns[:, None] + 10_000_000 * np.arange(1, per + 1)).ravel(),
        "events": np.ones(count * per, dtype="int32"),
        "tokens": np.ones(count * per, dtype="int32"),
    }
    facts = Facts(frame, info_of(rows))
    facts = dataclasses.replace(facts, reads=reads_of(arrays, facts.succeeded))
    assert facts.reads is not None
    every = facts.reads.tokens_between(0, 100)
    own = [part.reads.tokens_between(0, 100) for part in facts.classes.values() if part.reads]
    assert own == [every / 2, every / 2]


def stamps_of(frame: Rows, ms: float = 10.0, per: int = 20) -> dict[str, NDArray[Any]]:
    """Stamps of a token each so many ms, of the rows that are streamed."""
    count = frame["token_events"] > 0
    sent_ns = (1e9 * frame["t_sent_s"][count]).astype("int64")
    ends = per * np.cumsum(np.concatenate([[0], count]))
    return {
        "request_index": frame["request_index"].astype("int32"),
        "first_read": ends,
        "t_ns": (sent_ns[:, None] + int(1e6 * ms) * np.arange(1, per + 1)).ravel(),
        "events": np.ones(ends[-1], dtype="int32"),
        "tokens": np.ones(ends[-1], dtype="int32"),
    }


@pytest.mark.parametrize("streamed", [("chat",), ("legal",), ("chat", "legal"), ()], ids=str)
@pytest.mark.parametrize("whole", [True, False])
def test_output_of_streamed_and_unstreamed_classes_adds_up(
    tmp_path: Path, streamed: tuple[str, ...], whole: bool
) -> None:
    asked = {n: {**own, "stream": n in streamed} for n, own in MIX.items()}
    rows = [
        row if row.class_ in streamed else whole_reply_record(row.request_index, class_=row.class_)
        for row in rows_of(mixed_order(200), SPREAD)
    ]
    frame = frame_of(tmp_path, rows)
    facts = Facts(frame, info_of(rows, asked, scenario={"stream": whole}))
    assert facts.streaming == bool(streamed)
    without = window_throughput(facts, facts.window)
    facts = dataclasses.replace(facts, reads=reads_of(stamps_of(frame), facts.succeeded))
    window = facts.window
    found, parts = window_throughput(facts, window), facts.classes.values()
    of_each = [window_throughput(part, window) for part in parts]
    assert found is not None
    assert without is not None
    assert found.output_tokens == pytest.approx(sum(p.output_tokens or 0 for p in of_each if p))
    assert all(part and part.output_tokens for part in of_each)
    assert (without.output_tokens is None) == bool(streamed)
    rate = rate_of(facts, "output_tokens_per_s")
    assert sum(rate.work) == pytest.approx(found.output_tokens)


def test_the_window_begins_when_streams_beside_arrivals_are_busy(tmp_path: Path) -> None:
    asked = {"chat": {"share": 1.0}, "agents": {"streams": 2}}
    rows = rows_of(["chat", "agents"] * 100, {"chat": 100.0, "agents": 100.0})
    late = [
        dataclasses.replace(r, stream_index=2 * (i // 2 % 2) + 1) if r.class_ == "agents" else r
        for i, r in enumerate(rows)
        if r.class_ == "chat" or r.t_scheduled_s > 5
    ]
    early, found = Facts(frame_of(tmp_path, rows), info_of(rows, asked)), []
    held = Facts(frame_of(tmp_path, late), info_of(late, asked))
    for facts in (early, held):
        assert facts.window is not None
        found.append(facts.window.start_s)
    first_ends = sorted(r.t_end_s for r in late if r.class_ == "agents")[:2]
    assert found[0] < 2
    assert found[1] == pytest.approx(first_ends[1])


def test_what_is_of_the_whole_isn_t_a_class_s(tmp_path: Path) -> None:
    run = made_run(tmp_path, rows_of(mixed_order(100), SPREAD))
    part = run.classes["chat"]
    assert part.info is not None
    assert not part.info.server_counters
    assert part.server_side.prefix_cache_hit_rate is None
    assert part.client_reads is None


def test_rows_without_a_json_have_classes_too(tmp_path: Path) -> None:
    run = summed(tmp_path, rows_of(["chat", "legal"] * 20, SPREAD))
    assert list(run.classes) == ["chat", "legal"]
    assert [part.requests for part in run.classes.values()] == [20, 20]


def test_a_run_without_classes_has_none(tmp_path: Path) -> None:
    run = summed(tmp_path, [made_record(i) for i in range(20)])
    assert not run.classes
    assert with_classes([run]) == [run]


def test_a_run_of_one_class_alone_is_that_class_s(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(200), SPREAD)
    asked = {"chat": {"share": 0.7, "slo": {"ttft_ms": {"p95": 1000}}}, "legal": {"share": 0.3}}
    run = alone_run(tmp_path, rows, "chat", asked)
    assert not run.classes
    assert run.load.value == 7.0
    assert run.attainment is not None
    assert run.attainment.outcomes[0].objective.of_class is None
    assert run.plan("whole")["classes"] == asked
    info = info_of(rows, asked)
    assert as_sent(info) is info


@pytest.mark.parametrize("alone", [None, "chat"])
def test_each_class_waits_for_its_own_cap(tmp_path: Path, alone: str | None) -> None:
    """Two processes, a cap of 2: each sends one request at a time, and the next one waits."""
    order = ["chat", "legal"] * 20 if alone is None else ["chat"] * 20
    rows = [
        dataclasses.replace(
            row,
            stream_index=2 * (place % 2) + (row.class_ == "legal"),
            t_scheduled_s=0.1 * place,
            t_sent_s=1.0 * (place // 2),
            t_end_s=1.0 * (place // 2) + 1.0,
        )
        for row, place in zip(
            rows_of(order, {"chat": 100.0, "legal": 100.0}),
            (i if alone else i // 2 for i in range(len(order))),
            strict=True,
        )
    ]
    info = info_of(rows, alone=alone, plan={"max_in_flight": 2})
    info = dataclasses.replace(info, client_health={"workers": [{}, {}]})
    facts = Facts(frame_of(tmp_path, rows), as_sent(info))
    late = 1000 * (facts.frame["t_sent_s"] - facts.frame["t_scheduled_s"]) > 2
    assert facts.cap == 2
    assert facts.waited_for_cap.tolist() == late.tolist()
    assert late.sum() > len(rows) / 2


def test_a_row_for_each_class_and_an_empty_cell_for_all(tmp_path: Path) -> None:
    run = made_run(tmp_path, rows_of(mixed_order(200), SPREAD))
    text = to_csv(SUMMARY_COLUMNS, with_classes([run])).decode().splitlines()
    place = [c.name for c in SUMMARY_COLUMNS].index("class")
    assert [line.split(",")[place] for line in text] == ["class", "", "chat", "legal"]
    assert [row.level.class_ for row in level_rows(series_of([run]))] == [None, "chat", "legal"]
    assert BY_NAME["request_rate"].value(run.classes["legal"]) == pytest.approx(3.0)
    assert BY_NAME["load"].value(run.classes["legal"]) == 10.0
    (found,) = document([run]).runs
    assert found.classes["legal"].figures["requests"] == run.classes["legal"].requests


def test_kept_summaries_have_their_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made_run(tmp_path, rows_of(mixed_order(200), SPREAD))
    path = tmp_path / "mix.csv"
    later_ns = kept_module.time.time_ns() + 10_000_000_000
    monkeypatch.setattr(kept_module.time, "time_ns", lambda: later_ns)
    kept = Kept()
    assert kept.run(path) is None
    kept.keep(path, run)
    again = Kept().run(path)
    assert again is not None
    one, other = (to_csv(SUMMARY_COLUMNS, with_classes([r]), None) for r in (run, again))
    assert one == other
    values = again.classes["legal"].samples["ttft_ms"].values
    assert values.tolist() == run.classes["legal"].samples["ttft_ms"].values.tolist()

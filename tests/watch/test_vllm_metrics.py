"""The server's /metrics samplers a run: real pages of a vLLM server, and made ones."""

from __future__ import annotations

import contextlib
import re
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.records.beside.said_file import said_of
from vllm_bench.records.beside.sample_file import read_server
from vllm_bench.records.beside.samples import ServerRow
from vllm_bench.records.row import columns
from vllm_bench.vllm.page import PageError, Spent, read_page
from vllm_bench.vllm.server import ControlError
from vllm_bench.watch import page_sampler, vllm_metrics
from vllm_bench.watch.recording import UnavailableError
from vllm_bench.watch.vllm_metrics import ServerMetricsSampler, ServerRecording

TIMES = {
    "ttft": "time_to_first_token_seconds",
    "itl": "inter_token_latency_seconds",
    "queue": "request_queue_time_seconds",
    "prefill": "request_prefill_time_seconds",
    "decode": "request_decode_time_seconds",
}


def engine_page(engine: str | None = "0", ended: int = 0, **changes: float) -> str:
    """A page of one engine after so many requests of 0.1 s to the first token, 10 ms a token."""
    values = {
        "num_requests_running": 3.0,
        "num_requests_waiting": 1.0,
        "kv_cache_usage_perc": 0.25,
        "num_preemptions_total": 0.0,
        "prefix_cache_queries_total": 100.0 * ended,
        "prefix_cache_hits_total": 20.0 * ended,
        "prompt_tokens_total": 100.0 * ended,
        "generation_tokens_total": 11.0 * ended,
        "time_to_first_token_seconds_sum": 0.1 * ended,
        "time_to_first_token_seconds_count": ended,
        "inter_token_latency_seconds_sum": 0.1 * ended,
        "inter_token_latency_seconds_count": 10 * ended,
        **{f"request_{n}_time_seconds_sum": 0.05 * ended for n in ("queue", "prefill", "decode")},
        **{f"request_{n}_time_seconds_count": ended for n in ("queue", "prefill", "decode")},
        **changes,
    }
    label = f'engine="{engine}",' if engine is not None else ""
    return "".join(f'vllm:{n}{{{label}model_name="m"}} {v}\n' for n, v in values.items())


class Answers:
    """Plays one answer a question, None for none; the last one again and again."""

    def __init__(self, *answers: str | None) -> None:
        self.left = list(answers)

    def __call__(self) -> str:
        answer = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if answer is None:
            raise ControlError("http://gpu7/metrics: no answer within 5 s")
        return answer


def asked(folder: Path, *answers: str | None) -> tuple[pd.DataFrame, Any]:
    """Ask once for each answer, without a thread; return the rows and the facts."""
    path = folder / "server_metrics" / "x.csv"
    recording = ServerRecording(path)
    sampler = ServerMetricsSampler(Answers(*answers), recording)
    for _ in answers:
        sampler.sample()
    recording.anchor(0, 0.0)
    facts = recording.facts()
    return view(folder), facts


def view(folder: Path) -> pd.DataFrame:
    """Return what was recorded in a folder, as a row per engine and reading."""
    rows = read_server(folder / "x.csv")[0]
    assert rows is not None
    return pd.DataFrame(rows.columns)


def capture(shared: Path, name: str) -> str:
    head, _, body = (shared / "wire" / f"metrics_{name}.txt").read_text().partition("\n\n")
    assert head.startswith("HTTP/1.1 200")
    # They are of three starts of the server; here they stand for one.
    return re.sub(r"(?m)^process_start_time_seconds .*$", "process_start_time_seconds 1.8e9", body)


def test_what_was_last_said_can_be_asked_until_it_is_old(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now_s = [50.0]
    clock = SimpleNamespace(perf_counter=lambda: now_s[0], time=lambda: 1e9)
    for module in (page_sampler, vllm_metrics):
        monkeypatch.setattr(module, "time", clock)
    pages = [engine_page("0") + engine_page("1"), None]
    sampler = ServerMetricsSampler(Answers(*pages), ServerRecording(tmp_path / "x.csv"))
    assert sampler.latest == {}
    sampler.sample()
    latest = sampler.latest
    assert (latest["t_s"], latest["running"], latest["waiting"]) == (50.0, 6.0, 2.0)
    assert latest["kv_cache_usage"] == 0.25
    now_s[0] = 52.0
    sampler.sample()  # no answer
    assert sampler.latest is latest
    now_s[0] = 53.0
    assert sampler.latest == {}


def test_a_real_servers_page_is_read(shared: Path) -> None:
    (engine,) = read_page(capture(shared, "under_load")).engines.values()
    assert engine.values == {
        "running": 16.0,
        "waiting": 0.0,
        "kv_cache_usage": 0.03126526624328285,
        "preemptions_total": 0.0,
        "prefix_cache_queries_total": 12559.0,
        "prefix_cache_hits_total": 0.0,
        "prompt_tokens_total": 12559.0,
        "generation_tokens_total": 12275.0,
    }
    assert engine.spent["ttft"] == Spent(1.1732656955718994, 50.0)
    assert engine.spent["itl"] == Spent(29.730745738001588, 12225.0)
    assert set(engine.spent) == set(TIMES)


def test_a_real_servers_means_are_of_what_happened_between_two_pages(
    shared: Path, tmp_path: Path
) -> None:
    rows, facts = asked(tmp_path, *(capture(shared, n) for n in ("before", "under_load")))
    assert tuple(rows.columns) == columns(ServerRow)
    assert rows["engine"].to_list() == ["0", "all"] * 2
    before, _, under, together_ = (row for _, row in rows.iterrows())
    old, new = (read_page(capture(shared, n)).engines["0"] for n in ("before", "under_load"))
    for name in TIMES:
        assert pd.isna(before[f"{name}_mean_ms"])
        assert pd.isna(before[f"{name}_count"])
        count = new.spent[name].count - old.spent[name].count
        spent_ms = (new.spent[name].seconds - old.spent[name].seconds) * 1000
        assert under[f"{name}_count"] == count > 0
        assert under[f"{name}_mean_ms"] == pytest.approx(spent_ms / count, abs=1e-6)
        assert together_[f"{name}_mean_ms"] == under[f"{name}_mean_ms"]
    assert (facts["readings"], facts["engines"], facts["problems"]) == (2, ["0"], [])


def test_an_interval_without_a_request_has_no_mean(tmp_path: Path) -> None:
    rows, _ = asked(tmp_path, engine_page(ended=5), engine_page(ended=5), engine_page(ended=7))
    ttft = rows.query("engine == '0'")
    assert ttft["ttft_count"].fillna(-1).to_list() == [-1, 0, 2]
    assert ttft["ttft_mean_ms"].isna().to_list() == [True, True, False]
    assert ttft["ttft_mean_ms"].iloc[2] == pytest.approx(100)
    assert ttft["itl_mean_ms"].iloc[2] == pytest.approx(10)
    assert ttft["queue_mean_ms"].iloc[2] == pytest.approx(50)


def test_names_of_older_servers_are_read(tmp_path: Path) -> None:
    def old(text: str) -> str:
        for new, name in (
            ("kv_cache_usage_perc", "gpu_cache_usage_perc"),
            ("inter_token_latency_seconds", "time_per_output_token_seconds"),
            ("prefix_cache_hits", "gpu_prefix_cache_hits"),
            ("prefix_cache_queries", "gpu_prefix_cache_queries"),
        ):
            text = text.replace(f"vllm:{new}", f"vllm:{name}")
        return text

    new_rows, _ = asked(tmp_path / "new", engine_page(ended=1), engine_page(ended=3))
    old_rows, _ = asked(
        tmp_path / "old", old(engine_page(None, ended=1)), old(engine_page(None, ended=3))
    )
    clocks = ["t_s", "wall_s", "fetch_ms"]
    pd.testing.assert_frame_equal(new_rows.drop(columns=clocks), old_rows.drop(columns=clocks))


def test_a_page_with_both_names_is_read_by_the_newer() -> None:
    text = engine_page() + 'vllm:gpu_cache_usage_perc{engine="0"} 0.99\n'
    assert read_page(text).engines["0"].values["kv_cache_usage"] == 0.25


def test_engines_are_apart_and_summed(tmp_path: Path) -> None:
    def both(ended: int) -> str:
        second = engine_page("1", ended=2 * ended, kv_cache_usage_perc=0.75, num_requests_running=5)
        return second + engine_page("0", ended=ended)

    rows, facts = asked(tmp_path, both(1), both(2))
    assert rows["engine"].to_list() == ["0", "1", "all"] * 2
    last = rows.iloc[3:].set_index("engine")
    assert last["running"].to_list() == [3, 5, 8]
    assert last["kv_cache_usage"].to_list() == [0.25, 0.75, 0.5]
    assert last["generation_tokens_total"].to_list() == [22, 44, 66]
    assert last["ttft_count"].to_list() == [1, 2, 3]
    assert facts["engines"] == ["0", "1"]


def test_engines_are_in_the_order_of_their_numbers() -> None:
    text = "".join(engine_page(name) for name in ("10", "9", "x", "all"))
    assert list(read_page(text).engines) == ["9", "10", "engine all", "x"]


def test_an_engine_that_comes_later_does_not_count_as_having_happened(tmp_path: Path) -> None:
    one = engine_page("0", ended=3)
    rows, _ = asked(tmp_path, one, one + engine_page("1", ended=1000))
    last = rows.iloc[2:].set_index("engine")
    assert last["ttft_count"].fillna(-1).to_list() == [0, -1, -1]


def test_a_server_that_restarts_is_told_and_no_mean_is_made_up(tmp_path: Path) -> None:
    rows, facts = asked(tmp_path, *(engine_page(ended=n) for n in (10, 12, 1, 2)))
    counts = rows.query("engine == 'all'")["ttft_count"]
    assert counts.fillna(-1).to_list() == [-1, 2, -1, 1]
    assert [p["code"] for p in facts["problems"]] == ["server_restarted"]


def test_a_question_without_an_answer_is_a_gap(tmp_path: Path) -> None:
    rows, facts = asked(tmp_path, engine_page(ended=1), None, engine_page(ended=4))
    assert rows.query("engine == '0'")["ttft_count"].fillna(-1).to_list() == [-1, 3]
    (gap,) = facts["gaps"]
    assert gap["code"] == "no_answer"
    assert gap["to_s"] > gap["from_s"]
    (problem,) = facts["problems"]
    assert problem["code"] == "no_answer"
    assert "1 of 3" in problem["text"]


def test_a_server_that_died_leaves_an_open_gap(tmp_path: Path) -> None:
    _, facts = asked(tmp_path, engine_page(), None, None)
    assert [(gap["to_s"], gap["code"]) for gap in facts["gaps"]] == [(None, "no_answer")]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "no answer within 5 s"),
        ("", "none of vLLM's metrics"),
        ("python_gc_objects_collected_total 3\n", "none of vLLM's metrics"),
        ('vllm:num_requests_running{engine="0" 3\n', "not a page of Prometheus metrics"),
    ],
)
def test_a_server_without_metrics_says_why(tmp_path: Path, answer: str | None, why: str) -> None:
    sampler = ServerMetricsSampler(Answers(answer), ServerRecording(tmp_path / "x.csv"))
    with pytest.raises(UnavailableError, match=why):
        sampler.start()
    assert not (tmp_path / "x.csv").exists()


def test_it_asks_before_the_run_and_after_it_on_a_thread_of_its_own(tmp_path: Path) -> None:
    threads: list[str] = []

    def fetch() -> str:
        threads.append(threading.current_thread().name)
        return engine_page(ended=len(threads))

    path = tmp_path / "server_metrics" / "x.csv"
    recording = ServerRecording(path)
    sampler = ServerMetricsSampler(fetch, recording)
    sampler.start()
    start_ns = time.perf_counter_ns()
    recording.anchor(start_ns, 0.0)
    end_s = (time.perf_counter_ns() - start_ns) / 1e9
    sampler.stop()
    facts = recording.facts()
    rows = view(tmp_path)
    assert facts["file"] == "server_metrics/x.csv"
    assert rows["t_s"].iloc[0] < 0
    assert rows["t_s"].iloc[-1] > end_s
    assert set(threads) == {"/metrics"}


def test_a_folder_that_cannot_be_written_is_a_problem_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "server_metrics").write_text("")
    recording = ServerRecording(tmp_path / "server_metrics" / "x.csv")
    ServerMetricsSampler(engine_page, recording).sample()
    recording.anchor(0, 0.0)
    assert [p["code"] for p in recording.facts()["problems"]] == ["not_written"]


def test_a_file_ends_before_it_is_too_large_to_be_read_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_bench.records.beside.sample_file.MOST_BYTES", 1500)
    recording = ServerRecording(tmp_path / "server_metrics" / "x.csv")
    sampler = ServerMetricsSampler(engine_page, recording)
    recording.anchor(0, 0.0)
    for _ in range(60):
        sampler.sample()
    facts = recording.facts()
    assert [p["code"] for p in facts["problems"]] == ["not_written"]
    said = said_of((tmp_path / "server_metrics" / "x.csv").read_bytes())
    assert 0 < said.rows == facts["rows"]
    assert len(said.t_s) < facts["readings"] == 60


ended = st.lists(st.integers(0, 10**6), min_size=1, max_size=4)


@given(before=ended, grown=st.data())
def test_the_mean_of_all_engines_is_weighted_by_their_counts(
    before: list[int], grown: st.DataObject
) -> None:
    def page(counts: list[int]) -> str:
        return "".join(engine_page(str(i), ended=n) for i, n in enumerate(counts))

    after = [n + grown.draw(st.integers(0, 10**6)) for n in before]
    with tempfile.TemporaryDirectory() as name:
        rows, _ = asked(Path(name), page(before), page(after))
    *parts, whole = (row for _, row in rows.iloc[len(before) + 1 :].iterrows())
    count = sum(part["ttft_count"] for part in parts)
    assert whole["ttft_count"] == count
    total_ms = sum(p["ttft_mean_ms"] * p["ttft_count"] for p in parts if p["ttft_count"])
    if count:
        assert whole["ttft_mean_ms"] * count == pytest.approx(total_ms, abs=1e-2, rel=1e-6)
    else:
        assert pd.isna(whole["ttft_mean_ms"])


@given(text=st.text() | st.text().map(lambda t: f"vllm:num_requests_running{t}"))
def test_no_text_breaks_the_reader(text: str) -> None:
    with contextlib.suppress(PageError):
        read_page(text)

"""One server, a restarted one, or replicas: told by their start, else by their counters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from vllm_bench.records.beside.sample_file import read_server
from vllm_bench.vllm.page import read_page, together
from vllm_bench.watch.sources import Change, Sources
from vllm_bench.watch.vllm_metrics import ServerMetricsSampler, ServerRecording

NOW_S = 1.8e9  # on the wall clock, at the first reading


def page(tokens: float, started_s: float | None = None, engine: str = "0") -> str:
    label = f'{{engine="{engine}"}}'
    start = "" if started_s is None else f"process_start_time_seconds {started_s}\n"
    return (
        f"{start}vllm:generation_tokens_total{label} {tokens}\n"
        f"vllm:time_to_first_token_seconds_sum{label} {tokens / 100}\n"
        f"vllm:time_to_first_token_seconds_count{label} {tokens / 10}\n"
    )


OLD, OTHER = NOW_S - 5000, NOW_S - 4000  # when servers began that run already


@pytest.mark.parametrize(
    ("pages", "change"),
    [
        ([page(10), page(20), page(20)], None),
        ([page(10, OLD), page(20, OLD)], None),
        ([page(10), page(20), page(0), page(9)], "server_restarted"),
        ([page(10), page(20), page(3), page(9), page(200)], "server_restarted"),
        ([page(100), page(3), page(50), page(2), page(60)], "server_restarted"),  # twice
        ([page(10, OLD), page(3, NOW_S + 20), page(900, NOW_S + 20)], "server_restarted"),
        ([page(10, OLD), page(30, NOW_S + 20)], "server_restarted"),  # more than before
        ([page(10, OLD), page(3, NOW_S + 9), page(3, NOW_S + 30)], "server_restarted"),
        ([page(1000), page(400), page(1010)], "replicas"),
        ([page(1000), page(400), page(410), page(1010)], "replicas"),
        ([page(1000), page(400), page(700), page(420), page(710)], "replicas"),
        ([page(400), page(1000), page(410)], "replicas"),
        ([page(0), page(1000), page(12), page(500)], "server_restarted"),  # it was fresh before
        ([page(1000), page(5), page(1010)], "replicas"),
        ([page(1000), page(5), page(300), page(1900)], "server_restarted"),
        ([page(400), page(1000), page(410), page(1010), page(420)], "replicas"),
        ([page(1000, OLD), page(400, OTHER)], "replicas"),
        ([page(400, OLD), page(1000, OTHER)], "replicas"),
        ([page(9, OLD), page(1, NOW_S + 3), page(11, OLD)], "replicas"),  # clocks that differ
        ([page(9), page(12, engine="1"), page(19), page(22, engine="1")], "replicas"),
        ([page(9), page(9) + page(1, engine="1"), page(19) + page(5, engine="1")], None),
    ],
)
def test_a_restart_and_replicas_are_told_apart(pages: Sequence[str], change: Change | None) -> None:
    found = Sources()
    for number, text in enumerate(pages):
        read = read_page(text)
        found.of(read.started_s, read.engines, together(read.engines), NOW_S + number)
    assert found.change == change


@pytest.mark.parametrize("step_s", [-7200.0, -30.0, 60.0, 1e6])
@pytest.mark.parametrize("back", [False, True])
def test_a_clock_that_is_set_is_no_change(step_s: float, back: bool) -> None:
    found = Sources()
    for number in range(60):
        moved = number >= 20 and not (back and number >= 40)
        read = read_page(page(900 + 40 * number, OLD + (step_s if moved else 0.0)))
        key = found.of(read.started_s, read.engines, together(read.engines), NOW_S + number)
        assert key == OLD
    assert found.change is None


def test_replicas_whose_counters_are_alike_are_told_by_their_starts() -> None:
    found = Sources()
    for number in range(12):  # never one that falls
        read = read_page(page(9000 + 100 * number, OTHER if number % 2 else OLD))
        found.of(read.started_s, read.engines, together(read.engines), NOW_S + number)
    assert found.change == "replicas"


def sampled(folder: Path, *pages: str) -> tuple[pd.DataFrame, dict[str, object]]:
    left = list(pages)
    recording = ServerRecording(folder / "server_metrics" / "x.csv")
    sampler = ServerMetricsSampler(lambda: left.pop(0), recording)
    for _ in pages:
        sampler.sample()
    recording.anchor(0, 0.0)
    facts = recording.facts()
    rows = read_server(folder / "x.csv")[0]
    assert rows is not None
    return pd.DataFrame(rows.columns), facts


def test_means_are_between_readings_of_one_replica(tmp_path: Path) -> None:
    pages = [page(1000, OLD), page(400, OTHER), page(1020, OLD), page(450, OTHER)]
    rows, facts = sampled(tmp_path, *pages)
    counts = rows.query("engine == 'all'")["ttft_count"]
    assert counts.fillna(-1).to_list() == [-1, -1, 2, 5]
    assert [p["code"] for p in facts["problems"]] == ["replicas"]  # type: ignore[index, union-attr]
    assert facts["server_started"] == [OLD, OTHER]


def test_no_mean_lies_across_two_servers_that_do_not_say_when_they_began(tmp_path: Path) -> None:
    rows, _ = sampled(tmp_path, *(page(n) for n in (1000, 400, 1010, 410, 1020, 420)))
    assert rows["ttft_count"].isna().all()


def test_a_counter_that_goes_back_in_one_process_is_odd(tmp_path: Path) -> None:
    rows, facts = sampled(tmp_path, page(50, OLD), page(40, OLD), page(60, OLD))
    assert [p["code"] for p in facts["problems"]] == ["odd_values"]  # type: ignore[index, union-attr]
    assert rows.query("engine == 'all'")["ttft_count"].fillna(-1).to_list() == [-1, -1, 2]

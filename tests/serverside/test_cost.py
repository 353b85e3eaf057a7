"""Output by GPU and by price, from GPUs that are the server's or that the scenario counts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.summary.levels import series_of
from vllm_bench.summary.summary import RunSummary

from tests.end_to_end.watched import gpu, observed_gpus, watched


def rate(summary: RunSummary) -> float:
    assert summary.steady is not None
    assert summary.steady.output_tokens_per_s is not None
    return summary.steady.output_tokens_per_s


def test_a_million_tokens_cost_the_gpus_time_for_them(tmp_path: Path) -> None:
    summary = watched(tmp_path, scenario={"gpus": 4, "gpu_hour_price": 2.5})
    found = summary.cost
    assert rate(summary) == pytest.approx(80, rel=0.02)  # 20 tokens each 250 ms
    hours = 1e6 / rate(summary) / 3600
    assert found.per_million_output_tokens == pytest.approx(4 * hours * 2.5)
    assert found.output_tokens_per_s_per_gpu == pytest.approx(rate(summary) / 4)
    assert (found.gpus, found.gpu_hour_price, dict(found.absent)) == (4, 2.5, {})


def test_gpus_that_were_sampled_are_counted_where_none_are_given(tmp_path: Path) -> None:
    rows = gpu(0) + gpu(3, [1.0])  # one is lost at once: it is still one that the server has
    summary = watched(tmp_path, rows, observed=observed_gpus(0, 3), scenario={"gpu_hour_price": 1})
    assert summary.cost.gpus == 2
    assert summary.cost.per_million_output_tokens == pytest.approx(2e6 / rate(summary) / 3600)


def test_without_a_price_there_is_the_output_by_gpu_alone(tmp_path: Path) -> None:
    found = watched(tmp_path, scenario={"gpus": 2}).cost
    assert found.output_tokens_per_s_per_gpu is not None
    assert (found.gpu_hour_price, found.per_million_output_tokens) == (None, None)
    assert "gpu_hour_price" in found.absent["per_million_output_tokens"]


@pytest.mark.parametrize(
    ("rows", "changes", "why"),
    [
        (None, {}, "set gpus"),
        ([0], {"server": {"simulator": True}}, "simulator"),
        ([0], {"observed": {}}, "set gpus"),
        ([], {}, "set gpus"),
    ],
)
def test_gpus_that_may_not_be_the_servers_are_not_counted(
    tmp_path: Path, rows: list[int] | None, changes: dict[str, Any], why: str
) -> None:
    if rows is not None:
        changes = {"observed": observed_gpus(0), **changes}
    sampled = None if rows is None else [row for index in rows for row in gpu(index)]
    found = watched(tmp_path, sampled, scenario={"gpu_hour_price": 1.0}, **changes).cost
    for name in ("gpus", "output_tokens_per_s_per_gpu", "per_million_output_tokens"):
        assert getattr(found, name) is None
        assert why in found.absent[name]


def test_no_stamps_no_rate_no_cost(tmp_path: Path) -> None:
    settings = {"gpus": 1, "gpu_hour_price": 1.0, "stream": True}
    found = watched(tmp_path, scenario=settings).cost
    assert found.per_million_output_tokens is None
    assert "tokens/" in found.absent["per_million_output_tokens"]


def test_a_new_price_makes_no_new_series(tmp_path: Path) -> None:
    runs = []
    for price in (1.0, 2.0):
        folder = tmp_path / f"{price}"
        folder.mkdir()
        run = watched(folder, scenario={"gpus": 1, "gpu_hour_price": price})
        runs.append(dataclasses.replace(run, folder=tmp_path))
    (series,) = series_of(runs)
    assert len(series.levels) == 1

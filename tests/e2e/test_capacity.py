"""A search for the capacity with three minutes, on real vLLM and on the simulator."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from vllm_bench.search.kept import read_search

from tests.e2e.conftest import Served
from tests.e2e.scripts import bench_words, script

pytestmark = [pytest.mark.vllm, pytest.mark.process]

# Of what these two servers take on two cores, far below and far above.
RANGE = ("--low", "2", "--high", "128")
SLO = {"ttft_ms": {"p95": 1000}, "success_rate": 0.99}


def test_three_minutes_find_an_answer_or_say_why_there_is_none(
    tmp_path: Path, server: Served, dataset: str
) -> None:
    words = bench_words(tmp_path, server, dataset, concurrencies=[], request_rates=[8], slo=SLO)
    done = script(tmp_path, "capacity.py", *words, *RANGE, "--minutes", "3", "--plain")
    (path,) = (tmp_path / "results" / "capacity").glob("*.json")
    search = read_search(path)
    assert done.returncode == search.exit_code, done.stderr
    assert search.exit_code in (0, 4), done.stdout  # 4: a busy machine spoilt two runs in a row
    assert search.took_s < 1.3 * 60 * search.minutes
    believed = [probe for probe in search.probes if probe.spoilt is None]
    assert believed or search.status == "stuck"
    rows = list(csv.DictReader(path.with_suffix(".csv").read_text().splitlines()))
    assert [row["run_id"] for row in rows] == [probe.run_id for probe in search.probes]
    (found,) = search.found
    if search.exit_code == 0:
        assert found.load is not None
        assert f"{found.load:.4g} requests/s" in done.stdout
        met = max(p.load for p in believed if p.holds())
        assert found.load <= met

"""Two servers by turns, each started anew: a real vLLM, and the simulator in its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from vllm_bench.experiments.state import experiments
from vllm_bench.launch.ports import sockets_on
from vllm_bench.records.run_info import read_run_info

from tests.e2e.scripts import script
from tests.e2e.test_launch import SECRET, settings
from tests.support.beside.ports import free_port

pytestmark = [pytest.mark.process, pytest.mark.vllm]

LOAD = {
    "model": "tiny",
    "dataset": "sample",
    "max_new_tokens": 32,
    "ignore_eos": True,
    "concurrencies": [8],
    "num_requests": 40,
}


@pytest.mark.parametrize("kind", ["vllm", "simulator"])
def test_two_visits_give_the_figures_of_two_servers(tmp_path: Path, kind: str) -> None:
    port = free_port()
    for name, at_a_time in (("few", 2), ("many", 16)):
        asked = settings(kind, MAX_NUM_SEQS=str(at_a_time), PORT=str(port))
        lines = [f"{key}={value}\n" for key, value in asked.values.items()]
        (tmp_path / f"{name}.env").write_text("".join(lines))
    (tmp_path / "scenarios.yaml").write_text(json.dumps({"scenarios": {"one": LOAD}}))
    results = tmp_path / "results"
    done = script(
        *(tmp_path, "ab.py", str(tmp_path / "few.env"), str(tmp_path / "many.env")),
        *("--scenarios", str(tmp_path / "scenarios.yaml"), "--results-dir", str(results)),
        *("--visits", "2"),
    )
    assert done.returncode == 4, done.stderr  # two visits are one pair
    (state,) = experiments(results)
    assert state.whole == {1, 2}
    infos = [read_run_info(path.with_suffix(".json")) for path in results.glob("one-*.csv")]
    told = {info.experiment["side"]: info.server["settings"]["max_num_seqs"] for info in infos}
    assert told == {"few": 2, "many": 16}
    assert len({info.plan["sha256"] for info in infos}) == 1
    assert len({info.server["system_fingerprint"] for info in infos}) == 2
    assert all(info.experiment["ready_s"] > 0 for info in infos)
    assert not sockets_on(port)
    written = b"".join(p.read_bytes() for p in results.rglob("*") if p.is_file())
    assert SECRET.encode() not in written
    assert SECRET not in done.stdout + done.stderr

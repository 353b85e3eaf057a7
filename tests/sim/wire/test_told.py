"""What the simulator says of its settings: as vLLM's log and /server_info do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.simulated import Simulated
from tests.support.beside.waiting import LIMIT_S

pytestmark = pytest.mark.process

FLAGS = (
    *("--profile", "tiny-cpu", "--max-num-seqs", "8", "--max-model-len", "1024"),
    *("--kv-cache-dtype", "fp8", "--no-enable-prefix-caching", "--api-key", "hush-hush"),
)


def config(*flags: str) -> dict[str, Any]:
    with Simulated(*flags) as server:
        answer = server.client.get("/server_info?config_format=json")
        assert answer.status_code == 200
        whole = answer.json()
    assert set(whole) == {"vllm_config", "vllm_env", "system_env"}
    assert "hush" not in answer.text
    return dict(whole["vllm_config"])


def test_server_info_is_there_in_development_mode_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "0"):
        monkeypatch.setenv("VLLM_SERVER_DEV_MODE", value)
        with Simulated("--exact") as server:
            assert server.client.get("/server_info").status_code == 404
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    found = config(*FLAGS)
    assert found["scheduler_config"]["max_num_seqs"] == 8
    assert found["scheduler_config"]["max_num_batched_tokens"] == 2048
    cache = found["cache_config"]
    assert (cache["cache_dtype"], cache["enable_prefix_caching"]) == ("fp8", False)
    assert cache["kv_cache_size_tokens"] == cache["num_gpu_blocks"] * cache["block_size"]
    assert cache["kv_cache_max_concurrency"] == cache["kv_cache_size_tokens"] / 1024
    assert found["model_config"]["max_model_len"] == 1024
    assert set(config("--exact")) == {"model_config"}  # it has no engine


def test_keys_and_sections_are_vllms(monkeypatch: pytest.MonkeyPatch, shared: Any) -> None:
    import orjson

    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    recorded = orjson.loads((shared / "wire2" / "server_info.json").read_bytes())["vllm_config"]
    for section, values in config(*FLAGS).items():
        assert set(values) <= set(recorded[section]), section


def test_the_log_has_what_was_passed_and_how_much_fits() -> None:
    with Simulated(*FLAGS) as server:
        server.process.terminate()
        _, err = server.process.communicate(timeout=LIMIT_S)
    [passed] = [line for line in err.splitlines() if "non-default args: {" in line]
    for word in ("'max_num_seqs': 8", "'enable_prefix_caching': False", "'api_key': '***'"):
        assert word in passed
    [fits] = [line for line in err.splitlines() if "KV cache size: " in line]
    assert "Maximum concurrency for 1,024 tokens per request: " in fits
    assert "hush" not in err

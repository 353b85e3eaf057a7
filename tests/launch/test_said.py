"""What a server says is in force, from logs of old and new versions and from /server_info."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.launch.said import from_log, said
from vllm_bench.vllm.in_force import MOST_NUMBER, MOST_SETTINGS, MOST_TEXT, in_force
from vllm_bench.vllm.server import Server

from tests.support.far_end import TinyVllm

NEW = """(APIServer pid=1) INFO 11-28 13:36:17 [api_utils.py:286] non-default args: {'model_tag': \
'org/m', 'host': '127.0.0.1', 'port': 8011, 'model': 'org/m', 'max_model_len': 2048, \
'served_model_name': ['tiny', 'small'], 'hf_token': '***', 'api_key': ['s3cret-1'], \
'compilation_config': {'level': 3, 'hf_token': 's3cret-2'}, 'kind': <Kind.auto: 'auto'>, \
'max_num_seqs': 16, 'enable_prefix_caching': False}
(EngineCore pid=9) INFO 11-28 13:36:22 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with \
config: model='org/m', speculative_config=None, max_seq_len=2048, dtype=torch.bfloat16, \
tensor_parallel_size=2, kv_cache_dtype=auto, device_config=cuda, \
structured_outputs_config=StructuredOutputsConfig(backend='auto', x=[1, 2]), seed=0
(EngineCore pid=9) INFO 11-28 13:36:24 [kv.py:2327] GPU KV cache size: 262,144 tokens, \
Maximum concurrency for 2,048 tokens per request: 128.00x
"""
OLD = """INFO 05-01 10:00:00 api_server.py:177] args: Namespace(subparser='serve', \
model_tag='org/m', host=None, port=8000, api_key='s3cret-3', max_num_seqs=256, \
kv_cache_dtype='fp8', dispatch=<function serve at 0x7f>, gpu_memory_utilization=0.9)
INFO 05-01 10:00:05 llm_engine.py:174] Initializing an LLM engine (v0.5.4) with config: \
model='org/m', max_seq_len=8192, tensor_parallel_size=1
INFO 05-01 10:00:06 gpu_executor.py:102] # GPU blocks: 27818, # CPU blocks: 2048
INFO 05-01 10:00:07 scheduler.py:1] Chunked prefill is enabled with max_num_batched_tokens=512.
INFO 05-01 10:00:08 executor.py:3] Maximum concurrency for 8192 tokens per request: 54.33x
"""


def test_a_new_log() -> None:
    found = from_log(NEW)
    expected = {
        **{"model": "org/m", "max_model_len": 2048, "served_model_name": "tiny"},
        **{"max_num_seqs": 16, "enable_prefix_caching": False, "tensor_parallel_size": 2},
        **{"dtype": "bfloat16", "device": "cuda", "kv_cache_dtype": "auto", "version": "0.32.0"},
        **{"kv_cache_size_tokens": 262_144, "kv_cache_max_concurrency": 128.0, "seed": 0},
    }
    assert expected.items() <= found.items()
    assert not {"host", "port", "api_key", "hf_token", "kind"} & found.keys()
    assert "s3cret" not in str(found)


def test_an_old_log() -> None:
    found = from_log(OLD)
    expected = {
        **{"model": "org/m", "max_num_seqs": 256, "kv_cache_dtype": "fp8", "version": "0.5.4"},
        **{"gpu_memory_utilization": 0.9, "max_model_len": 8192, "num_gpu_blocks": 27_818},
        **{"max_num_batched_tokens": 512, "kv_cache_max_concurrency": 54.33},
    }
    assert expected.items() <= found.items()
    assert "s3cret" not in str(found)


@pytest.mark.parametrize("line", NEW.splitlines() + OLD.splitlines())
def test_a_line_that_is_cut_tells_what_it_has(line: str) -> None:
    for cut in range(0, len(line), 7):
        assert "s3cret" not in str(from_log(line[:cut]))


def sound(found: dict[str, Any]) -> None:
    assert len(found) <= 2 * MOST_SETTINGS
    for name, value in found.items():
        assert name.isascii()
        assert type(value) in (str, int, float, bool)
        assert len(value) <= MOST_TEXT and value.isprintable() if isinstance(value, str) else True
        assert isinstance(value, str) or abs(value) <= MOST_NUMBER


@given(st.text(max_size=200), st.sampled_from(["non-default args: {", "args: Namespace(", ""]))
def test_any_text_is_read_without_a_crash(text: str, before: str) -> None:
    sound(from_log(f"INFO {before}{text}}})\nKV cache size: {text} tokens"))


@pytest.mark.parametrize(
    "value",
    ["9" * 400, "1e999", "'\\ud800'", "[" * 5000, "'\\d'", "-" * 5000 + "1", "('x' * 9)", "1_0",
     "b'x'", "{1: 2}", "...", "'" + "x" * 9000 + "'", "nan", "1j", "[[]]", "{}"],
)  # fmt: skip
def test_odd_values_are_left_out_or_bounded(value: str) -> None:
    found = from_log(f"non-default args: {{'odd': {value}, 'max_num_seqs': 8}}")
    sound(found)
    assert set(found) <= {"odd", "max_num_seqs"}


NAMES = st.sampled_from(["hf_token", "api_key", "password", "max_num_seqs", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["model_config", "cache_config", "x"]), JSON), JSON)
def test_any_answer_is_read_without_a_crash(config: dict[str, Any], other: Any) -> None:
    for answer in ({"vllm_config": config}, {"vllm_config": other}, other):
        sound(in_force(answer))


@given(NAMES, st.integers(0, 3))
def test_what_a_name_calls_a_secret_is_never_told(name: str, deep: int) -> None:
    value: Any = {"api_key": "s3cret"} if deep else "s3cret"
    for _ in range(deep):
        value = {"inner": value}
    told = in_force({"vllm_config": {"model_config": {"hf_token": "s3cret", name + "_key": value}}})
    logged = from_log(f"non-default args: { ({'hf_token': 's3cret', 'x': value} if deep else {}) }")
    assert "s3cret" not in str(told) + str(logged)


INFO: dict[str, Any] = {
    "vllm_config": {
        "model_config": {"model": "/m", "max_model_len": 4096, "hf_token": "hf_s3cret"},
        "cache_config": {"cache_dtype": "fp8", "gpu_memory_utilization": 0.9, "_x": 1},
        "parallel_config": {"tensor_parallel_size": 2, "master_port": 29501, "rank": 0},
        "scheduler_config": {"max_num_seqs": 16, "policy": "fcfs", "max_num_queued_reqs": None},
        "lora_config": None,
        "instance_id": "17",
        "performance_mode": "balanced",
    },
    "vllm_env": {"VLLM_X": 1},
}


def test_server_info_is_flat_without_what_each_start_has_anew() -> None:
    assert in_force(INFO) == {
        **{"max_num_seqs": 16, "scheduling_policy": "fcfs", "kv_cache_dtype": "fp8"},
        **{"gpu_memory_utilization": 0.9, "tensor_parallel_size": 2, "model": "/m"},
        **{"max_model_len": 4096, "performance_mode": "balanced"},
    }


def test_an_older_server_tells_a_text() -> None:
    found = in_force({"vllm_config": "model='/m', max_seq_len=4096, hf_token='hf_s3cret', seed=0"})
    assert found == {"model": "/m", "max_model_len": 4096, "seed": 0}


def test_a_recorded_answer(shared: Path) -> None:
    import orjson

    path = shared / "wire2" / "server_info.json"
    found = in_force(orjson.loads(path.read_bytes()))
    assert (found["max_num_seqs"], found["scheduling_policy"]) == (4, "priority")
    assert found["kv_cache_size_tokens"] == 262_144
    assert "hf_token" not in found


class Telling(TinyVllm):
    """A server in development mode, or whatever answers in its place."""

    def __init__(self, info: tuple[object, int]) -> None:
        super().__init__()
        self.info = info

    def _control(self, request: Any) -> tuple[object, int]:
        if request.path.startswith("/server_info?config_format=json"):
            return self.info
        return super()._control(request)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "log"
    path.write_text(NEW)
    return path


def told(info: tuple[object, int], log: Path | None) -> dict[str, Any]:
    with Telling(info) as far, closing(Server(far.base_url, "s3cret-key", {})) as server:
        return said(server, log)


def test_server_info_comes_before_the_log_and_the_log_before_metrics(log: Path) -> None:
    missing = ({"detail": "Not Found"}, 404)
    by_info, by_log, by_models = told((INFO, 200), log), told(missing, log), told(missing, None)
    assert [found["told_by"] for found in (by_info, by_log, by_models)] == [
        *("server_info", "log", "metrics")
    ]
    assert by_info["max_model_len"] == 4096
    assert by_info["kv_cache_size_tokens"] == 262_144  # the log alone has it
    assert by_log["max_model_len"] == 2048
    assert by_models["max_model_len"] == 2048
    assert "max_num_seqs" not in by_models


@pytest.mark.parametrize("info", [([], 200), ("text", 200), (None, 500), ({}, 401), (INFO, 302)])
def test_another_answer_tells_nothing(info: tuple[object, int], log: Path) -> None:
    assert told(info, log)["told_by"] == "log"


def test_a_key_in_an_answer_is_masked() -> None:
    config = {"model_config": {"model": "/m/s3cret-key/x", "tokenizer": "http://a:s3cret@b/"}}
    assert "s3cret" not in str(told(({"vllm_config": config}, 200), None))

"""What was asked against what is told: wrong, right, or not to be told."""

from __future__ import annotations

from pathlib import Path

import pytest
from vllm_bench.launch.check import checked
from vllm_bench.launch.env import Settings, settings_of


def asked(**values: str) -> Settings:
    return settings_of(Path("a.env"), {"MODEL": "org/m", **values}, {})


# A variable, its value, what vLLM calls it, what it tells, and whether that is the same.
TABLE = [
    ("MODEL", "org/m", "model", "org/m", True),
    ("MODEL", "org/m", "model", "/hub/models--org--m/snapshots/1", True),
    ("MODEL", "org/m", "model", "org/other", False),
    ("MODEL", "/models/m/", "model", "/models/m", True),
    ("MODEL", "gpt-oss-20", "model", "openai/gpt-oss-20b", True),
    ("MAX_NUM_SEQS", "16", "max_num_seqs", 16, True),
    ("MAX_NUM_SEQS", "16", "max_num_seqs", 64, False),
    ("MAX_MODEL_LEN", "16k", "max_model_len", 16_000, True),
    ("MAX_MODEL_LEN", "16k", "max_model_len", 16_384, False),
    ("MAX_MODEL_LEN", "16K", "max_model_len", 16_384, True),
    ("MAX_MODEL_LEN", "auto", "max_model_len", 131_072, True),
    ("GPU_MEM_UTIL", ".90", "gpu_memory_utilization", 0.9, True),
    ("GPU_MEM_UTIL", "0.9", "gpu_memory_utilization", 0.92, False),
    ("KV_CACHE_DTYPE", "auto", "kv_cache_dtype", "fp8", True),
    ("KV_CACHE_DTYPE", "fp8", "kv_cache_dtype", "fp8_e4m3", True),
    ("KV_CACHE_DTYPE", "fp8", "kv_cache_dtype", "auto", False),
    ("KV_CACHE_DTYPE", "fp16", "kv_cache_dtype", "auto", True),  # vLLM has none: taken as auto
    ("MAX_NUM_BATCHED_TOKENS", "8k", "max_num_batched_tokens", 8000, True),
    ("MAX_NUM_BATCHED_TOKENS", "8192", "max_num_batched_tokens", 8000, False),
    ("TENSOR_PARALLEL_SIZE", "2", "tensor_parallel_size", 2, True),
    ("TENSOR_PARALLEL_SIZE", "2", "tensor_parallel_size", 1, False),
    ("STREAM_INTERVAL", "20", "stream_interval", 1, False),
    ("EXTRA_ARGS", "--no-enable-prefix-caching", "enable_prefix_caching", False, True),
    ("EXTRA_ARGS", "--no-enable-prefix-caching", "enable_prefix_caching", True, False),
    ("EXTRA_ARGS", "--enforce-eager", "enforce_eager", True, True),
    ("EXTRA_ARGS", "--enforce_eager", "enforce_eager", False, False),
    ("EXTRA_ARGS", "-tp 2", "tensor_parallel_size", 1, False),
    ("EXTRA_ARGS", "--scheduling-policy=priority", "scheduling_policy", "fcfs", False),
    ("EXTRA_ARGS", "--served-model-name a b", "served_model_name", "a", True),
    ("EXTRA_ARGS", "--served-model-name a b", "served_model_name", "c", False),
    ("EXTRA_ARGS", '--x \'{"a":1,"b":2}\'', "x", '{"b": 2, "a": 1}', True),
    ("EXTRA_ARGS", "--x '{\"a\":1}'", "x", '{"a": 2}', False),
    ("EXTRA_ARGS", "--seed 1", "seed", 1, True),
    ("EXTRA_ARGS", "--seed one", "seed", 1, False),
    ("EXTRA_ARGS", "--flag", "flag", 1, False),
]


@pytest.mark.parametrize(("variable", "value", "name", "told", "same"), TABLE)
def test_what_is_asked_against_what_is_told(
    variable: str, value: str, name: str, told: str | float | bool, same: bool
) -> None:
    settings = asked(**{variable: value})
    found = checked(settings, {"model": settings.asked["model"], name: told}).wrong
    assert bool(found) is not same
    assert all(name in line and str(told) in line for line in found)


def test_what_is_not_told_is_unchecked_and_neither_right_nor_wrong() -> None:
    settings = asked(MAX_NUM_SEQS="16", VLLM_ATTENTION_BACKEND="X", EXTRA_ARGS="--async-scheduling")
    found = checked(settings, {"model": "org/m", "told_by": "log"})
    assert found.wrong == ()
    names = ("max_num_seqs", "async_scheduling", "VLLM_ATTENTION_BACKEND")
    assert [line.split("=")[0].split(" ")[0] for line in found.unchecked] == list(names)


def test_where_it_listens_and_who_may_ask_are_no_settings_to_check() -> None:
    extra = "--port 1 --host x --api-key s3cret --disable-log-requests"
    settings = asked(PORT="8001", HOST="x", HF_TOKEN="s3cret", EXTRA_ARGS=extra, SIMULATOR="")
    found = checked(settings, {"model": "org/m"})
    assert (found.wrong, found.unchecked) == ((), ())


def test_no_secret_is_in_a_line() -> None:
    extra = """--x '{"api_key": "s3cret-value"}' --y s3cret-other"""
    settings = asked(AWS_SECRET="s3cret-other", EXTRA_ARGS=extra)
    found = checked(settings, {"model": "m", "x": "s3cret-value", "y": "z"})
    assert len(found.wrong) == 3
    assert "s3cret" not in str(found)

"""What the simulator says of its settings, as vLLM does: in its log, and on /server_info."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .engine.engine import EngineConfig
from .wire.settings import Settings

HIDDEN = {"api_key", "hf_token"}


def log_lines(
    settings: Settings, engine: EngineConfig, passed: Mapping[str, object]
) -> Iterator[str]:
    """Yield the lines of vLLM's log that tell settings."""
    shown = {name: "***" if name in HIDDEN else value for name, value in passed.items()}
    yield f"INFO non-default args: {shown}"
    tokens, most = _capacity(settings, engine)
    yield (
        f"INFO GPU KV cache size: {tokens:,} tokens, Maximum concurrency for"
        f" {settings.max_model_len:,} tokens per request: {most:.2f}x"
    )


def server_info(
    settings: Settings, engine: EngineConfig | None, passed: Mapping[str, object]
) -> dict[str, Any]:
    """Return what /server_info?config_format=json answers, as far as there is such a setting."""
    model = {
        "model": settings.model,
        "max_model_len": settings.max_model_len,
        "served_model_name": settings.name,
        "hf_token": None,
    }
    config: dict[str, Any] = {"model_config": model}
    if engine is not None:
        tokens, most = _capacity(settings, engine)
        config |= {
            "cache_config": {
                "block_size": engine.block_size,
                "gpu_memory_utilization": passed.get("gpu_memory_utilization", 0.92),
                "cache_dtype": passed.get("kv_cache_dtype", "auto"),
                "enable_prefix_caching": engine.enable_prefix_caching,
                "num_gpu_blocks": engine.num_gpu_blocks,
                "kv_cache_size_tokens": tokens,
                "kv_cache_max_concurrency": most,
            },
            "parallel_config": {"tensor_parallel_size": 1},
            "scheduler_config": {
                "max_num_batched_tokens": engine.max_num_batched_tokens,
                "max_num_seqs": engine.max_num_seqs,
                "enable_chunked_prefill": True,
                "policy": engine.scheduling_policy,
                "stream_interval": settings.stream_interval,
            },
        }
    return {"vllm_config": config, "vllm_env": {"VLLM_SERVER_DEV_MODE": True}, "system_env": {}}


def _capacity(settings: Settings, engine: EngineConfig) -> tuple[int, float]:
    """Return the KV cache's tokens, and how many requests of full length it holds."""
    tokens = engine.num_gpu_blocks * engine.block_size
    return tokens, tokens / settings.max_model_len

"""Run by vLLM's own Python, not by ours: prints, as JSON, the defaults that its code has.

The sizes of a step depend on the GPU, which is put in the platform's place.
"""

from __future__ import annotations

import importlib.metadata
import json
import typing
from types import SimpleNamespace

from vllm.config.cache import CacheConfig, CacheDType
from vllm.config.scheduler import SchedulerConfig
from vllm.config.vllm import PerformanceMode
from vllm.engine import arg_utils
from vllm.usage.usage_lib import UsageContext

LONG = SimpleNamespace(max_model_len=131_072, is_multimodal_model=False)
ONE = SimpleNamespace(use_batched_dp_moe=False)
GPUS = {
    "B200": 180,
    "MI300X": 192,
    "H100": 80,
    "H200": 141,
    "A100": 80,
    "L40S": 48,
    "L4": 24,
}


def sizes(platform, **given):
    """Return max_num_batched_tokens and max_num_seqs, as `vllm serve` would take them."""
    arg_utils.current_platform = platform
    args = arg_utils.EngineArgs(**given)
    args.enable_chunked_prefill = True
    args._set_default_max_num_seqs_and_batched_tokens_args(
        UsageContext.OPENAI_API_SERVER, LONG, ONE
    )
    return [args.max_num_batched_tokens, args.max_num_seqs]


def gpu(name, gib):
    return SimpleNamespace(
        get_device_total_memory=lambda: gib * 2**30,
        get_device_name=lambda: name,
        is_tpu=lambda: False,
        is_cpu=lambda: False,
    )


def default(config, name):
    return config.__dataclass_fields__[name].default


def plain(value):
    return getattr(value, "default", value)  # of a pydantic Field


cpu, args = arg_utils.current_platform, arg_utils.EngineArgs
print(
    json.dumps(
        {
            "version": importlib.metadata.version("vllm").partition("+")[0],
            "sizes": {
                **{name: sizes(gpu(name, gib)) for name, gib in GPUS.items()},
                "CPU": sizes(cpu),
            },
            "throughput": sizes(gpu("H100", 80), performance_mode="throughput"),
            "interactivity": sizes(gpu("H100", 80), performance_mode="interactivity"),
            "gpu_memory_utilization": plain(default(CacheConfig, "gpu_memory_utilization")),
            "kv_cache_dtype": plain(default(CacheConfig, "cache_dtype")),
            "kv_cache_dtypes": typing.get_args(CacheDType),
            "enable_prefix_caching": plain(default(CacheConfig, "enable_prefix_caching")),
            "max_model_len": plain(default(args, "max_model_len")),
            "tensor_parallel_size": plain(default(args, "tensor_parallel_size")),
            "stream_interval": plain(default(SchedulerConfig, "stream_interval")),
            "max_num_queued_reqs": plain(default(SchedulerConfig, "max_num_queued_reqs")),
            "performance_mode": plain(default(args, "performance_mode")),
            "performance_modes": typing.get_args(PerformanceMode),
        }
    )
)

"""The metrics of vLLM's V1 engine: names, types, words, labels and buckets of its /metrics.

A row reads: name, help, and the values of its own label, where it has one besides
`engine` and `model_name`. What a simulator has nothing to tell of stays 0.
"""

from __future__ import annotations

from dataclasses import dataclass

_MFU = "(for Model Flops Utilization calculations)."


@dataclass(frozen=True, slots=True)
class Row:
    """One family of series."""

    name: str
    help: str
    label: str = ""
    values: tuple[str, ...] = ()
    per_engine: bool = True


GAUGES = (
    Row("vllm:num_requests_running", "Number of requests in model execution batches."),
    Row("vllm:num_requests_waiting", "Number of requests waiting to be processed."),
    Row(
        "vllm:num_requests_waiting_by_reason",
        "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling"
        " capacity; 'deferred' = deferred by transient constraints (LoRA budget, KV transfer,"
        " blocked status). Sum of all reasons equals vllm:num_requests_waiting.",
        "reason",
        ("capacity", "deferred"),
    ),
    Row(
        "vllm:engine_sleep_state",
        "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake;"
        " weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2.",
        "sleep_state",
        ("awake", "weights_offloaded", "discard_all"),
    ),
    Row("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage."),
)

COUNTERS = (
    Row("vllm:estimated_flops_per_gpu",
        f"Estimated number of floating point operations per GPU {_MFU}"),
    Row("vllm:estimated_read_bytes_per_gpu",
        f"Estimated number of bytes read from memory per GPU {_MFU}"),
    Row("vllm:estimated_write_bytes_per_gpu",
        f"Estimated number of bytes written to memory per GPU {_MFU}"),
    Row("vllm:prefix_cache_queries",
        "Prefix cache queries, in terms of number of queried tokens."),
    Row("vllm:prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens."),
    Row("vllm:external_prefix_cache_queries",
        "External prefix cache queries from KV connector cross-instance cache sharing, in terms"
        " of number of queried tokens."),
    Row("vllm:external_prefix_cache_hits",
        "External prefix cache hits from KV connector cross-instance cache sharing, in terms of"
        " number of cached tokens."),
    Row("vllm:mm_cache_queries",
        "Multi-modal cache queries, in terms of number of queried items."),
    Row("vllm:mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items."),
    Row("vllm:num_preemptions", "Cumulative number of preemption from the engine."),
    Row("vllm:prompt_tokens", "Number of prefill tokens processed."),
    Row("vllm:prompt_tokens_by_source", "Number of prompt tokens by source.", "source",
        ("local_compute", "local_cache_hit", "external_kv_transfer")),
    Row("vllm:prompt_tokens_cached", "Number of cached prompt tokens (local + external)."),
    Row("vllm:prompt_tokens_cached_by_source",
        "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host"
        " (offloaded to DRAM), disk, p2p (transferred from another vLLM instance) or"
        " external_unspecified. Counted at admission; sums to vllm:prefix_cache_hits +"
        " vllm:external_prefix_cache_hits.", "source",
        ("device", "host", "p2p", "disk", "external_unspecified")),
    Row("vllm:generation_tokens", "Number of generation tokens processed."),
    Row("vllm:request_success", "Count of successfully processed requests.", "finished_reason",
        ("stop", "length", "abort", "error", "repetition")),
    Row("vllm:admission_rejections",
        "Number of admission attempts rejected by a queue limit, by reason.", "reason",
        ("max_num_queued_reqs", "max_num_queued_tokens"), per_engine=False),
)  # fmt: skip

_REQUEST_SECONDS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0,
    240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
_TOKEN_SECONDS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
)  # fmt: skip
_FIRST_TOKEN_SECONDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_STEP_TOKENS = tuple(float(n) for n in (1, *(2**power for power in range(3, 15))))

# name -> (help, buckets); buckets of None are 1, 2, 5, 10, ... up to the context length.
HISTOGRAMS: dict[str, tuple[str, tuple[float, ...] | None]] = {
    "vllm:request_prompt_tokens": ("Number of prefill tokens processed.", None),
    "vllm:request_generation_tokens": ("Number of generation tokens processed.", None),
    "vllm:iteration_tokens_total": (
        "Histogram of number of tokens per engine_step.", _STEP_TOKENS),
    "vllm:request_max_num_generation_tokens": (
        "Histogram of maximum number of requested generation tokens.", None),
    "vllm:request_params_n": (
        "Histogram of the n request parameter.", (1.0, 2.0, 5.0, 10.0, 20.0)),
    "vllm:request_params_max_tokens": (
        "Histogram of the max_tokens request parameter.", None),
    "vllm:time_to_first_token_seconds": (
        "Histogram of time to first token in seconds.", _FIRST_TOKEN_SECONDS),
    "vllm:inter_token_latency_seconds": (
        "Histogram of inter-token latency in seconds.", _TOKEN_SECONDS),
    "vllm:request_time_per_output_token_seconds": (
        "Histogram of time_per_output_token_seconds per request.", _TOKEN_SECONDS),
    "vllm:e2e_request_latency_seconds": (
        "Histogram of e2e request latency in seconds.", _REQUEST_SECONDS),
    "vllm:request_queue_time_seconds": (
        "Histogram of time spent in WAITING phase for request.", _REQUEST_SECONDS),
    "vllm:request_inference_time_seconds": (
        "Histogram of time spent in RUNNING phase for request.", _REQUEST_SECONDS),
    "vllm:request_prefill_time_seconds": (
        "Histogram of time spent in PREFILL phase for request.", _REQUEST_SECONDS),
    "vllm:request_decode_time_seconds": (
        "Histogram of time spent in DECODE phase for request.", _REQUEST_SECONDS),
    "vllm:request_num_preemptions": (
        "Histogram of the number of times a request was preempted.",
        (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)),
    "vllm:request_prefill_kv_computed_tokens": (
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).", None),
}  # fmt: skip


def length_buckets(limit: int) -> tuple[float, ...]:
    """Return 1, 2, 5, 10, ... as far as they don't pass the limit."""
    steps = (mantissa * 10.0**power for power in range(10) for mantissa in (1, 2, 5))
    return tuple(step for step in steps if step <= limit)


# The labels of vllm:cache_config_info; a simulator fills in those that mean something here.
CACHE_CONFIG = {
    "_block_size_resolved": "True", "block_size": "16", "cache_dtype": "auto",
    "cache_hit_alignment_tokens": "None", "effective_attention_block_size": "16",
    "enable_mamba_shared_prefix_checkpoint": "False", "enable_prefix_caching": "False",
    "gpu_memory_utilization": "None", "hash_block_size": "None", "is_attention_free": "False",
    "kv_cache_dtype_skip_layers": "[]", "kv_cache_layout": "None",
    "kv_cache_max_concurrency": "None", "kv_cache_memory_bytes": "None",
    "kv_cache_size_tokens": "None", "kv_offloading_backend": "native",
    "kv_offloading_size": "None", "kv_sharing_fast_prefill": "False", "mamba_block_size": "None",
    "mamba_cache_dtype": "auto", "mamba_cache_mode": "none", "mamba_page_size_padded": "None",
    "mamba_ssm_cache_dtype": "float32", "num_cpu_blocks": "None", "num_gpu_blocks": "None",
    "num_gpu_blocks_override": "None", "prefix_cache_retention_interval": "0",
    "prefix_caching_hash_algo": "sha256", "prefix_match_unit": "None",
    "replayssm_buffer_len": "16", "skip_page_size_padded": "None", "sliding_window": "None",
    "swa_bounded_replay": "True", "use_kda_recoverssm": "False", "use_replayssm": "False",
    "user_specified_block_size": "False",
}  # fmt: skip

"""Which columns of summary.csv the report's tables show, and under which headings."""

# group, heading, column of summary.csv; `_p99_ms` and the like say n<368 where samples lack.
RUN_FIGURES = (
    *(("TTFT ms from schedule", f"p{q}", f"ttft_from_schedule_p{q}_ms") for q in (50, 95, 99)),
    *(("TTFT ms", f"p{q}", f"ttft_p{q}_ms") for q in (50, 95, 99)),
    *(("TPOT ms", f"p{q}", f"tpot_p{q}_ms") for q in (50, 95, 99)),
    *(("ITL ms", f"p{q}", f"itl_p{q}_ms") for q in (50, 99)),
    *(
        ("latency ms from schedule", f"p{q}", f"latency_from_schedule_p{q}_ms")
        for q in (50, 95, 99)
    ),
    *(("latency ms", f"p{q}", f"latency_p{q}_ms") for q in (50, 95, 99)),
    ("worst gap", "ms", "max_gap_worst_ms"),
    ("schedule, requests/s", "drawn", "realised_rate"),
    ("schedule, requests/s", "sent", "sent_rate"),
    ("requests/s", "window", "window_requests_per_s"),
    ("output tokens/s", "window", "window_output_tokens_per_s"),
    ("output tokens/s", "whole run", "whole_run_output_tokens_per_s"),
    ("user's tokens/s", "p50", "user_speed_p50_tokens_per_s"),
    ("goodput", "req/s", "goodput_per_s"),
    ("in flight", "mean", "in_flight_mean"),
    ("send lag", "p99 ms", "send_lag_p99_ms"),
    ("mean tokens", "prompt", "prompt_tokens_mean"),
    ("mean tokens", "output", "completion_tokens_mean"),
)
BESIDE_FIGURES = (
    ("TTFT, mean ms", "client", "client_ttft_mean_ms"),
    ("TTFT, mean ms", "server", "server_ttft_mean_ms"),
    ("TTFT, mean ms", "between", "server_ttft_outside_ms"),
    ("queue", "mean ms", "server_queue_mean_ms"),
    ("queue", "% of TTFT", "server_queue_share_of_ttft"),
    ("running", "mean", "server_running_mean"),
    ("running", "peak", "server_running_peak"),
    ("waiting", "mean", "server_waiting_mean"),
    ("waiting", "peak", "server_waiting_peak"),
    ("KV cache %", "mean", "server_kv_cache_mean"),
    ("KV cache %", "peak", "server_kv_cache_peak"),
    ("prefix cache", "hits %", "server_prefix_cache_hit_rate"),
    ("", "preemptions", "server_preemptions"),
    ("GPUs", "seen", "gpu_seen"),
    ("GPUs", "expected", "gpu_expected"),
    ("GPU use %", "mean", "gpu_utilization_mean_percent"),
    ("power W", "total", "gpu_power_total_w"),
    ("power W", "peak", "gpu_power_peak_w"),
    ("heat °C", "peak", "gpu_temperature_peak_c"),
    ("throttled", "% of time", "gpu_throttled_share"),
    ("energy", "J/token", "energy_per_output_token_j"),
    ("energy", "tokens/s/W", "output_tokens_per_s_per_w"),
    ("output tokens/s", "per GPU", "output_tokens_per_s_per_gpu"),
    ("cost", "per 1M tokens", "cost_per_million_output_tokens"),
)
# Headings of the levels' figures that are no percentile of a metric.
LEVEL_NAMES = {
    "requests_per_s": ("requests/s", "window"),
    "output_tokens_per_s": ("output tokens/s", "window"),
    "output_tokens_per_s_per_gpu": ("output tokens/s", "per GPU"),
    "energy_per_output_token_j": ("energy", "J/token"),
}
# Shares from 0 to 1 in summary.csv, shown in %.
SHARES = (
    "server_queue_share_of_ttft",
    "server_kv_cache_mean",
    "server_kv_cache_peak",
    "server_prefix_cache_hit_rate",
    "gpu_throttled_share",
)

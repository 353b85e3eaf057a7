"""Named models on GPUs: how long their steps take and how many KV blocks they have.

Every figure here is an estimate, computed from public numbers (memory
bandwidth, dense FLOPs, the model's shape) and from assumed efficiencies. None
was fitted to a run on that GPU, so a profile shows the shape of a server's
curves, not their heights. Measure your own server.

The four numbers of a step:
  base_s               weights read once for the batch ÷ bandwidth, plus launches and sampling
  per_prefill_token_s  2 FLOPs for each active parameter ÷ FLOPs that are reached
  per_sequence_s       what one more sequence adds to a decode step, averaged over 1 to 256
  per_kv_token_s       KV bytes of a token ÷ bandwidth
Attention's own FLOPs, which grow with the square of a prompt, are left out: prompts of tens of
thousands of tokens are too fast here.

Sources: NVIDIA's data sheets "H100 Tensor Core GPU" (SXM: 3.35 TB/s, 989 TFLOP/s dense BF16) and
"A100 80GB" (SXM: 2,039 GB/s, 312 TFLOP/s dense BF16); OpenAI's "gpt-oss model card", table 1, and
the config.json of openai/gpt-oss-20b; Meta's "The Llama 3 Herd of Models", table 3, and the
config.json of meta-llama/Llama-3.1-8B-Instruct.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .step import StepTimes

GIB = 1 << 30
KV_DTYPE_BYTES = {"auto": 2, "bfloat16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}

# Shares of the data sheet's figures that serving usually reaches: assumptions.
REACHED_BANDWIDTH = 0.75
REACHED_FLOPS_DENSE = 0.5
REACHED_FLOPS_MOE = 0.3  # many small matrix products, and weights that are unpacked first

H100_BYTES_PER_S = 3.35e12 * REACHED_BANDWIDTH
A100_BYTES_PER_S = 2.039e12 * REACHED_BANDWIDTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A model on a machine, with vLLM's defaults for a machine of that class."""

    step_times: StepTimes  # with a 16-bit KV cache
    max_num_batched_tokens: int
    max_num_seqs: int
    max_model_len: int
    memory_bytes: float  # of the device, as its driver reports it
    weight_bytes: float
    reserve_bytes: float  # context, CUDA graphs, logits of max_num_seqs sequences
    reserve_bytes_per_token: float  # activations of one token of max_num_batched_tokens
    kv_elements_per_token: int  # layers x 2 (K and V) x KV heads x head size

    def step_times_with(self, kv_cache_dtype: str = "auto") -> StepTimes:
        """Return the step times with a KV cache of that type: half the bytes take half the time."""
        share = _kv_dtype_bytes(kv_cache_dtype) / KV_DTYPE_BYTES["auto"]
        times = self.step_times
        return replace(times, per_kv_token_s=times.per_kv_token_s * share)

    def num_gpu_blocks(
        self,
        gpu_memory_utilization: float = 0.92,
        kv_cache_dtype: str = "auto",
        max_num_batched_tokens: int | None = None,
        block_size: int = 16,
    ) -> int:
        """Return the KV blocks that fit: memory for vLLM minus weights minus a step's peak."""
        if not 0 < gpu_memory_utilization <= 1:
            raise ValueError(
                f"gpu_memory_utilization is {gpu_memory_utilization}; it has to be over 0, up to 1"
            )
        budget = max_num_batched_tokens or self.max_num_batched_tokens
        peak_bytes = self.reserve_bytes + self.reserve_bytes_per_token * budget
        kv_bytes = self.memory_bytes * gpu_memory_utilization - self.weight_bytes - peak_bytes
        block_bytes = self.kv_elements_per_token * _kv_dtype_bytes(kv_cache_dtype) * block_size
        if kv_bytes < block_bytes:
            raise ValueError(
                f"gpu_memory_utilization {gpu_memory_utilization} leaves no memory for the KV "
                f"cache (weights {self.weight_bytes / GIB:.1f} GiB, a step {peak_bytes / GIB:.1f} "
                f"GiB, of {self.memory_bytes / GIB:.1f} GiB); raise it"
            )
        return int(kv_bytes // block_bytes)


def _kv_dtype_bytes(kv_cache_dtype: str) -> int:
    if kv_cache_dtype not in KV_DTYPE_BYTES:
        raise ValueError(
            f"kv_cache_dtype is {kv_cache_dtype!r}; the profiles know {', '.join(KV_DTYPE_BYTES)}"
        )
    return KV_DTYPE_BYTES[kv_cache_dtype]


# 20.9e9 parameters, 3.6e9 active: attention 0.64e9 and output layer 0.58e9 in 2 bytes, experts
# 19.1e9 in 4.25 bits (MXFP4), of which a token uses 4 in 32. 24 layers, 8 KV heads of 64; every
# second layer sees only the last 128 tokens.
GPT_OSS_20B_H100 = Profile(
    step_times=StepTimes(
        # One sequence reads (0.64 + 0.58) x 2 + 19.1 / 8 x 4.25 / 8 = 3.7 GB: 1.5 ms. Launches of
        # 24 layers as one CUDA graph, routing and sampling: 1.5 ms, assumed.
        base_s=3.7e9 / H100_BYTES_PER_S + 1.5e-3,
        # 7.2 GFLOP per token.
        per_prefill_token_s=2 * 3.6e9 / (989e12 * REACHED_FLOPS_MOE),
        # 256 sequences read all experts, 8.9 GB more than one does; each also computes its
        # 7.2 GFLOP. In truth most experts are read from 32 sequences on: the line is too low
        # in the middle, by up to 3 ms per step.
        per_sequence_s=8.9e9 / 256 / H100_BYTES_PER_S + 2 * 3.6e9 / (989e12 * REACHED_FLOPS_MOE),
        # 12 layers x 2 x 8 x 64 x 2 bytes = 24.6 kB; the other 12 read 128 tokens: left out.
        per_kv_token_s=12 * 2 * 8 * 64 * 2 / H100_BYTES_PER_S,
    ),
    max_num_batched_tokens=8192,
    max_num_seqs=1024,
    max_model_len=131_072,
    memory_bytes=79.1 * GIB,
    weight_bytes=12.8 * GIB,  # the checkpoint's size
    reserve_bytes=3.0 * GIB,  # of it 1024 x 201,088 logits in 4 bytes, twice: 1.5 GiB
    reserve_bytes_per_token=100e3,  # 4 experts x (2 + 1) x 2880 x 2 bytes, and the attention's
    # All 24 layers, as vLLM counts the cache that it prints. In vLLM the 12 layers with the short
    # window give blocks back, so up to twice as many long requests fit as here.
    kv_elements_per_token=24 * 2 * 8 * 64,
)

# 8.03e9 parameters in 2 bytes, 0.53e9 of them the input embedding, of which a token reads one
# row. 32 layers, 8 KV heads of 128.
LLAMA_8B_A100 = Profile(
    step_times=StepTimes(
        # 7.5e9 x 2 bytes = 15 GB: 9.8 ms. Launches and sampling: 1 ms, assumed.
        base_s=2 * 7.5e9 / A100_BYTES_PER_S + 1e-3,
        # 15 GFLOP per token.
        per_prefill_token_s=2 * 7.5e9 / (312e12 * REACHED_FLOPS_DENSE),
        # 256 sequences compute for 25 ms, of which the 9.8 ms of reading weights hide as much:
        # the line from 1 to 256. In truth a step is flat first and steeper later.
        per_sequence_s=2 * 7.5e9 / (312e12 * REACHED_FLOPS_DENSE)
        - 2 * 7.5e9 / A100_BYTES_PER_S / 256,
        # 32 layers x 2 x 8 x 128 x 2 bytes = 131 kB.
        per_kv_token_s=32 * 2 * 8 * 128 * 2 / A100_BYTES_PER_S,
    ),
    max_num_batched_tokens=2048,
    max_num_seqs=256,
    max_model_len=131_072,
    memory_bytes=79.1 * GIB,
    weight_bytes=2 * 8.03e9,
    reserve_bytes=2.0 * GIB,  # of it 256 x 128,256 logits in 4 bytes, twice: 0.25 GiB
    reserve_bytes_per_token=110e3,  # (2 + 1) x 14,336 x 2 bytes of the MLP, and the residuals
    kv_elements_per_token=32 * 2 * 8 * 128,
)

# Real vLLM on 2 CPU cores, a random Llama of 2 layers, 2 KV heads of 32, hidden size 128. Measured:
# 550 tokens/s at 1 stream, 3,300 at 8, first token after 6 to 20 ms. No figure
# here comes from a data sheet: Python and the API server are most of a step.
TINY_CPU = Profile(
    step_times=StepTimes(
        # A step takes 1 / 550 = 1.818 ms with 1 sequence, 8 / 3300 = 2.424 ms with 8: 0.087 ms
        # for each, and 1.732 ms without any.
        base_s=1.732e-3,
        # 14 ms more for a prompt of a few hundred tokens than for one of some tens (the lengths
        # weren't noted: 240 tokens of difference assumed).
        per_prefill_token_s=14e-3 / 240,
        per_sequence_s=0.087e-3,
        # 2 layers x 2 x 2 x 32 x 2 bytes = 512 bytes, at 10 GB/s for one core: assumed.
        per_kv_token_s=512 / 10e9,
    ),
    max_num_batched_tokens=2048,  # vLLM's defaults for a server on CPU
    max_num_seqs=128,
    max_model_len=2048,
    # The process takes 1.3 GB, of which 128 MiB are given to the cache: 0.92 of this.
    memory_bytes=1.41e9,
    weight_bytes=3e6,
    reserve_bytes=1.16e9,
    reserve_bytes_per_token=1e3,
    kv_elements_per_token=2 * 2 * 2 * 32,
)

PROFILES = {
    "gpt-oss-20b-h100": GPT_OSS_20B_H100,
    "llama-8b-a100": LLAMA_8B_A100,
    "tiny-cpu": TINY_CPU,
}

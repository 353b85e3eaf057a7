"""A simulated vLLM server: the same HTTP interface, without a GPU or a model.

    python server/simulator.py --exact --ttft-ms 50 --itl-ms 20 --truth truth.jsonl
    python server/simulator.py --port 0 --profile llama-8b-a100 --max-num-seqs 64

Prints its URL on one line of standard output once it listens, and serves until
Ctrl-C or SIGTERM. `--exact` gives each stream its own deadlines; otherwise a
model of vLLM's engine decides when tokens come. `--truth` records when the
server really did what it did. Its figures say nothing about a GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P
sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))

from vllm_bench.flags import Parser, number, whole
from vllm_bench.script import without

try:
    from sim.beyond import Beyond
    from sim.engine.engine import EngineConfig
    from sim.engine.profiles import PROFILES
    from sim.faults import KINDS, read_faults
    from sim.serve import Plan, serve
    from sim.wire.settings import ExactPace, Settings, Thinking
    from sim.wire.vocabulary import vocabulary
except ModuleNotFoundError as e:
    sys.exit(without(e))

DEFAULT_PROFILE = "llama-8b-a100"
PARSERS = ("qwen3", "deepseek_r1", "none")
DEFAULT_TTFT_MS, DEFAULT_ITL_MS = 50.0, 20.0
POSITIVE, MILLISECONDS = whole(1), number(0, of="milliseconds")
EXACT_FLAGS = ("ttft_ms", "itl_ms", "jitter_ms")
ENGINE_FLAGS = (
    "profile", "max_num_batched_tokens", "max_num_seqs", "gpu_memory_utilization",
    "kv_cache_dtype", "num_gpu_blocks", "block_size", "no_enable_prefix_caching",
    "scheduling_policy", "max_loras",
)  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        description=__doc__,
        epilog=_faults_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    wire = parser.add_argument_group("HTTP interface, with vLLM's flags")
    _add_wire_flags(wire)
    _add_thinking_flags(wire)
    _add_more_of_vllm(wire)
    _add_engine_flags(parser.add_argument_group("engine, with vLLM's flags"))
    exact = parser.add_argument_group("exact mode")
    exact.add_argument("--exact", action="store_true", help="no engine: each stream is independent")
    exact.add_argument("--ttft-ms", type=MILLISECONDS, metavar="MS", help="default 50")
    exact.add_argument("--itl-ms", type=MILLISECONDS, metavar="MS", help="default 20")
    exact.add_argument("--jitter-ms", type=MILLISECONDS, metavar="MS", help="default 0")
    proof = parser.add_argument_group("faults, and the record of what really happened")
    add = proof.add_argument
    add("--faults", metavar="SPEC", help="a line of faults or a .yaml file; see below")
    add("--truth", type=Path, metavar="FILE", help="JSON lines, one per request")
    return parser


def _add_wire_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=whole(0, 65535), default=8000, help="0 takes a free one (default 8000)")
    add("--model", default="simulated")
    add("--served-model-name", nargs="+", default=[])
    add("--api-key", nargs="+", default=[], help="also: VLLM_API_KEY")
    add("--tokenizer", type=Path, metavar="FOLDER", help="count prompts with its tokenizer.json")
    add("--max-model-len", type=POSITIVE, help="default: the profile's")
    add("--stream-interval", type=POSITIVE, default=1)
    add("--enable-prompt-tokens-details", action="store_true")


def _add_thinking_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--reasoning", action="store_true", help="chat replies begin with reasoning")
    add(
        "--reasoning-parser", choices=PARSERS,
        help="marks end thoughts; deepseek_r1 counts none, none leaves them within the text",
    )  # fmt: skip
    add("--reasoning-tokens", type=_span, metavar="N or M-N", help="of thoughts; default 8-64")
    add(
        "--reasoning-key", choices=("reasoning", "reasoning_content"), default="reasoning",
        help="of thoughts in deltas; older servers have the second",
    )  # fmt: skip


def _add_more_of_vllm(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--enable-lora", action="store_true", help="serve the adapters that follow")
    add(
        "--lora-modules", nargs="+", type=_adapter, default=[], metavar="NAME=PATH",
        help="adapters, asked for by their names; the paths are only shown",
    )  # fmt: skip
    add("--profiler-config", metavar="JSON", help="obey /start_profile; writes nothing")
    add("--seed", type=int, default=0, help="seed of replies, jitter and faults")
    add("--data-parallel-size", type=POSITIVE, default=1, help="engines in /metrics")
    speculative = "--num-speculative-tokens"
    add(speculative, type=POSITIVE, default=0, metavar="N", help="drafts in /metrics")


def _faults_help() -> str:
    lines = (f"  {name:<12} {kind.what}" for name, kind in KINDS.items())
    example = "faults: error_event:0.05@5, stall:#3,7@10=400ms, http_503:0.02, crlf"
    return "\n".join((example, *lines))


def _add_engine_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--profile", choices=PROFILES, help=f"default {DEFAULT_PROFILE}")
    add("--max-num-batched-tokens", type=POSITIVE, metavar="N")
    add("--max-num-seqs", type=POSITIVE, metavar="N")
    add("--gpu-memory-utilization", type=float, metavar="SHARE", help="default 0.92")
    add("--kv-cache-dtype", metavar="TYPE", help="auto or fp8; default auto")
    add("--num-gpu-blocks", type=POSITIVE, metavar="N", help="in place of the memory share")
    add("--block-size", type=POSITIVE, metavar="TOKENS", help="of the KV cache; default 16")
    add("--no-enable-prefix-caching", action="store_true", default=None)
    add("--scheduling-policy", choices=("fcfs", "priority"), help="of the queue; default fcfs")
    add("--max-loras", type=POSITIVE, metavar="N", help="adapters at the same time; default 1")


def main() -> int:
    """Read the flags and serve."""
    parser = _parser()
    args = parser.parse_args()
    try:
        _check_modes(args)
        faults = read_faults(args.faults) if args.faults else ()
        settings = _settings(args)
        pace = _exact_pace(args) if args.exact else _engine(args, settings.max_model_len)
    except ValueError as e:
        parser.error(str(e))
    dev_mode = os.environ.get("VLLM_SERVER_DEV_MODE", "0") not in ("", "0")
    passed = _passed(parser, args)
    beyond = Beyond(
        engines=args.data_parallel_size,
        drafted=args.num_speculative_tokens,
        adapters=tuple(name for name, _ in args.lora_modules),
    )
    plan = Plan(settings, args.host, args.port, pace, args.truth, faults, passed, dev_mode, beyond)
    try:
        if args.truth is not None:
            args.truth.write_bytes(b"")  # a run's truth file starts empty
    except OSError as e:
        parser.error(f"cannot write --truth {args.truth}: {e.strerror}")
    try:
        serve(plan)
    except OSError as e:
        parser.error(f"cannot serve on {args.host}:{args.port}: {e.strerror or e}")
    except KeyboardInterrupt:  # before the server listened
        pass
    return 0


def _passed(parser: argparse.ArgumentParser, args: argparse.Namespace) -> dict[str, object]:
    """Return the flags that have another value than their default, as vLLM's log names them."""
    found = {n: v for n, v in vars(args).items() if v != parser.get_default(n)}
    if found.pop("no_enable_prefix_caching", None):
        found["enable_prefix_caching"] = False
    return {n: str(v) if isinstance(v, Path) else v for n, v in found.items()}


def _check_modes(args: argparse.Namespace) -> None:
    """Refuse a flag that the mode would ignore."""
    for flags, wanted, advice in (
        (EXACT_FLAGS, True, "is for exact mode; add --exact"),
        (ENGINE_FLAGS, False, "is for the engine, which exact mode doesn't have; drop --exact"),
    ):
        for flag in flags:
            given = getattr(args, flag) is not None
            if given and args.exact != wanted:
                raise ValueError(f"--{flag.replace('_', '-')} {advice}")
    if (args.lora_modules or args.max_loras) and not args.enable_lora:
        raise ValueError("adapters need --enable-lora")
    if args.reasoning_tokens and not (args.reasoning or args.reasoning_parser):
        raise ValueError("--reasoning-tokens needs --reasoning or --reasoning-parser")


def _exact_pace(args: argparse.Namespace) -> ExactPace:
    ttft = DEFAULT_TTFT_MS if args.ttft_ms is None else args.ttft_ms
    itl = DEFAULT_ITL_MS if args.itl_ms is None else args.itl_ms
    return ExactPace(*(round(ms * 1e6) for ms in (ttft, itl, args.jitter_ms or 0)))


def _engine(args: argparse.Namespace, max_model_len: int) -> EngineConfig:
    profile = PROFILES[args.profile or DEFAULT_PROFILE]
    dtype = args.kv_cache_dtype or "auto"
    budget = args.max_num_batched_tokens or profile.max_num_batched_tokens
    share = 0.92 if args.gpu_memory_utilization is None else args.gpu_memory_utilization
    size = args.block_size or 16
    blocks = args.num_gpu_blocks or profile.num_gpu_blocks(share, dtype, budget, size)
    config = EngineConfig(
        max_num_batched_tokens=budget,
        max_num_seqs=args.max_num_seqs or profile.max_num_seqs,
        num_gpu_blocks=blocks,
        block_size=size,
        max_model_len=max_model_len,
        enable_prefix_caching=not args.no_enable_prefix_caching,
        scheduling_policy=args.scheduling_policy or "fcfs",
        max_loras=args.max_loras or 1,
        step_times=profile.step_times_with(dtype),
    )
    if config.longest_request_tokens < max_model_len:
        raise ValueError(
            f"the KV cache holds {config.longest_request_tokens} tokens, fewer than one request of"
            f" --max-model-len {max_model_len}; lower that or give the cache more memory"
        )
    return config


def _settings(args: argparse.Namespace) -> Settings:
    profile = PROFILES[args.profile or DEFAULT_PROFILE]
    vocabulary(args.tokenizer)  # loaded now: what is wrong with it shows at the start
    return Settings(
        model=args.model,
        served_names=tuple(args.served_model_name or [args.model]),
        max_model_len=args.max_model_len or profile.max_model_len,
        stream_interval=args.stream_interval,
        prompt_tokens_details=args.enable_prompt_tokens_details,
        reasoning=args.reasoning or args.reasoning_parser is not None,
        thinking=Thinking(
            args.reasoning_tokens or Thinking().tokens, args.reasoning_parser, args.reasoning_key
        ),
        api_keys=tuple(args.api_key or filter(None, [os.environ.get("VLLM_API_KEY")])),
        seed=args.seed,
        tokenizer=args.tokenizer,
        adapters=tuple(args.lora_modules),
        profiler=args.profiler_config is not None,
    )


def _span(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    found = POSITIVE(low), POSITIVE(high or low)
    if found[0] > found[1]:
        raise argparse.ArgumentTypeError(f"{text!r}: the first number must be the smaller one")
    return found


def _adapter(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} isn't NAME=PATH")
    return name, path


if __name__ == "__main__":
    sys.exit(main())

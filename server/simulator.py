"""A stand-in for a vLLM server: its wire to the letter, without a GPU or a model.

    python server/simulator.py --exact --ttft-ms 50 --itl-ms 20 --truth truth.jsonl
    python server/simulator.py --port 0 --profile llama-8b-a100 --max-num-seqs 64

Prints its URL on one line of standard output once it listens, and serves until
Ctrl-C or SIGTERM. `--exact` gives each stream deadlines of its own; otherwise a
model of vLLM's engine decides when tokens come. `--truth` writes down when the
server really did what it did. Its figures say nothing about a GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from sim.serve import Plan, serve
from sim.settings import ExactPace, Settings


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help lists all flags)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wire = parser.add_argument_group("wire, as vLLM's flags")
    wire.add_argument("--host", default="127.0.0.1")
    wire.add_argument("--port", type=int, default=8000, help="0 takes a free one (default 8000)")
    wire.add_argument("--model", default="simulated")
    wire.add_argument("--served-model-name", nargs="+", default=[])
    wire.add_argument("--api-key", nargs="+", default=[], help="also: VLLM_API_KEY")
    wire.add_argument("--max-model-len", type=_positive, default=131_072)
    wire.add_argument("--stream-interval", type=_positive, default=1)
    wire.add_argument("--enable-prompt-tokens-details", action="store_true")
    wire.add_argument("--enable-force-include-usage", action="store_true")
    wire.add_argument("--reasoning", action="store_true", help="reasoning comes first, in chats")
    wire.add_argument("--seed", type=int, default=0, help="of replies, jitter and faults")
    exact = parser.add_argument_group("exact mode")
    exact.add_argument("--exact", action="store_true", help="no engine: each stream on its own")
    exact.add_argument("--ttft-ms", type=_duration, metavar="MS", help="default 50")
    exact.add_argument("--itl-ms", type=_duration, metavar="MS", help="default 20")
    exact.add_argument("--jitter-ms", type=_duration, metavar="MS", help="default 0")
    exact.add_argument("--workers", type=_positive, default=1, help="processes on one port")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="JSON lines, one a request")
    return parser


def main() -> int:
    """Read the flags and serve."""
    parser = _parser()
    args = parser.parse_args()
    pace = ExactPace(
        *(
            _ns(ms, default)
            for ms, default in ((args.ttft_ms, 50), (args.itl_ms, 20), (args.jitter_ms, 0))
        )
    )
    plan = Plan(_settings(args), args.host, args.port, pace, args.truth)
    try:
        return serve(plan)
    except OSError as e:
        parser.error(f"cannot serve on {args.host}:{args.port}: {e.strerror or e}")


def _settings(args: argparse.Namespace) -> Settings:
    return Settings(
        model=args.model,
        served_names=tuple(args.served_model_name or [args.model]),
        max_model_len=args.max_model_len,
        stream_interval=args.stream_interval,
        prompt_tokens_details=args.enable_prompt_tokens_details,
        force_include_usage=args.enable_force_include_usage,
        reasoning=args.reasoning,
        api_keys=tuple(args.api_key or filter(None, [os.environ.get("VLLM_API_KEY")])),
        seed=args.seed,
        workers=args.workers,
    )


def _ns(ms: float | None, default_ms: float) -> int:
    return round((default_ms if ms is None else ms) * 1e6)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _duration(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of milliseconds from 0 on")
    return value


if __name__ == "__main__":
    sys.exit(main())

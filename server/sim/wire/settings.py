"""The simulator's settings, made once from the flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

VERSION = "0.33.0+simulator"  # the vLLM version that is simulated, and by what
SERVER = "vllm-bench-simulator"  # the Server header of each answer


@dataclass(frozen=True, slots=True)
class ExactPace:
    """Times of exact mode: every stream is independent, whatever the load."""

    ttft_ns: int  # from the request's last byte to the first token
    itl_ns: int  # from each token to the next
    jitter_ns: int = 0  # each deadline moves by a uniform draw from [-jitter, +jitter]


@dataclass(frozen=True, slots=True)
class Thinking:
    """How the model thinks, and what the server's parser makes of it."""

    tokens: tuple[int, int] = (8, 64)  # of a reply's thoughts, uniformly drawn
    # None: an ideal one; qwen3 and deepseek_r1: the mark that ends a thought is a token without an
    # event, and deepseek_r1 counts no thinking tokens; none: thoughts stay within the text.
    parser: str | None = None
    key: str = "reasoning"  # of thoughts in a delta or message


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the HTTP interface, named like vLLM's flags."""

    model: str
    served_names: tuple[str, ...]
    max_model_len: int = 131_072
    stream_interval: int = 1
    prompt_tokens_details: bool = False
    reasoning: bool = False
    thinking: Thinking = field(default_factory=Thinking)
    api_keys: tuple[str, ...] = field(default=(), repr=False)  # a secret: never printed
    seed: int = 0
    tokenizer: Path | None = None  # a model's folder; None: the simulator's own tokens
    adapters: tuple[tuple[str, str], ...] = ()  # LoRA: name and path of each
    profiler: bool = False  # whether it can be asked to profile itself

    @property
    def name(self) -> str:
        """The model's name in answers to requests that give none."""
        return self.served_names[0]

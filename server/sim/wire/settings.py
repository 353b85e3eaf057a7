"""What the simulator was asked to be: one value, made once from the flags."""

from __future__ import annotations

from dataclasses import dataclass, field

VERSION = "0.33.0+simulator"  # the wire that is spoken, and who speaks it
SERVER = "vllm-bench-simulator"  # the Server header of each answer


@dataclass(frozen=True, slots=True)
class ExactPace:
    """Times of exact mode: every stream runs on its own, whatever the load."""

    ttft_ns: int  # from the request's last byte to the first token
    itl_ns: int  # from each token to the next
    jitter_ns: int = 0  # each deadline moves by a uniform draw from [-jitter, +jitter]


@dataclass(frozen=True, slots=True)
class Settings:
    """The wire's settings, named as vLLM's flags are."""

    model: str
    served_names: tuple[str, ...]
    max_model_len: int = 131_072
    stream_interval: int = 1
    prompt_tokens_details: bool = False
    reasoning: bool = False
    api_keys: tuple[str, ...] = field(default=(), repr=False)  # a secret: never printed
    seed: int = 0

    @property
    def name(self) -> str:
        """The name that answers carry when the request gave none."""
        return self.served_names[0]

"""The keys of a scenario that say what a request is; a class of users may set each for itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, field_validator

from .datasets import DATASETS
from .load_keys import LONGEST_S, Keys, setting
from .mistakes import nearest, sendable_body, sendable_headers
from .objectives import Slo


class RequestKeys(Keys):
    """What each request of a scenario, or of one of its classes, is."""

    model: str = setting("the model, by its name on the server", "Qwen/Qwen3-8B", min_length=1)
    temperature: float = setting("sampling temperature; 0 is greedy", 0.7, 0.0, ge=0, le=2)
    stream: bool = setting("stream replies; without it tokens have no times", False, True)
    prefill_tokens: int | None = setting(
        "length of a prompt in tokens, chat template included", 256, None, ge=1
    )
    max_new_tokens: int = setting("longest reply in tokens", 128, ge=1)
    dataset: str = setting("the prompts: a data set's name, or file:PATH", "sample", "dolly")
    prompt_fit: Literal["natural", "packed"] = setting(
        "natural: half to twice prefill_tokens; packed: joined to that length, ±2 %",
        "packed",
        "natural",
    )
    endpoint: Literal["chat", "completions", "responses"] = setting(
        "which API is called", "completions", "chat"
    )
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = setting(
        "the field of a chat's body with max_new_tokens; OpenAI's reasoning models want the second",
        "max_completion_tokens",
        "max_tokens",
    )
    ignore_eos: bool = setting("make each reply exactly max_new_tokens long", True, False)
    cache: Literal["run", "cold", "natural"] = setting(
        "prefix cache hits: within a run (run), never (cold), no control (natural)", "cold", "run"
    )
    system_prompt: str | None = setting("a system message before each prompt", "Be brief.", None)
    headers: Annotated[dict[str, str], AfterValidator(sendable_headers)] = setting(
        "HTTP headers of each request", {"X-Team": "blue"}, {}
    )
    extra_body: Annotated[dict[str, Any], AfterValidator(sendable_body)] = setting(
        "more fields of each request's body", {"top_p": 0.9}, {}
    )
    timeout_first_token_s: float = setting(
        "most seconds to the first token", 30, 120.0, gt=0, le=LONGEST_S
    )
    timeout_stall_s: float = setting(
        "most seconds without a token within a reply", 10, 60.0, gt=0, le=LONGEST_S
    )
    timeout_total_s: float = setting("most seconds for a request", 300, 600.0, gt=0, le=LONGEST_S)
    slo: Slo | None = setting(
        "objectives, or a preset of them", {"ttft_ms": {"p99": 500}, "success_rate": 0.999}, None
    )

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: str) -> str:
        if value in DATASETS or (value.startswith("file:") and len(value) > len("file:")):
            return value
        raise ValueError(
            f"must be one of {', '.join(DATASETS)}, file:PATH" + nearest(value, DATASETS)
        )

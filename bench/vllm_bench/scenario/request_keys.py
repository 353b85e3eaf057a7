"""The keys of a scenario that say what a request is; a class of users may set each for itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ValidationError, field_validator

from .datasets import DATASETS
from .load_keys import LONGEST_S, QUESTIONS, Keys, Quality, setting
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
    endpoint: Literal["chat", "completions"] = setting("which API is called", "completions", "chat")
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
        own = [f"quality:{name}" for name in QUESTIONS]  # as `quality` sets it
        if value in (*DATASETS, *own) or (value.startswith("file:") and len(value) > len("file:")):
            return value
        raise ValueError(
            f"must be one of {', '.join(DATASETS)}, file:PATH" + nearest(value, DATASETS)
        )


# ---- questions with answers in the place of prompts ----

# Keys that decide what a scenario with quality asks, or how often: it decides that itself.
UNFIT: dict[str, tuple[object, ...]] = {
    "trace": (None,),
    "conversations": (None,),
    "classes": (None,),
    "duration_s": (None,),
    "prefill_tokens": (None,),
    "prompt_fit": ("natural",),
    "temperature": (0,),
    "ignore_eos": (False,),
    "cache": ("run", "cold"),  # else a second pass reads what the first one left in the cache
}
UNFIT_BODY = ("n", "best_of", "min_tokens", "use_beam_search")


def with_questions(given: dict[str, Any]) -> dict[str, Any]:
    """Return a scenario's settings with those that its `quality` decides."""
    try:
        quality = Quality.model_validate(given["quality"])
    except ValidationError:  # to be told in its place
        return given
    decided = {"dataset": quality.dataset, "num_requests": quality.questions}
    return {**decided, **{key: value for key, value in given.items() if value is not None}}


def quality_problems(keys: RequestKeys, quality: Quality) -> Iterator[str]:
    """Yield what doesn't go with questions in a scenario's settings."""
    for key, fit in UNFIT.items():
        value = getattr(keys, key)
        if value not in fit:
            yield f"{key}: {value} doesn't go with quality (docs/QUALITY.md)"
    if keys.dataset != quality.dataset:
        yield "dataset doesn't go with quality, whose questions are the prompts"
    if getattr(keys, "num_requests", None) != quality.questions:
        yield "num_requests doesn't go with quality: each of its questions is asked once"
    for key in UNFIT_BODY:
        if keys.extra_body.get(key) not in (None, False, 0, 1):
            yield f"extra_body.{key} doesn't go with quality: one answer each, as long as it wants"
    if keys.extra_body.get("top_p", 1) != 1:
        yield "extra_body.top_p doesn't go with quality, which asks at top_p 1"

"""The keys of a scenario that say what a request is; a class of users may set each for itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ValidationError, field_validator, model_validator

from .datasets import DATASETS, own_file
from .forms.response_format import known_format
from .forms.tools import known_choice, known_tools
from .mistakes import nearest, sendable_body, sendable_headers
from .nested.groups import QUESTIONS, Prefix, Quality
from .nested.keys import Count, Keys, Time, optional, refuse, setting
from .objectives import Slo

# Fields of vLLM's own that constrain an answer, and what they were called in earlier versions.
OTHER_FORMS = (
    *("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("structural_tag", "text"),
)


class RequestKeys(Keys):
    """What each request of a scenario, or of one of its classes, is."""

    model: str = setting("the model, by its name on the server", "Qwen/Qwen3-8B", min_length=1)
    temperature: float = setting("sampling temperature; 0 is greedy", 0.7, 0.0, ge=0, le=2)
    stream: bool = setting("stream replies; without it tokens have no times", False, True)
    prefill_tokens: Count | None = optional(
        "length of a prompt in tokens, chat template included", 256
    )
    max_new_tokens: Count = setting("longest reply in tokens", 128)
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
    prefix: Prefix | None = optional(
        "groups of requests that begin alike; with prefill_tokens, the length of each prompt",
        {"groups": 32, "tokens": 2048, "share": 0.9},
    )
    system_prompt: str | None = optional("a system message before each prompt", "Be brief.")
    headers: Annotated[dict[str, str], AfterValidator(sendable_headers)] = setting(
        "HTTP headers of each request", {"X-Team": "blue"}, {}
    )
    extra_body: Annotated[dict[str, Any], AfterValidator(sendable_body)] = setting(
        "more fields of each request's body", {"top_p": 0.9}, {}
    )
    priority: int | None = optional(
        "for a server with --scheduling-policy priority: who waits less; a lower number goes first",
        10,
        ge=-(2**31),
        lt=2**31,
    )
    response_format: Annotated[dict[str, Any] | None, AfterValidator(known_format)] = optional(
        "the form of each answer, which is then checked: a JSON schema, or json_object",
        {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}},
    )
    tools: Annotated[list[dict[str, Any]] | None, AfterValidator(known_tools)] = optional(
        "functions that the model may call (chat)",
        [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}],
        min_length=1,
    )
    tool_choice: str | dict[str, Any] | None = optional(
        "which of the tools it calls: auto, none, required, or one by its name", "required"
    )
    timeout_first_token_s: Time = setting("most seconds to the first token", 30, 120.0)
    timeout_stall_s: Time = setting("most seconds without a token within a reply", 10, 60.0)
    timeout_total_s: Time = setting("most seconds for a request", 300, 600.0)
    slo: Slo | None = optional(
        "objectives, or a preset of them", {"ttft_ms": {"p99": 500}, "success_rate": 0.999}
    )

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: str) -> str:
        own = [f"quality:{name}" for name in QUESTIONS]  # as `quality` sets it
        if value in (*DATASETS, *own) or own_file(value):
            return value
        known = f"{', '.join(DATASETS)}, file:PATH"
        raise ValueError(f"must be one of {known}{nearest(value, DATASETS)}")

    @model_validator(mode="after")
    def _keys_of_a_request_agree(self) -> RequestKeys:
        problems = [*self._form_problems(), *self._tool_problems()]
        problems += self._prefix_problems(self.prefix) if self.prefix else ()
        refuse(problems)
        return self

    def _prefix_problems(self, prefix: Prefix) -> Iterator[str]:
        if self.prefill_tokens is None:
            yield "prefix needs prefill_tokens, the length of each whole prompt"
        elif prefix.tokens is not None and prefix.tokens >= self.prefill_tokens:
            yield (
                f"prefix.tokens: {prefix.tokens} must be below prefill_tokens: "
                f"{self.prefill_tokens}, the length of the whole prompt"
            )
        if self.cache == "cold":
            yield "prefix doesn't go with cache: cold, under which nothing is found"
        if self.prompt_fit == "natural" and "prompt_fit" in self.model_fields_set:
            yield "prefix makes prompts of exactly prefill_tokens: leave out prompt_fit: natural"

    def _form_problems(self) -> Iterator[str]:
        """Yield what doesn't go with a form of answers, or is said twice."""
        for key in ("priority", "response_format", "tools", "tool_choice"):
            if getattr(self, key) is not None and key in self.extra_body:
                yield f"{key} and extra_body.{key} are the same field: give one"
        if self.response_format is None:
            return
        if self.ignore_eos:
            yield "response_format doesn't go with ignore_eos: free text would follow the JSON"
        for key in OTHER_FORMS:
            if key in self.extra_body:
                yield f"response_format doesn't go with extra_body.{key}: a request has one form"
        if self.tool_choice not in (None, "none", "auto"):
            yield "response_format doesn't go with a tool_choice that makes each answer a call"

    def _tool_problems(self) -> Iterator[str]:
        if self.tools is not None and self.endpoint != "chat":
            yield "tools need endpoint: chat"
        if self.tool_choice is not None and self.tools is None:
            yield "tool_choice goes only with tools"
        elif wrong := known_choice(self.tool_choice, self.tools or ()):
            yield wrong


# ---- questions with answers in the place of prompts ----

# Keys that decide what a scenario with quality asks, or how often: it decides that itself.
UNFIT: dict[str, tuple[object, ...]] = {
    "trace": (None,),
    "conversations": (None,),
    **dict.fromkeys(("prefix", "response_format", "tools"), (None,)),
    "duration_s": (None,),
    "prefill_tokens": (None,),
    "prompt_fit": ("natural",),
    "temperature": (0,),
    "ignore_eos": (False,),
    "cache": ("run", "cold"),  # else a second pass reads what the first one left in the cache
}
UNFIT_BODY = ("n", "best_of", "min_tokens", "use_beam_search")


def with_questions(given: dict[str, Any]) -> dict[str, Any]:
    """Return a scenario's settings with those that its `quality` decides.

    Raises ValueError where it has classes, of whose number of requests nothing else shall be said.
    """
    if given.get("classes") is not None:
        raise ValueError("classes doesn't go with quality (docs/QUALITY.md)")
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
            # A mapping isn't shown: a class may have headers, and they a key.
            said = f"{key}: {value}" if isinstance(value, str | int | float) else key
            yield f"{said} doesn't go with quality (docs/QUALITY.md)"
    if keys.dataset != quality.dataset:
        yield "dataset doesn't go with quality, whose questions are the prompts"
    if getattr(keys, "num_requests", None) != quality.questions:
        yield "num_requests doesn't go with quality: each of its questions is asked once"
    for key in UNFIT_BODY:
        if keys.extra_body.get(key) not in (None, False, 0, 1):
            yield f"extra_body.{key} doesn't go with quality: one answer each, as long as it wants"
    if keys.extra_body.get("top_p", 1) != 1:
        yield "extra_body.top_p doesn't go with quality, which asks at top_p 1"

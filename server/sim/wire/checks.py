"""The ranges of vLLM's sampling parameters: one table, in the order in which it checks them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ApiError, bad_value, invalid


@dataclass(frozen=True, slots=True)
class _Check:
    """A field that must be a number for which `holds`; else `why`, with the value in it."""

    field: str
    kind: type
    holds: Callable[[Any], bool]
    why: str
    named: bool = False  # the error names the field and the value once more


_CHECKS = (
    _Check("n", int, lambda v: v >= 1, "n must be at least 1, got {}."),
    _Check("n", int, lambda v: v <= 16384,
           "n must be at most 16384, got {}. To increase this limit, set the VLLM_MAX_N_SEQUENCES"
           " environment variable."),
    _Check("presence_penalty", float, lambda v: -2 <= v <= 2,
           "presence_penalty must be in [-2, 2], got {}."),
    _Check("frequency_penalty", float, lambda v: -2 <= v <= 2,
           "frequency_penalty must be in [-2, 2], got {}."),
    _Check("repetition_penalty", float, lambda v: v > 0,
           "repetition_penalty must be greater than zero, got {}."),
    _Check("temperature", float, math.isfinite,
           "temperature must be a finite number, got {}.", named=True),
    _Check("temperature", float, lambda v: v >= 0,
           "temperature must be non-negative, got {}.", named=True),
    _Check("temperature", float, lambda v: v <= 2,
           "temperature must be in [0, 2], got {}.", named=True),
    _Check("top_p", float, lambda v: 0 < v <= 1, "top_p must be in (0, 1], got {}.", named=True),
    _Check("top_k", int, lambda v: v >= -1, "top_k must be 0 (disable), or at least 1, got {}."),
    _Check("min_p", float, lambda v: 0 <= v <= 1, "min_p must be in [0, 1], got {}."),
    _Check("min_tokens", int, lambda v: v >= 0,
           "min_tokens must be greater than or equal to 0, got {}."),
    _Check("stream_interval", int, lambda v: v >= 1,
           "stream_interval must be at least 1, got {}.", named=True),
    _Check("seed", int, lambda v: True, ""),
    _Check("top_logprobs", int, lambda v: v >= -1,
           "`top_logprobs` must be a positive value or -1.", named=True),
)  # fmt: skip


# What fields that aren't numbers may be: (types, the validator's name and words).
_TYPES: dict[str, tuple[tuple[type, ...], str, str]] = {
    "stop": ((str, list), "string_type", "string"),
    "stop_token_ids": ((list,), "list_type", "list"),
    "stream_options": ((dict,), "model_attributes_type", "dictionary"),
    "logit_bias": ((dict,), "dict_type", "dictionary"),
    "cache_salt": ((str,), "string_type", "string"),
    "request_id": ((str,), "string_type", "string"),
}


def check_types(body: Mapping[str, Any]) -> None:
    """Refuse a field of another type than vLLM's schema has."""
    for name, (types, kind, what) in _TYPES.items():
        value = body.get(name)
        if value is not None and not isinstance(value, types):
            where = f"body.{name}"
            raise invalid(kind, where, f"Input should be a valid {what}", repr(value))
    for name, wanted in (("stop", str), ("stop_token_ids", int)):
        listed = body.get(name)
        for place, item in enumerate(listed if isinstance(listed, list) else ()):
            if not isinstance(item, wanted):
                what = "string" if wanted is str else "integer"
                where = f"body.{name}.{place}"
                raise invalid(f"{what}_type", where, f"Input should be a valid {what}", repr(item))


def check_fields(body: Mapping[str, Any], max_tokens: int) -> None:
    """Refuse a value that vLLM would refuse, in its words."""
    for check in _CHECKS:
        value = body.get(check.field)
        if value is not None:
            _apply(check, value)
    min_tokens = body.get("min_tokens") or 0
    if min_tokens > max_tokens:
        raise ApiError(
            400,
            f"min_tokens must be less than or equal to max_tokens={max_tokens}, got {min_tokens}.",
        )
    stop = body.get("stop") or ()
    if not isinstance(stop, str) and any(not text for text in stop):
        raise ApiError(400, "stop cannot contain an empty string.")


def _apply(check: _Check, value: object) -> None:
    wanted = (int,) if check.kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, wanted):
        what = "integer" if check.kind is int else "number"
        kind = "int_type" if check.kind is int else "float_type"
        raise invalid(kind, f"body.{check.field}", f"Input should be a valid {what}", repr(value))
    number = check.kind(value)
    if not check.holds(number):
        why = check.why.format(number)
        raise bad_value(check.field, number, why) if check.named else ApiError(400, why)

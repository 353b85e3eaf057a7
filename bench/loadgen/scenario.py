"""Scenarios: what `scenarios.yaml` may say, and what it means once defaults are merged.

Every mistake is one line that names the file, the scenario, the key, what was
given, what is allowed, and the nearest known key.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from .scenario_load import Conversations, Load, replaced

Dataset = Literal["dolly", "sharegpt", "alpaca", "openassistant", "sharegpt-v3", "sample"]
DATASETS: tuple[str, ...] = get_args(Dataset)

# Body fields that a scenario key sets; extra_body may not change them behind its back.
OWNED_BODY_KEYS = {
    "model": "model",
    "messages": "dataset",
    "prompt": "dataset",
    "stream": "stream",
    "stream_options": "stream",
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "temperature": "temperature",
    "ignore_eos": "ignore_eos",
    "cache_salt": "cache",
}
OWNED_HEADERS = {
    "authorization": "api_key_env",
    "content-type": None,
    "content-length": None,
    "transfer-encoding": None,
    "connection": None,
    "accept-encoding": None,
    "host": "base_url",
    "x-request-id": None,
}


class ScenarioError(Exception):
    """A scenario file that can't be used; the text is one line for people."""


class Scenario(Load):
    """One scenario with the file's defaults merged in; how its requests come is `Load`'s."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    base_url: str = "http://localhost:8000/v1"
    model: str = Field(min_length=1)
    temperature: float = Field(default=0.0, ge=0, le=2)
    stream: bool = True
    description: str = ""
    prefill_tokens: int | None = Field(default=None, ge=1)
    max_new_tokens: int = Field(ge=1)
    dataset: str = "dolly"
    prompt_fit: Literal["natural", "packed"] = "natural"
    endpoint: Literal["chat", "completions"] = "chat"
    ignore_eos: bool = False
    cache: Literal["run", "cold", "natural"] = "run"
    seed: int = Field(default=0, ge=0, lt=2**63)
    system_prompt: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    extra_body: dict[str, Any] = Field(default_factory=dict)
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    tls_verify: bool = True
    tls_ca: str | None = None
    timeout_first_token_s: float = Field(default=120.0, gt=0)
    timeout_stall_s: float = Field(default=60.0, gt=0)
    timeout_total_s: float = Field(default=600.0, gt=0)

    @field_validator("base_url")
    @classmethod
    def _usable_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be http://HOST[:PORT]/v1 or https://…")
        if parts.username is not None:
            raise ValueError("must not hold a user name or password: use api_key_env")
        if parts.query or parts.fragment:
            raise ValueError("must not have a query or a fragment")
        _ = parts.port  # raises ValueError where it is not a port
        return value.rstrip("/")

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: str) -> str:
        if value in DATASETS or (value.startswith("file:") and len(value) > len("file:")):
            return value
        raise ValueError(
            f"must be one of {', '.join(DATASETS)}, file:PATH" + nearest(value, DATASETS)
        )

    @field_validator("extra_body")
    @classmethod
    def _not_owned(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in value:
            if key in OWNED_BODY_KEYS:
                raise ValueError(f"must not set {key}: use the key {OWNED_BODY_KEYS[key]}")
        return value

    @field_validator("headers")
    @classmethod
    def _sendable(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if name.lower() in OWNED_HEADERS:
                use = OWNED_HEADERS[name.lower()]
                raise ValueError(f"must not set {name}" + (f": use the key {use}" if use else ""))
            if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"has an impossible header name {name!r}")
            if not text.isascii() or not text.isprintable():
                raise ValueError(f"has a value for {name} that isn't printable ASCII")
        return value

    @model_validator(mode="after")
    def _load_and_prompts_agree(self) -> Scenario:
        if self.trace is not None and self.prefill_tokens is not None:
            raise ValueError("prefill_tokens doesn't go with trace, which has lengths of its own")
        if self.conversations is not None and self.endpoint != "chat":
            raise ValueError("conversations need endpoint: chat, which carries the history")
        return self

    def masked(self) -> dict[str, Any]:
        """Return the settings for a file: header values, which may be secrets, are masked."""
        settings = self.model_dump()
        settings["headers"] = dict.fromkeys(self.headers, "***")
        return settings


KNOWN_KEYS: tuple[str, ...] = tuple(k for k in Scenario.model_fields if k != "name")


def nearest(given: str, known: tuple[str, ...] | list[str]) -> str:
    """Return `; did you mean X?` for the nearest known word, or nothing."""
    found = difflib.get_close_matches(given, known, n=1)
    return f"; did you mean {found[0]}?" if found else ""


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, which silently keeps the last of two equal keys, made to refuse them."""


def _mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[object] = set()
    for key_node, _ in node.value:
        key = key_node.value
        if key in seen:
            line = key_node.start_mark.line + 1
            raise ScenarioError(f"line {line}: the key {key} stands twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_scenarios(
    path: Path, overrides: Mapping[str, object] | None = None
) -> dict[str, Scenario]:
    """Read a scenario file into {name: Scenario}, in the file's order.

    `overrides` (flags such as --model) stand over defaults and scenarios.
    Raises ScenarioError with one line for people.
    """
    raw = _read_yaml(path)
    for key in raw:
        if key not in ("defaults", "scenarios"):
            hint = nearest(str(key), ("defaults", "scenarios"))
            raise ScenarioError(f"{path}: unknown key {key}: allowed are defaults, scenarios{hint}")
    defaults = _section(path, "defaults", raw.get("defaults") or {})
    scenarios = _section(path, "scenarios", raw.get("scenarios") or {})
    if not scenarios:
        raise ScenarioError(f"{path}: no scenarios: the key scenarios must name at least one")
    _refuse_unknown(f"{path}: defaults", defaults)
    found: dict[str, Scenario] = {}
    for name, body in scenarios.items():
        where = f"{path}: scenario {name}"
        settings = _section(where, "settings", body if body is not None else {})
        _refuse_unknown(where, settings)
        merged = replaced(replaced(defaults, settings), overrides or {})
        found[str(name)] = _build(where, {**merged, "name": str(name)})
    return found


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        # _UniqueKeyLoader is a SafeLoader.
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506
    except OSError as e:
        raise ScenarioError(f"{path}: can't be read: {e.strerror}") from e
    except ScenarioError as e:
        raise ScenarioError(f"{path}: {e}") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise ScenarioError(f"{path}: not YAML: {' '.join(str(e).split())}") from e
    if not isinstance(raw, dict):
        raise ScenarioError(f"{path}: must be a mapping with the keys defaults and scenarios")
    return raw


def _section(where: object, name: str, value: object) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ScenarioError(f"{where}: {name} must be a mapping, not {value!r}")
    return value


def _refuse_unknown(where: str, settings: Mapping[Any, object]) -> None:
    for key in settings:
        if key not in KNOWN_KEYS:
            hint = nearest(str(key), KNOWN_KEYS) or f"; known keys: {', '.join(KNOWN_KEYS)}"
            raise ScenarioError(f"{where}: unknown key {key}{hint}")


def _build(where: str, settings: dict[str, object]) -> Scenario:
    try:
        return Scenario.model_validate(settings, strict=False)
    except ValidationError as e:
        raise ScenarioError(f"{where}: " + "; ".join(map(_explain, e.errors()))) from e


def _explain(error: ErrorDetails) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "extra_forbidden":
        return f"unknown key {key}" + nearest(str(error["loc"][-1]), [*Conversations.model_fields])
    what = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not key:
        return what  # of several keys at once, which it names
    # A header's value may be a secret; an echo of the whole input may be endless.
    given = "" if key.startswith("headers") else f" (given: {str(error['input'])[:80]!r})"
    return f"{key}: {what[:1].lower()}{what[1:]}{given}"

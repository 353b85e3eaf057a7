"""Scenarios: the keys of `scenarios.yaml`, and reading it with its defaults merged in.

Each mistake is one line with the file, the scenario, the key, the value given,
what is allowed, and the nearest known key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator

from ..errors import UsageError
from .by_flags import FLAGS
from .load_keys import ARRIVAL_KEYS, LoadKeys, replaced
from .mistakes import explain, nearest, short_word, unknown, usable_url, variable_name, word
from .nested.groups import ClassKeys, Quality
from .nested.keys import Count, optional, refuse, setting
from .objectives import Tiers
from .request_keys import RequestKeys, quality_problems, with_questions
from .secrets import MASK, masked_settings
from .yaml_file import YamlError, read_yaml

MOST_SCENARIOS = 500  # each has all of defaults


class ScenarioError(UsageError):
    """A scenario file that can't be used; the text is one line for people."""


class Scenario(RequestKeys, LoadKeys):
    """One scenario with the file's defaults merged in.

    `RequestKeys` has what each of its requests is, `LoadKeys` how they come.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    base_url: Annotated[str, AfterValidator(usable_url)] = setting(
        "the server", "https://gpu7:8000/v1", "http://localhost:8000/v1"
    )
    description: str = setting("a description for people", "short questions, short answers", "")
    label: Annotated[str, AfterValidator(short_word)] | None = optional(
        "what is special about these runs: part of their names, and never averaged with others",
        "seqs64",
    )
    seed: int = setting("decides the order of prompts and the arrivals", 7, 0, ge=0, lt=2**63)
    api_key_env: Annotated[str, AfterValidator(variable_name)] | None = optional(
        "the environment variable with the API key", "OPENAI_API_KEY"
    )
    tls_verify: bool = setting("verify the server's certificate", False, True)
    tls_ca: str | None = optional("file of the authority that signed it", "ca.pem")
    telemetry: bool = setting("sample GPUs during the run", True, False)
    telemetry_hz: float = setting("GPU samples per second", 5, 10.0, ge=0.5, le=100)
    telemetry_gpus: list[Annotated[int, Field(ge=0)]] | None = optional(
        "which GPUs, as nvidia-smi counts (default: all)", [0, 1], min_length=1
    )
    slo_tiers: Tiers | None = optional(
        "named sets of objectives, each like slo: shown beside it, they judge no run",
        {"interactive": {"ttft_ms": {"p99": 300}}},
    )
    quality: Quality | None = optional(
        "questions with known answers: which of them load makes wrong (docs/QUALITY.md)",
        {"set": "arithmetic", "questions": 400},
    )
    gpus: Count | None = optional("number of the server's GPUs (default: those sampled)", 2)
    gpu_hour_price: float | None = optional("price of one GPU for one hour", 2.5, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _questions_are_the_prompts(cls, given: Any) -> Any:
        asked = isinstance(given, dict) and given.get("quality") is not None
        return with_questions(given) if asked else given

    @model_validator(mode="after")
    def _quality_decides(self) -> Scenario:
        refuse(quality_problems(self, self.quality) if self.quality else ())
        return self

    @model_validator(mode="after")
    def _load_and_prompts_agree(self) -> Scenario:
        if self.trace is not None and self.prefill_tokens is not None:
            raise ValueError("prefill_tokens doesn't go with trace, which has its own lengths")
        if self.conversations is not None and self.endpoint != "chat":
            raise ValueError("conversations need endpoint: chat, which has a history")
        if self.history == "live" and self.endpoint != "chat":
            raise ValueError("history: live needs endpoint: chat, which has a history")
        for key in ("trace", "conversations"):
            if self.prefix is not None and getattr(self, key) is not None:
                raise ValueError(f"prefix doesn't go with {key}, which says itself what repeats")
        if self.max_tokens_field != "max_tokens" and self.endpoint != "chat":
            raise ValueError("max_tokens_field goes only with endpoint: chat")
        if self.endpoint == "responses" and self.extra_body.get("n") not in (None, 1):
            raise ValueError("extra_body.n: a response is one answer; use endpoint: chat")
        return self

    @model_validator(mode="after")
    def _classes_are_scenarios(self) -> Scenario:
        refuse(p for name, own in self.by_class.items() for p in self._of_a_class(name, own))
        return self

    def _of_a_class(self, name: str, own: ClassKeys) -> Iterator[str]:
        """Yield what is wrong with a class's own keys, each as `classes.NAME.KEY: …`."""
        for key in own.own:
            if key not in OF_CLASSES:
                known = (*ClassKeys.model_fields, *OF_CLASSES)
                hint = nearest(key, known) or f"; a class may set {', '.join(known)}"
                yield f"classes.{name}.{word(key)}: a class has no such key{hint}"
            elif key == "trace" and own.streams is None:
                yield f"classes.{name}.trace goes only with streams"
        if not own.own.keys() <= {*OF_CLASSES}:
            return
        try:
            self.of_class(name)
        except ValidationError as e:
            for error in e.errors():
                joint = "." if error["loc"] and error["type"] != "extra_forbidden" else ": "
                yield f"classes.{name}{joint}{explain(error, EXAMPLES)}"

    def of_class(self, name: str) -> Scenario:
        """Return the scenario as a class of it sends it: with the class's own keys.

        Of a class with streams of its own beside arrivals the duration is known once those are
        drawn: until then it has a second. Raises ValidationError.
        """
        own = self.by_class[name]
        given = self.model_dump(exclude_unset=True, exclude={"classes", "slo_tiers"})
        if own.streams is not None:
            given = {k: v for k, v in given.items() if k not in ARRIVAL_KEYS}
            given |= {"concurrencies": [own.streams], "duration_s": self.duration_s or 1.0}
        elif not self.concurrencies:
            given.pop("start", None)  # of the classes with streams
        if "trace" in own.own:  # which has its own lengths, and sessions
            own_ones = ("prefill_tokens", "conversations", "prefix")
            given = {k: v for k, v in given.items() if k not in own_ones}
        return Scenario.model_validate({**given, **own.own})

    def masked(self) -> dict[str, Any]:
        """Return the settings for a file: what is or looks like a secret is masked."""
        settings = self.model_dump()
        for part in (settings, *(settings["classes"] or {}).values()):
            if "headers" in part:
                part["headers"] = dict.fromkeys(part["headers"], MASK)
            if "extra_body" in part:
                part["extra_body"] = masked_settings(part["extra_body"])
        return settings


_INHERITED = (*RequestKeys.model_fields, *LoadKeys.model_fields)
KNOWN_KEYS: tuple[str, ...] = (
    *(k for k in Scenario.model_fields if k != "name" and k not in _INHERITED),
    *_INHERITED,
)
# What a class may set for itself, besides its part of the load.
OF_CLASSES: tuple[str, ...] = (
    *RequestKeys.model_fields,
    *("conversations", "trace", "history", "max_gap_s", "depth", "length_divisor"),
    *("max_in_flight", "warmup_requests"),
)
EXAMPLES = {k: (Scenario.model_fields[k].examples or [None])[0] for k in KNOWN_KEYS}


def load_scenarios(
    path: Path,
    overrides: Mapping[str, object] | None = None,
    alone: Mapping[str, Mapping[str, object]] | None = None,
) -> dict[str, Scenario]:
    """Read a scenario file into {name: Scenario}, in the file's order.

    `overrides` (flags such as --model) replace values of defaults and scenarios; `alone` are
    scenarios to be made with the file's defaults in place of its own.
    Raises ScenarioError with one line for people.
    """
    raw = _read(path)
    for key in raw:
        if key not in ("defaults", "scenarios"):
            hint = nearest(str(key), ("defaults", "scenarios"))
            raise ScenarioError(
                f"{path}: unknown key {word(key)}: allowed are defaults, scenarios{hint}"
            )
    defaults = _section(path, "defaults", raw.get("defaults") or {})
    scenarios = dict(alone or _section(path, "scenarios", raw.get("scenarios") or {}))
    if len(scenarios) > MOST_SCENARIOS:
        raise ScenarioError(f"{path}: {len(scenarios)} scenarios, more than {MOST_SCENARIOS}")
    if not scenarios:
        raise ScenarioError(f"{path}: no scenarios: the key scenarios must name at least one")
    _refuse_unknown(f"{path}: defaults", defaults)
    found: dict[str, Scenario] = {}
    for name, body in scenarios.items():
        where = "the flags" if alone else f"{path}: scenario {word(name)}"
        if not isinstance(name, str):
            raise ScenarioError(f"{where}: its name must be a text: put it in quotes")
        settings = _section(where, "settings", body if body is not None else {})
        _refuse_unknown(where, settings)
        own = replaced(settings, overrides or {})
        merged = {**replaced(defaults, own), "name": name}
        try:
            found[name] = Scenario.model_validate(merged)
        except ValidationError as e:
            inherited = {key for key in defaults if key not in own}
            raise _blamed(e, path, where, inherited, overrides or {}) from e
    return found


def _read(path: Path) -> dict[Any, Any]:
    try:
        raw = read_yaml(path)
    except YamlError as e:
        raise ScenarioError(f"{path}: {e}") from e
    if not isinstance(raw, dict):
        raise ScenarioError(f"{path}: must be a mapping with the keys defaults and scenarios")
    return raw


def _section(where: object, name: str, value: object) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ScenarioError(f"{where}: {name} must be a mapping, not {type(value).__name__}")
    return value


def _refuse_unknown(where: str, settings: Mapping[Any, object]) -> None:
    for key in settings:
        if key not in KNOWN_KEYS:
            raise ScenarioError(f"{where}: {unknown('key', key, KNOWN_KEYS)}")


def _blamed(
    error: ValidationError,
    path: Path,
    where: str,
    inherited: set[object],
    overrides: Mapping[str, object],
) -> ScenarioError:
    """Return what is wrong, and where: in a flag, in defaults, or in the scenario itself."""
    errors = error.errors()
    flags = [e for e in errors if e["loc"] and e["loc"][0] in overrides]
    if flags:
        return ScenarioError("; ".join(_of_a_flag(explain(e, EXAMPLES)) for e in flags))
    in_defaults = [e for e in errors if e["loc"] and e["loc"][0] in inherited]
    if in_defaults:  # first: these are wrong for every scenario
        where, errors = f"{path}: defaults", in_defaults
    return ScenarioError(f"{where}: " + "; ".join(explain(e, EXAMPLES) for e in errors))


def _of_a_flag(mistake: str) -> str:
    """Name the flag: `--base-url: …` for the key base_url, `--set seed: …` for one without."""
    key, colon, said = mistake.partition(":")
    top, _, rest = key.partition(".")
    flag = FLAGS.get(top, f"--set {top}")
    joint = "" if not rest or rest.isdigit() else "." if flag.startswith("--set") else " "
    return f"{flag}{joint}{rest if joint else ''}{colon}{said}"

"""Settings that flags give: they replace those of scenarios, or make one of their own.

`--concurrency 32 --num-requests 400 --slo ttft_ms.p99=500 --set seed=7`
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from ..errors import UsageError
from .load_keys import SHAPES
from .mistakes import nearest, word
from .secrets import masked_words
from .yaml_file import YamlError, parse_yaml

T = TypeVar("T")

# The keys that have a flag of their own; others go by --set.
FLAGS = {
    "base_url": "--base-url",
    "model": "--model",
    "dataset": "--dataset",
    "label": "--label",
    "concurrencies": "--concurrency",
    "request_rates": "--request-rate",
    "trace": "--trace",
    "num_requests": "--num-requests",
    "duration_s": "--duration-s",
    "prefill_tokens": "--prefill-tokens",
    "max_new_tokens": "--max-new-tokens",
    "slo": "--slo",
    "telemetry": "--telemetry",
}
ALONE = "adhoc"  # the name of a scenario that flags make
USUAL = {"max_new_tokens": 128, "duration_s": 60}  # of such a scenario, where no flag says
# A window of 10 s and three latencies is the least that can be believed (METHOD.md): a level of
# this length has it where replies take less than 4 s, and where they take longer by its requests.
QUICK_S, QUICK_ROUNDS = 14, 5
AS_IN = {"--slo": ", as in ttft_ms.p99=500 or requests_per_s.min=20", "--set": ", as in seed=7"}


def makes_a_scenario(given: Mapping[str, object]) -> bool:
    """Return whether flags say how requests come, so that no scenario of a file is needed."""
    return any(given.get(key) for key in SHAPES)


def usual(given: Mapping[str, object]) -> dict[str, object]:
    """Return the settings of an ad-hoc scenario under those that flags give."""
    # A trace has its own length.
    return {k: v for k, v in USUAL.items() if k != "duration_s" or not given.get("trace")}


def quick(given: Mapping[str, Any]) -> dict[str, object]:
    """Return the length of the smallest run that can be VALID, for --quick."""
    streams = given.get("concurrencies") or []
    if given.get("num_requests") and not streams:
        return {"repeats": 1}  # only streams take both
    rounds = {"num_requests": QUICK_ROUNDS * streams[0]} if len(streams) == 1 else {}
    return {"duration_s": QUICK_S, "repeats": 1, **rounds}


def check_named(flag: str, name: str, there: Collection[str], file: object) -> None:
    """Raise UsageError where a file has no scenario of this name."""
    if name not in there:
        raise UsageError(f"{flag} {name}: {file} has {', '.join(there)}{nearest(name, there)}")


def one_named(found: Mapping[str, T], name: str | None, file: object) -> T:
    """Return the scenario that --name means, or a file's only one. Raises UsageError."""
    if name is None and len(found) > 1:
        raise UsageError(f"--name is missing: {file} has {', '.join(found)}")
    name = name or next(iter(found))
    check_named("--name", name, found, file)
    return found[name]


def given_by(flags: Mapping[str, Any], known: Collection[str], **more: object) -> dict[str, Any]:
    """Return the settings that a script's flags give, by key. Raises UsageError."""
    own = {**{key: flags.get(key) for key in FLAGS if key != "slo"}, **more}
    found = {key: value for key, value in own.items() if value is not None}
    if flags.get("quick"):
        found = {**quick(found), **found}
    return with_assigned(found, flags["set"], known, flags["slo"])


def with_assigned(
    found: Mapping[str, object],
    settings: Iterable[str] | None,
    known: Collection[str],
    slo: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Return settings with those of --set, whose keys must be known, and of --slo.

    Raises UsageError.
    """
    try:
        all_of_them = assigned("--set", settings or (), dict(found))
        for key in all_of_them.keys() - set(known):
            raise UsageError(f"--set {key}: no such key{nearest(key, known)}")
        if slo:
            all_of_them["slo"] = _objectives(slo)
    except ValueError as e:
        raise UsageError(str(e)) from e
    return all_of_them


def _objectives(words: Iterable[str]) -> dict[str, Any]:
    found = assigned("--slo", words)
    for key, value in found.items():
        if not isinstance(value, dict) and key not in ("preset", "success_rate"):
            raise ValueError(f"--slo {word(key)}: lacks its percentile, or min{AS_IN['--slo']}")
    return found


def assigned(
    flag: str, words: Iterable[str], values: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return settings of `key=value` and `key.part=value`, values as in YAML.

    Raises ValueError, whose text is for people.
    """
    found = values if values is not None else {}
    for given in words:
        path, equals, text = given.partition("=")
        keys = re.split(r"\.(?!\d)", path.strip())  # p99.9 is one key
        if not equals or not all(keys):
            (shown,) = masked_words([word("".join(given.split()[:1]))])
            raise ValueError(f"{flag} {shown}: must be KEY=VALUE{AS_IN.get(flag, '')}")
        _put(found, flag, keys, _value(f"{flag} {word(path)}", text))
    return found


def _put(found: dict[str, Any], flag: str, keys: list[str], value: object) -> None:
    for key in keys[:-1]:
        part = found.setdefault(key, {})
        if not isinstance(part, dict):
            raise ValueError(f"{flag} {'.'.join(keys)}: {key} has a value already")  # noqa: TRY004
        found = part
    found[keys[-1]] = value


def _value(what: str, text: str) -> object:
    try:
        return parse_yaml(text)
    except YamlError as e:
        raise ValueError(f"{what}: {e}") from e  # without the value: it may be a secret

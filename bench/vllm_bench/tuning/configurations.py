"""experiments.yaml: which settings of the server are to be tried, with which load, and for what.

    scenario: short_chat
    aim: throughput
    base: .env
    axes:
      GPU_MEM_UTIL: [0.85, 0.90, 0.95]
      KV_CACHE_DTYPE: [auto, fp8]

Each mistake is one line: the file, the key, what it must be, and the nearest known word. No
secret is wanted here, and none is shown.
"""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
)
from pydantic_core import ErrorDetails

from ..errors import UsageError
from ..launcher import meant, tokens
from ..records.text import file_name, printable
from ..scenario.mistakes import explain, nearest, short_word, word
from ..scenario.secrets import MASK, is_secret_key, masked_words
from ..scenario.yaml_file import YamlError, read_yaml

Aim = Literal["throughput", "capacity", "ttft"]

MOST_CONFIGURATIONS = 64  # at two minutes each some hours; more are rarely meant
MOST_LABEL, MOST_NAME = 32, 60
# What a variable of the launcher is called in a configuration's name.
SHORT = {
    "MODEL": "model",
    "GPU_MEM_UTIL": "mem",
    "MAX_MODEL_LEN": "len",
    "KV_CACHE_DTYPE": "kv",
    "MAX_NUM_BATCHED_TOKENS": "batched",
    "MAX_NUM_SEQS": "seqs",
    "TENSOR_PARALLEL_SIZE": "tp",
    "STREAM_INTERVAL": "interval",
    "EXTRA_ARGS": "",
    "SIMULATOR": "sim",
    "VLLM_COMMAND": "vllm",
}
ADDED = "EXTRA_ARGS"  # what a configuration gives comes behind the base's: the last of a flag wins
CHOSEN = ("PORT", "HOST")  # by the script, so that no other server answers
# Other variables that a server is given: vLLM's, and those of the libraries under it.
PASSED_ON = re.compile(r"(VLLM|CUDA|NCCL|OMP|TORCH|PYTORCH|TORCHINDUCTOR|FLASHINFER|HF|GLOO)_\w+")


class ExperimentsError(UsageError):
    """A file of experiments that can't be used; the text is one line for people."""


def _text(value: object) -> str:
    """Return a setting as the environment has it. Raises ValueError, without the value."""
    if isinstance(value, bool):
        raise ValueError("must be a text or a number: put on, off, true and false in quotes")  # noqa: TRY004
    if value is None:
        return ""
    if not isinstance(value, str | int | float) or str(value) == "nan":
        raise ValueError("must be a text or a number")
    text = str(value)
    if not text.isprintable():
        raise ValueError("must be one line of printable characters")
    return text


def _variable(name: str) -> str:
    """Check a variable's name. Raises ValueError."""
    if name in CHOSEN:
        raise ValueError(f"{name} is chosen by the script: leave it out")
    if is_secret_key(name):
        raise ValueError(f"{word(name)} may be a secret: set it in the environment or in .env")
    if name not in SHORT and not PASSED_ON.fullmatch(name):
        known = nearest(name.upper(), SHORT) or f"; known are {', '.join(SHORT)} and VLLM_…"
        raise ValueError(f"{word(name)} is no variable of the launcher{known}")
    return name


def _without_secret(settings: dict[str, str]) -> dict[str, str]:
    for name, value in settings.items():
        if MASK not in value and MASK in " ".join(masked_words(_words(value))):
            raise ValueError(
                f"{name} has a secret: set VLLM_API_KEY or HF_TOKEN in the environment"
            )
    return settings


def _axes_without_secret(axes: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    for axis, values in axes.items():
        for value in values.values():
            _without_secret({axis: value})
    return axes


def _words(arguments: str) -> list[str]:
    try:
        return shlex.split(arguments)
    except ValueError:
        return arguments.split()  # the launcher says what is wrong with it


Value = Annotated[str, BeforeValidator(_text)]
Name = Annotated[str, AfterValidator(_variable)]
Settings = Annotated[dict[Name, Value], AfterValidator(_without_secret)]


def _named(values: object) -> object:
    """Return an axis as values by their names; a list's are named by themselves."""
    if not isinstance(values, list):
        return values
    texts = [_text(value) for value in values]
    return {_value_name(text): text for text in texts}


def _value_name(text: str) -> str:
    return printable(" ".join(masked_words(_words(text))), 30) or "default"


def _file_or_variables(value: object) -> str | None:
    """Tell which of the two a base is, so that a mistake in one isn't told of both."""
    return {str: "file", dict: "variables", type(None): "none"}.get(type(value))


Axis = Annotated[dict[str, Value], BeforeValidator(_named), Field(min_length=1)]
Base = Annotated[
    Annotated[str, Tag("file")]
    | Annotated[Settings, Tag("variables")]
    | Annotated[None, Tag("none")],
    Discriminator(_file_or_variables),
]


class Named(BaseModel):
    """A configuration of a list: its name beside its settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1, max_length=MOST_NAME)
    settings: Settings


def _one_of_a_list(value: object) -> object:
    """Return `{name: …, MAX_NUM_SEQS: 64}` with its settings together."""
    if not isinstance(value, dict):
        raise ValueError("must be a mapping, as in {name: eager, EXTRA_ARGS: --enforce-eager}")  # noqa: TRY004
    settings = {str(key): part for key, part in value.items() if key != "name"}
    return {"name": value.get("name") or _name(settings) or "base", "settings": settings}


class Experiments(BaseModel):
    """What experiments.yaml may say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenario: str = Field(min_length=1)
    scenarios: str | None = None  # the file that has it, beside this one; None: the project's
    name: Annotated[str, AfterValidator(short_word)] | None = None
    aim: Aim = "throughput"
    base: Base = None  # an env file, or variables; None: what .env and the shell set
    axes: Annotated[dict[Name, Axis], AfterValidator(_axes_without_secret)] = {}
    configurations: list[Annotated[Named, BeforeValidator(_one_of_a_list)]] = []


INNER = ("[key]", "settings", "file", "variables")  # parts of pydantic's places, not of the file
EXAMPLES: dict[str, object] = {
    "scenario": "short_chat",
    "scenarios": "bench/scenarios.yaml",
    "name": "cache",
    "aim": "throughput",
    "base": {"MODEL": "gpt-oss-20"},
    "axes": {"MAX_NUM_SEQS": [64, 256]},
    "configurations": [{"name": "eager", "EXTRA_ARGS": "--enforce-eager"}],
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings that are tried together, beside the base's."""

    name: str  # for people: `mem 0.9, kv fp8`
    label: str  # of its runs, for file names: `mem0.9-kvfp8`
    settings: Mapping[str, str]  # that differ from the base's

    def over(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return all its variables; an empty one counts as not set, as the launcher has it."""
        return over(base, self.settings)

    def started_with(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return all its variables; one that it empties is empty, and not the base's."""
        return {**base, **self.settings, **self.over(base)}


def over(base: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Return settings over those of a base; its further arguments stand before theirs."""
    added = " ".join(filter(None, (base.get(ADDED, ""), settings.get(ADDED, ""))))
    found = {**base, **settings, ADDED: added}
    return {name: value for name, value in found.items() if value}


def of_launcher(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the launcher's variables of an environment, those that can be tuned."""
    return {name: environ[name] for name in SHORT if environ.get(name)}


def read_raw(path: Path) -> dict[str, Any]:
    """Return what a file of experiments says, unchecked. Raises ExperimentsError."""
    try:
        raw = read_yaml(path)
    except YamlError as e:
        raise ExperimentsError(f"{path}: {e}") from e
    if not isinstance(raw, dict):
        raise ExperimentsError(f"{path}: must be a mapping, with scenario and axes")
    return raw


def experiments_of(raw: Mapping[Any, Any], where: str) -> Experiments:
    """Return experiments from a mapping; `where` is it from. Raises ExperimentsError."""
    known = list(Experiments.model_fields)
    for key in raw:
        if key not in known:
            hint = nearest(str(key), known) or f"; known keys: {', '.join(known)}"
            aside = f": put {key} under axes" if str(key) in SHORT else hint
            raise ExperimentsError(f"{where}: unknown key {word(key)}{aside}")
    try:
        return Experiments.model_validate(raw)
    except ValidationError as e:
        lines = dict.fromkeys(_line(error) for error in e.errors())
        # `from None`: what pydantic says quotes values, and one may be a secret.
        raise ExperimentsError(f"{where}: {'; '.join(lines)}") from None


def _line(error: ErrorDetails) -> str:
    """Return a mistake on one line; a value that may be a secret isn't quoted."""
    parts = [part for part in error["loc"] if part not in INNER]
    listed = parts[:1] == ["configurations"]  # whose entries people count from 1
    loc = [str(part + 1 if listed and isinstance(part, int) else part) for part in parts]
    place = ".".join(map(word, loc))
    if error["type"].startswith("union_tag"):
        return "base: must be the name of an env file, or a mapping, as in {MODEL: gpt-oss-20}"
    if error["type"] == "value_error":
        said = str(error["ctx"]["error"])
        return said if error["loc"][-1] == "[key]" else f"{place}: {said}"
    error["loc"] = tuple(loc)
    found = explain(error, EXAMPLES)
    return found.partition(" (given: ")[0] if loc[:1] == ["base"] else found


def configurations(
    asked: Experiments, below: Mapping[str, str] | None = None
) -> list[Configuration]:
    """Return the configurations, those of the list first; equal ones are one.

    `below` has the variables that hold where a configuration sets none. Raises ExperimentsError
    where there are none, or too many.
    """
    grid = math.prod(len(axis) for axis in asked.axes.values()) if asked.axes else 0
    if len(asked.configurations) + grid > 100 * MOST_CONFIGURATIONS:
        raise _too_many(len(asked.configurations) + grid)
    found: dict[tuple[object, ...], tuple[str, Mapping[str, str]]] = {}
    for name, settings in itertools.chain(_listed(asked), _grid(asked.axes)):
        found.setdefault(_key(over(below or {}, settings)), (name, settings))
    if len(found) < 2:
        said = "nothing to try" if not found else "one configuration, nothing to choose from"
        raise ExperimentsError(f"{said}: give an axis two values, or list two configurations")
    if len(found) > MOST_CONFIGURATIONS:
        raise _too_many(len(found))
    return list(_labelled(list(found.values())))


def _too_many(count: int) -> ExperimentsError:
    return ExperimentsError(
        f"{count:,} configurations, and {MOST_CONFIGURATIONS} are the most: fewer values an axis, "
        "or one axis after the other"
    )


def _listed(asked: Experiments) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the configurations of the list. Raises ExperimentsError: two have one name."""
    of: dict[str, tuple[object, ...]] = {}
    for one in asked.configurations:
        if of.setdefault(one.name, _key(one.settings)) != _key(one.settings):
            raise ExperimentsError(f"two configurations are named {word(one.name)}: rename one")
        yield one.name, one.settings


def _grid(axes: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield each choice of one value an axis, with its name; the last axis changes fastest."""
    for values in itertools.product(*(axis.items() for axis in axes.values())) if axes else ():
        named = {axis: name for axis, (name, _) in zip(axes, values, strict=True)}
        yield _name(named), {axis: v for axis, (_, v) in zip(axes, values, strict=True)}


def _name(settings: Mapping[str, object]) -> str:
    """Return settings as a name: `mem 0.9, kv fp8`; of an unknown variable the whole name."""
    parts = (f"{SHORT.get(name, name)} {value}".strip() for name, value in settings.items())
    return printable(", ".join(parts), MOST_NAME)


def _key(settings: Mapping[str, str]) -> tuple[object, ...]:
    """Return what is equal for equal settings: 0.9 and 0.90 are, 16k and 16000, none and empty."""
    known = ((name, meant(name, value)) for name, value in settings.items() if value)
    return tuple(sorted((name, _number(value)) for name, value in known))


def _number(value: str) -> str:
    for read in (float, tokens):
        with suppress(ValueError):
            return repr(float(read(value)))
    return value


def _labelled(found: Sequence[tuple[str, Mapping[str, str]]]) -> Iterator[Configuration]:
    """Yield configurations under names and labels that are each there once."""
    names: set[str] = set()
    labels: set[str] = set()
    for number, (given, settings) in enumerate(found, 1):
        name = f"{given} ({number})" if given in names else given
        label = _label(given)
        if label in labels:
            label = _label(f"{number}-{given}")
        names.add(name)
        labels.add(label)
        yield Configuration(name, label, settings)


def _label(name: str) -> str:
    plain = file_name(name.replace(", ", "-").replace(" ", "")).lstrip("_-")
    return plain[:MOST_LABEL].rstrip("_-.") or "default"

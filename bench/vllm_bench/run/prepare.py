"""From a scenario to its runs: API key, server, model, and the prompts of all runs.

All mistakes that can be found before the first request are found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from ..errors import BenchError, UsageError
from ..plan.classes import scenarios_of
from ..plan.draw import plans_of
from ..plan.drawing.part import Material, recorded_requests, recorded_sessions
from ..plan.drawing.texts import scenario_counter
from ..plan.part import Part
from ..plan.plan import Plan
from ..plan.request import scenario_tls, tokenize_body
from ..prompts.prompt import Prompt, PromptError, PromptSource
from ..prompts.source import default_cache_dir, load_source
from ..quality.sets import read_questions
from ..records.same_run import RunKey
from ..records.text import masked, printable
from ..scenario.datasets import own_file
from ..scenario.scenario import Scenario, ScenarioError
from ..scenario.secrets import secrets_of
from ..vllm.models import Model
from ..vllm.server import Server
from .info import server_facts

Environment = Mapping[str, str]


class ModelNotServedError(UsageError):
    """The scenario's model isn't one of the server's; the text is one line for people."""


class TooLongError(UsageError):
    """Prompts and replies that the server has no room for; the text is one line for people."""


@dataclass(frozen=True, slots=True)
class Job:
    """A scenario, its server, the served model, and its runs in their order."""

    scenario: Scenario
    server: Server
    served: Sequence[Model]
    plans: Sequence[Plan]

    def server_facts(self) -> dict[str, Any]:
        secrets, asked = self.plans[0].secrets, self.scenario.model
        others = [part.scenario.model for part in self.plans[0].drawn]
        return server_facts(self.server, self.served, asked, secrets, others)

    def run_keys(self) -> list[RunKey]:
        """Return the key of each run: runs with equal keys measure the same."""
        server = self.server_facts()
        return [
            RunKey.made(s.name, plan.sha256, plan.repeat, s.masked(), server)
            for plan in self.plans
            for s in (plan.scenario,)  # of a class alone it has another label
        ]

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know before they believe the figures."""
        unverified = ("the server's TLS certificate is not verified (tls_verify: false)",)
        https = self.scenario.base_url.startswith("https")
        prompts = {n: None for plan in self.plans for p in plan.drawn for n in p.prompts.notes}
        odd = [model for model in self.served if model.problem and model.id == self.scenario.model]
        return (
            *prompts,
            *(f"/v1/models: {masked(str(m.problem), self.plans[0].secrets)}" for m in odd),
            *self._over_the_context(),
            *self._removed(),
            *(unverified if https and not self.scenario.tls_verify else ()),
        )

    def _removed(self) -> tuple[str, ...]:
        """Return notes on forms of answers that vLLM once knew, and ignores since."""
        bodies = [part.scenario.extra_body for plan in self.plans for part in plan.drawn]
        return tuple(
            f"extra_body.{key}: newer versions of vLLM take it and ignore it: use response_format"
            for key in dict.fromkeys(key for body in bodies for key in body)
            if key.startswith("guided_")
        )

    def _over_the_context(self) -> tuple[str, ...]:
        """Return notes on requests that are too long for the server: one of each class."""
        parts = {id(part.prompts): part for plan in self.plans for part in plan.drawn}
        return tuple(
            note for part in parts.values() for note in _over_the_context(part, self.served)
        )


def _over_the_context(part: Part, served: Sequence[Model]) -> Iterator[str]:
    limit, reply = _context_of(part.scenario, served), part.scenario.max_new_tokens
    if limit is None or part.scenario.trace is not None or part.prompts.counted_by != "server":
        return
    counted = part.prompts.prompts
    over = sum(1 for p in counted if (p.tokens or 0) + reply > limit)
    if over:
        yield (
            f"{over} of {len(counted)} prompts and {reply} new tokens are longer than the "
            f"server's max_model_len of {limit}: it refuses these or shortens their replies"
        )


def _context_of(scenario: Scenario, served: Sequence[Model]) -> int | None:
    """Return the longest request of a scenario's model; an adapter's is its parent's."""
    by_id = {model.id: model for model in reversed(served)}  # of two with one name the first
    found = by_id.get(scenario.model)
    if found is not None and found.max_model_len is None:
        found = by_id.get(found.parent or "")
    return found.max_model_len if found else None


def api_key_of(scenario: Scenario, environ: Environment) -> str | None:
    """Return the key that the scenario's `api_key_env` names. Raises ScenarioError."""
    name = scenario.api_key_env
    if name is None:
        return None
    key = environ.get(name)
    if not key:
        raise ScenarioError(
            f"scenario {scenario.name}: api_key_env names {name}, which is not set: set it in the "
            "environment or in .env"
        )
    if not (key.isascii() and key.isprintable()):
        raise ScenarioError(f"{name}: the key has characters that a header can't have")
    return key


def server_of(scenario: Scenario, environ: Environment) -> Server:
    """Return the scenario's server; nothing is sent yet. Raises ScenarioError for a bad CA file."""
    key, tls = api_key_of(scenario, environ), scenario_tls(scenario)
    try:
        return Server(scenario.base_url, key, scenario.headers, tls)
    except OSError as e:
        raise ScenarioError(f"scenario {scenario.name}: tls_ca {scenario.tls_ca}: {e}") from e


def check_files(scenario: Scenario) -> None:
    """Raise ScenarioError where a file of prompts or a trace that the scenario names is none."""
    asked = "dataset" if scenario.quality is None else "quality.set"
    of = scenarios_of(scenario)
    named = [*(("trace", one.trace) for one in of), *((asked, own_file(o.dataset)) for o in of)]
    for key, path in named:
        if path is not None and (wrong := _wrong_with(path, folder=key == "trace")):
            raise ScenarioError(f"scenario {scenario.name}: {key}: {printable(path)}: {wrong}")


def read_files(scenario: Scenario, environ: Environment) -> None:
    """Read the prompts and traces that a scenario names, for what is wrong with them alone.

    Raises ScenarioError, PromptError.
    """
    for each in scenarios_of(scenario):
        if each.dataset.startswith("file:"):
            with _told_of(each, environ):
                load_source(each.dataset, cache_dir=default_cache_dir(environ))
        if each.trace is not None and recorded_sessions(each) is None:
            recorded_requests(each)


def _wrong_with(path: str | Path, *, folder: bool) -> str | None:
    """Return why this is no file (nor, where it may be one, a folder); None: it is."""
    try:
        there = Path(path).expanduser()
        if there.is_dir():
            return None if folder else "a folder, not a file"
        return None if there.exists() else "no such file"
    except (OSError, RuntimeError, ValueError):  # too long a name, nobody's home, a NUL
        return "no such file"


def proxy_note(scenario: Scenario, environ: Environment) -> str | None:
    """Return that a proxy of the environment isn't used, where other programs would use it."""
    parts = urlsplit(scenario.base_url)
    names = (f"{parts.scheme}_proxy", "all_proxy")
    found = next((n for name in names for n in (name, name.upper()) if environ.get(n)), None)
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if found is None or proxy_bypass_environment(parts.netloc, {"no": exempt}):
        return None
    return (
        f"{found} is not used: requests go straight to {parts.netloc}, since a proxy's time would "
        "be measured with the server's; to measure through a gateway, make it the base_url"
    )


def plans_for(
    scenario: Scenario,
    server: Server | None,
    environ: Environment,
    served: Sequence[Model] = (),
    *,
    each_alone: bool = False,
) -> list[Plan]:
    """Return all runs of a scenario; without a server, tokens are counted locally.

    Raises ScenarioError, PromptError.
    """
    check_files(scenario)
    materials = [_material(s, server, environ, served) for s in scenarios_of(scenario)]
    with _told_of(scenario, environ):
        return plans_of(scenario, materials, each_alone=each_alone)


def _material(
    scenario: Scenario, server: Server | None, environ: Environment, served: Sequence[Model]
) -> Material:
    """Return what the requests of a scenario, or of a class, are drawn from."""
    cache_dir = default_cache_dir(environ)
    api_key = api_key_of(scenario, environ) if server else None  # without a server nothing is sent
    hf_token, answers = environ.get("HF_TOKEN"), dict[str, str]()
    with _told_of(scenario, environ):
        if scenario.quality is not None:
            asked = read_questions(scenario.quality.set, cache_dir=cache_dir, hf_token=hf_token)
            source, answers = asked.source, dict(asked.answers)
        else:
            source = load_source(scenario.dataset, cache_dir=cache_dir, hf_token=hf_token)
        _check_pictures(scenario, source)
        counter = scenario_counter(scenario, server, cache_dir)
        # What of its prompts repeats, block by block, the plan may know of these alone.
        repeats = scenario.prefix is not None or scenario.trace is not None
        block_size = _block_size(server) if repeats and server else None
    ids = partial(_token_ids, server, scenario) if server and counter.method == "server" else None
    longest = _context_of(scenario, served)
    return Material(scenario, source, counter, longest, api_key, block_size, ids, answers)


def _check_pictures(scenario: Scenario, source: PromptSource) -> None:
    """Raise PromptError where prompts have pictures, and the requests would have none."""
    if not any(prompt.pictures for prompt in source.prompts):
        return
    if scenario.endpoint == "completions":
        raise PromptError("pictures need endpoint: chat or responses")
    for key in ("prefix", "trace"):
        if getattr(scenario, key) is not None:
            raise PromptError(f"it has pictures, and with {key} prompts are made of its texts")


def _block_size(server: Server) -> int | None:
    """Return the tokens of a block of the server's prefix cache; None: it doesn't say."""
    size = (server.cache_config() or {}).get("block_size", "")
    return int(size) if size.isdecimal() and int(size) else None


def _token_ids(server: Server, scenario: Scenario, prompt: Prompt) -> list[int] | None:
    return server.token_ids(tokenize_body(scenario, prompt))


@contextmanager
def _told_of(scenario: Scenario, environ: Environment) -> Iterator[None]:
    """Name the scenario and its data set in what is wrong with prompts; no secret."""
    dataset = scenario.dataset
    try:
        yield
    except PromptError as e:
        where = "" if dataset in str(e) else f"dataset {dataset}: "
        said = masked(f"{where}{e}", secrets_of(scenario, environ))  # the hub's own words
        raise PromptError(f"scenario {scenario.name}: {said}") from e


def prepared(
    scenario: Scenario,
    environ: Environment,
    wait_s: float,
    on_wait: Callable[[float, str], bool],
    *,
    each_alone: bool = False,
) -> Job:
    """Wait for the scenario's server, check the model, choose the prompts of all runs.

    Raises ScenarioError, ModelNotServedError, TooLongError, ControlError, PromptError.
    """
    server = server_of(scenario, environ)
    try:
        served = server.wait_ready(wait_s, on_wait)
        _check_it_serves(scenario, served, environ)
        _check_it_fits(scenario, served)
        plans = plans_for(scenario, server, environ, served, each_alone=each_alone)
        return Job(scenario, server, served, plans)
    except BenchError:
        server.close()
        raise


def _check_it_serves(scenario: Scenario, served: Sequence[Model], environ: Environment) -> None:
    missing = [s.model for s in scenarios_of(scenario) if s.model not in [m.id for m in served]]
    if missing:
        hidden = [text for s in scenarios_of(scenario) for text in secrets_of(s, environ)]
        names = masked(", ".join(m.id for m in served), hidden) or "none"
        raise ModelNotServedError(
            f"scenario {scenario.name}: {scenario.base_url} does not serve the model "
            f"{missing[0]}; it serves {names}: set model in the file, or give --model"
        )


def _check_it_fits(scenario: Scenario, served: Sequence[Model]) -> None:
    for each in scenarios_of(scenario):
        limit, prompt, reply = _context_of(each, served), each.prefill_tokens, each.max_new_tokens
        if limit is not None and prompt is not None and prompt + reply > limit:
            raise TooLongError(
                f"scenario {each.name}: {prompt} prompt tokens and {reply} new ones are more than "
                f"the server's {limit} (max_model_len): start it with MAX_MODEL_LEN set higher"
            )

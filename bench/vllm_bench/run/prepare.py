"""From a scenario to a job: its key, its server, what that serves, and its prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..plan.material import Part, parts_of, scenario_counter
from ..plan.request import scenario_tls
from ..prompts.prompt import PromptError
from ..prompts.source import default_cache_dir, load_source
from ..scenario.scenario import Scenario, ScenarioError
from ..vllm.server import Server
from .job import Job, served_models

Environment = Mapping[str, str]


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
        raise ScenarioError(f"{name}: the key holds characters that no header may")
    return key


def server_of(scenario: Scenario, api_key: str | None) -> Server:
    """Return the scenario's server, not yet asked anything. Raises ScenarioError: its CA file."""
    try:
        return Server(scenario.base_url, api_key, scenario.headers, scenario_tls(scenario))
    except OSError as e:
        raise ScenarioError(f"scenario {scenario.name}: tls_ca {scenario.tls_ca}: {e}") from e


def check_files(scenario: Scenario) -> None:
    """Raise ScenarioError where a file of prompts or a trace that the scenario names is missing."""
    named = {"trace": scenario.trace}
    if scenario.dataset.startswith("file:"):
        named["dataset"] = scenario.dataset.removeprefix("file:")
    for key, path in named.items():
        if path is not None and not Path(path).expanduser().exists():
            raise ScenarioError(f"scenario {scenario.name}: {key}: {path}: no such file")


def parts_for(
    scenario: Scenario, server: Server | None, environ: Environment, max_model_len: int | None
) -> list[Part]:
    """Return all runs of a scenario; without a server, token counts are somebody else's.

    Raises ScenarioError, PromptError.
    """
    check_files(scenario)
    cache_dir, dataset = default_cache_dir(environ), scenario.dataset
    try:
        source = load_source(dataset, cache_dir=cache_dir, hf_token=environ.get("HF_TOKEN"))
        counter = scenario_counter(scenario, server, cache_dir)
        return parts_of(scenario, source, counter, max_model_len)
    except PromptError as e:
        where = "" if dataset in str(e) else f"dataset {dataset}: "
        raise PromptError(f"scenario {scenario.name}: {where}{e}") from e


def prepared(
    scenario: Scenario,
    environ: Environment,
    wait_s: float,
    on_wait: Callable[[float, str], bool],
) -> Job:
    """Wait for the scenario's server, check the model, choose the prompts of all runs.

    Raises ScenarioError, ModelNotServedError, ControlError, PromptError.
    """
    api_key = api_key_of(scenario, environ)
    server = server_of(scenario, api_key)
    server.wait_ready(wait_s, on_wait)
    served = served_models(scenario, server)
    limit = next(m.max_model_len for m in served if m.id == scenario.model)
    return Job(scenario, server, api_key, served, parts_for(scenario, server, environ, limit))

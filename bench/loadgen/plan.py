"""The plan of a run: which requests, in which order, over how many streams. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .outcome import Expectation
from .prompts import Prompt
from .request import make_body, make_target
from .scenario import Scenario
from .target import PlannedRequest, Target
from .timeouts import Timeouts

SHORTEST_SECRET = 4  # `X-Priority: 1` is none, and masked it would blot out every 1 of an error


@dataclass(frozen=True, slots=True)
class Plan:
    """A closed loop: `streams` streams take the next request as soon as their last one ended."""

    run_id: str
    scenario: Scenario
    streams: int
    target: Target
    requests: tuple[PlannedRequest, ...]

    @property
    def timeouts(self) -> Timeouts:
        """Limits of each request."""
        s = self.scenario
        return Timeouts(s.timeout_first_token_s, s.timeout_stall_s, s.timeout_total_s)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not be written down where a server echoes them: key and headers."""
        own = {name.lower() for name in self.scenario.headers} | {"authorization"}
        values = [value for name, value in self.target.headers if name.lower() in own]
        found = {v for value in values for v in (value, value.removeprefix("Bearer "))}
        # The longest first: a short one that stands in a long one would leave its rest behind.
        return tuple(sorted((v for v in found if len(v) >= SHORTEST_SECRET), key=len, reverse=True))

    def expectation(self, index: int, start_ns: int) -> Expectation:
        """Return what is known of request `index` before its reply."""
        request = self.requests[index]
        return Expectation(
            run_id=self.run_id,
            scenario=self.scenario.name,
            concurrency=self.streams,
            request_id=request.request_id,
            prompt_id=request.prompt_id,
            max_tokens=self.scenario.max_new_tokens,
            choices=int(self.scenario.extra_body.get("n") or 1),
            stream=self.scenario.stream,
            start_ns=start_ns,
            secrets=self.secrets,
        )


def make_plan(
    run_id: str, scenario: Scenario, streams: int, prompts: Sequence[Prompt], api_key: str | None
) -> Plan:
    """Plan one level of a scenario: one request for each prompt, in the prompts' order."""
    bodies: dict[tuple[int, str | None], bytes] = {}  # a prompt sent again is kept once

    def body(index: int, prompt: Prompt) -> bytes:
        salt = _cache_salt(scenario, run_id, index)
        key = (id(prompt), salt)
        if key not in bodies:
            bodies[key] = make_body(scenario, prompt, salt)
        return bodies[key]

    requests = tuple(
        PlannedRequest(index, f"{run_id}-{index}", prompt.id, body(index, prompt))
        for index, prompt in enumerate(prompts)
    )
    return Plan(run_id, scenario, streams, make_target(scenario, api_key), requests)


def _cache_salt(scenario: Scenario, run_id: str, index: int) -> str | None:
    """Return the salt that keeps the prefix cache honest: prefixes match among equal salts only."""
    return {"run": run_id, "cold": f"{run_id}-{index}", "natural": None}[scenario.cache]


def run_id_for(scenario: Scenario, streams: int, time_utc: str) -> str:
    """Return `<scenario>-cc<N>-pref<P>-max<M>-<time>`; a name for files, never parsed back."""
    prefill = scenario.prefill_tokens or "any"
    return f"{scenario.name}-cc{streams}-pref{prefill}-max{scenario.max_new_tokens}-{time_utc}"

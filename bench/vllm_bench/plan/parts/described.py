"""What names a part of a run, and what the run's JSON says of it. Pure."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import Any

import orjson

from ..arrivals import schedule_sha256
from ..request import body_fields
from ..sessions.hits import PlayedHits
from ..times import schedule_facts
from .traffic import Traffic


class Described(Traffic):
    """A part with its hash and its entries in the JSON."""

    @functools.cached_property
    def sha256(self) -> str:
        """Return the hash of what a run measures: every request's JSON, in order, and its time.

        The run's name isn't part of it: equal seeds and settings give an equal plan.
        """
        scenario, level = self.scenario, self.level
        # Two servers that want another name for the same limit are sent the same.
        named = scenario.model_copy(update={"max_tokens_field": "max_tokens"})
        said = {
            "body": body_fields(named, scenario.max_new_tokens),
            "system_prompt": scenario.system_prompt,
            "endpoint": scenario.endpoint,
            "cache": scenario.cache,
            "conversations": scenario.conversations
            and scenario.conversations.model_dump(exclude_none=True),
            "prompts": self.prompts.sha256,
            "output_tokens": self.output_tokens,
            "requests": self.measured,
            "level": dataclasses.asdict(level),
            "max_in_flight": scenario.max_in_flight,
            "schedule": schedule_sha256(self.measured_s),
            **self._only_where_it_matters(),
        }
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def _only_where_it_matters(self) -> dict[str, Any]:
        """Return what older plans didn't have: the hash of a plan without it stays the same."""
        found: dict[str, Any] = {}
        if self.level.concurrency is not None:
            found = {"start": self.scenario.start, "duration_s": self.duration_s}
        talks, plays = self.scenario.conversations, self.plays
        begun = plays.until(self.measured) if plays else self.measured
        begun = self.measured // talks.turns if talks else begun  # none that was cut short
        if self.scenario.cache == "run" and self.uses_before.most(begun) > 1:
            found["salts"] = "one for each use"
        if plays is not None and not (talks and talks.tool_calls is None):
            found |= {"sessions": plays.sha256, **self.session_facts}
        if self.scenario.prefix is not None:
            found["prefix"] = self.scenario.prefix.model_dump()
        return found

    @property
    def session_facts(self) -> dict[str, Any]:
        """The entries on sessions in the run's JSON: what decides their prompts and waits."""
        if self.plays is None:
            return {}
        talks, facts = self.scenario.conversations, {"history": self.history}
        if talks and talks.tool_calls is None:
            return facts
        return {**facts, "max_gap_s": self.scenario.longest_gap_s}

    @functools.cached_property
    def prefix_facts(self) -> dict[str, Any]:
        """What of its prompts the plan knows to repeat, for the run's JSON."""
        if self.possible is None:
            return {}
        grouped, wanted = self.grouped, self._wanted_share
        return {
            "block_size": self.possible.block_size,
            "block_size_known": self.possible.known,
            **self._primed_facts,
            **({} if wanted is None else {"wanted_share": wanted}),
            **(grouped.facts if grouped else {}),
        }

    @property
    def _primed_facts(self) -> dict[str, int]:
        """What of the unmeasured requests for plays that begin deeper is found, of each other."""
        if not isinstance(self.possible, PlayedHits):
            return {}
        return {"primed_cached_tokens": self.possible.primed_cached_tokens}

    @property
    def _wanted_share(self) -> float | None:
        """The share that the scenario asks for, or that recorded sessions have; None: neither."""
        grouped, prefix = self.grouped, self.scenario.prefix
        if isinstance(self.possible, PlayedHits):
            return self.possible.wanted_share
        if prefix and prefix.hit_rate is not None:
            return prefix.hit_rate
        return grouped.crowd.wanted(grouped.beginning) if grouped else None

    @property
    def class_facts(self) -> dict[str, Any]:
        """The entry on a class: as the run's own JSON has it of all of them."""
        return {
            "concurrency": self.level.concurrency,
            "request_rate": self.level.request_rate,
            "num_requests": self.measured,
            "scenario": self.scenario.masked(),
            "prompts": self.prompts.facts,
            "plan": {
                "sha256": self.sha256,
                **schedule_facts(self.scenario, self.level, self.measured_s),
                **({"start": self.start} if self.start else {}),
                **({"prefix": self.prefix_facts} if self.prefix_facts else {}),
                **self.session_facts,
            },
        }

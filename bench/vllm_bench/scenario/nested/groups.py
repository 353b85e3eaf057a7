"""Keys of how requests come that have keys of their own: conversations, questions, classes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator, model_validator

from ..datasets import own_file
from .keys import Count, Keys, Pause, Time, optional, setting

QUESTIONS = ("arithmetic", "gsm8k")


class ToolCalls(Keys):
    """Turns that bring a tool's result, after the time that the tool took."""

    share: float = setting("share of the turns after the first one", 0.7, gt=0, le=1)
    wait_s: Time = setting("median seconds from an answer's end to the tool's result", 2, 2.0)


class Conversations(Keys):
    """Several turns: each contains the history and waits for the last answer."""

    turns: int = setting("turns of each conversation", 4, ge=1, le=1000)
    think_time_s: Pause = setting("seconds from an answer's end to the next turn", 2, 0.0)
    tool_calls: ToolCalls | None = optional(
        "turns that bring a tool's result in place of a person's words", {"share": 0.7, "wait_s": 2}
    )


class Quality(Keys):
    """Questions whose answers are known: first asked one at a time, then at each level."""

    set: str = setting("the questions: arithmetic, gsm8k, or file:PATH", "gsm8k", "arithmetic")
    questions: int = setting("how many are asked, once in each run", 200, 400, ge=20, le=100_000)
    again: bool = setting("ask one at a time once more, last: the server's own noise", True, False)

    @field_validator("set")
    @classmethod
    def _known_set(cls, value: str) -> str:
        if value in QUESTIONS or own_file(value):
            return value
        raise ValueError(f"must be one of {', '.join(QUESTIONS)}, file:PATH")

    @property
    def dataset(self) -> str:
        """The set's name among those of prompts."""
        return self.set if own_file(self.set) else f"quality:{self.set}"


class Prefix(Keys):
    """Groups of requests that begin alike, each with a text of its own: see traces/groups.py."""

    groups: int = setting("groups, each with a beginning of its own", 32, ge=1, le=100_000)
    tokens: Count | None = optional(
        "tokens that the prompts of a group begin with, chat template included", 2048
    )
    hit_rate: float | None = optional(
        "share of all prompt tokens that a cache should find; the beginning's length follows",
        0.75,
        gt=0,
        lt=1,
    )
    share: float = setting("of the requests that are in a group", 0.9, 1.0, gt=0, le=1)
    zipf: float = setting(
        "group k has 1/k to this power of the requests; 0: all the same", 1.1, 0.0, ge=0, le=10
    )
    primed: bool = setting("send one request of each group before the start", True, False)

    @model_validator(mode="after")
    def _one_of_both(self) -> Prefix:
        if (self.tokens is None) == (self.hit_rate is None):
            raise ValueError("give one of tokens, hit_rate")
        return self


class ClassKeys(Keys):
    """A class of users: its part of the load, and keys that it sets for itself (`own`)."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    share: float | None = optional(
        "of the arrivals, or of a closed loop's streams; those of all classes are 1 together",
        0.7,
        gt=0,
        le=1,
    )
    streams: int | None = optional(
        "streams of its own, which a closed loop keeps busy", 8, ge=1, le=16384
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> ClassKeys:
        if (self.share is None) == (self.streams is None):
            raise ValueError("give one of share, streams")
        return self

    @property
    def own(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


ClassName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$")]

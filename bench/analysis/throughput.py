"""What a run got done a second, over the whole of it."""

from __future__ import annotations

from dataclasses import dataclass

from .facts import Facts


@dataclass(frozen=True, slots=True)
class Throughput:
    """Work of the successful requests over the whole run, its ramp and drain included.

    A failed request's tokens don't count: a server that dies early would look fast.
    """

    span_s: float  # first t_sent to last t_end
    requests: int
    prompt_tokens: int
    output_tokens: int

    @property
    def requests_per_s(self) -> float:
        """Successful requests a second."""
        return self.requests / self.span_s

    @property
    def output_tokens_per_s(self) -> float:
        """Generated tokens a second."""
        return self.output_tokens / self.span_s

    @property
    def total_tokens_per_s(self) -> float:
        """Prompt and generated tokens a second."""
        return (self.prompt_tokens + self.output_tokens) / self.span_s


def throughput(facts: Facts) -> Throughput | None:
    """Return the run's throughput; None where no request was sent."""
    if facts.span_s is None:
        return None
    return Throughput(
        span_s=facts.span_s,
        requests=len(facts.succeeded),
        prompt_tokens=facts.total("prompt_tokens"),
        output_tokens=facts.total("completion_tokens"),
    )

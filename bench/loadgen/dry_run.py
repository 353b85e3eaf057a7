"""What a run would send, as lines for people; nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator

from .plan import make_plan, run_id_for
from .prompt_listing import escaped, histogram, length_summary
from .prompts import PromptSet
from .scenario import Scenario

SHOWN_BODY_CHARS = 400


def dry_run_lines(
    scenario: Scenario, prompts: PromptSet, why_no_server: str | None
) -> Iterator[str]:
    """Yield where requests would go, how many, their prompts, and the first one's body."""
    streams = scenario.concurrencies[0]
    plan = make_plan(
        run_id_for(scenario, streams, "TIME"), scenario, streams, prompts.prompts, None
    )
    target = plan.target
    lengths = [p.tokens for p in prompts.prompts if p.tokens is not None]
    levels = ", ".join(map(str, scenario.concurrencies))
    yield f"{scenario.name}: {scenario.num_requests} requests at each concurrency of {levels}"
    yield f"  to {'https' if target.tls else 'http'}://{target.host}:{target.port}{target.path}"
    if why_no_server:
        yield f"  which does not answer now ({why_no_server}): a run asks it for token counts"
    yield (
        f"  prompts: {escaped(prompts.dataset)}, {prompts.distinct} different of "
        f"{prompts.source_count:,} in the set, sha256 {prompts.sha256}"
    )
    yield f"  prompt tokens by {prompts.counted_by}: {length_summary(lengths)}"
    yield from (f"  {line}" for line in histogram(lengths))
    yield from (f"  note: {escaped(note)}" for note in prompts.notes)
    body = escaped(plan.requests[0].body.decode())
    shown = body if len(body) <= SHOWN_BODY_CHARS else body[:SHOWN_BODY_CHARS] + "…"
    yield f"  first request: {shown}"

"""A scenario's prompts. `bench.py` sends them and `inspect_prompts.py` shows them: from here both.

The two agree when both count with the server. Counted otherwise, lengths differ a little, and
with them which prompts fit.
"""

from __future__ import annotations

from pathlib import Path

from ..prompts.count import TokenCounter, best_counter
from ..prompts.fit import choose_prompts
from ..prompts.source import Prompt, PromptSet, PromptSource, derive_seed
from ..scenario.scenario import Scenario
from ..vllm.server import ControlError, Server
from .request import chat_messages, completion_text


def scenario_prompts(
    scenario: Scenario,
    source: PromptSource,
    counter: TokenCounter,
    count: int | None = None,
    repeat: int = 1,
) -> PromptSet:
    """Return `count` prompts of the scenario, in sending order; of its first level, unless given.

    Each repeat of a run has a draw of its own. Raises PromptError.
    """
    return choose_prompts(
        source.prompts,
        dataset=source.dataset,
        count=scenario.num_requests or 1 if count is None else count,
        target_tokens=scenario.prefill_tokens,
        fit=scenario.prompt_fit,
        seed=prompts_seed(scenario, repeat),
        counter=counter,
        notes=source.notes,
    )


def prompts_seed(scenario: Scenario, repeat: int = 1) -> int:
    """Return the seed that a repeat's prompts are drawn by; repeats count from 1."""
    return derive_seed(scenario.seed, "prompts" if repeat == 1 else f"prompts of repeat {repeat}")


def scenario_counter(scenario: Scenario, server: Server | None, cache_dir: Path) -> TokenCounter:
    """Return the best counter for the scenario: its server, else a local tokenizer, else a guess.

    The server counts what a request of the scenario would hold, system prompt included.
    """

    def tokenize(prompt: Prompt) -> int | None:
        assert server is not None
        if scenario.endpoint == "chat":
            return server.tokenize(scenario.model, messages=chat_messages(scenario, prompt))
        return server.tokenize(scenario.model, prompt=completion_text(scenario, prompt))

    return best_counter(
        tokenize=tokenize if server is not None else None,
        unavailable=(ControlError,),
        models=(scenario.model,),
        cache_dir=cache_dir,
        scope=(scenario.model, scenario.endpoint, scenario.system_prompt or ""),
    )

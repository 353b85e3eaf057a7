"""A server's prefix cache finds of recorded sessions what an endless one could."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
from vllm_bench.prompts.count import ServerCounter
from vllm_bench.prompts.prompt import Prompt
from vllm_bench.sessions.lengths import with_lengths
from vllm_bench.sessions.possible import possible_hits
from vllm_bench.sessions.session import Sessions
from vllm_bench.sessions.texts import session_prompts
from vllm_bench.vllm.server import Server

from tests.sessions.test_texts import SAMPLE, of_data
from tests.sim.simulated import Simulated

pytestmark = pytest.mark.process

FLAGS = ("--profile", "tiny-cpu", "--model", "tiny", "--num-gpu-blocks", "8000")


def messages(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in prompt.messages]


def cached(server: Simulated, salt: str, prompts: Sequence[Prompt]) -> list[int]:
    """Send prompts one after the other; return what was found of each."""
    found = []
    same = {"model": "tiny", "max_tokens": 1, "cache_salt": salt}
    for prompt in prompts:
        body = {**same, "messages": messages(prompt)}
        usage = server.client.post("/v1/chat/completions", json=body).json()["usage"]
        assert usage["prompt_tokens"] == prompt.tokens
        found.append((usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0)
    return found


def in_order(sessions: Sessions, prompts: Sequence[Prompt]) -> list[Prompt]:
    """Prompts by the recorded times of their turns."""
    times = [
        (session.starts_s or 0.0) + (turn.not_before_s or 0.0)
        for session in sessions.sessions
        for turn in session.turns
    ]
    if not sessions.blocks_shared:
        return list(prompts)
    return [prompts[n] for n in sorted(range(len(prompts)), key=times.__getitem__)]


@pytest.fixture(scope="module")
def server() -> Iterator[Simulated]:
    with Simulated(*FLAGS, "--max-model-len", "4096", "--enable-prompt-tokens-details") as server:
        yield server


@pytest.mark.parametrize("name", ["weka", "bailian.jsonl", "tracelab.jsonl", "mlperf.jsonl"])
def test_what_is_found_is_what_was_possible(server: Simulated, name: str) -> None:
    with closing(Server(f"{server.url}/v1", None, {})) as calls:
        counter = ServerCounter(lambda p: calls.tokenize("tiny", messages=messages(p)))
        sessions = with_lengths(of_data(name), counter)
        made = session_prompts(sessions, SAMPLE, counter, 1)
    prompts = in_order(sessions, made.prompts)
    first = sum(cached(server, name, prompts))
    again = sum(cached(server, f"{name}-use2", prompts))
    found = possible_hits(sessions, 16)
    total = sum(prompt.tokens or 0 for prompt in prompts)
    # Two points: what of a template is common to all, and a page at each seam.
    assert first / total == pytest.approx(found.share, abs=0.02 + 16 * len(prompts) / total)
    assert again == first  # a second round of plays finds nothing of the first

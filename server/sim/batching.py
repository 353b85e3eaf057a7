"""Batching mode: the engine decides, in its own time, and this module keeps its appointments.

A step begins when the one before it ends, by the engine's reckoning and not by when
the loop got round to it; so the machine's lateness shifts single tokens and never
the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from .answers import Choice
from .engine.engine import Engine, EngineConfig, EngineRequest, EngineState, Step
from .engine.timer import precise_timer


class EnginePacing:
    """Makes tokens when the engine's steps end."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, config: EngineConfig, on_step: Callable[[int], None]
    ) -> None:
        """Start idle; `on_step` is told the tokens of each step."""
        self._engine = Engine(config)
        self._config = config
        self._on_step = on_step
        self._timer = precise_timer(loop, self._step_ended)
        self._choices: dict[str, Choice] = {}
        self._ids: dict[Choice, str] = {}
        self._requests = 0  # so far; each gets an id of its own, whatever its client calls it
        self._step: Step | None = None
        self._end_ns = 0  # of the step under way

    def start(self, choice: Choice) -> None:
        """Queue a choice; an idle engine takes it at once."""
        self._requests += 1
        name = str(self._requests)
        self._choices[name] = choice
        self._ids[choice] = name
        salt = choice.answer.ask.cache_salt
        now_ns = time.perf_counter_ns()
        request = EngineRequest(name, choice.prompt, choice.length, salt)
        self._engine.add(request, now_ns / 1e9)
        if self._step is None:
            self._begin_step(now_ns)

    def stop(self, choice: Choice) -> None:
        """Free what a choice holds."""
        name = self._ids.pop(choice, None)
        if name is not None:
            del self._choices[name]
            self._engine.abort(name)

    def state(self) -> EngineState:
        """Return what /metrics tells of the engine."""
        engine, config = self._engine, self._config
        size_tokens = config.num_gpu_blocks * config.block_size
        return EngineState(
            engine.num_running,
            engine.num_waiting,
            engine.kv_cache_usage,
            engine.prefix_cache_queries,
            engine.prefix_cache_hits,
            engine.num_preemptions,
            {
                "block_size": str(config.block_size),
                "effective_attention_block_size": str(config.block_size),
                "enable_prefix_caching": str(config.enable_prefix_caching),
                "kv_cache_max_concurrency": str(size_tokens / config.max_model_len),
                "kv_cache_size_tokens": str(size_tokens),
                "num_gpu_blocks": str(config.num_gpu_blocks),
            },
        )

    def reset_prefix_cache(self) -> bool:
        """Empty the prefix cache, unless requests hold blocks of it."""
        return self._engine.reset_prefix_cache()

    def _begin_step(self, now_ns: int) -> None:
        step = self._step = self._engine.step(now_ns / 1e9)
        if step is None:
            return
        self._on_step(step.num_batched_tokens)
        for name in step.started:
            choice = self._choices[name]
            # A late loop takes a request into a step that has begun before it came.
            begun_ns = max(now_ns, choice.answer.caller.received_ns)
            choice.started(step.cached_tokens[name], begun_ns)
        for name in step.preempted:
            self._choices[name].preemptions += 1
        self._end_ns = now_ns + round(step.duration_s * 1e9)
        self._timer.arm(self._end_ns)

    def _step_ended(self) -> None:
        step = self._step
        if step is None:
            return
        for name in step.tokens:
            choice = self._choices.get(name)
            if choice is None:  # its client left during the step
                continue
            if choice.made + 1 == choice.length:
                del self._choices[name], self._ids[choice]
            choice.token()
        self._begin_step(self._end_ns)

"""Ctrl-C, SIGTERM and SIGHUP: counted or breaking off, never forgotten, given back afterwards."""

from __future__ import annotations

import importlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from vllm_bench.interrupts import (
    INTERRUPTS,
    SIGNALS,
    Interrupts,
    set_handlers,
    unheard_by_children,
)
from vllm_bench.machines.engines.by_command import ByCommand
from vllm_bench.program import run_to_end
from vllm_bench.simulator import simulator
from vllm_bench.watch.gpu_elsewhere import CommandSampler

from tests.support.beside.waiting import LIMIT_S, wait_until

LONG = [sys.executable, "-c", "import time; time.sleep(600)"]


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


@contextmanager
def by_command() -> Iterator[None]:
    engine = ByCommand([shlex.join(LONG)], os.environ)
    try:
        engine.start("127.0.0.1:9", b"key")
        yield
    finally:
        engine.stop()


@contextmanager
def sampled() -> Iterator[None]:
    CommandSampler(shlex.join(LONG), Mock()).start()
    yield


@pytest.fixture
def asked() -> Iterator[Interrupts]:
    with Interrupts().answered() as interrupts:
        yield interrupts


def test_all_three_are_answered() -> None:
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} == set(SIGNALS)


def test_nobody_asked_for_the_end_at_first(asked: Interrupts) -> None:
    assert asked() == 0
    asked.check()


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_breaks_off_and_is_remembered(
    asked: Interrupts, number: signal.Signals
) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert asked() == 1
    with pytest.raises(KeyboardInterrupt):  # where the first one was swallowed
        asked.check()


@pytest.mark.parametrize("number", SIGNALS)
def test_an_import_is_never_broken_off_and_the_signal_is_answered_after_it(
    asked: Interrupts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Broken off, orjson's own import crashes the process, and unicodedata's is a SyntaxError."""
    name = f"imported_{number.name}".lower()
    (tmp_path / f"{name}.py").write_text(
        f"import signal, time\nsignal.raise_signal({number:d})\ntime.sleep(0.1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        importlib.import_module(name) and time.sleep(LIMIT_S)
    assert name in sys.modules
    assert asked() == 1


@pytest.mark.parametrize("number", SIGNALS)
def test_where_they_are_counted_none_breaks_off(asked: Interrupts, number: signal.Signals) -> None:
    with asked.counted():
        signal.raise_signal(number)
        assert asked() == 1
        with asked.counted():
            signal.raise_signal(number)
        signal.raise_signal(number)
    assert asked() == 3
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_all_signals_count_together_and_the_count_outlives_the_block() -> None:
    with Interrupts().answered() as asked:
        asked.count_from_now_on()
        for number in SIGNALS:
            signal.raise_signal(number)
    assert asked() == len(SIGNALS)


def test_a_call_is_broken_off_where_signals_are_counted(asked: Interrupts) -> None:
    asked.count_from_now_on()
    assert asked.unless_asked(lambda: 3) == 3
    assert asked.unless_asked(lambda: signal.raise_signal(signal.SIGINT)) is None
    signal.raise_signal(signal.SIGINT)  # counted again
    assert asked() == 2


@pytest.mark.parametrize("problem", [None, ValueError])
def test_the_signals_are_given_back(problem: type[Exception] | None) -> None:
    before = handlers()
    try:
        with Interrupts().answered():
            assert handlers() != before
            if problem:
                raise problem
    except ValueError:
        pass
    assert handlers() == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_was_ignored_stays_ignored(number: signal.Signals) -> None:
    """So nohup, and a shell that starts a job in the background, have it."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Interrupts().answered() as asked:
            signal.raise_signal(number)
            assert asked() == 0
            set_handlers(lambda *_: None)
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_what_is_started_meanwhile_never_hears_them_and_none_is_lost(asked: Interrupts) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with asked.counted():
        with unheard_by_children():
            os.kill(os.getpid(), signal.SIGTERM)
            # A child inherits the mask.
            assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) >= set(SIGNALS)
        # The system may have given it to any thread that hears it: the main one learns of it soon.
        wait_until(asked)
        assert asked() == 1
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.process
@pytest.mark.parametrize(
    "start",
    [simulator, lambda: run_to_end(LONG, Path(os.devnull)), by_command, sampled],
    ids=["simulator", "program", "machine", "sampler"],
)
def test_a_process_that_begins_just_then_is_left_to_nobody(
    monkeypatch: pytest.MonkeyPatch, start: Callable[[], Any]
) -> None:
    begun: list[subprocess.Popen[Any]] = []

    class Interrupted(subprocess.Popen[Any]):
        def __init__(self, *words: Any, **how: Any) -> None:
            super().__init__(*words, **how)
            begun.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    monkeypatch.setattr(INTERRUPTS, "asked", 0)  # and so again afterwards
    with INTERRUPTS.answered(), pytest.raises(KeyboardInterrupt):
        start().__enter__()
    (process,) = begun
    assert process.returncode is not None

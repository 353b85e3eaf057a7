"""Ctrl-C and SIGTERM are counted while a run goes on, and given back after it."""

from __future__ import annotations

import signal

import pytest
from vllm_bench.run.interrupts import interrupts_counted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


def test_nobody_asked_for_the_end_at_first() -> None:
    with interrupts_counted() as asked:
        assert asked() == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_is_counted_and_none_kills(number: signal.Signals) -> None:
    with interrupts_counted() as asked:
        signal.raise_signal(number)
        assert asked() == 1
        signal.raise_signal(number)
        assert asked() == 2


def test_both_signals_count_together_and_the_count_outlives_the_run() -> None:
    with interrupts_counted() as asked:
        for number in SIGNALS:
            signal.raise_signal(number)
    assert asked() == 2


def test_the_signals_are_given_back() -> None:
    before = handlers()
    with interrupts_counted():
        assert handlers() != before
    assert handlers() == before


def test_the_signals_are_given_back_when_the_run_breaks_off() -> None:
    before = handlers()
    with pytest.raises(ValueError, match="broke"), interrupts_counted():
        raise ValueError("broke")
    assert handlers() == before


def test_a_signal_that_was_ignored_is_ignored_again() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with interrupts_counted() as asked:
            signal.raise_signal(signal.SIGTERM)
            assert asked() == 1
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)

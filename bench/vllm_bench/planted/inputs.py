"""The prompts and the trace of the planted cases: made up, seeded, one token a word."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path

WORDS = ["".join(letters) for letters in product("bcdf", "aeio", "lmnt")]
MANY, FEW, ALIKE, GROWING = "many.jsonl", "few.jsonl", "alike.jsonl", "growing.csv"


def write_inputs(folder: Path) -> None:
    """Write all files into a folder. Raises OSError."""
    rng = random.Random(2026)
    texts = {
        MANY: [_words(rng, rng.randint(60, 240)) for _ in range(1200)],
        FEW: [_words(rng, 450) for _ in range(16)],
        ALIKE: list(_alike(rng, 600)),
    }
    for name, prompts in texts.items():
        lines = (json.dumps({"id": f"{i}", "prompt": p}) for i, p in enumerate(prompts))
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / GROWING).write_text("".join(_growing(260, 20.0)), encoding="utf-8")


def _words(rng: random.Random, number: int) -> str:
    return " ".join(rng.choices(WORDS, k=number))


def _alike(rng: random.Random, number: int) -> Iterator[str]:
    """Yield prompts of which 94 in 100 tokens are the same beginning."""
    beginning = _words(rng, 423)
    for _ in range(number):
        yield f"{beginning} {_words(rng, 27)}"


def _growing(number: int, rate: float) -> Iterator[str]:
    """Yield the lines of a trace in which requests come evenly and grow to three times as long."""
    yield "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    for i in range(number):
        at_s, size = i / rate, 1 + 2 * i / number
        yield f"2026-01-01 00:00:{at_s:09.6f},{round(100 * size)},{round(25 * size)}\n"

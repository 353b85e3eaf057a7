"""Prompts as text for people, and as JSON lines that `file:` reads back. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import orjson

from ..records.text import escaped
from .prompt import Image, Message, Prompt

BINS = 10
BAR_CHARS = 40


def listing(prompts: Sequence[Prompt]) -> Iterator[str]:
    """Yield each prompt as a heading and its messages, numbered from 0."""
    for number, prompt in enumerate(prompts):
        length = "" if prompt.tokens is None else f", {prompt.tokens} tokens"
        yield f"--- {number}: {escaped(prompt.id)}{length}"
        for message in prompt.messages:
            # Nearly every prompt is a single user message: its role isn't shown.
            role = f"[{message.role}] " if len(prompt.messages) > 1 else ""
            yield role + escaped(shown(message))
        yield ""


def shown(message: Message) -> str:
    """Return a message's text, with its pictures named: `[image/png, 3,100 bytes] What is it?`."""
    if not message.parts:
        return message.content
    return " ".join(_picture(p) if isinstance(p, Image) else p for p in message.parts)


def _picture(image: Image) -> str:
    kind, _, data = image.url.removeprefix("data:").partition(";base64,")
    return f"[{kind}, {len(data) * 3 // 4:,} bytes]"


def json_lines(prompts: Sequence[Prompt]) -> bytes:
    """Return the prompts unchanged, one JSON object per line."""
    return b"".join(orjson.dumps(_row(prompt)) + b"\n" for prompt in prompts)


def _row(prompt: Prompt) -> dict[str, object]:
    row: dict[str, object] = {"id": prompt.id, "tokens": prompt.tokens}
    if len(prompt.messages) == 1 and not prompt.pictures:
        return {**row, "prompt": prompt.text}
    turns = [{"role": m.role, "content": m.sent} for m in prompt.messages]
    return {**row, "messages": turns}


def length_summary(lengths: Sequence[int]) -> str:
    """Return the shortest, the median, the mean and the longest, in tokens."""
    middle, mean = statistics.median(lengths), statistics.fmean(lengths)
    return f"min {min(lengths)}, median {middle:.0f}, mean {mean:.0f}, max {max(lengths)}"


def histogram(lengths: Sequence[int]) -> Iterator[str]:
    """Yield one line for each of ten equal bins: its ends in tokens, both included, bar, number."""
    low, high = min(lengths), max(lengths)
    width = -(-(high - low + 1) // BINS)  # rounded up
    bins = [0] * (-(-(high - low + 1) // width))
    for length in lengths:
        bins[(length - low) // width] += 1
    digits = len(str(low + len(bins) * width - 1))
    for place, number in enumerate(bins):
        start = low + place * width
        bar = "#" * -(-number * BAR_CHARS // max(bins))
        yield f"  {start:{digits}}-{start + width - 1:<{digits}}  {bar:{BAR_CHARS}} {number}"
